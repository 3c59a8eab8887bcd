package socksproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hangup"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
)

// lingerTime is how long the proxy waits for a refused client to close its
// connection. RFC 1928 section 6 permits at most 10 seconds.
const lingerTime = 500 * time.Millisecond

// clientConn is a client's connection during the handshake and the request.
// go-socks5 passes it to the authentication methods and the handlers as their
// io.Writer, and they convert it back to reach the other fields.
type clientConn struct {
	net.Conn
	client        netip.AddrPort
	entry         *track.Entry
	principal     *gate.Principal
	started       bool // the client has sent something
	authenticated bool // its credentials determined the principal
	overLimit     bool // the connection exceeds the limit, so its request is refused
	probed        bool // the first byte of the reply has been sent: see staysHalfClosed
}

// Read implements net.Conn. It fails if the first byte is not the version of
// SOCKS5. Otherwise go-socks5 would take the second byte for a length and wait
// for that many bytes, which a short HTTP request may not have.
func (c *clientConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.started {
		c.started = true
		if b[0] != statute.VersionSocks5 {
			return 0, statute.ErrNotSupportVersion
		}
	}
	return n, err
}

// accept replies with success. bound is the proxy's local address of the
// connection or the relay that was opened for the request (RFC 1928 section 6).
func (c *clientConn) accept(bound net.Addr) error {
	return socks5.SendReply(replyWriter{c}, statute.RepSuccess, bound)
}

// refuse replies with a failure. It then reads and discards what the client has
// sent after its request, for lingerTime at most. Closing a connection with
// unread bytes resets it, and the client might lose the reply.
func (c *clientConn) refuse(code byte) {
	if err := socks5.SendReply(replyWriter{c}, code, nil); err != nil {
		return // the client has gone
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		c.SetReadDeadline(time.Now().Add(lingerTime))
		io.Copy(io.Discard, c.Conn)
	}
}

// request returns a request of this client, for the gate.
func (c *clientConn) request(protocol policy.Protocol, target hostname.Target) *gate.Request {
	return &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Overlay: c.principal.Overlay.Load()}, Client: c.client, Principal: c.principal}
}

// watch returns a context that ends when the client disconnects while it waits
// for its reply, or when its principal ends. stop ends the watch. Nothing else
// may read from the connection or write to it before stop returns. Bytes that
// the client sends after its request do not end the context.
func (c *clientConn) watch(r *bufio.Reader) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(c.principal.Context)
	stopped, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		err := hangup.Wait(c.Conn, r)
		switch {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err == io.EOF && c.staysHalfClosed(stopped):
			return
		}
		cancel()
	}()
	return ctx, func() {
		close(stopped)
		c.SetReadDeadline(time.Unix(1, 0))
		<-watched
		c.SetReadDeadline(time.Time{})
		cancel()
	}
}

// probeInterval is the time between checks whether a client that has ended its
// stream still waits for its reply. The first check is one interval after the
// end.
const probeInterval = 100 * time.Millisecond

// staysHalfClosed watches a client that has ended its stream. It returns false
// when the client has disconnected, and true when stopped is closed. To find
// out, it sends the first byte of the reply, which is the same in every reply.
// The system of a client that has closed its connection responds with a reset
// (see package hangup).
func (c *clientConn) staysHalfClosed(stopped <-chan struct{}) bool {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-stopped:
			return true
		case <-tick.C:
		}
		if hangup.Gone(c.Conn) {
			return false
		}
		if !c.probed {
			if _, err := c.Conn.Write([]byte{statute.VersionSocks5}); err != nil {
				return false
			}
			c.probed = true
		}
	}
}

// replyWriter writes a reply. It leaves out the first byte if that has been sent
// as a probe.
type replyWriter struct{ c *clientConn }

func (w replyWriter) Write(p []byte) (int, error) {
	if !w.c.probed || len(p) == 0 {
		return w.c.Conn.Write(p)
	}
	w.c.probed = false
	n, err := w.c.Conn.Write(p[1:])
	return n + 1, err
}
