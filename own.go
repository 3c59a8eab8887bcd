// The proxy's own listeners, which no request may reach through the proxy: a
// client would drive the admin API, or chain the proxy to itself.

package networkproxy

import (
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/ipclass"
	"example.com/networkproxy/internal/upstream"
)

// selfListeners is the set of ports that the proxy listens on. Reading it
// takes no lock. The zero value is empty; safe for concurrent use.
type selfListeners struct {
	tcp, udp portSet

	upstreams *upstream.Proxies // those of the environment; set before the first use

	mu    sync.Mutex
	paths map[string]selfSocket
}

// portSet is the ports of one transport: TCP and UDP have each their own.
type portSet struct {
	bits [1 << 16 / 32]atomic.Uint32 // one bit a port

	mu    sync.Mutex
	count map[uint16]int // two listeners may share a port on different addresses
}

func (s *portSet) has(port uint16) bool { return s.bits[port/32].Load()&(1<<(port%32)) != 0 }

func (s *portSet) add(port uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == nil {
		s.count = make(map[uint16]int)
	}
	s.count[port]++
	s.bits[port/32].Or(1 << (port % 32))
}

func (s *portSet) remove(port uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[port]--; s.count[port] <= 0 {
		delete(s.count, port)
		s.bits[port/32].And(^uint32(1 << (port % 32)))
	}
}

// ports is the set that an address belongs into.
func (o *selfListeners) ports(addr net.Addr) *portSet {
	if addr.Network() == "udp" {
		return &o.udp
	}
	return &o.tcp
}

// selfSocket is a unix socket that the proxy listens on.
type selfSocket struct {
	listeners int
	file      fs.FileInfo // by which it is known under other names; nil: it has none
}

func (o *selfListeners) add(addr net.Addr) {
	if addr.Network() == "unix" {
		o.addPath(addr.String())
		return
	}
	port, ok := portOf(addr)
	if !ok {
		return
	}
	o.ports(addr).add(port)
}

func (o *selfListeners) remove(addr net.Addr) {
	if addr.Network() == "unix" {
		o.removePath(addr.String())
		return
	}
	port, ok := portOf(addr)
	if !ok {
		return
	}
	o.ports(addr).remove(port)
}

func (o *selfListeners) addPath(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.paths == nil {
		o.paths = make(map[string]selfSocket)
	}
	socket := o.paths[path]
	socket.listeners++
	socket.file, _ = os.Stat(path)
	o.paths[path] = socket
}

func (o *selfListeners) removePath(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	socket := o.paths[path]
	if socket.listeners--; socket.listeners <= 0 {
		delete(o.paths, path)
		return
	}
	o.paths[path] = socket
}

// containsSocket reports whether a path, as it was asked for or where it leads,
// is a unix socket of ours.
func (o *selfListeners) containsSocket(s socketPath) bool {
	if o == nil {
		return false
	}
	if file, err := os.Stat(s.real); err == nil && o.containsFile(file) {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, asked := o.paths[s.asked]
	_, real := o.paths[s.real]
	return asked || real
}

// containsFile reports whether a file is a unix socket of ours, whatever it is
// called: it may have been renamed, or have a second name.
func (o *selfListeners) containsFile(file fs.FileInfo) bool {
	if o == nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, socket := range o.paths {
		if os.SameFile(socket.file, file) {
			return true
		}
	}
	return false
}

// contains reports whether a target, as the client names it, is one of ours.
func (o *selfListeners) contains(t hostname.Target, by Protocol) bool {
	if !o.has(t.Port, by) {
		return false
	}
	if t.Host.IsIP() {
		return isThisMachine(t.Host.Addr())
	}
	return t.Host.IsLocalhost()
}

// mayContainBehindProxy reports whether a target could turn out to be one of the
// proxy's own listeners once the upstream proxy of its route has resolved the
// name. That proxy may run on this machine, or resolve the name to it.
func (o *selfListeners) mayContainBehindProxy(p *policy, q *query) bool {
	return o.has(q.target.Port, q.protocol) && !q.target.Host.IsIP() && routeOf(o.upstreams, p, q).proxy != nil
}

// containsAddr is covers for an address that a name resolved to.
func (o *selfListeners) containsAddr(a netip.Addr, port uint16, by Protocol) bool {
	return o.has(port, by) && isThisMachine(a)
}

// has reports whether a port is one of ours to who comes by a protocol. To
// datagrams those of TCP are, too: that costs nobody anything, for the
// listeners are few, where every association has a port of its own.
func (o *selfListeners) has(port uint16, by Protocol) bool {
	return o != nil && (o.tcp.has(port) || by == ProtocolSOCKS5UDP && o.udp.has(port))
}

// isThisMachine reports whether an address leads back to this machine: the
// loopback and unspecified addresses, and those of its interfaces. Called
// only when the port is one of ours, so the system call is rare. An
// interface list that cannot be read counts as a yes: refusing is safe.
func isThisMachine(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if carried := ipclass.EmbeddedIPv4(a); carried.IsValid() && isThisMachine(carried) {
		return true // by a translator or a tunnel of this machine's own
	}
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, ifa := range addrs {
		if prefix, err := netip.ParsePrefix(ifa.String()); err == nil && prefix.Addr().Unmap() == a {
			return true
		}
	}
	return false
}

func portOf(addr net.Addr) (uint16, bool) {
	ap, err := netip.ParseAddrPort(addr.String())
	return ap.Port(), err == nil
}
