// Connecting to a proxy and through it.

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
	responseTimeout  = 60 * time.Second // for the response to CONNECT; the proxy connects to the target before it responds
)

// DialFunc connects to the address of a proxy. It limits its own time and
// returns once ctx ends.
type DialFunc func(ctx context.Context, addr hostname.Target) (net.Conn, error)

// Dial connects to the proxy, for requests that it forwards. The connection is
// the result of dial, or a *tls.Conn over it. The error is an *[Error].
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

// DialTunnel connects to target through the proxy. The connection is as in
// Dial. All bytes that target sends can be read from it. The error is an
// *[Error], and wraps a *[StatusError] if the proxy refused.
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
		err = context.Cause(ctx) // instead of the error that the deadline caused
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
