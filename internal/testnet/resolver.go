// A resolver in memory.

package testnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Resolver answers LookupNetIP by script, without any network. The zero value knows no name. It is safe for concurrent
// use, and works inside a synctest bubble.
type Resolver struct{ script }

// LookupNetIP returns the next answer scripted for host; network is "ip", "ip4" or "ip6". Errors are *net.DNSError, as
// those of net.Resolver are.
func (r *Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	a := r.nextAnswer(host, "")
	switch a.kind {
	case answerNXDomain:
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	case answerServFail:
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	case answerSilence:
		<-ctx.Done()
		return nil, &net.DNSError{
			UnwrapErr: ctx.Err(),
			Err:       ctx.Err().Error(),
			Name:      host,
			IsTimeout: errors.Is(ctx.Err(), context.DeadlineExceeded),
		}
	}
	var addrs []netip.Addr
	for _, addr := range a.addrs {
		if network == "ip" || (network == "ip4") == addr.Unmap().Is4() {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}
