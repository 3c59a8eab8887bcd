//go:build !linux

package socksproxy

import "net/netip"

// tcpOwner and udpOwner are for Linux alone.
func tcpOwner(local, remote netip.AddrPort) (uid uint32, ok bool) { return 0, false }
func udpOwner(local, remote netip.AddrPort) (uid uint32, ok bool) { return 0, false }
