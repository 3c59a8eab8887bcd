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

// lingerTime is how long a refused client has to close: RFC 1928 section 6
// gives the proxy 10 seconds at most.
const lingerTime = 500 * time.Millisecond

// clientConn is a client's connection while SOCKS5 is spoken on it. go-socks5
// hands it to the handlers as what they write to, which is how they come by
// what belongs to the connection.
type clientConn struct {
	net.Conn
	client        netip.AddrPort
	entry         *track.Entry
	principal     *gate.Principal
	started       bool // the client has sent something
	authenticated bool // its credentials said whose it is
	overLimit     bool // one connection too many: its request is refused
	probed        bool // the first byte of the reply has been sent: see staysHalfClosed
}

// Read implements net.Conn. It fails on a first byte that is no version of SOCKS5, because go-socks5 would take the
// second one for a number of bytes to wait for: those of a short HTTP request may never come.
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

// accept answers the request with success; bound is the near end of what was
// opened for it (RFC 1928 section 6).
func (c *clientConn) accept(bound net.Addr) error {
	return socks5.SendReply(replyWriter{c}, statute.RepSuccess, bound)
}

// refuse answers the request with a failure. What the client has sent beyond
// its request is read away for a moment: a connection that is closed over
// unread bytes is reset, which may cost the client the answer.
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

// request is a request of this client's.
func (c *clientConn) request(protocol policy.Protocol, target hostname.Target) *gate.Request {
	return &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Overlay: c.principal.Overlay}, Client: c.client, Principal: c.principal}
}

// watch returns a context that ends when the client goes away while it waits
// for its reply, or with its principal. stop ends the watch; only then may
// anybody read from the connection or write to it. What the client has sent
// beyond its request does not matter.
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

// probeInterval is how long after the end of a client's stream it is found out
// whether it still waits for its reply, and how often it is looked at.
const probeInterval = 100 * time.Millisecond

// staysHalfClosed waits at the side of a client that has ended its stream. It
// reports false when the client has gone, and true when stopped is closed. To
// find out it sends the first byte of the reply, which is always the same: a
// client that has closed answers with a reset (see package hangup).
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

// replyWriter writes a reply, without the byte that was sent ahead.
type replyWriter struct{ c *clientConn }

func (w replyWriter) Write(p []byte) (int, error) {
	if !w.c.probed || len(p) == 0 {
		return w.c.Conn.Write(p)
	}
	w.c.probed = false
	n, err := w.c.Conn.Write(p[1:])
	return n + 1, err
}
