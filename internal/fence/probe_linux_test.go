//go:build linux && (amd64 || arm64)

package fence

import (
	"net"
	"testing"
)

// A probe reports that a connection or a datagram has arrived, even if the process that made it saw
// an error.
func TestProbeSeesArrivals(t *testing.T) {
	t.Parallel()
	targets, err := openProbeTargets()
	if err != nil {
		t.Fatal(err)
	}
	defer targets.close()
	s := newTestScript(t)
	attempt := s.optional(s.add("attempt that fails", 0))
	p := prober{targets: targets, script: s, tcp: attempt, tcp6: attempt, udp: attempt}
	room := Report{Enforced: Enforced{UnixPath: true}}
	want := Enforced{TCP: true, UDP: true, ICMP: true, IPv6: true, UnixPath: true, UnixAbstract: true, VSock: true, IOUring: true, Ptrace: true, Signals: true}
	check := func(after string) {
		t.Helper()
		if got := p.result(room); got != want {
			t.Errorf("after %s, the result is %+v, want %+v", after, got, want)
		}
	}
	check("nothing")
	send := func(a net.Addr) {
		t.Helper()
		conn, err := net.Dial(a.Network(), a.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if targets.tcp6 != nil {
		send(targets.tcp6.Addr())
		want.IPv6 = false
		check("an IPv6 connection")
	}
	send(targets.udp.LocalAddr())
	want.UDP, want.IPv6 = false, false
	check("a datagram")
	send(targets.tcp.Addr())
	want.TCP = false
	check("a connection")
}
