package fence

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Room holds the host's part of a running room: the sockets at which everything arrives that the
// command sends. The caller serves the sockets, and may close them before the room. A room with
// a sandbox profile has no sockets (Report.Profile). Methods may be called by several
// goroutines at once.
type Room struct {
	// TCP accepts the captured connections. Target returns the address that the command
	// connected to, and RemoteAddr of a connection is the command's end. Addresses may be IPv4-mapped
	// IPv6 addresses; use netip.Addr.Unmap. There is one listener if all ports are captured,
	// else one for each port.
	TCP []net.Listener

	// Listeners accept connections to the addresses of Config.Listen, in the same order.
	Listeners []net.Listener

	// DNS receives the datagrams to port 53 of any address.
	DNS *Datagrams

	// DNSStreams accepts TCP connections to port 53 of any address. LocalAddr of a
	// connection is the address of the name server that the command asked, except with the
	// mechanism Notification.
	DNSStreams net.Listener

	// UDP receives all other datagrams. It is nil without Config.UDP, and with the mechanism
	// Notification.
	UDP *Datagrams

	targets *targets // nil if LocalAddr of a connection is its target

	report  Report
	once    sync.Once
	closers []func() // in the order of making; Close calls them from the last to the first
}

// Target returns the address that the command connected to, for a connection that Room.TCP has
// accepted. Call it once for each connection, because the room keeps the address until then, and
// forgets it afterwards.
func (r *Room) Target(c net.Conn) netip.AddrPort {
	if r.targets != nil {
		return r.targets.take(c)
	}
	return addrPort(c.LocalAddr())
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return unmap(tcp.AddrPort())
	}
	return netip.AddrPort{}
}

// targets are the addresses that the command connected to, by the host's end of the connection.
type targets struct {
	mu sync.Mutex
	of map[net.Conn]netip.AddrPort
}

func (t *targets) put(c net.Conn, target netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of[c] = target
}

func (t *targets) take(c net.Conn) netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	target := t.of[c]
	delete(t.of, c)
	return target
}

// Report returns what the room enforces.
func (r *Room) Report() Report { return r.report }

// Close closes the sockets of the room and ends everything that Start began for it. It does
// not end the command: what still runs in the room has no way out any more. If a standard
// stream of the command was a socket, Close first delivers the output that the command has
// written. Call Close after cmd.Wait. More calls do nothing.
func (r *Room) Close() error {
	r.once.Do(func() {
		for i := len(r.closers) - 1; i >= 0; i-- {
			r.closers[i]()
		}
	})
	return nil
}

// closeTime is how long Close waits for calls that the command may keep from returning.
const closeTime = 2 * time.Second

// onClose adds a function to Close.
func (r *Room) onClose(f func()) { r.closers = append(r.closers, f) }
