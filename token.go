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
	"strconv"
)

// token is a session's secret: 256 random bits in base64url without padding,
// so that it stands in a URL as it is.
type token string

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

func newSessions(required bool) *sessions {
	return &sessions{required: required, open: make(map[*Session]struct{})}
}

func sessionID(n int) string { return "s" + strconv.Itoa(n) }

// authenticate finds the session that credentials name. The user name is not
// looked at: the password alone is the secret.
func (t *sessions) authenticate(_, password string) (*entrance, bool) {
	from, ok := t.byToken.Load(token(password).digest())
	if !ok {
		return nil, false
	}
	return from.(*entrance), true
}

// identify finds whose request it is that came in at a listener. What the
// listener says and what the credentials say must not differ.
func (t *sessions) identify(at *entrance, header http.Header) (*entrance, error) {
	own := at.id != ""
	fields := header["Proxy-Authorization"]
	if len(fields) == 0 {
		if t.required && !own || at.requireToken {
			return at, errSessionRequired
		}
		return at, nil
	}
	from, ok := t.authenticateBasic(fields)
	if !ok || own && from != at {
		return at, errSessionUnknown
	}
	return from, nil
}

// authenticateBasic reads Basic credentials (RFC 7617 section 2). net/http
// reads them from the field that a server gets.
func (t *sessions) authenticateBasic(fields []string) (*entrance, bool) {
	if len(fields) != 1 {
		return nil, false
	}
	user, password, ok := (&http.Request{Header: http.Header{"Authorization": fields}}).BasicAuth()
	if !ok {
		return nil, false
	}
	return t.authenticate(user, password)
}

// unidentified is the verdict on a request of which it is not known whose it
// is.
func (e *enforcer) unidentified(err error) Verdict {
	v := Verdict{
		Reason:     ReasonSessionUnknown,
		Source:     SourceSession,
		Generation: e.current.Load().generation,
		check:      checkSession,
	}
	if errors.Is(err, errSessionRequired) {
		v.Reason = ReasonSessionRequired
	}
	return v
}
