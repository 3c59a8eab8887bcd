// Checks of sessions, of changes of the policy, and of Close.

package networkproxytest

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

func checkAttribution(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, networkproxy.PolicyConfig{}, networkproxy.ModeFull)
	other := openSession(t, r.Handle)
	forwardVia(other.HTTPAddr())(t, "mine.invalid:80")
	has := func(s *networkproxy.Session) bool {
		return slices.ContainsFunc(s.Blocked(), func(b networkproxy.BlockedRequest) bool { return b.Host == "mine.invalid" })
	}
	if !has(other) || has(r.session) {
		t.Errorf("the refusal is in the record of its session: %t, want true; of another session: %t, want false", has(other), has(r.session))
	}
	if b, ok := r.newest(time.Time{}); !ok || b.Host != "mine.invalid" || b.Command != "networkproxytest" {
		t.Errorf("the newest record is %+v, want the refusal of mine.invalid with the session's command", b)
	}
}

func checkSessionClose(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	other := openSession(t, r.Handle)
	target := echo(t).addr()
	_, gone, _ := connectVia(r.session.HTTPAddr())(t, target)
	_, stays, _ := connectVia(other.HTTPAddr())(t, target)
	if gone == nil || stays == nil {
		t.Fatal("cannot open the tunnels")
	}
	r.session.Close()
	if err := checkClosed(gone); err != nil {
		t.Errorf("the tunnel of the closed session: %v", err)
	}
	if err := echoes(stays); err != nil {
		t.Errorf("the tunnel of the open session: %v", err)
	}
	if c, err := net.Dial("tcp", r.session.HTTPAddr()); err == nil {
		c.Close()
		t.Error("the listener of the closed session still accepts connections")
	}
	if out, _, _ := r.paths[0].open(t, newOrigin(t).addr); out.reached {
		t.Errorf("the token of the closed session is still valid: %s", out.text)
	}
}

func checkDeny(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	target := echo(t).addr()
	open := make(map[string]net.Conn)
	for _, p := range r.paths {
		if !strings.HasPrefix(p.name, "HTTP") {
			to := target
			if p.udp {
				to = p.echo(t)
			}
			_, c, _ := p.open(t, to)
			if c == nil {
				t.Fatalf("%s: cannot open a tunnel", p.name)
			}
			if p.udp && echoes(c) != nil {
				t.Errorf("%s: cannot start a UDP flow", p.name)
			}
			open[p.name] = c
		}
	}
	if err := r.DenyDomain("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	for _, p := range r.paths {
		c := open[p.name]
		switch {
		case c == nil:
		case p.udp:
			r.dropped(p, c, "open UDP flow", networkproxy.ReasonDenied)
		default:
			if err := checkClosed(c); err != nil {
				t.Errorf("%s: the tunnel to the denied target: %v", p.name, err)
			}
		}
	}
	for _, p := range r.paths {
		r.refuses(p, target, networkproxy.ReasonDenied)
	}
}

func checkClose(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	_, tunnel, _ := connectVia(r.session.HTTPAddr())(t, echo(t).addr())
	if tunnel == nil {
		t.Fatal("cannot open a tunnel")
	}
	r.Close()
	if err := checkClosed(tunnel); err != nil {
		t.Errorf("the tunnel after Close: %v", err)
	}
	for _, addr := range []string{r.HTTPAddr(), r.AdminAddr(), r.SOCKSAddr(), r.session.HTTPAddr()} {
		if addr == "" {
			continue
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Errorf("%s still accepts connections after Close", addr)
		}
	}
}
