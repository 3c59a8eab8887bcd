// The hop to a proxy: the connection, TLS, and CONNECT.

package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/networkproxy/internal/hostname"
)

const (
	handshakeTimeout = 10 * time.Second
	answerTimeout    = 60 * time.Second // to a CONNECT: the proxy itself dials meanwhile
	maxAnswerBytes   = 64 << 10         // of its header
)

// DialFunc makes a connection to the address of a proxy. It bounds its own
// time and returns once ctx ends.
type DialFunc func(ctx context.Context, addr hostname.Target) (net.Conn, error)

// Dial returns a connection to the proxy, for requests that it forwards: what
// dial returned, or a *tls.Conn over that. The error is an *[Error].
func (p *Proxy) Dial(ctx context.Context, dial DialFunc) (net.Conn, error) {
	conn, err := dial(ctx, p.addr)
	if err != nil {
		return nil, p.fail(err)
	}
	if p.tls == nil {
		return conn, nil
	}
	secure := tls.Client(conn, p.tls)
	ctx, cancel := within(ctx, handshakeTimeout, "complete the TLS handshake")
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, p.fail(err)
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
	ctx, cancel := within(ctx, answerTimeout, "answer CONNECT")
	defer cancel()
	interrupt := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = p.connect(conn, target)
	if !interrupt() {
		err = context.Cause(ctx) // whatever the deadline made of it
	}
	if err != nil {
		conn.Close()
		return nil, p.fail(err)
	}
	return conn, nil
}

// within is context.WithTimeout with a cause that says what was not done.
func within(ctx context.Context, d time.Duration, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("it did not %s in %v: %w", what, d, context.DeadlineExceeded))
}

// connect asks for a tunnel and reads the answer, to the last byte of its
// header and not one further: what follows is the target's.
func (p *Proxy) connect(conn net.Conn, target hostname.Target) error {
	var b strings.Builder
	b.WriteString("CONNECT " + target.String() + " HTTP/1.1\r\nHost: " + target.String() + "\r\n")
	if p.authorization != "" {
		b.WriteString("Proxy-Authorization: " + p.authorization + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil {
		return err
	}

	answer := bufio.NewReader(&singly{&io.LimitedReader{R: conn, N: maxAnswerBytes}})
	for {
		// Interim answers (RFC 9110 section 15.2) come before the final one.
		// Any success opens the tunnel, and its framing fields mean nothing
		// (section 9.3.6).
		resp, err := http.ReadResponse(answer, &http.Request{Method: http.MethodConnect})
		switch {
		case errors.As(err, new(net.Error)):
			return err
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("it closed the connection, or did not end its answer")
		case err != nil:
			return errors.New("its answer is not HTTP/1.1") // whatever it is, it is not for logs
		case resp.StatusCode >= 200 && resp.StatusCode <= 299:
			return nil
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			return &StatusError{Status: resp.StatusCode}
		}
	}
}

// singly hands on one byte at a time, so that a bufio.Reader above it holds
// none that nobody asked for. An answer has a few hundred bytes, and the
// connection stays what it is: no wrapper comes between it and splice.
type singly struct{ r io.Reader }

func (s *singly) Read(b []byte) (int, error) {
	return s.r.Read(b[:min(len(b), 1)])
}
