// Responses on connections that are refused because too many are open.

package httpproxy

import (
	"context"
	"net"
	"net/http"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/policy"
)

// retryAfter is the value of Retry-After, in seconds (RFC 9110 section 10.2.3),
// when a limit is reached. It is short because connections end all the time.
const retryAfter = "1"

// newOverLimitServer returns the server for connections over the limit. It
// responds to one request of each.
func (h *Proxy) newOverLimitServer() *http1.Server {
	return &http1.Server{
		Handler:         http.HandlerFunc(h.serveOverLimit),
		HeaderTimeout:   min(gate.OverLimitTimeout, h.config.HeaderTimeout),
		IdleTimeout:     gate.OverLimitTimeout,
		MaxHeaderBytes:  h.config.HeaderBytes,
		MaxHeaderFields: h.config.HeaderFields,
		Malformed:       h.server.Malformed,
		Panicked:        h.server.Panicked,
	}
}

func (h *Proxy) serveOverLimit(w http.ResponseWriter, r *http.Request) {
	state := clientStateOf(r)
	protocol, target, err := targetOf(r)
	if err != nil {
		h.malformed(w, state.principal, state.client, protocol, r.Method, gate.RedactError(err))
		return
	}
	req := &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Method: r.Method}, Client: state.client, Principal: state.principal}
	h.refuse(w, req, h.gate.OverLimit())
}

// serveOverLimitConn returns the OverLimit function of a track.Listener: it serves
// a connection that the limit refuses.
func (h *Proxy) serveOverLimitConn(principal *gate.Principal) func(net.Conn) {
	return func(c net.Conn) {
		state := &clientState{client: gate.AddrPortOf(c.RemoteAddr()), principal: principal}
		h.overLimit.ServeConn(context.WithValue(principal.Context, clientStateKey{}, state), gate.NewOverLimitConn(c))
	}
}
