//go:build !linux

package socksproxy

import "net/netip"

// tcpSocketUser and udpSocketUser find users on Linux only.
func tcpSocketUser(local, remote netip.AddrPort) (uid uint32, ok bool) { return 0, false }
func udpSocketUser(local, remote netip.AddrPort) (uid uint32, ok bool) { return 0, false }
