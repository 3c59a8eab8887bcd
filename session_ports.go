// Ports for sessions' own listeners. A port stands for a session, so no two
// sessions of one proxy get the same.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"example.com/networkproxy/internal/loopback"
)

const (
	// The system picks the first few: it knows what is free. Once most of its
	// answers are ports that were used before, the rest of the range is
	// searched instead.
	systemPortTries = 16

	// The range that is searched: what Linux hands out by default (32768 to
	// 60999) and IANA's dynamic ports (49152 to 65535, RFC 6335 section 6).
	firstSessionPort = 32768
	lastSessionPort  = 65535

	// busyPortTries bounds the search where other programs hold the ports.
	busyPortTries = 4096
)

// errNoSessionPort is returned when every port was used by a session already.
var errNoSessionPort = errors.New("no port is left for a session's own listener: each one is in use, or was used by an earlier session " +
	"of this proxy and is not used again, because a process of that session could still connect to it; " +
	"open the session with SharedPort, which needs no port of its own, or restart the proxy")

// sessionPorts opens listeners on ports that it has not returned before. The
// zero value has returned none. Safe for concurrent use.
type sessionPorts struct {
	mu   sync.Mutex
	used [1 << 16 / 8]byte // one bit a port

	// open replaces the system's listen in tests; nil is the system's.
	open func(ctx context.Context, addr netip.AddrPort) (net.Listener, error)
}

// listen listens on a loopback port that was never used by a session.
func (p *sessionPorts) listen(ctx context.Context) (net.Listener, error) {
	for range systemPortTries {
		l, err := p.try(ctx, 0)
		if errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		if l != nil || err != nil {
			return l, err
		}
	}
	const n = lastSessionPort - firstSessionPort + 1
	var last error
	start, step := rand.IntN(n), rand.IntN(n)|1 // an odd step visits all of them: n is a power of two
	for i, busy := 0, 0; i < n && busy < busyPortTries; i++ {
		port := uint16(firstSessionPort + (start+i*step)%n)
		if p.isUsed(port) {
			continue
		}
		l, err := p.try(ctx, port)
		if l != nil || ctx.Err() != nil {
			return l, err
		}
		if err != nil { // else another session has taken it meanwhile
			busy++
			last = err
		}
	}
	return nil, errors.Join(errNoSessionPort, last)
}

// try listens on a port, or on one of the system's choice if port is 0. It
// returns neither listener nor error when the port was used before.
func (p *sessionPorts) try(ctx context.Context, port uint16) (net.Listener, error) {
	open := p.open
	if open == nil {
		open = func(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
			return loopback.ListenConfig(addr.Addr()).Listen(ctx, "tcp", addr.String())
		}
	}
	l, err := open(ctx, netip.AddrPortFrom(loopbackAddrs[0], port))
	if err != nil {
		return nil, fmt.Errorf("cannot open a session's own listener: %w", err)
	}
	if !p.use(addrPortOf(l.Addr()).Port()) {
		l.Close()
		return nil, nil
	}
	return l, nil
}

func (p *sessionPorts) isUsed(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used[port/8]&(1<<(port%8)) != 0
}

// use marks a port as used and reports whether it was not.
func (p *sessionPorts) use(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := p.used[port/8]&(1<<(port%8)) == 0
	p.used[port/8] |= 1 << (port % 8)
	return fresh
}
