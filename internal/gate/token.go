// Session tokens, which identify the session of a request on a shared listener.

package gate

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"example.com/networkproxy/internal/policy"
)

// Token is a session's secret: 256 random bits in base64url without padding, which
// needs no escaping in a URL.
type Token string

// tokenLength is the length of a token's text.
const tokenLength = 43

// NewToken returns a random token.
func NewToken() Token {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return Token(base64.RawURLEncoding.EncodeToString(b[:]))
}

// Userinfo returns the token as the credentials of a URL.
func (t Token) Userinfo() *url.Userinfo { return url.UserPassword("session", string(t)) }

// digest returns the key of t in [Tokens]. Map lookup is not constant-time. That is
// safe here: timing can only leak bits of a SHA-256 digest, which reveal nothing
// about the token.
func (t Token) digest() [sha256.Size]byte { return sha256.Sum256([]byte(t)) }

// SessionChallenge is the Proxy-Authenticate value of a 407 response (RFC 9110
// section 11.7.1).
const SessionChallenge = `Basic realm="networkproxy session"`

// Errors of [Tokens.Identify] and [Tokens.Authenticate].
var (
	ErrTokenRequired = errors.New("the request has no session token")
	ErrTokenUnknown  = errors.New("the token belongs to no open session")
)

// Tokens finds the session of a request by its token. Safe for concurrent use.
type Tokens struct {
	Required bool     // requests on shared listeners need a token
	byDigest sync.Map // [sha256.Size]byte to *Principal
}

// Add registers the token of a principal.
func (t *Tokens) Add(of Token, p *Principal) { t.byDigest.Store(of.digest(), p) }

// Remove removes a token.
func (t *Tokens) Remove(of Token) { t.byDigest.Delete(of.digest()) }

// isToken reports whether s has the form of a session token: 256 bits in base64url.
// The session need not exist.
func isToken(s string) bool {
	if len(s) != tokenLength {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// Identify returns the principal of an HTTP request; at is the principal of its
// listener. It ignores credentials without a token, because clients send
// credentials for other proxies from their configuration files. It fails on them
// only if a token is required.
func (t *Tokens) Identify(at *Principal, header http.Header) (*Principal, error) {
	fields := header["Proxy-Authorization"]
	if len(fields) == 0 {
		if t.demandsToken(at) {
			return at, ErrTokenRequired
		}
		return at, nil
	}
	ours := 0
	var found Credentials
	for _, field := range fields {
		if c := parseCredentials(field); c.ours() {
			found = c
			ours++
		}
	}
	if ours > 0 && len(fields) > 1 {
		return at, ErrTokenUnknown // it is unclear which field applies
	}
	return t.Authenticate(at, found)
}

// demandsToken reports whether the listeners of a principal serve only requests with
// a session token.
func (t *Tokens) demandsToken(at *Principal) bool {
	return t.Required && at.ID == "" || at.RequireToken
}

// Authenticate returns the principal of a request with credentials c on a listener of
// the principal at. Without a token it returns at, unless a token is required. A
// session's listener serves that session only and refuses the tokens of others.
func (t *Tokens) Authenticate(at *Principal, c Credentials) (*Principal, error) {
	if !c.ours() {
		if t.demandsToken(at) {
			return at, ErrTokenUnknown
		}
		return at, nil
	}
	from, ok := t.byDigest.Load(Token(c.Password).digest())
	if !ok || at.ID != "" && from != at {
		return at, ErrTokenUnknown
	}
	return from.(*Principal), nil
}

// Credentials are a user name and a password from a client. The zero value means
// none. Only the password is used, and only if it is a session token.
type Credentials struct{ User, Password string }

// ours reports whether the credentials contain a token. A token as the user name
// counts as well, so that it is refused and not ignored.
func (c Credentials) ours() bool { return isToken(c.Password) || isToken(c.User) }

// parseCredentials reads a Proxy-Authorization field (RFC 9110 section 11.4).
// The scheme is Basic (RFC 7617 section 2). A token under another scheme becomes the
// user name, so that it is refused and not ignored.
func parseCredentials(field string) Credentials {
	scheme, rest, _ := strings.Cut(field, " ")
	rest = strings.Trim(rest, " \t")
	if !strings.EqualFold(scheme, "Basic") || isToken(rest) {
		return Credentials{User: rest}
	}
	text, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return Credentials{}
	}
	user, password, _ := strings.Cut(string(text), ":")
	return Credentials{user, password}
}

// Unidentified returns the refusal for a request whose session token is missing or
// unknown. err is the error of Identify or Authenticate.
func (g *Gate) Unidentified(err error) policy.Verdict {
	v := policy.Verdict{
		Reason:     policy.ReasonSessionUnknown,
		Source:     policy.SourceSession,
		Generation: g.Policy().Generation,
		Check:      policy.CheckSession,
	}
	if errors.Is(err, ErrTokenRequired) {
		v.Reason = policy.ReasonSessionRequired
	}
	return v
}
