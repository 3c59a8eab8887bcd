package socksproxy

import (
	"io"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"

	"example.com/networkproxy/internal/gate"
)

// authenticateFunc returns the principal of a client that has sent credentials
// to a listener whose principal is at, or an error if it is to be turned away.
type authenticateFunc func(at *gate.Principal, c gate.Credentials) (*gate.Principal, error)

// passwordMethod is user name and password (RFC 1929). It is chosen whenever a
// client offers it, because that is the only way to learn of a session's
// token. Clients without one offer it, too, and send whatever they have: Java
// sends the name of the user, with an empty password.
type passwordMethod authenticateFunc

func (passwordMethod) GetCode() uint8 { return statute.MethodUserPassAuth }

func (find passwordMethod) Authenticate(r io.Reader, w io.Writer, client string) (*socks5.AuthContext, error) {
	return socks5.UserPassAuthenticator{Credentials: credentialStore{find, w.(*clientConn)}}.Authenticate(r, w, client)
}

// credentialStore checks the credentials of one connection, and moves it to
// its principal.
type credentialStore struct {
	find passwordMethod
	conn *clientConn
}

func (s credentialStore) Valid(user, password, _ string) bool {
	from, err := s.find(s.conn.principal, gate.Credentials{User: user, Password: password})
	if err != nil {
		return false
	}
	s.conn.principal = from
	s.conn.authenticated = true
	return true
}

// anonymousMethod takes clients without credentials (RFC 1928 section 3), but
// for those that must name a session.
type anonymousMethod struct{ proxy *Proxy }

func (anonymousMethod) GetCode() uint8 { return statute.MethodNoAuth }

func (m anonymousMethod) Authenticate(r io.Reader, w io.Writer, client string) (*socks5.AuthContext, error) {
	if principal := w.(*clientConn).principal; m.proxy.config.RequireSession && principal.ID == "" || principal.RequireToken {
		w.Write([]byte{statute.VersionSocks5, statute.MethodNoAcceptable})
		return nil, gate.ErrTokenRequired
	}
	return socks5.NoAuthAuthenticator{}.Authenticate(r, w, client)
}
