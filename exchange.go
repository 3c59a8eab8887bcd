// The client connections of the HTTP proxy as net/http reports them. Its
// reports end the accounting of a connection, and tell one thing more that
// its handlers never see: bytes that never became a request. net/http
// answers those with 400 silently; the log should have a line of it.

package networkproxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/track"
)

// entranceListener is a listener of one entrance.
type entranceListener struct {
	*track.Listener
	from *entrance
}

// listenerKey finds, in a connection's context, the entranceListener that it
// came in by.
type listenerKey struct{}

// exchange follows one client connection.
type exchange struct {
	client   netip.AddrPort
	from     *entrance
	listener *track.Listener
	pending  atomic.Bool // bytes came, and no request yet
}

// exchangeKey finds the exchange in a request's context.
type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

// exchanges are the connections that net/http holds. The zero value is
// empty; safe for concurrent use.
type exchanges struct {
	conns sync.Map // of net.Conn to *exchange
}

// open is http.Server's ConnContext.
func (s *exchanges) open(ctx context.Context, c net.Conn) context.Context {
	l := ctx.Value(listenerKey{}).(*entranceListener)
	x := &exchange{client: addrPortOf(c.RemoteAddr()), from: l.from, listener: l.Listener}
	s.conns.Store(c, x)
	return context.WithValue(ctx, exchangeKey{}, x)
}

// changed is http.Server's ConnState. It reports a connection that ended over
// something that was no request.
func (s *exchanges) changed(c net.Conn, state http.ConnState) (malformed bool) {
	switch state {
	case http.StateActive:
		if x, ok := s.conns.Load(c); ok {
			x.(*exchange).pending.Store(true)
		}
	case http.StateHijacked, http.StateClosed:
		x, ok := s.conns.LoadAndDelete(c)
		if !ok {
			return false
		}
		x.(*exchange).listener.ConnState(c, state)
		return state == http.StateClosed && x.(*exchange).pending.Load()
	}
	return false
}
