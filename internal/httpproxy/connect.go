// CONNECT, and the tunnels of CONNECT and Upgrade.

package httpproxy

import (
	"net"
	"net/http"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/tunnel"
)

// connect dials, and only then answers 200: a client must be able to tell a
// target that is out of reach from one that closes.
func (h *Proxy) connect(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) {
	live := new(gate.LiveRequest) // not the exchange's, which a tunnel would keep alive
	target, err := h.gate.Dial(r.Context(), req, v, live)
	if err != nil {
		h.fail(w, r, req, err)
		return
	}
	client, err := takeOver(w, []byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	if err != nil {
		live.End()
		target.Close()
		h.gate.Failed(req, err)
		return
	}
	h.tunnel(clientStateOf(r).entry, client, target, req, live, nil)
}

// tunnel makes a tunnel of a client's connection: until either side ends it,
// the idle time passes, the policy turns against it, or the proxy stops. The
// request is under way as live. back is what the target has already sent
// beyond its answer.
func (h *Proxy) tunnel(entry *track.Entry, client *clientConn, target net.Conn, req *gate.Request, live *gate.LiveRequest, originEarly []byte) {
	if !entry.SetCloser(tunnel.Pair{A: client.conn, B: gate.BelowTLS(target)}) {
		live.End()
		target.Close() // the proxy is stopping
		h.gate.Failed(req, gate.ErrClosed)
		return
	}
	// Not here in the handler, so that a tunnel does not hold its request.
	entry.AfterHandler(func() {
		defer endTunnel(live, target)
		h.gate.Relay(client.conn, target, req, tunnel.Options{Early: client.early, EarlyBack: originEarly})
	})
}

func endTunnel(live *gate.LiveRequest, target net.Conn) {
	live.End()
	target.Close()
}

// clientConn is a client's connection that has become a tunnel's.
type clientConn struct {
	conn  net.Conn // the connection itself, unwrapped
	early []byte   // what the client has sent beyond its request
}

// takeOver takes the connection of a request from the server, behind the head
// of a response.
func takeOver(w http.ResponseWriter, header []byte) (*clientConn, error) {
	conn, early, err := w.(http1.Detacher).Detach(header)
	if err != nil {
		return nil, err
	}
	return &clientConn{conn: conn, early: early}, nil
}
