// The second check: the address passed to the kernel must be a vetted one.

package pindial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"example.com/networkproxy/internal/loopback"
)

// ErrNotVetted means that a connection to an address outside the vetted list
// was prevented. It indicates a bug in the program.
var ErrNotVetted = errors.New("address is not vetted")

// vettedDialer connects to vetted addresses only.
type vettedDialer struct{ vetted []netip.AddrPort }

func newVettedDialer(vetted []netip.AddrPort) vettedDialer { return vettedDialer{slices.Clone(vetted)} }

// connect makes a TCP connection with the defaults of net.Dialer: no Nagle
// delay, keep-alive on. A loopback connection has neither pacing nor keep-alive
// probes.
func (d vettedDialer) connect(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	a := &attemptContext{Context: ctx, cancelable: !addr.Addr().Unmap().IsLoopback()}
	dialer := net.Dialer{KeepAlive: loopback.KeepAlive(addr.Addr())}
	dialer.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
		if err := d.control(ctx, network, address, c); err != nil {
			return err
		}
		a.cancelable = !loopback.Connect(network, address, c)
		return nil
	}
	// DialTCP would bind its local address, even a zero one. A bound port is
	// not shared between targets, so ports would run out. Dialing an address
	// needs no lookup.
	conn, err := dialer.DialContext(a, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// attemptContext is the context of one attempt for net.Dialer. It never ends if
// the attempt does not block, so that net.Dialer needs no goroutine to
// interrupt it. On loopback only a server with a full accept queue makes it
// block.
type attemptContext struct {
	context.Context
	cancelable bool // the attempt may block, or it is not known yet
}

// Done implements context.Context. net.Dialer calls it before the attempt, and
// again when it has to wait.
func (a *attemptContext) Done() <-chan struct{} {
	if a.cancelable {
		return a.Context.Done()
	}
	return nil
}

// control is called with the address of the coming system call, after the
// socket is made and before it connects.
func (d vettedDialer) control(_ context.Context, network, address string, c syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q", ErrNotVetted, address)
	}
	if !slices.Contains(d.vetted, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())) {
		return fmt.Errorf("%w: %v", ErrNotVetted, addr)
	}
	loopback.Control(network, address, c)
	return nil
}
