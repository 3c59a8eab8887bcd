// The second line: the address that the kernel is given is compared with the vetted ones.

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

// ErrNotVetted means that a connection was about to be made to an address outside the vetted list, and was not. It can
// only come from a mistake in the program.
var ErrNotVetted = errors.New("address was not vetted")

// guard connects to vetted addresses only.
type vettedDialer struct{ vetted []netip.AddrPort }

func newVettedDialer(vetted []netip.AddrPort) vettedDialer { return vettedDialer{slices.Clone(vetted)} }

// connect makes a TCP connection with the defaults of net.Dialer: no Nagle delay, keep-alive on. One that stays on this
// machine is neither paced nor probed.
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
	// Not DialTCP: its local address, even the zero one, is bound, and a
	// bound port is not shared between targets: they run out. An address
	// needs no lookup.
	conn, err := dialer.DialContext(a, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// attempt is the context that net.Dialer is given for one address. Where there is nothing to wait for it never ends, so
// that nobody has to be ready to end it. On this machine there is not, but for a server that does not keep up.
type attemptContext struct {
	context.Context
	cancelable bool // it takes time: for the other side, or before that is known
}

// Done implements context.Context. net.Dialer asks for it before the attempt, and again when it has to wait.
func (a *attemptContext) Done() <-chan struct{} {
	if a.cancelable {
		return a.Context.Done()
	}
	return nil
}

// control is called with the address of the coming system call, after the socket is made and before it connects.
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
