package networkproxy_test

import (
	"syscall"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// TestUnpaced: what a client downloads is not paced, whichever listener it came
// in by. (On a system whose default is Reno this shows nothing.)
func TestUnpaced(t *testing.T) {
	t.Parallel()
	config := allow()
	config.EnableSOCKS5 = true
	l := start(t, config, nil)
	s := l.open(networkproxy.SessionConfig{})
	listeners := append(networkproxy.ListenersOf(l.Handle), networkproxy.ListenersOfSession(s)...)
	if len(listeners) != 5 {
		t.Fatalf("%d listeners, want HTTP, admin and SOCKS, and HTTP and SOCKS of the session", len(listeners))
	}
	for _, l := range listeners {
		if got := testnet.CongestionControl(t, l.(syscall.Conn)); got != "reno" {
			t.Errorf("%v uses %s, want reno", l.Addr(), got)
		}
	}
}
