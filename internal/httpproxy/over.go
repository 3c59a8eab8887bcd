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

// newOverServer answers, in HTTP, the one request of each connection that is
// over the limit.
func (h *Proxy) newOverServer() *http1.Server {
	return &http1.Server{
		Handler:         http.HandlerFunc(h.serveOver),
		HeaderTimeout:   min(gate.OverTime, h.config.HeaderTimeout),
		IdleTimeout:     gate.OverTime,
		MaxHeaderBytes:  h.config.HeaderBytes,
		MaxHeaderFields: h.config.HeaderFields,
		Malformed:       h.Server.Malformed,
		Panicked:        h.Server.Panicked,
	}
}

func (h *Proxy) serveOver(w http.ResponseWriter, r *http.Request) {
	x := clientStateOf(r)
	protocol, target, err := targetOf(r)
	if err != nil {
		err = gate.WithoutSecrets(err)
		h.gate.Malformed(x.client, protocol, err)
		writeMalformed(w, protocol, r.Method, err)
		return
	}
	req := &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Method: r.Method}, Client: x.client, Principal: x.principal}
	h.refuse(w, req, h.gate.OverLimit())
}

// overLimitConn serves a connection that the limit refuses.
func (h *Proxy) overLimitConn(from *gate.Principal) func(net.Conn) {
	return func(c net.Conn) {
		x := &clientState{client: gate.AddrPortOf(c.RemoteAddr()), principal: from}
		h.over.ServeConn(context.WithValue(from.Context, clientStateKey{}, x), gate.NewOverConn(c))
	}
}
