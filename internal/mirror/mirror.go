// Package mirror opens TLS connections: it accepts TLS from a client in place of the
// origin server, and makes a TLS connection of its own to that server. Both use the
// same application protocol, so that requests need no translation.
//
// The certificate of the origin server is always verified, as crypto/tls does it.
// If that fails, the client still gets its TLS connection, over which it can be told
// the reason.
package mirror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"sync"

	"example.com/networkproxy/internal/hostname"
)

// The application protocols that a mirrored connection can use (RFC 7301).
const (
	HTTP1 = "http/1.1"
	HTTP2 = "h2"
)

// Mirror opens TLS connections. Set its fields before the first use. It is safe for
// concurrent use and must not be copied.
type Mirror struct {
	// Leaf returns the certificate that the proxy shows for a host.
	Leaf func(hostname.Host) (*tls.Certificate, error)

	// Roots returns the certificate authorities to trust for a host. If the function
	// or the pool is nil, the roots of the system are trusted.
	Roots func(hostname.Host) *x509.CertPool

	configs configCache // for clients

	sessionsOnce sync.Once
	sessions     tls.ClientSessionCache // of origin servers
}

// maxSessions is the number of origin servers whose sessions can be resumed.
const maxSessions = 256

// Errors of a client's handshake. The client has got an alert.
var (
	// ErrNoProtocol means that the client and the origin server have no version of
	// HTTP in common that the proxy supports.
	ErrNoProtocol = errors.New("the client offers no protocol but those that cannot be inspected (ALPN)")
)

// Conn is an opened connection.
type Conn struct {
	// Client is the connection with the client, after the handshake.
	Client *tls.Conn

	// Origin is the connection with the origin server, after the handshake. It is
	// nil if Err is set.
	Origin *OriginConn

	// Protocol is HTTP1 or HTTP2. Both connections use it.
	Protocol string

	// Err says why there is no connection with the origin server.
	Err error
}

// OriginConn is a connection with an origin server, after the handshake.
type OriginConn struct {
	*tls.Conn

	// ClientCertificate means that the server has asked for a client certificate,
	// and has got none. In TLS 1.3 it may refuse that only later.
	ClientCertificate bool
}

// Options describe one connection.
type Options struct {
	Host hostname.Host // the target

	// Origin is the connection to the target. It is not closed if Accept fails.
	Origin net.Conn

	// Check judges the name that the client asks for (SNI); "" is none. After an
	// error, the client gets the alert access_denied.
	Check func(serverName string) error
}

// Accept performs both handshakes. It reads the client's hello first, then
// completes the handshake with the origin server, and then that with the client. The
// error is a *[ClientError], or that of Check.
func (m *Mirror) Accept(ctx context.Context, client net.Conn, o Options) (*Conn, error) {
	c := new(Conn)
	watched := &watchedConn{Conn: client}
	var refusal error // of the callback, which crypto/tls would hide behind its own
	c.Client = tls.Server(watched, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (config *tls.Config, err error) {
			var alert byte
			if config, alert, err = m.negotiate(hello, c, &o); err != nil {
				refusal = err
				watched.refuse(alert)
			}
			return config, err
		},
	})
	err := c.Client.HandshakeContext(ctx)
	switch {
	case refusal != nil:
		err = refusal
	case err != nil:
		err = watched.clientError(err)
	}
	return c, err
}

// negotiate chooses the application protocol, by the handshake with the origin server,
// and returns the configuration for the rest of the client's handshake. With an error,
// it returns the alert for the client.
func (m *Mirror) negotiate(hello *tls.ClientHelloInfo, c *Conn, o *Options) (*tls.Config, byte, error) {
	if err := o.Check(hello.ServerName); err != nil {
		return nil, alertAccessDenied, err
	}
	offer := supported(hello.SupportedProtos)
	if len(offer) == 0 && len(hello.SupportedProtos) > 0 {
		return nil, alertNoProtocol, ErrNoProtocol
	}
	c.Origin, c.Err = m.Dial(hello.Context(), o.Origin, o.Host, offer)
	c.Protocol = HTTP1
	switch {
	case c.Err == nil && c.Origin.ConnectionState().NegotiatedProtocol == HTTP2:
		c.Protocol = HTTP2
	case len(offer) == 1 && offer[0] == HTTP2:
		if c.Err == nil {
			c.Origin, c.Err = nil, errOriginLacksHTTP2
		}
		c.Protocol = HTTP2
	}
	config, err := m.configs.get(o.Host, c.Protocol, len(offer) > 0, m.Leaf)
	return config, alertInternalError, err
}

var errOriginLacksHTTP2 = errors.New("the client offers HTTP/2 alone, and the server does not support it")

// supported returns the protocols of an offer that the proxy supports, in its order.
func supported(offer []string) []string {
	return slices.DeleteFunc(slices.Clone(offer), func(p string) bool { return p != HTTP1 && p != HTTP2 })
}

// Dial performs the handshake with the origin server of a host on conn. offer lists
// the application protocols to offer; it may be empty.
func (m *Mirror) Dial(ctx context.Context, conn net.Conn, host hostname.Host, offer []string) (*OriginConn, error) {
	m.sessionsOnce.Do(func() { m.sessions = tls.NewLRUClientSessionCache(maxSessions) })
	asked := false
	config := &tls.Config{
		ServerName:         serverName(host),
		NextProtos:         offer,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: m.sessions,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil // none
		},
	}
	if m.Roots != nil {
		config.RootCAs = m.Roots(host)
	}
	c := tls.Client(conn, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, &OriginError{Err: err, ClientCertificate: asked}
	}
	return &OriginConn{c, asked}, nil
}

// serverName returns the name that a certificate for a host must have.
func serverName(host hostname.Host) string {
	if host.IsIP() {
		return host.Addr().WithZone("").String()
	}
	return host.Name()
}

// OriginError is the error of a handshake with an origin server.
type OriginError struct {
	Err               error
	ClientCertificate bool // the server had asked for a client certificate
}

// Error implements error.
func (e *OriginError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *OriginError) Unwrap() error { return e.Err }

// CertificateInvalid reports whether the certificate of the origin server was refused.
func (e *OriginError) CertificateInvalid() bool {
	return errors.As(e.Err, new(*tls.CertificateVerificationError))
}
