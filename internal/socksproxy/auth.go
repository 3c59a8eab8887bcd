package socksproxy

import (
	"io"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"

	"example.com/networkproxy/internal/gate"
)

// authenticateFunc returns the principal of a client that sends credentials to
// a listener with the principal at. An error refuses the client.
type authenticateFunc func(at *gate.Principal, c gate.Credentials) (*gate.Principal, error)

// passwordMethod authenticates by user name and password (RFC 1929). It is
// chosen whenever a client offers it, because a session's token arrives in no
// other way. Clients without a token offer it too and send arbitrary
// credentials: Java sends the name of the user with an empty password.
type passwordMethod authenticateFunc

func (passwordMethod) GetCode() uint8 { return statute.MethodUserPassAuth }

func (authenticate passwordMethod) Authenticate(r io.Reader, w io.Writer, client string) (*socks5.AuthContext, error) {
	return socks5.UserPassAuthenticator{Credentials: credentialStore{authenticate, w.(*clientConn)}}.Authenticate(r, w, client)
}

// credentialStore checks the credentials of one connection and sets the
// principal of the connection.
type credentialStore struct {
	authenticate passwordMethod
	conn         *clientConn
}

func (s credentialStore) Valid(user, password, _ string) bool {
	principal, err := s.authenticate(s.conn.principal, gate.Credentials{User: user, Password: password})
	if err != nil {
		return false
	}
	s.conn.principal = principal
	s.conn.authenticated = true
	return true
}

// anonymousMethod accepts clients without credentials (RFC 1928 section 3),
// unless the listener or the configuration requires a session's token.
type anonymousMethod struct{ proxy *Proxy }

func (anonymousMethod) GetCode() uint8 { return statute.MethodNoAuth }

func (m anonymousMethod) Authenticate(r io.Reader, w io.Writer, client string) (*socks5.AuthContext, error) {
	if principal := w.(*clientConn).principal; m.proxy.config.RequireSession && principal.ID == "" || principal.RequireToken {
		w.Write([]byte{statute.VersionSocks5, statute.MethodNoAcceptable})
		return nil, gate.ErrTokenRequired
	}
	return socks5.NoAuthAuthenticator{}.Authenticate(r, w, client)
}
