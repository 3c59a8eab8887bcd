// Tests of the socket options as the kernel reports them.

package loopback

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

// otherCongestionControl returns a congestion control other than Reno that this
// user may choose, if there is one. The tests start with it, so that they are
// meaningful on a system whose default is Reno.
func otherCongestionControl(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(text)) {
		if name != "reno" {
			return name
		}
	}
	return "reno"
}

func TestControl(t *testing.T) {
	t.Parallel()
	system := otherCongestionControl(t)
	for _, tt := range []struct {
		name, network, address, want string
	}{
		{"IPv4", "tcp4", "127.0.0.1:80", "reno"},
		{"IPv4 elsewhere in 127.0.0.0/8", "tcp4", "127.3.2.1:80", "reno"},
		{"IPv4 in IPv6", "tcp6", "[::ffff:127.0.0.1]:80", "reno"},
		{"IPv6", "tcp6", "[::1]:80", "reno"},
		{"another host", "tcp4", "203.0.113.7:80", system},
		{"another host, IPv6", "tcp6", "[2001:db8::1]:80", system},
		{"every address", "tcp4", "0.0.0.0:80", system},
		{"every address, IPv6", "tcp6", "[::]:80", system},
		{"no address", "tcp", "localhost:80", system},
		{"not TCP", "udp4", "127.0.0.1:80", system},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// The connection is always on loopback; the arguments of Control
			// decide.
			control := func(_, _ string, c syscall.RawConn) error {
				var first error
				err := c.Control(func(fd uintptr) {
					first = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, system)
				})
				return errors.Join(err, first, Control(tt.network, tt.address, c))
			}
			l, err := (&net.ListenConfig{Control: control}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			dialed, err := (&net.Dialer{Control: control}).DialContext(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer dialed.Close()
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			if got := testnet.CongestionControl(t, dialed.(syscall.Conn)); got != tt.want {
				t.Errorf("the dialed connection uses %s, want %s", got, tt.want)
			}
			if got := testnet.CongestionControl(t, accepted.(syscall.Conn)); got != tt.want {
				t.Errorf("the accepted connection uses %s, want %s", got, tt.want)
			}
		})
	}
}
