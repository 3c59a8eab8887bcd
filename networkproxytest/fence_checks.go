// The checks of commands in fences.

package networkproxytest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// checkTargets checks that the command reaches none of the targets.
func (f *fencedProxy) checkTargets(table TargetTable) {
	f.t.Helper()
	paths := f.proxyPaths()
	for _, target := range table.Targets {
		target = ExpandTarget(target, f.Handle)
		if target == "" {
			continue
		}
		for _, p := range paths {
			f.refuses(p, target, table.Reason)
		}
		f.refusesDirect(target, "GET / HTTP/1.1\r\nHost: "+target+"\r\nConnection: close\r\n\r\n", table.Reason)
		f.refusesDirect(target, "ping\r\n", table.Reason)
	}
}

// refusesDirect checks that the command does not reach target when it connects by itself and
// sends first. A captured connection must be recorded as refused for the reason want.
func (f *fencedProxy) refusesDirect(target, first string, want networkproxy.Reason) {
	f.t.Helper()
	since := time.Now()
	addr, ok := f.lookup(target)
	if !ok {
		return // there is no address to connect to
	}
	c, err := f.try("tcp", addr.String())
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	send(c, first)
	if strings.HasPrefix(first, "GET") {
		if out := readResponse(c, http.MethodGet); out.reached {
			f.t.Errorf("captured HTTP to %q: allowed (%s), want a refusal", target, out.text)
		}
	} else if err := checkClosed(c); err != nil {
		f.t.Errorf("captured connection to %q: %v, want a refusal", target, err)
	}
	if want == networkproxy.ReasonInvalidTarget {
		return // an address that a name stood for has a reason of its own
	}
	if b, ok := f.newest(since); !ok || b.Reason != want && !(want == networkproxy.ReasonNotAllowed && b.Source == networkproxy.SourceDecider) {
		f.t.Errorf("captured connection to %q: the record has %q, want a refusal with reason %q", target, b.Reason, want)
	}
}

// lookup returns the address at which the command connects to a target. It returns false if
// there is none, and for what the fence does itself: its loopback addresses, and DNS.
func (f *fencedProxy) lookup(target string) (netip.AddrPort, bool) {
	f.t.Helper()
	i := strings.LastIndexByte(target, ':')
	if !f.captures || i < 0 {
		return netip.AddrPort{}, false
	}
	port, err := netip.ParseAddrPort("0.0.0.0" + target[i:])
	if err != nil {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(target[:i], "["), "]"))
	if err == nil && f.pool.Contains(addr.Unmap()) {
		return netip.AddrPort{}, false // it stands for no name, and is not recorded
	} else if err != nil {
		if addr, err = f.nameOf(target[:i]); err != nil {
			return netip.AddrPort{}, false
		}
	}
	addr = addr.Unmap()
	own := addr.IsLoopback() || addr.IsUnspecified() || addr.Zone() != "" || port.Port() == dnsPort
	return netip.AddrPortFrom(addr, port.Port()), !own
}

func checkFencedAllowed(t testing.TB, start Start, fences *fences) {
	t.Helper()
	// Each way has a server of its own, because an origin ends when it is asked what it received.
	proxied, local, captured := newOrigin(t), newOrigin(t), netip.MustParseAddrPort(echo(t).addr())
	name := "local-loopback" + zone
	r := startProxy(t, start, networkproxy.PolicyConfig{
		AllowedDomains: []string{"127.0.0.1", name, "public" + zone}, AllowLocalBinding: true,
	}, networkproxy.ModeFull)
	f := r.fence(fences, local.addr)
	arrives := func(way string, o *origin, out outcome) {
		t.Helper()
		if got, faults := o.received(); !out.reached || len(got) != 1 || len(faults) != 0 {
			t.Errorf("%s: %s; the origin received %q, faults %q; want one request and no fault", way, out.text, got, faults)
		}
	}
	out, _, _ := dialer(f.dial).forwardVia(f.session.HTTPAddr())(t, proxied.addr)
	arrives("HTTP in a fence", proxied, out)
	if !f.captures {
		return
	}
	c := f.dial(t, local.addr)
	send(c, "GET / HTTP/1.1\r\nHost: "+local.addr+"\r\nConnection: close\r\n\r\n")
	arrives("a local target", local, readResponse(c, http.MethodGet))
	if err := r.usesKitResolver(); err != nil {
		t.Logf("captured names are not tested: %v", err)
		return
	}
	addr, err := f.nameOf(name)
	if err != nil {
		t.Fatalf("the command looks %s up: %v", name, err)
	}
	c = f.dial(t, netip.AddrPortFrom(addr, captured.Port()).String())
	if err := echoesLine(c); err != nil {
		t.Errorf("a captured connection: %v", err)
	}
}

