package httpproxy

import (
	"context"
	"net"
	"net/http"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/policy"
)

// retryAfter is what Retry-After says, in seconds (RFC 9110 section 10.2.3),
// where a limit is reached: places come free all the time.
const retryAfter = "1"

// newOverLimitServer answers, in HTTP, the one request of each connection that is
// over the limit.
func (h *Proxy) newOverLimitServer() *http1.Server {
	return &http1.Server{
		Handler:         http.HandlerFunc(h.serveOverLimit),
		HeaderTimeout:   min(gate.OverTime, h.config.HeaderTimeout),
		IdleTimeout:     gate.OverTime,
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
		err = gate.WithoutSecrets(err)
		h.gate.Malformed(state.client, protocol, err)
		writeMalformed(w, protocol, r.Method, err)
		return
	}
	req := &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Method: r.Method}, Client: state.client, Principal: state.principal}
	h.refuse(w, req, h.gate.OverLimit())
}

// serveOverLimitConn serves a connection that the limit refuses.
func (h *Proxy) serveOverLimitConn(from *gate.Principal) func(net.Conn) {
	return func(c net.Conn) {
		state := &clientState{client: gate.AddrPortOf(c.RemoteAddr()), principal: from}
		h.overLimit.ServeConn(context.WithValue(from.Context, clientStateKey{}, state), gate.NewOverConn(c))
	}
}
