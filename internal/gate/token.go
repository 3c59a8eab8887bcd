// The token of a session: how a request on a shared listener says whose it
// is, and how one that does not, or lies, is told.

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

// Token is a session's secret: 256 random bits in base64url without padding,
// so that it stands in a URL as it is.
type Token string

// tokenLength is the length of a token's text.
const tokenLength = 43

func NewToken() Token {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return Token(base64.RawURLEncoding.EncodeToString(b[:]))
}

// Userinfo is the token as it stands in a URL.
func (t Token) Userinfo() *url.Userinfo { return url.UserPassword("session", string(t)) }

// digest is what tokens are looked up by. A look-up in a hash table takes a
// time that depends on what is looked up, and here that is no harm: what it
// could tell is how much of the digest of a guess agrees with the digest of a
// token, and neither can be steered by, nor leads back to, the token itself.
func (t Token) digest() [sha256.Size]byte { return sha256.Sum256([]byte(t)) }

// SessionChallenge goes with a 407 (RFC 9110 section 11.7.1).
const SessionChallenge = `Basic realm="networkproxy session"`

var (
	ErrTokenRequired = errors.New("no session's token in the request")
	ErrTokenUnknown  = errors.New("the token is not that of an open session")
)

// Tokens finds the sessions of requests by the tokens in them. Safe for
// concurrent use.
type Tokens struct {
	Required bool     // on the shared listeners
	byDigest sync.Map // of [sha256.Size]byte to *principal
}

func (t *Tokens) Add(of Token, p *Principal) { t.byDigest.Store(of.digest(), p) }

func (t *Tokens) Remove(of Token) { t.byDigest.Delete(of.digest()) }

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

// Identify returns the principal that an HTTP request belongs to, given the
// principal of its listener. Credentials are looked at only for a token:
// clients send those of other proxies, from their configuration files, without
// being asked. Where a session is required, nothing but its token will do.
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
		return at, ErrTokenUnknown // which of them counts is anybody's guess
	}
	return t.Authenticate(at, found)
}

// demandsToken reports whether the listeners of a principal serve only
// requests with a session's token.
func (t *Tokens) demandsToken(at *Principal) bool {
	return t.Required && at.ID == "" || at.RequireToken
}

// Authenticate returns the principal that credentials lead to at a listener
// whose principal is at. Credentials without a token lead to at itself, unless
// a token is required there. A listener of a session's own has said already
// whose its clients are: the token of another session is refused there.
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

// Credentials are a user name and a password as a client sent them. The zero
// value is none. The password is a session's token, or of no interest; the
// user name does not matter.
type Credentials struct{ User, Password string }

// ours reports whether the credentials have the form of ours: a token for the
// password. A token that stands for the user name was meant for us, too.
func (c Credentials) ours() bool { return isToken(c.Password) || isToken(c.User) }

// parseCredentials reads a Proxy-Authorization field (RFC 9110 section 11.4).
// The scheme is Basic (RFC 7617 section 2). A token that is sent in another
// way is taken for a user name, so that it is refused rather than ignored.
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

// Unidentified is the verdict on a request of which it is not known whose it
// is.
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
