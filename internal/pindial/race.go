// Happy Eyeballs (RFC 8305): the order and timing of the attempts.

package pindial

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// maxAttempts bounds the addresses tried for one connection. A DNS answer can
// hold thousands, but a real service has a handful, and one request must not
// cause a flood.
const maxAttempts = 32

// interleave orders addrs as in RFC 8305 section 4: in the resolver's order
// (which follows RFC 6724), but alternating between the families, so that a
// broken family delays by one attempt only.
func interleave(addrs []netip.Addr, port uint16) []netip.AddrPort {
	if len(addrs) == 1 {
		return []netip.AddrPort{netip.AddrPortFrom(addrs[0], port)}
	}
	var families [2][]netip.Addr // the family of the first address, and the other
	for _, a := range addrs {
		other := 0
		if a.Is4() != addrs[0].Is4() {
			other = 1
		}
		families[other] = append(families[other], a)
	}
	targets := make([]netip.AddrPort, 0, min(len(addrs), maxAttempts))
	for i := 0; len(targets) < cap(targets); i++ {
		for _, family := range families {
			if i < len(family) && len(targets) < cap(targets) {
				targets = append(targets, netip.AddrPortFrom(family[i], port))
			}
		}
	}
	return targets
}

type connectFunc func(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error)

// race connects to the first of targets that accepts. It starts the next
// attempt once the previous one has run alone for delay, or at once when one
// fails (RFC 8305 section 5). When it returns, every attempt has ended and only
// the winner is open. If none succeeds, it returns the errors of the attempts
// in the order in which they ended.
func race(ctx context.Context, targets []netip.AddrPort, connect connectFunc, delay time.Duration) (*net.TCPConn, []error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type result struct {
		conn *net.TCPConn
		err  error
	}
	results := make(chan result)
	running := 0
	timer := time.NewTimer(delay)
	defer timer.Stop()
	startNext := func() {
		if len(targets) == 0 || ctx.Err() != nil {
			return
		}
		timer.Reset(delay)
		target := targets[0]
		targets = targets[1:]
		running++
		go func() {
			conn, err := retryTooManyFiles(ctx, connect, target)
			results <- result{conn, err}
		}()
	}

	var errs []error
	startNext()
	for running > 0 {
		select {
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				for range running {
					if late := <-results; late.err == nil {
						late.conn.Close()
					}
				}
				return r.conn, nil
			}
			errs = append(errs, r.err)
		case <-timer.C:
		}
		startNext()
	}
	return nil, errs
}
