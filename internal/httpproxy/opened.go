// Opened tunnels: TLS that the proxy accepts in place of the origin server, and the
// HTTP inside.

package httpproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/mirror"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/sniff"
	"example.com/networkproxy/internal/track"
)

// opened is the part of a clientState that only the connection of an opened tunnel
// has.
type opened struct {
	tunnel   *gate.Opened
	secure   bool             // TLS was opened; if not, the tunnel has plain HTTP
	offer    []string         // the application protocols that the origin server is asked for
	fault    error            // why there is no connection with the origin server; nil if there is one
	hostport string           // of the target
	host     string           // the Host field that names the target over TLS; empty if unknown
	origin   *gate.PooledConn // for the first request; nil afterwards
	served   atomic.Bool      // there was a request

	// transport has the one connection with the origin server between two requests
	// of HTTP/1.1. It is not shared with other clients.
	transport *http1.Transport
	http2     *http2Origin // nil unless the connections use HTTP/2

	// handedOver means that a tunnel uses both connections, and calls finish when it
	// has ended.
	handedOver bool
	finish     func()
}

// takeOrigin returns the connection with the origin server if it was not used yet.
func (o *opened) takeOrigin() *gate.PooledConn {
	if o == nil {
		return nil
	}
	origin := o.origin
	o.origin = nil
	return origin
}

// openTunnel connects to the target of an allowed CONNECT request whose tunnel must be
// opened, and serves the tunnel.
func (h *Proxy) openTunnel(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) {
	ruling := *v // it lasts as long as the tunnel
	t, err := h.gate.DialOpened(r.Context(), req, &ruling)
	if err != nil {
		h.fail(w, r, req, err)
		return
	}
	client, err := takeOver(w, []byte(established))
	if err != nil {
		t.Failed(err)
		t.Origin.Close()
		t.End()
		return
	}
	entry := clientStateOf(r).entry
	// Serving in the handler would keep the request in memory.
	entry.AfterHandler(func() { h.ServeOpened(entry, client.conn, client.early, t) })
}

// ServeOpened serves a tunnel whose content the policy must see, until it ends. It
// closes both connections. early holds bytes that the client has sent already.
func (h *Proxy) ServeOpened(entry *track.Entry, client net.Conn, early []byte, t *gate.Opened) {
	if err := t.Attach(client); err != nil || !entry.SetCloser(closers{client, gate.UnderlyingConn(t.Origin.Conn)}) {
		t.Failed(errors.Join(err, gate.ErrClosed))
		client.Close()
		t.Origin.Close()
		t.End()
		return
	}
	client.SetDeadline(time.Time{})
	o := &opened{tunnel: t, hostport: t.Request.Target.String(), origin: t.Origin}
	o.finish = func() {
		client.Close()
		t.Origin.Close()
		t.Detach()
		t.End()
	}
	if lifetime := h.config.TunnelLifetime; lifetime > 0 {
		timer := time.AfterFunc(lifetime, func() { closers{client, gate.UnderlyingConn(t.Origin.Conn)}.Close() })
		finish := o.finish
		o.finish = func() {
			timer.Stop()
			finish()
		}
	}
	h.serveOpened(entry, &prefixedConn{Conn: client, prefix: early}, o)
	if !o.handedOver {
		o.finish()
	}
}

// closers closes several connections.
type closers []net.Conn

