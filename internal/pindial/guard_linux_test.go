package pindial

import (
	"net/netip"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

// TestUnpaced: a server on this machine is sent to without pacing. (On a system
// whose default is Reno this shows nothing.)
func TestUnpaced(t *testing.T) {
	t.Parallel()
	to := testnet.Hold(t).AddrPort()
	c, err := newGuard([]netip.AddrPort{to}).connect(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := testnet.Congestion(t, c); got != "reno" {
		t.Errorf("the connection uses %s, want reno", got)
	}
}
