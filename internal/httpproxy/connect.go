// CONNECT, and the tunnels of CONNECT and Upgrade.

package httpproxy

import (
	"net"
	"net/http"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/tunnel"
)

// established is the response to a CONNECT request whose tunnel is ready.
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// connect opens a tunnel for an allowed CONNECT request. It responds with 200
// after it has connected, so that the client can tell an unreachable target from
// one that closes the connection.
func (h *Proxy) connect(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) {
	live := new(gate.LiveRequest) // not clientState.live: the tunnel would keep the whole clientState in memory
	target, err := h.gate.Dial(r.Context(), req, v, live)
	if err != nil {
		h.fail(w, r, req, err)
		return
	}
	client, err := takeOver(w, []byte(established))
	if err != nil {
		live.End()
		target.Close()
		h.gate.Failed(req, err)
		return
	}
	h.tunnel(clientStateOf(r), client, target, req, live, nil)
}

// tunnel relays bytes between client and target until one of them closes its
// connection, the idle timeout passes, a later policy refuses the request, or the
// proxy stops. live is the request that opened the tunnel. originEarly holds the
// bytes that the target sent after its response header.
func (h *Proxy) tunnel(state *clientState, client *clientConn, target net.Conn, req *gate.Request, live *gate.LiveRequest, originEarly []byte) {
	entry, finish := state.entry, func() {}
	if state.opened != nil {
		finish = state.opened.finish
	}
	relayed := target
	if pooled, ok := target.(*gate.PooledConn); ok {
		relayed = pooled.Conn // in which UnderlyingConn and the relay find the connection below TLS, to close it
	}
	if !entry.SetCloser(tunnel.Pair{A: client.conn, B: gate.UnderlyingConn(relayed)}) {
		live.End()
		target.Close() // the proxy is stopping
		h.gate.Failed(req, gate.ErrClosed)
		h.gate.Ended(req, 0, 0)
		finish()
		return
	}
	// Relaying in the handler would keep the request in memory.
	entry.AfterHandler(func() {
		defer finish()
		defer endTunnel(live, target)
		h.gate.Relay(client.conn, relayed, req, tunnel.Options{Early: client.early, EarlyBack: originEarly})
	})
}

func endTunnel(live *gate.LiveRequest, target net.Conn) {
	live.End()
	target.Close()
}

// clientConn is a client connection that was taken from the HTTP server.
type clientConn struct {
	conn  net.Conn // not wrapped, so that splice works
	early []byte   // bytes that the client sent after its request
}

// takeOver takes the client connection from the HTTP server and sends header, a
// complete response header, on it.
func takeOver(w http.ResponseWriter, header []byte) (*clientConn, error) {
	conn, early, err := w.(http1.Detacher).Detach(header)
	if err != nil {
		return nil, err
	}
	return &clientConn{conn: conn, early: early}, nil
}
