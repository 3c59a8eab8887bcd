// Lookups of names.

package pindial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// resolutionDelay is how long a lookup waits for the addresses of the second
// family after those of the first: the Resolution Delay of RFC 8305 section 3,
// at its recommended value.
const resolutionDelay = 50 * time.Millisecond

// lookup asks d.Resolver, or net.DefaultResolver, for the addresses of name.
//
// A *net.Resolver is asked for each family separately, so that a name server
// that answers one question and drops the other does not delay the result.
//
// It is asked for the rooted name, with a trailing dot. Otherwise it would
// append the search domains of resolv.conf, which reveals the name to other
// domains' servers and may return the address of a different host. A name of
// one label is not rooted: it would become a top-level domain, and users who
// allow "localhost" or "intranet" mean the name on this machine.
//
// Any other Resolver has its own meaning of names (a map, a cache, DNS over
// HTTPS). It is asked once, for the name as given.
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

// bothFamilies calls lookup for the IPv6 and the IPv4 addresses of name at the
// same time. Once one family has addresses, it gives the other resolutionDelay
// to answer, and returns what has arrived by then. Later addresses are lost,
// because the caller judges the result as a whole. A family without addresses
// does not make the other fail, whatever its answer was: some name servers
// answer an AAAA question with an error or NXDOMAIN although the name has an A
// record (RFC 4074 section 4). Both calls have ended when bothFamilies returns,
// so lookup must return once its context ends.
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

// lookupFunc is the type of a Resolver's method.
type lookupFunc = func(ctx context.Context, network, host string) ([]netip.Addr, error)

// moreSpecific returns the error that says more about a name without addresses.
// "No address" holds for the name only if both families say so.
func moreSpecific(four, six error) error {
	if four == nil || isNoAddress(four) && six != nil && !isNoAddress(six) {
		return six
	}
	return four
}

// isNoAddress reports whether err means that the name has no address of the
// requested family: NXDOMAIN, an answer without records, or addresses of the
// other family only.
func isNoAddress(err error) bool {
	var dnsErr *net.DNSError
	var addrErr *net.AddrError
	return errors.As(err, &dnsErr) && dnsErr.IsNotFound || errors.As(err, &addrErr)
}

// rooted returns name with a trailing dot, which disables search domains, if it
// has more than one label.
func rooted(name string) string {
	if !strings.Contains(name, ".") || strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}

// hostsFile returns the addresses of name in the machine's hosts file. The C
// library's resolver, which package net uses on some systems, does not find
// rooted names in the file, but Go's own does. Without network access Go's own
// resolver reads the file and stops.
func hostsFile(ctx context.Context, name string) []netip.Addr {
	files := net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("reading the hosts file only")
		},
	}
	addrs, err := files.LookupNetIP(ctx, "ip", rooted(name))
	if err != nil {
		return nil
	}
	return addrs
}
