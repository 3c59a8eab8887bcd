//go:build !linux

package socksproxy

import "net/netip"

// tcpSocketUser and udpSocketUser are for Linux alone.
func tcpSocketUser(local, remote netip.AddrPort) (uid uint32, ok bool) { return 0, false }
func udpSocketUser(local, remote netip.AddrPort) (uid uint32, ok bool) { return 0, false }
