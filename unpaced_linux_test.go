package networkproxy_test

import (
	"syscall"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// TestUnpaced checks that downloads are not paced on any listener. It proves
// nothing on a system whose default congestion control is Reno.
func TestUnpaced(t *testing.T) {
	t.Parallel()
	config := allow()
	config.EnableSOCKS5 = true
	l := start(t, config, nil)
	s := l.open(networkproxy.SessionConfig{})
	listeners := append(networkproxy.ListenersOf(l.Handle), networkproxy.ListenersOfSession(s)...)
	if len(listeners) != 5 {
		t.Fatalf("got %d listeners, want HTTP, admin and SOCKS5, and the session's HTTP and SOCKS5", len(listeners))
	}
	for _, l := range listeners {
		if got := testnet.CongestionControl(t, l.(syscall.Conn)); got != "reno" {
			t.Errorf("%v uses %s, want reno", l.Addr(), got)
		}
	}
}
