//go:build !linux

// On other systems the default congestion control does not pace, and connecting
// an early-connected socket again may be an error.

package loopback

import "net/netip"

func disablePacing(uintptr) {}

func connect(uintptr, netip.AddrPort) bool { return false }
