// An in-memory resolver.

package testnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Resolver is an in-memory resolver with scripted answers. It uses no network and works inside a synctest bubble. The zero
// value has no names. It is safe for concurrent use.
type Resolver struct{ script }

// LookupNetIP returns the next scripted answer for host. The network is "ip", "ip4" or "ip6". Like those of net.Resolver,
// errors are of type *net.DNSError.
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
