// Package pindial connects to a named host in a way that DNS rebinding cannot bend: the name is looked up once, every
// address of the answer is vetted, and a connection is made to one of those addresses and to nothing else.
//
// Three things hold it together. The connection is made by address, so nothing looks the name up again. The vet sees
// the whole answer before the first packet, so a good address does not carry a bad one along. And the last step before
// the system call compares the address that the kernel is about to be given with the vetted list, so that a mistake
// anywhere above ends in an error, not in a connection.
//
// Because the vet needs the whole answer, the two halves of RFC 8305 are kept apart. The A and the AAAA record are asked
// for at the same time, and the second answer is awaited for a moment when the first has come (section 3). What has
// arrived then is the answer: it is vetted as a whole and raced as sections 4 and 5 say, and what arrives later is lost.
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

// Defaults of a Dialer's fields.
const (
	defaultResolveTimeout = 10 * time.Second
	defaultConnectTimeout = 30 * time.Second
	defaultFallbackDelay  = 250 * time.Millisecond // RFC 8305 section 8
)

// Resolver looks names up. *net.Resolver is one. LookupNetIP is called with network "ip" (a *net.Resolver's with "ip4"
// and "ip6") and must return once ctx ends; Lookups says what happens when it does not.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Vet judges the addresses of a name, all at once, before any connection is made. They are unmapped, without a zone, and in
// the resolver's order. An error refuses the name. A Vet may be called by several goroutines.
type Vet func(addrs []netip.Addr) error

// Dialer looks up, vets and connects. The zero value is ready. Its fields must not change once it is in use; its methods
// are safe for concurrent use. A duration that is zero or less means the default.
type Dialer struct {
	// Resolver looks names up; nil means net.DefaultResolver. A *net.Resolver is asked as lookup.go says; any other
	// gets the name as it was given to Resolve.
	Resolver Resolver

	// Lookups keeps account of the calls of a Resolver that is not a *net.Resolver, and lets go of those that do not
	// return once their context ends. Nil means that Resolve waits for as long as the call takes.
	Lookups *Lookups

	// ResolveTimeout bounds one lookup. Default 10 s.
	ResolveTimeout time.Duration

	// ConnectTimeout bounds the connecting, all addresses together. Default 30 s.
	ConnectTimeout time.Duration

	// FallbackDelay is how long an attempt to connect has to itself before the next address is tried beside it: the
	// Connection Attempt Delay of RFC 8305 section 5. Default 250 ms.
	FallbackDelay time.Duration

	// Connect makes one connection; it must return once ctx ends. Nil means TCP with the defaults of net.Dialer, and
	// the comparison with the vetted list. It is for tests: another function is trusted with the address.
	Connect func(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error)

	// ConnectUDP is Connect for the sockets of DialUDPAddr.
	ConnectUDP func(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error)
}

// Resolve looks name up once and returns its addresses in canonical form, none twice, in the order of the answer: unmapped,
// and with a zone only where they have link-local scope, as a hosts file or a Resolver may give it. There is at least one. An IP literal is returned without asking anybody. The error is a *ResolveError.
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

// DialName looks name up, gives the addresses to vet, and connects to port at one of them. The error is a *ResolveError,
// the vet's own, or a *ConnectError. A nil vet is an error: nothing may be dialed unseen.
func (d *Dialer) DialName(ctx context.Context, name string, port uint16, vet Vet) (*net.TCPConn, error) {
	if vet == nil {
		return nil, errNoVet
	}
	addrs, err := d.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := vet(withoutZones(addrs)); err != nil { // a copy: what the vet does to it changes nothing here
		return nil, err
	}
	return d.DialAddr(ctx, addrs, port)
}

// DialAddr connects to port at one of addrs, which the caller has vetted. At most 32 of them are tried, the families in
// turn, beginning with the first address. All attempts have ended when DialAddr returns. The error is a *ConnectError.
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

// within is a context with a deadline for net.Dialer, which hands the deadline to the poller as long as the context can
// end otherwise: no timer is needed. The context itself does not end at the deadline.
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

// connectTo returns what connects to the vetted addresses, and, unless a test's function takes its place, to no other.
func (d *Dialer) connectTo(vetted []netip.AddrPort) connectFunc {
	if d.Connect != nil {
		return d.Connect
	}
	return newVettedDialer(vetted).connect
}

// canonical returns addrs unmapped, without zones where those mean nothing, and each once.
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

// withoutZones returns addrs for a vet: a zone would hide an address from netip.Prefix.Contains.
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
	errNoVet     = errors.New("dial: no vet given; pass one that returns nil to allow every address")
)