// echoesLine is echoes for captured connections. A line shows that they are not HTTP.
func echoesLine(c net.Conn) error {
	const line = "ping\n"
	send(c, line)
	got := make([]byte, len(line))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != line {
		return fmt.Errorf("sent %q, got %q, %v", line, got, err)
	}
	return nil
}

// checkNothingAround checks that servers of this machine get nothing from the command.
func checkNothingAround(t testing.TB, start Start, fences *fences) {
	t.Helper()
	r := startProxy(t, start, networkproxy.PolicyConfig{}, networkproxy.ModeFull)
	f := r.fence(fences)
	for _, host := range slices.Compact([]string{"127.0.0.1", localAddress()}) {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		tcp := serveOn(t, l, func(c net.Conn) { send(c, "reached") })
		udp, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { udp.Close() })
		if c, err := f.try("tcp", tcp.addr()); err == nil {
			c.SetDeadline(time.Now().Add(timeout))
			if n, _ := c.Read(make([]byte, 1)); n > 0 {
				t.Errorf("the command reaches TCP at %s", tcp.addr())
			}
			c.Close()
		}
		if c, err := f.try("udp", udp.LocalAddr().String()); err == nil {
			send(c, "reached")
			c.Close()
		}
		udp.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // datagrams on this machine arrive at once
		if n, from, _ := udp.ReadFrom(make([]byte, 16)); n > 0 {
			t.Errorf("the command reaches UDP at %s from %s", udp.LocalAddr(), from)
		}
		if n := tcp.accepted(); n > 0 {
			t.Errorf("the server at %s accepted %d connections", tcp.addr(), n)
		}
	}
	dir, err := os.MkdirTemp("", "np")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	unix := serveOn(t, l, func(net.Conn) {})
	if c, err := f.try("unix", unix.addr()); err == nil {
		c.Close()
		t.Errorf("the command reaches the Unix socket %s", unix.addr())
	}
}

func checkFencedRecord(t testing.TB, start Start, fences *fences) {
	t.Helper()
	r := startProxy(t, start, networkproxy.PolicyConfig{}, networkproxy.ModeFull)
	f := r.fence(fences)
	other := openSession(t, r.Handle)
	hosts := []string{"mine.invalid"}
	if f.captures {
		hosts = append(hosts, "looked-up.invalid", "93.184.216.34")
		if addr, err := f.nameOf("looked-up.invalid"); err == nil {
			t.Errorf("a name that nothing allows has the address %v", addr)
		}
		f.refusesDirect("93.184.216.34:443", "ping\r\n", networkproxy.ReasonNotAllowed)
	}
	dialer(f.dial).forwardVia(f.session.HTTPAddr())(t, "mine.invalid:80")
	for _, host := range hosts {
		has := func(s *networkproxy.Session) bool {
			return slices.ContainsFunc(s.Blocked(), func(b networkproxy.BlockedRequest) bool { return b.Host == host && b.Command == "networkproxytest" })
		}
		if !has(r.session) || has(other) {
			t.Errorf("the refusal of %s is in the record of its session: %t, want true; of another session: %t, want false", host, has(r.session), has(other))
		}
	}
}

func checkFencedClose(t testing.TB, start Start, fences *fences) {
	t.Helper()
	target := echo(t).addr()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	f := r.fence(fences, target)
	open := make(map[string]net.Conn)
	_, tunnel, _ := dialer(f.dial).connectVia(f.session.HTTPAddr())(t, target)
	if tunnel == nil {
		t.Fatal("cannot open a tunnel in a fence")
	}
	open["the tunnel"] = tunnel
	if f.captures {
		open["the captured connection"] = f.dial(t, target)
	}
	for name, c := range open {
		if err := echoesLine(c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	r.session.Close()
	for name, c := range open {
		if err := checkClosed(c); err != nil {
			t.Errorf("%s after the end of the session: %v", name, err)
		}
	}
	if c, err := f.try("tcp", f.session.HTTPAddr()); err == nil {
		c.Close()
		t.Error("the proxy of the closed session accepts connections of the fence")
	}
}
