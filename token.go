// The token of a session: how a request on a shared listener says whose it
// is, and how one that does not, or lies, is told.

package networkproxy

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

// token is a session's secret: 256 random bits in base64url without padding,
// so that it stands in a URL as it is.
type token string

// tokenLength is the length of a token's text.
const tokenLength = 43

func newToken() token {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return token(base64.RawURLEncoding.EncodeToString(b[:]))
}

// userinfo is the token as it stands in a URL.
func (t token) userinfo() *url.Userinfo { return url.UserPassword("session", string(t)) }

// digest is what tokens are looked up by. A look-up in a hash table takes a
// time that depends on what is looked up, and here that is no harm: what it
// could tell is how much of the digest of a guess agrees with the digest of a
// token, and neither can be steered by, nor leads back to, the token itself.
func (t token) digest() [sha256.Size]byte { return sha256.Sum256([]byte(t)) }

// sessionChallenge goes with a 407 (RFC 9110 section 11.7.1).
const sessionChallenge = `Basic realm="networkproxy session"`

var (
	errSessionRequired = errors.New("no session's token in the request")
	errSessionUnknown  = errors.New("the token is not that of an open session")
)

// tokens finds the sessions of requests by the tokens in them. Safe for
// concurrent use.
type tokens struct {
	required bool     // on the shared listeners
	byDigest sync.Map // of [sha256.Size]byte to *principal
}

func (t *tokens) add(of token, p *principal) { t.byDigest.Store(of.digest(), p) }

func (t *tokens) remove(of token) { t.byDigest.Delete(of.digest()) }

// isToken reports whether s has the form of a session's token: the base64url
// text of 256 bits. It does not say whether the session exists.
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

// identify returns the principal that an HTTP request belongs to, given the
// principal of its listener. Credentials are looked at only for a token:
// clients send those of other proxies, from their configuration files, without
// being asked. Where a session is required, nothing but its token will do.
func (t *tokens) identify(at *principal, header http.Header) (*principal, error) {
	fields := header["Proxy-Authorization"]
	if len(fields) == 0 {
		if t.demandsToken(at) {
			return at, errSessionRequired
		}
		return at, nil
	}
	ours := 0
	var found credentials
	for _, field := range fields {
		if c := parseCredentials(field); c.ours() {
			found = c
			ours++
		}
	}
	if ours > 0 && len(fields) > 1 {
		return at, errSessionUnknown // which of them counts is anybody's guess
	}
	return t.authenticate(at, found)
}

// demandsToken reports whether the listeners of a principal serve only
// requests with a session's token.
func (t *tokens) demandsToken(at *principal) bool {
	return t.required && at.id == "" || at.requireToken
}

// authenticate returns the principal that credentials lead to at a listener
// whose principal is at. Credentials without a token lead to at itself, unless
// a token is required there. A listener of a session's own has said already
// whose its clients are: the token of another session is refused there.
func (t *tokens) authenticate(at *principal, c credentials) (*principal, error) {
	if !c.ours() {
		if t.demandsToken(at) {
			return at, errSessionUnknown
		}
		return at, nil
	}
	from, ok := t.byDigest.Load(token(c.password).digest())
	if !ok || at.id != "" && from != at {
		return at, errSessionUnknown
	}
	return from.(*principal), nil
}

// credentials are a user name and a password as a client sent them. The zero
// value is none. The password is a session's token, or of no interest; the
// user name does not matter.
type credentials struct{ user, password string }

// ours reports whether the credentials have the form of ours: a token for the
// password. A token that stands for the user name was meant for us, too.
func (c credentials) ours() bool { return isToken(c.password) || isToken(c.user) }

// parseCredentials reads a Proxy-Authorization field (RFC 9110 section 11.4).
// The scheme is Basic (RFC 7617 section 2). A token that is sent in another
// way is taken for a user name, so that it is refused rather than ignored.
func parseCredentials(field string) credentials {
	scheme, rest, _ := strings.Cut(field, " ")
	rest = strings.Trim(rest, " \t")
	if !strings.EqualFold(scheme, "Basic") || isToken(rest) {
		return credentials{user: rest}
	}
	text, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return credentials{}
	}
	user, password, _ := strings.Cut(string(text), ":")
	return credentials{user, password}
}

// unidentified is the verdict on a request of which it is not known whose it
// is.
func (e *enforcer) unidentified(err error) policy.Verdict {
	v := policy.Verdict{
		Reason:     ReasonSessionUnknown,
		Source:     SourceSession,
		Generation: e.installed().Generation,
		Check:      policy.CheckSession,
	}
	if errors.Is(err, errSessionRequired) {
		v.Reason = ReasonSessionRequired
	}
	return v
}
