// Package pindial connects to hosts by name, protected from DNS rebinding. It
// looks the name up once, has every address of the answer vetted, and connects
// to one of these addresses and no other.
//
// It has no policy of its own: the caller's [Vet] judges the addresses. It keeps
// no connections and no cache. Its methods are safe for concurrent use. When they
// return, every goroutine that they started has ended, except those of a resolver
// of the host application that does not return: see [Lookups].
//
// Three rules make this safe. The connection is made by address, so the name is
// not looked up again. The vet sees the whole answer before the first packet,
// so a good address in the answer cannot hide a bad one. The last step before the
// system call compares the address with the vetted list, so that a bug
// elsewhere leads to an error and not to a connection.
//
// Because the vet needs the whole answer, lookup and connection, which RFC 8305
// interleaves, are separate. The A and AAAA records are requested at the same time, and after
// the first answer the second one is awaited for a moment (section 3). The
// addresses received by then are vetted as a whole and raced as sections 4 and
// 5 describe. Addresses that arrive later are not used.
package pindial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"example.com/networkproxy/internal/hostname"
)

// Defaults of Dialer.
const (
	defaultResolveTimeout = 10 * time.Second
	defaultConnectTimeout = 30 * time.Second
	defaultFallbackDelay  = 250 * time.Millisecond // RFC 8305 section 8
)

// Resolver looks names up. *net.Resolver is one. LookupNetIP is called with
// network "ip" (for a *net.Resolver: "ip4" and "ip6"). It must return once ctx
// ends; see Lookups for calls that do not.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Vet judges all addresses of a name before any connection is made. They are
// unmapped, have no zone, and are in the resolver's order. An error refuses the
// name. A Vet may be called concurrently.
type Vet func(addrs []netip.Addr) error

// Dialer looks names up, vets the addresses and connects. The zero value is
// ready. Its fields must not change after first use; its methods are safe for
// concurrent use. A duration of zero or less means the default.
type Dialer struct {
	// Resolver looks names up. Nil means net.DefaultResolver. A *net.Resolver
	// is used as lookup.go describes. Any other receives the name as passed to
	// Resolve.
	Resolver Resolver

	// Lookups tracks the calls of a Resolver that is not a *net.Resolver, and
	// abandons those that do not return once their context ends. Nil means that
	// Resolve waits as long as the call takes.
	Lookups *Lookups

	// ResolveTimeout bounds one lookup. Default 10 s.
	ResolveTimeout time.Duration

	// ConnectTimeout bounds connecting, for all addresses together. Default 30
	// s.
	ConnectTimeout time.Duration

	// FallbackDelay is how long an attempt to connect runs alone before the
	// next address is tried in parallel: the Connection Attempt Delay of RFC
	// 8305 section 5. Default 250 ms.
	FallbackDelay time.Duration

	// Connect makes one connection. It must return once ctx ends. Nil means TCP
	// with the defaults of net.Dialer, and the comparison with the vetted list.
	// Only tests set it, because such a function is trusted with the address.
	Connect func(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error)

	// ConnectUDP is like Connect, for the sockets of DialUDPAddr.
	ConnectUDP func(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error)

	// TestNetwork redirects connections to servers of a test. Nil means that they
	// lead to the vetted addresses. Connect and ConnectUDP take precedence.
	TestNetwork TestNetwork
}

// Resolve looks name up once and returns its addresses in canonical form,
// without duplicates, in the order of the answer. They are unmapped. They have
// a zone only if they have link-local scope, as a hosts file or a Resolver may
// return it. There is at least one address. An IP literal is returned without a
// lookup. The error is a *ResolveError.
func (d *Dialer) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	if literal, err := netip.ParseAddr(name); err == nil {
		return canonical([]netip.Addr{literal}), nil
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(d.ResolveTimeout, defaultResolveTimeout))
	defer cancel()
	found, err := d.lookup(ctx, name)
	if err != nil {
		return nil, newResolveError(name, err, ctx.Err())
	}
	addrs := canonical(found)
	if len(addrs) == 0 {
		return nil, &ResolveError{Name: name, NotFound: true, Err: errNoAddress}
	}
	return addrs, nil
}

// DialName looks name up, passes the addresses to vet, and connects to port at
// one of them. The error is a *ResolveError, the vet's own, or a *ConnectError.
// A nil vet is an error, because every dial must be vetted.
func (d *Dialer) DialName(ctx context.Context, name string, port uint16, vet Vet) (*net.TCPConn, error) {
	if vet == nil {
		return nil, errNoVet
	}
	addrs, err := d.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := vet(withoutZones(addrs)); err != nil { // a copy, because the vet may change it
		return nil, err
	}
	return d.DialAddr(ctx, addrs, port)
}

// DialAddr connects to port at one of addrs, which the caller has vetted. It
// tries at most 32 of them, alternating between the families and beginning with
// the first address. All attempts have ended when DialAddr returns. The error
// is a *ConnectError.
func (d *Dialer) DialAddr(ctx context.Context, addrs []netip.Addr, port uint16) (*net.TCPConn, error) {
	targets := interleave(canonical(addrs), port)
	if len(targets) == 0 {
		return nil, &ConnectError{Err: errNoAddress}
	}
	timeout := orDefault(d.ConnectTimeout, defaultConnectTimeout)
	raceCtx, cancel := context.Context(deadlineContext{ctx, time.Now().Add(timeout)}), func() {}
	if d.Connect != nil || len(targets) > 1 {
		raceCtx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, newConnectError(targets, nil, err)
	}
	connect := d.connectTo(targets)
	if len(targets) == 1 { // the usual case needs no goroutine
		conn, err := retryTooManyFiles(raceCtx, connect, targets[0])
		if err != nil {
			return nil, newConnectError(targets, []error{err}, ctx.Err())
		}
		return conn, nil
	}
	conn, errs := race(raceCtx, targets, connect, orDefault(d.FallbackDelay, defaultFallbackDelay))
	if conn == nil {
		return nil, newConnectError(targets, errs, ctx.Err())
	}
	return conn, nil
}

// deadlineContext is a context with a deadline for net.Dialer. If the context
// can end in another way, net.Dialer leaves the deadline to the poller, which
// needs no timer. The context itself does not end at the deadline.
type deadlineContext struct {
	context.Context
	deadline time.Time
}

// Done implements context.Context. It is never nil.
func (w deadlineContext) Done() <-chan struct{} {
	if done := w.Context.Done(); done != nil {
		return done
	}
	return never
}

var never = make(chan struct{})

// Deadline implements context.Context.
func (w deadlineContext) Deadline() (time.Time, bool) {
	if d, ok := w.Context.Deadline(); ok && d.Before(w.deadline) {
		return d, true
	}
	return w.deadline, true
}

// connectTo returns a function that connects to the vetted addresses only, or a
// test's own function.
func (d *Dialer) connectTo(vetted []netip.AddrPort) connectFunc {
	switch {
	case d.Connect != nil:
		return d.Connect
	case d.TestNetwork != nil:
		return d.connectRedirected
	}
	return newVettedDialer(vetted).connect
}

// canonical returns addrs unmapped, without meaningless zones, and without
// duplicates.
func canonical(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		a = hostname.Canonical(a)
		if a.IsValid() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// withoutZones returns addrs for a vet. A zone would hide an address from
// netip.Prefix.Contains.
func withoutZones(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		out[i] = a.WithZone("")
	}
	return out
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

var (
	errNoAddress = errors.New("no address")
	errNoVet     = errors.New("dial without a vet; pass one that returns nil to allow every address")
)
