package policy

import (
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/ipclass"
)

// SelfListeners is the set of addresses that the proxy listens on. The proxy
// never connects to them. Looking a port up takes no lock. The zero value is
// empty. Safe for concurrent use.
type SelfListeners struct {
	// ViaProxy reports whether a request leaves through an upstream proxy,
	// given that upstream proxies are allowed. Set it before the first use;
	// nil means that there are no upstream proxies.
	ViaProxy func(*Query) bool

	tcp, udp portSet

	mu    sync.Mutex
	paths map[string]selfSocket
}

// portSet is a set of ports of one transport.
type portSet struct {
	bits [1 << 16 / 32]atomic.Uint32 // one bit for each port

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

// selfSocket is a unix socket that the proxy listens on.
type selfSocket struct {
	listeners int
	file      fs.FileInfo // identifies the socket under other names; nil if it is not a file
}

// Add adds the address of a listener or of a UDP socket.
func (l *SelfListeners) Add(addr net.Addr) {
	if addr.Network() == "unix" {
		l.addPath(addr.String())
	} else if port, ok := portOf(addr); ok {
		l.ports(addr).add(port)
	}
}

// Remove removes an address that Add added.
func (l *SelfListeners) Remove(addr net.Addr) {
	if addr.Network() == "unix" {
		l.removePath(addr.String())
	} else if port, ok := portOf(addr); ok {
		l.ports(addr).remove(port)
	}
}

// ports returns the set of ports for the transport of addr.
func (l *SelfListeners) ports(addr net.Addr) *portSet {
	if addr.Network() == "udp" {
		return &l.udp
	}
	return &l.tcp
}

func portOf(addr net.Addr) (uint16, bool) {
	ap, err := netip.ParseAddrPort(addr.String())
	return ap.Port(), err == nil
}

func (l *SelfListeners) addPath(path string) {
	file, _ := os.Stat(path)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paths == nil {
		l.paths = make(map[string]selfSocket)
	}
	socket := l.paths[path]
	socket.listeners++
	socket.file = file
	l.paths[path] = socket
}

func (l *SelfListeners) removePath(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	socket := l.paths[path]
	if socket.listeners--; socket.listeners <= 0 {
		delete(l.paths, path)
		return
	}
	l.paths[path] = socket
}

// containsSocket reports whether a path, as the client names it or after
// symbolic links, is a unix socket of the proxy.
func (l *SelfListeners) containsSocket(s Socket) bool {
	if l == nil {
		return false
	}
	if file, err := os.Stat(s.Real); err == nil && l.ContainsFile(file) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, asked := l.paths[s.Asked]
	_, real := l.paths[s.Real]
	return asked || real
}

// ContainsFile reports whether a file is a unix socket of the proxy. The name
// of the file does not matter: it may have been renamed, or have a second name.
func (l *SelfListeners) ContainsFile(file fs.FileInfo) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, socket := range l.paths {
		if os.SameFile(socket.file, file) {
			return true
		}
	}
	return false
}

// contains reports whether a target, as the client names it, is a listener of
// the proxy.
func (l *SelfListeners) contains(t hostname.Target, protocol Protocol) bool {
	if !l.has(t.Port, protocol) {
		return false
	}
	if t.Host.IsIP() {
		return isThisMachine(t.Host.Addr())
	}
	return t.Host.IsLocalhost()
}

// mayContainBehindProxy reports whether a target could turn out to be a
// listener of the proxy after an upstream proxy has resolved its name. That
// proxy may run on this machine, or resolve the name to it.
func (l *SelfListeners) mayContainBehindProxy(q *Query) bool {
	return l.has(q.Target.Port, q.Protocol) && !q.Target.Host.IsIP() && l.ViaProxy != nil && l.ViaProxy(q)
}

// ContainsAddr reports whether a resolved address and a port are a listener of
// the proxy.
func (l *SelfListeners) ContainsAddr(a netip.Addr, port uint16, protocol Protocol) bool {
	return l.has(port, protocol) && isThisMachine(a)
}

// has reports whether the proxy listens on port. UDP clients are refused the
// ports of TCP listeners as well; there are few, so this blocks nothing useful.
func (l *SelfListeners) has(port uint16, protocol Protocol) bool {
	return l != nil && (l.tcp.has(port) || protocol.IsUDP() && l.udp.has(port))
}

// isThisMachine reports whether an address leads back to this machine: a
// loopback or unspecified address, or one of an interface. It is called only
// if the proxy listens on the port, so the system call is rare. It reports
// true if the interfaces cannot be listed, because refusing is safe.
func isThisMachine(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if embedded := ipclass.EmbeddedIPv4(a); embedded.IsValid() && isThisMachine(embedded) {
		return true // through a translator or a tunnel on this machine
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
