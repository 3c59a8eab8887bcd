// How a name is put to a resolver.

package pindial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
)

// lookup asks r, or net.DefaultResolver, for the addresses of name.
//
// The system's resolver completes a name with the search domains of the machine, as told by resolv.conf: it would tell
// other domains' servers which name is wanted, and could return the address of quite another host. So it is asked for
// the rooted name, with a trailing dot. A name of one label is left as it is: rooted, it could only be a top-level
// domain, and those who allow "localhost" or "intranet" mean what the machine calls so.
//
// A Resolver that is not a *net.Resolver has its own idea of names (a map, a cache, DNS over HTTPS), and is asked for
// the name as it stands.
func lookup(ctx context.Context, r Resolver, name string) ([]netip.Addr, error) {
	if r == nil {
		r = net.DefaultResolver
	}
	system, ok := r.(*net.Resolver)
	if !ok {
		return r.LookupNetIP(ctx, "ip", name)
	}
	query := rooted(name)
	if query != name && (system == nil || !system.PreferGo) {
		if addrs := hostsFile(ctx, name); len(addrs) > 0 {
			return addrs, nil
		}
	}
	return system.LookupNetIP(ctx, "ip", query)
}

// rooted returns name with the trailing dot that keeps search domains away, if it has more than one label.
func rooted(name string) string {
	if !strings.Contains(name, ".") || strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}

// hostsFile returns what the machine's hosts file says of name. It is read here because the C library's resolver, which
// net uses on some systems, finds no rooted name in it, while Go's own does; Go's own, kept from the network, reads the
// file and stops there.
func hostsFile(ctx context.Context, name string) []netip.Addr {
	files := net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("only the hosts file is wanted")
		},
	}
	addrs, err := files.LookupNetIP(ctx, "ip", rooted(name))
	if err != nil {
		return nil
	}
	return addrs
}
