// Ports that are used only once.

package loopback

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

const (
	// systemPortTries is the number of ports that the system chooses first,
	// because it knows which ones are free. When these were all used before,
	// Ports searches the rest of the range.
	systemPortTries = 16

	// The range that is searched contains the ports that Linux assigns by
	// default (32768 to 60999) and IANA's dynamic ports (49152 to 65535, RFC
	// 6335 section 6).
	firstPort = 32768
	lastPort  = 65535

	// busyPortTries bounds the number of ports that other programs use.
	busyPortTries = 4096
)

// ErrNoPort is returned if no port is left.
var ErrNoPort = errors.New("no port is left: each one is in use, or was used before")

// Ports opens listeners on loopback ports, and uses no port twice. The zero
// value has used none. Safe for concurrent use.
type Ports struct {
	mu   sync.Mutex
	used [1 << 16 / 8]byte // one bit for each port

	// open replaces the system's listen in tests; nil means the system's.
	open func(ctx context.Context, addr netip.AddrPort) (net.Listener, error)
}

// Listen listens on 127.0.0.1, on a port that p has not used before. The error
// wraps [ErrNoPort] if there is none.
func (p *Ports) Listen(ctx context.Context) (net.Listener, error) {
	for range systemPortTries {
		l, err := p.try(ctx, 0)
		if errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		if l != nil || err != nil {
			return l, err
		}
	}
	const n = lastPort - firstPort + 1
	var last error
	start, step := rand.IntN(n), rand.IntN(n)|1 // an odd step visits every port, because n is a power of two
	for i, busy := 0, 0; i < n && busy < busyPortTries; i++ {
		port := uint16(firstPort + (start+i*step)%n)
		if p.isUsed(port) {
			continue
		}
		l, err := p.try(ctx, port)
		if l != nil || ctx.Err() != nil {
			return l, err
		}
		if err != nil { // otherwise another Listen took the port meanwhile
			busy++
			last = err
		}
	}
	if last != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoPort, last)
	}
	return nil, ErrNoPort
}

// try listens on port, or on a port of the system's choice if port is 0. It
// returns neither a listener nor an error if the port was used before.
func (p *Ports) try(ctx context.Context, port uint16) (net.Listener, error) {
	open := p.open
	if open == nil {
		open = func(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
			return ListenConfig(addr.Addr()).Listen(ctx, "tcp", addr.String())
		}
	}
	l, err := open(ctx, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	if err != nil {
		return nil, err
	}
	if !p.use(uint16(l.Addr().(*net.TCPAddr).Port)) {
		l.Close()
		return nil, nil
	}
	return l, nil
}

func (p *Ports) isUsed(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used[port/8]&(1<<(port%8)) != 0
}

// use marks a port as used. It returns false if the port was used before.
func (p *Ports) use(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := p.used[port/8]&(1<<(port%8)) == 0
	p.used[port/8] |= 1 << (port % 8)
	return fresh
}
