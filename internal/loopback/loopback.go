// Package loopback is for TCP sockets whose connections stay on this machine.
// Control, Connect, KeepAlive and ListenConfig tune such sockets: they are
// hooks for package net and never make a connection fail. [Ports] opens
// listeners and uses no port twice.
//
// The package does not dial and knows no protocol above TCP. Everything in it
// is safe for concurrent use.
package loopback

import (
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Control is a net.ListenConfig.Control and net.Dialer.Control. If address is a
// loopback address, Control disables pacing for the connections. Congestion
// control that paces (BBR, the default of many Linux systems) sends each burst
// from a timer of its own. On loopback that costs more than all other work for
// a byte, and there are no network queues to keep short. Connections accepted
// by a listener inherit the setting. Control does nothing for other addresses
// and on systems other than Linux.
//
// Control is an optimisation and never returns an error. A system that refuses
// the option, such as a sandbox that filters socket options, keeps its default.
func Control(network, address string, c syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err == nil && addr.Addr().Unmap().IsLoopback() && strings.HasPrefix(network, "tcp") {
		c.Control(disablePacing)
	}
	return nil
}

// Connect starts connecting a TCP socket in net.Dialer.Control, to the address
// that net.Dialer is about to connect to, and reports whether it is connected.
// On loopback that usually completes the connection at once. net.Dialer then
// finds the socket connected, or refused, and does not have to wait in its
// poller. Connect does nothing for other addresses and on systems other than
// Linux.
//
// Connect returns no error: net.Dialer's own call reports it.
func Connect(network, address string, c syscall.RawConn) (connected bool) {
	addr, err := netip.ParseAddrPort(address)
	if err == nil && addr.Addr().Unmap().IsLoopback() && strings.HasPrefix(network, "tcp") {
		c.Control(func(fd uintptr) { connected = connect(fd, addr) })
	}
	return connected
}

// ListenConfig returns the configuration to listen on addr, with [Control] and
// [KeepAlive].
func ListenConfig(addr netip.Addr) *net.ListenConfig {
	return &net.ListenConfig{Control: Control, KeepAlive: KeepAlive(addr)}
}

// KeepAlive returns the value of that field in net.ListenConfig and net.Dialer:
// no probes for a loopback address, otherwise the defaults. A peer on this
// machine cannot vanish, because the kernel closes its connections when it
// ends. Setting up probes would take four system calls for each connection.
func KeepAlive(addr netip.Addr) time.Duration {
	if addr.Unmap().IsLoopback() {
		return -1
	}
	return 0
}
