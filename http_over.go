package networkproxy

import (
	"context"
	"net"
	"net/http"

	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/policy"
)

// retryAfter is what Retry-After says, in seconds (RFC 9110 section 10.2.3),
// where a limit is reached: places come free all the time.
const retryAfter = "1"

// newOverServer answers, in HTTP, the one request of each connection that is
// over the limit.
func (h *httpProxy) newOverServer() *http1.Server {
	return &http1.Server{
		Handler:         http.HandlerFunc(h.serveOver),
		HeaderTimeout:   min(overTime, h.config.HeaderTimeout),
		IdleTimeout:     overTime,
		MaxHeaderBytes:  h.config.HeaderBytes,
		MaxHeaderFields: h.config.HeaderFields,
		Malformed:       h.server.Malformed,
		Panicked:        h.server.Panicked,
	}
}

func (h *httpProxy) serveOver(w http.ResponseWriter, r *http.Request) {
	x := clientStateOf(r)
	protocol, target, err := targetOf(r)
	if err != nil {
		err = withoutSecrets(err)
		h.gate.malformed(x.client, protocol, err)
		writeMalformed(w, protocol, r.Method, err)
		return
	}
	req := &request{Query: policy.Query{Protocol: protocol, Target: target, Method: r.Method}, client: x.client, principal: x.principal}
	h.refuse(w, req, h.gate.overLimit())
}

// overLimitConn serves a connection that the limit refuses.
func (h *httpProxy) overLimitConn(from *principal) func(net.Conn) {
	return func(c net.Conn) {
		x := &clientState{client: addrPortOf(c.RemoteAddr()), principal: from}
		h.over.ServeConn(context.WithValue(from.ctx, clientStateKey{}, x), newOverConn(c))
	}
}
