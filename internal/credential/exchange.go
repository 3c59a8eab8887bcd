package credential

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httprule"
)

// Request is the part of a request that decides whether a placeholder is exchanged.
type Request struct {
	Secure  bool // it will be sent over TLS
	Target  hostname.Target
	HTTP    *httprule.Request
	Session *Session // that makes the request; nil if it has none
}

// Exchange is what to change in a request and in its response. The zero value changes
// nothing.
type Exchange struct {
	fields  []replacement
	removed []string // names of fields
	added   []field
	Masks   Masks
}

// replacement is one header field.
type replacement struct {
	name     string // canonical
	old, new string
}

// NotAllowedError is the error for a placeholder in a place where it is not exchanged.
type NotAllowedError struct {
	Provider string
	Where    string // "the field X-Api-Key", "the path or the query"
	Problem  string
}

// Error implements error.
func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("the credential %q in %s %s", e.Provider, e.Where, e.Problem)
}

// Exchange returns what to change in a request. It reads header, and changes nothing. The
// error is a *[NotAllowedError], or that of a provider's source.
func (r *Registry) Exchange(ctx context.Context, set *Set, q *Request, header http.Header) (Exchange, error) {
	if r.Empty() {
		return Exchange{}, nil
	}
	if e := r.find(q.HTTP.Target); e != nil {
		return Exchange{}, &NotAllowedError{e.provider, "the path or the query", "is not exchanged there"}
	}
	var x Exchange
	secrets := &secretReader{ctx: ctx, set: set}
	for name, values := range header {
		if e := r.find(name); e != nil {
			return Exchange{}, &NotAllowedError{e.provider, "the name of a field", "is not exchanged there"}
		}
		for _, value := range values {
			changed, basic, err := r.exchangeField(secrets, q, name, value)
			if err != nil {
				return Exchange{}, err
			}
			if changed != value {
				x.fields = append(x.fields, replacement{name, value, changed})
			}
			if basic {
				_, encoded, _ := strings.Cut(changed, " ")
				x.Masks = append(x.Masks, Mask{secret: encoded, text: mask(encoded, value)}) // a server may repeat it as it is
			}
		}
	}
	var few [4]*entry
	for _, e := range q.Session.bound(few[:0], set, q) {
		secret, err := secrets.of(e)
		if err != nil {
			return Exchange{}, err
		}
		x.Masks = append(x.Masks, e.mask(secret))
	}
	return x, nil
}

// exchangeField returns the value of a field with the secret in place of a placeholder.
// basic reports whether the secret is in credentials of Basic.
func (r *Registry) exchangeField(secrets *secretReader, q *Request, name, value string) (changed string, basic bool, err error) {
	if len(value) < minPlaceholder {
		return value, false, nil
	}
	form := formOf(value)
	e := r.find(form.token)
	if e == nil {
		return value, false, nil
	}
	refuse := func(problem string) (string, bool, error) {
		return "", false, &NotAllowedError{e.provider, "the field " + name, problem}
	}
	p := secrets.set.provider(e.provider)
	switch {
	case e.session != q.Session:
		return refuse("belongs to another session")
	case p == nil:
		return refuse("has no credential any more")
	case !p.accepts(q, name):
		return refuse("is not bound to this URL and field")
	}
	secret, err := secrets.of(e)
	if err != nil {
		return "", false, err
	}
	changed, ok := form.replace(e.text, secret)
	if !ok || form.basic && r.find(formOf(changed).token) != nil {
		return refuse("is only a part of the value")
	}
	return changed, form.basic, nil
}

// secretReader reads the secrets for one request. It reads each once, so that the response
// is masked with the secret that was sent, even if it changes meanwhile.
type secretReader struct {
	ctx  context.Context
	set  *Set
	read map[string]string // by provider
}

// of returns the secret that a placeholder stands for.
func (s *secretReader) of(e *entry) (string, error) {
	if secret := e.secret.Load(); secret != nil {
		return *secret, nil
	}
	if secret, ok := s.read[e.provider]; ok {
		return secret, nil
	}
	secret, err := s.set.byName[e.provider].Secret(s.ctx)
	if err == nil {
		err = Check(secret)
	}
	if err != nil {
		return "", fmt.Errorf("the credential %q: %w", e.provider, err)
	}
	if s.read == nil {
		s.read = make(map[string]string)
	}
	s.read[e.provider] = secret
	return secret, nil
}

// form is a field value, taken apart.
type form struct {
	scheme string // with the space after it; empty if there is none
	basic  bool   // token is the decoded user-id and password (RFC 7617)
	token  string
}

// formOf takes a field value apart: a token, or a scheme and a token (RFC 9110 section
// 11.4). The credentials of Basic are decoded.
func formOf(value string) form {
	scheme, token, ok := strings.Cut(value, " ")
	if !ok {
		return form{token: value}
	}
	switch {
	case strings.EqualFold(scheme, "Bearer"), strings.EqualFold(scheme, "token"):
		return form{scheme: value[:len(scheme)+1], token: strings.TrimLeft(token, " ")}
	case strings.EqualFold(scheme, "Basic"):
		for _, encoding := range [...]*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
			if decoded, err := encoding.DecodeString(strings.Trim(token, " ")); err == nil {
				return form{scheme: value[:len(scheme)+1], basic: true, token: string(decoded)}
			}
		}
	}
	return form{token: value}
}

// replace returns the field value with secret in place of placeholder, which must be the
// whole token, or with Basic the whole user-id or password.
func (f form) replace(placeholder, secret string) (string, bool) {
	if !f.basic {
		return f.scheme + secret, f.token == placeholder
	}
	user, password, ok := strings.Cut(f.token, ":")
	switch {
	case !ok:
		return "", false
	case user == placeholder && password != placeholder:
		user = secret
	case password == placeholder && user != placeholder:
		password = secret
	default:
		return "", false
	}
	return f.scheme + base64.StdEncoding.EncodeToString([]byte(user+":"+password)), true
}

// Changes reports whether anything is to be changed in the request or the response.
func (x *Exchange) Changes() bool {
	return len(x.fields) > 0 || len(x.removed) > 0 || len(x.added) > 0 || len(x.Masks) > 0
}

// Field returns the value to send in place of one that the client sent. The name may be in
// any case.
func (x *Exchange) Field(name, value string) string {
	for _, f := range x.fields {
		if f.old == value && strings.EqualFold(f.name, name) {
			return f.new
		}
	}
	return value
}

// ErrNoSource is the error for a provider without a secret.
var ErrNoSource = errors.New("has no secret")
