// The hop to a proxy: the connection, TLS, and CONNECT.

package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"example.com/networkproxy/internal/hostname"
)

const (
	handshakeTimeout = 10 * time.Second
	responseTimeout  = 60 * time.Second // for the response to CONNECT; the proxy dials before it responds
)

// DialFunc makes a connection to the address of a proxy. It bounds its own
// time and returns once ctx ends.
type DialFunc func(ctx context.Context, addr hostname.Target) (net.Conn, error)

// Dial returns a connection to the proxy, for requests that it forwards: what
// dial returned, or a *tls.Conn over that. The error is an *[Error].
func (p *Proxy) Dial(ctx context.Context, dial DialFunc) (net.Conn, error) {
	conn, err := dial(ctx, p.addr)
	if err != nil {
		return nil, p.wrapError(err)
	}
	if p.tls == nil {
		return conn, nil
	}
	secure := tls.Client(conn, p.tls)
	ctx, cancel := withTimeout(ctx, handshakeTimeout, "TLS handshake")
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, p.wrapError(err)
	}
	return secure, nil
}

// DialTunnel returns a connection through the proxy to target, as Dial does
// one to the proxy. Nothing that target has sent is lost: it is still to be
// read. The error is an *[Error], over a *[StatusError] where the proxy
// refused.
func (p *Proxy) DialTunnel(ctx context.Context, dial DialFunc, target hostname.Target) (net.Conn, error) {
	conn, err := p.Dial(ctx, dial)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(ctx, responseTimeout, "CONNECT")
	defer cancel()
	interrupt := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	resp, err := Connect(conn, target, p.authorization)
	if err == nil && !isSuccess(resp.StatusCode) {
		err = &StatusError{Status: resp.StatusCode}
	}
	if !interrupt() {
		err = context.Cause(ctx) // whatever the deadline made of it
	}
	if err != nil {
		conn.Close()
		return nil, p.wrapError(err)
	}
	return conn, nil
}

// withTimeout is context.WithTimeout with a cause that names the operation.
func withTimeout(ctx context.Context, d time.Duration, operation string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%s timed out after %v: %w", operation, d, context.DeadlineExceeded))
}
