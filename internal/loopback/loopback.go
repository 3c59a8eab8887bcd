// Package loopback prepares TCP sockets that stay on this machine.
package loopback

import (
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Control is for net.ListenConfig.Control and net.Dialer.Control. Where address
// is a loopback address, it takes the pacing from the connections: congestion
// control that paces (BBR, which many a Linux system has as its default) sends
// each burst from a timer of its own, which costs more than all the rest of
// moving a byte from one program to another, and there is no network whose
// queues it could keep short. The connections that a listener accepts inherit
// this. Elsewhere than on Linux, and for every other address, it does nothing.
//
// It is an optimisation, and so never fails: a system that refuses it, such as a
// sandbox that filters socket options, keeps its default. Safe for concurrent
// use.
func Control(network, address string, c syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err == nil && addr.Addr().Unmap().IsLoopback() && strings.HasPrefix(network, "tcp") {
		c.Control(disablePacing)
	}
	return nil
}

// Connect begins to connect a TCP socket, in net.Dialer.Control, to the address
// that net.Dialer is going to connect it to, and reports whether it is connected.
// On this machine that is mostly the end of it: net.Dialer finds the socket
// connected, or refused, where it would otherwise have to wait for its poller to
// say so, ready to be interrupted. For every address that is not a loopback one,
// and elsewhere than on Linux, it does nothing.
//
// Like [Control] it never fails: what becomes of it, net.Dialer's own call tells.
func Connect(network, address string, c syscall.RawConn) (connected bool) {
	addr, err := netip.ParseAddrPort(address)
	if err == nil && addr.Addr().Unmap().IsLoopback() && strings.HasPrefix(network, "tcp") {
		c.Control(func(fd uintptr) { connected = connect(fd, addr) })
	}
	return connected
}

// ListenConfig is how to listen on an address: with [Control], and with the
// probes of [KeepAlive].
func ListenConfig(addr netip.Addr) *net.ListenConfig {
	return &net.ListenConfig{Control: Control, KeepAlive: KeepAlive(addr)}
}

// KeepAlive is for the field of that name in net.ListenConfig and net.Dialer: no
// probes where the address is a loopback address, else the defaults. A peer on
// this machine cannot vanish: the kernel ends its connections with it. To set up
// probes for it would be four system calls for each connection.
func KeepAlive(addr netip.Addr) time.Duration {
	if addr.Unmap().IsLoopback() {
		return -1
	}
	return 0
}
