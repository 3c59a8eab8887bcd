// The listeners of a proxy that belong to no session.

package networkproxy

import (
	"net"

	"example.com/networkproxy/internal/gate"
)

// sharedListeners are the listeners of a proxy that belong to no session. Those
// that are not open are nil: all of them while the proxy is disabled, and socks
// while enable_socks5 is false.
type sharedListeners struct {
	http, admin, socks net.Listener
}

// open returns the listeners that are open.
func (s *sharedListeners) open() []net.Listener {
	var open []net.Listener
	for _, l := range []net.Listener{s.http, s.admin, s.socks} {
		if l != nil {
			open = append(open, l)
		}
	}
	return open
}

// closeProxies closes all listeners except that of the admin API.
func (s *sharedListeners) closeProxies() {
	for _, l := range []net.Listener{s.http, s.socks} {
		if l != nil {
			l.Close()
		}
	}
}

// exposed returns the address of a listener that other machines can reach, or
// "".
func (s *sharedListeners) exposed() string {
	for _, l := range s.open() {
		if a := gate.AddrPortOf(l.Addr()); a.IsValid() && !a.Addr().IsLoopback() {
			return a.String()
		}
	}
	return ""
}