func (c closers) Close() error {
	var err error
	for _, conn := range c {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// serveOpened serves what the client turns out to speak: TLS, plain HTTP, or neither.
func (h *Proxy) serveOpened(entry *track.Entry, client *prefixedConn, o *opened) {
	kind, err := client.awaitKind(h.config.HandshakeTimeout)
	switch {
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		o.tunnel.Failed(err) // the client has left
	case kind == sniff.TLSHello:
		h.serveOpenedTLS(entry, client, o)
	case kind == sniff.HTTPRequest && !client.startsWith(http2Preface):
		h.serveOpenedHTTP1(entry, client, o)
	case kind == sniff.Silent:
		o.tunnel.Refused(notInspectable("its client waits for the server to speak first, which no client of HTTP does"))
	default:
		o.tunnel.Refused(notInspectable("its client speaks neither TLS nor HTTP/1.1"))
	}
}

// http2Preface begins HTTP/2 without TLS (RFC 9113 section 3.4).
const http2Preface = "PRI * HTTP/2.0"

// notInspectable returns the refusal of a tunnel whose content the proxy cannot read.
func notInspectable(problem string) policy.Verdict {
	return policy.Verdict{Reason: policy.ReasonMITMRequired, Check: policy.CheckInspection, Problem: problem}
}

// serveOpenedTLS opens the TLS of a tunnel and serves the requests inside.
func (h *Proxy) serveOpenedTLS(entry *track.Entry, client *prefixedConn, o *opened) {
	t := o.tunnel
	ctx, cancel := context.WithTimeout(t.Request.Principal.Context, h.config.HandshakeTimeout+h.config.DialTimeout)
	defer cancel()
	conn, err := h.mirror.Accept(ctx, client, mirror.Options{
		Host:   t.Request.Target.Host,
		Origin: t.Origin.Conn,
		Check: func(name string) error {
			if v, ok := h.gate.CheckServerName(t.Request, name); !ok {
				return gate.NewRefusedError(t.Request, v)
			}
			return nil
		},
	})
	if err != nil {
		h.accountHandshake(t, err)
		return
	}
	cancel()
	o.secure, o.fault = true, conn.Err
	if t.Request.Target.Host.Zone() == "" {
		o.host = strings.TrimSuffix(o.hostport, ":443")
	}
	if conn.Origin != nil {
		t.Origin.Conn = conn.Origin
	}
	if conn.Protocol == mirror.HTTP2 {
		o.offer = []string{mirror.HTTP2}
		h.serveOpenedHTTP2(entry, conn.Client, o)
	} else {
		if conn.Client.ConnectionState().NegotiatedProtocol != "" {
			o.offer = []string{mirror.HTTP1}
		}
		h.serveOpenedHTTP1(entry, conn.Client, o)
	}
	if !o.served.Load() && !o.handedOver {
		h.accountUnused(t, conn.Client)
	}
}

// serveOpenedHTTP1 serves HTTP/1.1 on an opened connection.
func (h *Proxy) serveOpenedHTTP1(entry *track.Entry, client net.Conn, o *opened) {
	t := o.tunnel
	o.transport = h.newTransport()
	o.transport.MaxIdle, o.transport.MaxIdlePerAddr = 1, 1
	defer o.transport.CloseIdleConnections()
	state := new(clientState)
	*state = o.newState(entry)
	state.live.Persistent = true
	defer state.live.Leave()
	h.server.ServeConn(context.WithValue(t.Request.Principal.Context, clientStateKey{}, state), client)
}

// newState returns the state of an opened connection.
func (o *opened) newState(entry *track.Entry) clientState {
	req := o.tunnel.Request
	return clientState{client: req.Client, principal: req.Principal, entry: entry, opened: o}
}

// accountHandshake accounts for a tunnel in which the handshake with the client has
// failed.
func (h *Proxy) accountHandshake(t *gate.Opened, err error) {
	var refused *gate.RefusedError
	var failed *mirror.ClientError
	switch {
	case errors.As(err, &refused):
		t.Refused(refused.Verdict)
	case errors.Is(err, mirror.ErrNoProtocol):
		t.Refused(notInspectable(err.Error()))
	case errors.As(err, &failed) && failed.Distrust != "":
		h.accountDistrust(t, failed.Distrust)
	default:
		t.Failed(err)
	}
}

// unusedTime is the longest life of a connection without a request that counts as a
// sign of distrust. A client that keeps a connection for later waits longer.
const unusedTime = 5 * time.Second

// accountUnused accounts for a client that has completed the handshake and left without
// a request. GnuTLS verifies the certificate only then.
func (h *Proxy) accountUnused(t *gate.Opened, client *tls.Conn) {
	if client.ConnectionState().DidResume || time.Since(t.Begun) >= unusedTime || t.Cause(nil) != nil {
		return
	}
	if err := lastError(client); requiresECH(err) {
		t.Failed(err)
		return
	}
	h.accountDistrust(t, "it completed the handshake and closed the connection without a request")
}

// lastError returns the error that has ended the reading of a connection. crypto/tls
// keeps it.
func lastError(c *tls.Conn) error {
	c.SetReadDeadline(time.Unix(1, 0)) // nothing more is read
	_, err := c.Read(make([]byte, 1))
	return err
}

// requiresECH reports whether err is the alert of a client that has sent an Encrypted
// Client Hello. The proxy has no keys for it, as most servers, so the client leaves after
// the handshake, and may try again without it (RFC 9849 section 6.1.6). The certificate
// was valid for it. crypto/tls has no exported type for the alert.
func requiresECH(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "encrypted client hello required")
}

// accountDistrust records that a client does not seem to trust the proxy's certificate,
// once a minute for each session and host.
func (h *Proxy) accountDistrust(t *gate.Opened, sign string) {
	if !h.distrust.first(t.Request.Principal.ID, t.Request.Target.Host, time.Now()) {
		t.Failed(errors.New("the client does not seem to trust the certificate of the proxy"))
		return
	}
	t.Refused(policy.Verdict{Reason: policy.ReasonCertificateDistrusted, Check: policy.CheckCertificate, Problem: sign})
}

// prefixedConn is a connection with bytes that were read from it before.
type prefixedConn struct {
	net.Conn
	prefix []byte
}

// Read implements net.Conn.
func (c *prefixedConn) Read(b []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(b, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// NetConn returns the connection below.
func (c *prefixedConn) NetConn() net.Conn { return c.Conn }

// CloseWrite closes the connection for writing.
func (c *prefixedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// awaitKind reads until the bytes tell what the client speaks, or the time is over. The
// bytes stay to be read.
func (c *prefixedConn) awaitKind(limit time.Duration) (sniff.Kind, error) {
	c.SetReadDeadline(time.Now().Add(limit))
	defer c.SetReadDeadline(time.Time{})
	buf := make([]byte, 0, sniff.MaxBytes)
	buf = append(buf, c.prefix...)
	for {
		kind := sniff.Classify(buf)
		if kind != sniff.Silent && kind != sniff.Undecided {
			c.prefix = buf
			return kind, nil
		}
		n, err := c.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			c.prefix = buf
			if n > 0 {
				return sniff.Classify(buf), err
			}
			return kind, err
		}
	}
}

func (c *prefixedConn) startsWith(text string) bool {
	return strings.HasPrefix(string(c.prefix[:min(len(text), len(c.prefix))]), text)
}
