// How a name is put to a resolver.

package pindial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// resolutionDelay is how long a look-up waits for the addresses of one family when it has those of the other: the
// Resolution Delay of RFC 8305 section 3, at the value recommended there.
const resolutionDelay = 50 * time.Millisecond

// lookup asks d.Resolver, or net.DefaultResolver, for the addresses of name.
//
// A *net.Resolver is asked for each family on its own, so that a name server that answers one question and drops the
// other does not hold the name up. It would complete a name with the search domains of the machine, as told by
// resolv.conf, which tells other domains' servers which name is wanted, and could return the address of quite another
// host. So it is asked for the rooted name, with a trailing dot. A name of one label is left as it is: rooted, it could
// only be a top-level domain, and those who allow "localhost" or "intranet" mean what the machine calls so.
//
// Any other Resolver has its own idea of names (a map, a cache, DNS over HTTPS), and is asked once for the name as it
// stands.
func (d *Dialer) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	r := d.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	system, ok := r.(*net.Resolver)
	if !ok {
		return d.Lookups.call(ctx, r, name)
	}
	query := rooted(name)
	if query != name && (system == nil || !system.PreferGo) {
		if addrs := hostsFile(ctx, name); len(addrs) > 0 {
			return addrs, nil
		}
	}
	addrs, err := bothFamilies(ctx, system.LookupNetIP, query)
	if err != nil && isNoAddress(err) {
		if s, ok := unusedStandIn(query, func(name string) bool { return len(hostsFile(ctx, name)) > 0 }); ok {
			return s.lookup(ctx, system, query)
		}
	}
	return addrs, err
}

// bothFamilies asks look for the IPv6 and the IPv4 addresses of name at the same time. When one family has addresses,
// it gives the other resolutionDelay to answer, and returns what has arrived by then: an address that arrives later is
// lost, because the caller judges what is returned as a whole. A family without addresses is no reason to give up the
// other, whatever its answer was: some name servers answer an AAAA question with an error or with NXDOMAIN although the
// name has an A record (RFC 4074 section 4). Both calls of look have ended when bothFamilies returns, so look must
// return once its context ends.
func bothFamilies(ctx context.Context, lookup lookupFunc, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		six   bool
		addrs []netip.Addr
		err   error
	}
	results := make(chan result, 2)
	query := func(network string) {
		addrs, err := lookup(ctx, network, name)
		results <- result{network == "ip6", addrs, err}
	}
	go query("ip6")
	go query("ip4")

	var six, four result
	var delay <-chan time.Time
	for waiting := 2; waiting > 0; {
		select {
		case a := <-results:
			waiting--
			if a.six {
				six = a
			} else {
				four = a
			}
			if len(a.addrs) > 0 && waiting > 0 {
				timer := time.NewTimer(resolutionDelay)
				defer timer.Stop()
				delay = timer.C
			}
		case <-delay:
			cancel()
		}
	}
	if len(six.addrs)+len(four.addrs) == 0 {
		return nil, moreSpecific(four.err, six.err)
	}
	return preferredFirst(six.addrs, four.addrs, sourceFor), nil
}

// lookupFunc is the method of a Resolver.
type lookupFunc = func(ctx context.Context, network, host string) ([]netip.Addr, error)

// moreTelling returns the error that tells more about a name of whose two families none has an address: one that says
// so is only true of the name if the other one does, too.
func moreSpecific(four, six error) error {
	if four == nil || isNoAddress(four) && six != nil && !isNoAddress(six) {
		return six
	}
	return four
}

// hasNone reports whether err says that a name has no address of the family that was asked for: NXDOMAIN, an answer
// without records, or addresses of the other family alone.
func isNoAddress(err error) bool {
	var dnsErr *net.DNSError
	var addrErr *net.AddrError
	return errors.As(err, &dnsErr) && dnsErr.IsNotFound || errors.As(err, &addrErr)
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
