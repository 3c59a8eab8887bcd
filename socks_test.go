// Tests of SOCKS5 CONNECT: allowed and refused targets, and the replies.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/proxy"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// A client of another implementation works.
func TestSOCKSWithAnIndependentClient(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow("allowed.example", publicAddr)), nil)
	l.mapHost("allowed.example", 80, testnet.Echo(t).Addr())
	client, err := proxy.SOCKS5("tcp", l.SOCKSAddr(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"allowed.example:80", publicAddr + ":80"} {
		conn, err := client.Dial("tcp", target)
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		if err := echoes(conn); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		conn.Close()
	}
	if _, err := client.Dial("tcp", "other.example:80"); err == nil || !strings.Contains(err.Error(), "not allowed by ruleset") {
		t.Errorf("other.example: %v", err)
	}
	if got := l.dns.Queries(); !slices.Equal(got, []string{"allowed.example"}) {
		t.Errorf("looked up %q, want only the allowed name", got)
	}
	eventually(t, "the tunnels are closed", func() bool {
		return l.healthCounts() == healthCounts{Allowed: 2, Refused: 1} && l.LiveTargets() == 0
	})
}

func TestSOCKSReplies(t *testing.T) {
	t.Parallel()
	config := withSOCKS(allow("*.allowed.example", "denied.example", publicAddr))
	config.Policy.DeniedDomains = []string{"denied.example", "198.41.0.4"}
	l := start(t, config, func(b *networkproxy.Builder) {
		networkproxy.SetConnect(b, func(_ context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
			var err error = map[uint16]error{
				1: syscall.ECONNREFUSED, 2: syscall.ENETUNREACH, 3: syscall.EHOSTUNREACH,
				4: syscall.ETIMEDOUT, 5: os.ErrDeadlineExceeded, 6: syscall.EACCES, 7: syscall.EMFILE,
			}[addr.Port()]
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
		})
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			switch req.Host {
			case "ask.example":
				return networkproxy.Ask("not yet"), nil
			case "broken.example":
				return networkproxy.Allow(), errors.New("no idea")
			case "panic.example":
				panic("no idea at all")
			}
			return networkproxy.Deny("not for this task"), nil
		})
	})
	l.dns.Set("up.allowed.example", testnet.Addrs(publicAddr))
	l.dns.Set("broken.allowed.example", testnet.ServFail())
	l.dns.Set("inner.allowed.example", testnet.Addrs(publicAddr, "10.0.0.1"))
	l.dns.Set("root.allowed.example", testnet.Addrs("198.41.0.4"))

	tests := []struct {
		host   string
		port   uint16
		code   byte
		reason networkproxy.Reason // empty: allowed
	}{
		{"denied.example", 80, 2, networkproxy.ReasonDenied},
		{"198.41.0.4", 80, 2, networkproxy.ReasonDenied},
		{"root.allowed.example", 80, 2, networkproxy.ReasonDenied},
		{"127.0.0.1", 80, 2, networkproxy.ReasonNotAllowedLocal},
		{"::1", 80, 2, networkproxy.ReasonNotAllowedLocal},
		{"localhost", 80, 2, networkproxy.ReasonNotAllowedLocal},
		{"inner.allowed.example", 80, 2, networkproxy.ReasonNotAllowedLocal},
		{"other.example", 80, 2, "not for this task"},
		{"ask.example", 80, 2, "not yet"},
		{"broken.example", 80, 2, networkproxy.ReasonDeciderFailed},
		{"panic.example", 80, 2, networkproxy.ReasonDeciderFailed},
		{publicAddr, 1, 5, ""},
		{publicAddr, 2, 3, ""},
		{publicAddr, 3, 4, ""},
		{publicAddr, 4, 4, ""},
		{publicAddr, 5, 4, ""},
		{publicAddr, 6, 1, ""},
		{publicAddr, 7, 1, ""},
		{"up.allowed.example", 1, 5, ""},
		{"none.allowed.example", 80, 4, ""},
		{"broken.allowed.example", 80, 4, ""},
	}
	want := healthCounts{}
	for _, test := range tests {
		conn, code, bound := l.socksRequest(socksConnect, socksDest(test.host, test.port))
		if code != test.code || bound != netip.MustParseAddrPort("0.0.0.0:0") {
			t.Errorf("%s:%d: got the reply %d with the address %v, want %d", test.host, test.port, code, bound, test.code)
		}
		if err := checkClosed(conn); err != nil {
			t.Errorf("%s:%d: after the reply: %v", test.host, test.port, err)
		}
		conn.Close()
		if test.reason == "" {
			want.Failed++
			continue
		}
		want.Refused++
		list := l.Blocked()
		last := list[len(list)-1]
		if last.Host != test.host || last.Port != test.port || last.Reason != test.reason ||
			last.Protocol != networkproxy.ProtocolSOCKS5TCP || last.Method != "" || !last.Client.Addr().IsLoopback() {
			t.Errorf("%s:%d: got the record %+v", test.host, test.port, last)
		}
	}
	eventually(t, "every request is counted once", func() bool { return l.healthCounts() == want })
}

// The limited mode, and a disabled proxy, forbid all of SOCKS5.
func TestSOCKSModes(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, "enable_socks5 = true\nenable_socks5_udp = true\npolicy.allowed_domains = [\"*\"]")
	l := startFile(t, nil, f.path)
	l.mapHost("allowed.example", 80, testnet.Echo(t).Addr())
	anywhere := socksDestAddr(netip.MustParseAddrPort("0.0.0.0:0"))

	tunnel := l.socksTunnel("allowed.example", 80)
	refusals := func(reason networkproxy.Reason, source networkproxy.Source) {
		t.Helper()
		for command, dst := range map[byte][]byte{socksConnect: socksDestName("allowed.example", 80), socksAssociate: anywhere} {
			if _, code, _ := l.socksRequest(command, dst); code != 2 {
				t.Errorf("%s: command %d: got the reply %d", reason, command, code)
			}
			list := l.Blocked()
			if last := list[len(list)-1]; last.Reason != reason || last.Source != source {
				t.Errorf("command %d: got the record %+v, want the reason %s from %s", command, last, reason, source)
			}
		}
	}
	if err := l.SetMode(networkproxy.ModeLimited); err != nil {
		t.Fatal(err)
	}
	if err := checkClosed(tunnel); err != nil {
		t.Errorf("the open tunnel: %v", err)
	}
	refusals(networkproxy.ReasonMethodNotAllowed, networkproxy.SourceModeGuard)

	if err := l.SetMode(networkproxy.ModeFull); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.path, []byte("[network_proxy]\nenabled = false\nenable_socks5 = true\nenable_socks5_udp = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	refusals(networkproxy.ReasonProxyDisabled, networkproxy.SourceProxyState)
}

// The target may send first (SSH, SMTP), and either side may finish first.
func TestSOCKSTunnel(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow("ssh.example", "sink.example")), nil)
	l.mapHost("ssh.example", 22, testnet.Serve(t, func(c *net.TCPConn) {
		io.WriteString(c, "SSH-2.0-test\r\n")
		io.Copy(c, c)
	}).Addr())
	l.mapHost("sink.example", 9, testnet.Serve(t, func(c *net.TCPConn) {
		n, _ := io.Copy(io.Discard, c)
		fmt.Fprintf(c, "%d bytes", n)
	}).Addr())

	conn := l.socksTunnel("ssh.example", 22)
	banner := make([]byte, 14)
	if _, err := io.ReadFull(conn, banner); err != nil || string(banner) != "SSH-2.0-test\r\n" {
		t.Fatalf("got the banner %q, %v", banner, err)
	}
	if err := echoes(conn); err != nil {
		t.Error(err)
	}

	const size = 5 << 20
	conn = l.socksTunnel("sink.example", 9)
	if _, err := io.Copy(conn, testnet.NewSource(1, size)); err != nil {
		t.Fatal(err)
	}
	conn.CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != fmt.Sprint(size, " bytes") {
		t.Errorf("after the half-close: got %q, %v", got, err)
	}
}

// localhost is never looked up (RFC 6761 section 6.3), and the policy does not
// treat it as 127.0.0.1.
func TestSOCKSLocalhost(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow("localhost:3000")), nil)
	l.net.Map(netip.MustParseAddrPort("127.0.0.1:3000"), testnet.Echo(t).Addr())
	if err := echoes(l.socksTunnel("localhost", 3000)); err != nil {
		t.Error(err)
	}
	if err := echoes(l.socksTunnel("LOCALHOST.", 3000)); err != nil {
		t.Error(err)
	}
	for _, dst := range [][]byte{socksDest("127.0.0.1", 3000), socksDestName("127.0.0.1", 3000), socksDestName("localhost", 3001)} {
		if _, code, _ := l.socksRequest(socksConnect, dst); code != 2 {
			t.Errorf("% x: got the reply %d", dst, code)
		}
	}
	if got := l.dns.Queries(); len(got) != 0 {
		t.Errorf("looked up %q, want nothing", got)
	}
}

// The proxy's own listeners are never targets, even if local targets are allowed.
func TestSOCKSNotToItself(t *testing.T) {
	t.Parallel()
	config := withSOCKS(allow("*", "localhost", "127.0.0.1"))
	config.Policy.AllowLocalBinding = true
	l := start(t, config, nil)
	for _, addr := range []string{l.HTTPAddr(), l.AdminAddr(), l.SOCKSAddr()} {
		port := netip.MustParseAddrPort(addr).Port()
		for _, host := range []string{"127.0.0.1", "localhost", "::1", "0.0.0.0", "127.0.0.2"} {
			if _, code, _ := l.socksRequest(socksConnect, socksDest(host, port)); code != 2 {
				t.Errorf("%s:%d: got the reply %d", host, port, code)
			}
		}
	}
	// The relay of an association counts as a listener for datagrams.
	own := l.associate()
	client := l.associate()
	for i, host := range []string{"127.0.0.1", "localhost", "::1", "0.0.0.0", "127.0.0.2"} {
		client.send(socksDest(host, own.relay.Port()), "to a relay")
		eventually(t, host+" is refused", func() bool { return len(l.Blocked()) == 16+i })
	}
	own.control.Close()
	eventually(t, "the relay's port is free again", func() bool {
		before := l.healthCounts()
		client := l.associate()
		defer client.control.Close()
		client.send(socksDest("127.0.0.1", own.relay.Port()), "to nobody")
		eventually(t, "an outcome", func() bool { return l.healthCounts() != before })
		after := l.healthCounts()
		return after.Allowed+after.Failed > before.Allowed+before.Failed // allowed by the policy
	})
}

func TestSOCKSDeciderSeesTheRequest(t *testing.T) {
	t.Parallel()
	seen := make(chan networkproxy.PolicyRequest, 1)
	l := start(t, withSOCKS(allow()), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			seen <- req
			return networkproxy.Allow(), nil
		})
	})
	l.mapHost("new.example", 22, testnet.Echo(t).Addr())
	conn := l.socksTunnel("New.Example.", 22)
	want := networkproxy.PolicyRequest{
		Protocol: networkproxy.ProtocolSOCKS5TCP, Host: "new.example", Port: 22,
		Client: conn.LocalAddr().(*net.TCPAddr).AddrPort(),
	}
	if got := <-seen; got.Protocol != want.Protocol || got.Host != want.Host || got.Port != want.Port ||
		got.Method != "" || got.Client != want.Client {
		t.Errorf("the decider got %+v, want %+v", got, want)
	}
	if err := echoes(conn); err != nil {
		t.Error(err)
	}
}

// The question to the decider ends when its client closes the connection.
func TestSOCKSClientLeaves(t *testing.T) {
	t.Parallel()
	asked, canceled := make(chan struct{}), make(chan struct{})
	l := start(t, withSOCKS(allow()), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(ctx context.Context, _ networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			close(asked)
			<-ctx.Done()
			close(canceled)
			return networkproxy.Allow(), nil
		})
	})
	conn := l.dialSOCKS()
	conn.Write(append([]byte{5, 1, 0, 5, 1, 0}, socksDestName("new.example", 80)...))
	<-asked
	conn.Close()
	<-canceled
	eventually(t, "the request is counted and its connection is closed", func() bool {
		return l.healthCounts() == healthCounts{Refused: 1}
	})
	if list := l.Blocked(); len(list) != 1 || list[0].Reason != networkproxy.ReasonCanceled {
		t.Errorf("got the records %+v", list)
	}
}

// A policy change ends the open tunnels that it refuses, and no others.
func TestSOCKSPolicyChangeCutsTunnels(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow("good.example", "bad.example")), nil)
	l.mapHost("good.example", 80, testnet.Echo(t).Addr())
	l.dns.Set("bad.example", testnet.Addrs(publicAddr))
	good := l.socksTunnel("good.example", 80)
	var bad []net.Conn
	for range 20 {
		conn := l.socksTunnel("bad.example", 80)
		if err := echoes(conn); err != nil {
			t.Fatal(err)
		}
		bad = append(bad, conn)
	}
	if err := l.DenyDomain("bad.example"); err != nil {
		t.Fatal(err)
	}
	for _, conn := range bad {
		if err := checkClosed(conn); err != nil {
			t.Fatal(err)
		}
	}
	if err := echoes(good); err != nil {
		t.Errorf("the tunnel to good.example: %v", err)
	}
	if _, code, _ := l.socksRequest(socksConnect, socksDestName("bad.example", 80)); code != 2 {
		t.Errorf("bad.example after the change: got the reply %d", code)
	}
	if got := l.healthCounts(); got.Cut != len(bad) || l.LiveTargets() != 1 {
		t.Errorf("got %+v and %d open tunnels, want %d cut and 1 open", got, l.LiveTargets(), len(bad))
	}
}

// Users with a password have their own principals (RFC 1929).
func TestSOCKSPasswords(t *testing.T) {
	t.Parallel()
	commands := make(chan string, 1)
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			commands <- req.Command
			return networkproxy.Allow(), nil
		})
	})
	l.mapHost("new.example", 80, testnet.Echo(t).Addr())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	l.ServeSOCKSPasswords(ln, map[string]string{"curl": "secret"})

	dial := func(auth *proxy.Auth) (net.Conn, error) {
		client, err := proxy.SOCKS5("tcp", ln.Addr().String(), auth, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := client.Dial("tcp", "new.example:80")
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return conn, err
	}
	for _, test := range []struct {
		auth    *proxy.Auth
		command string
	}{{nil, ""}, {&proxy.Auth{User: "curl", Password: "secret"}, "curl"}} {
		conn, err := dial(test.auth)
		if err != nil {
			t.Fatalf("%v: %v", test.auth, err)
		}
		if got := <-commands; got != test.command {
			t.Errorf("%v: the decider got the command %q", test.auth, got)
		}
		if err := echoes(conn); err != nil {
			t.Error(err)
		}
	}
	for _, auth := range []*proxy.Auth{{User: "curl", Password: "guess"}, {User: "nobody", Password: "secret"}} {
		if _, err := dial(auth); err == nil {
			t.Errorf("%v: the password was accepted", auth)
		}
	}
	if strings.Contains(l.log.String(), "secret") || strings.Contains(l.log.String(), "guess") {
		t.Errorf("the log contains a password: %s", l.log)
	}
}

// SOCKS5 is off by default, and its address is clamped.
func TestSOCKSListener(t *testing.T) {
	t.Parallel()
	if l := start(t, allow(), nil); l.SOCKSAddr() != "" {
		t.Errorf("SOCKS5 listens on %s by default", l.SOCKSAddr())
	}
	clamped := start(t, withSOCKS(allow()), func(b *networkproxy.Builder) { b.SOCKSAddr("0.0.0.0:0") })
	if addr := netip.MustParseAddrPort(clamped.SOCKSAddr()); !addr.Addr().IsLoopback() {
		t.Errorf("SOCKS5 listens on %v", addr)
	}
	if got := strings.Join(clamped.Warnings(), "\n"); !strings.Contains(got, "SOCKS5 proxy") {
		t.Errorf("got the warnings %q, want one about the clamped address", got)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handed := start(t, withSOCKS(allow()), func(b *networkproxy.Builder) { b.SOCKSAddr("").SOCKSListener(ln) })
	if handed.SOCKSAddr() != ln.Addr().String() {
		t.Errorf("SOCKS5 listens on %s, want the host's listener", handed.SOCKSAddr())
	}

	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	start(t, allow(), func(b *networkproxy.Builder) { b.SOCKSAddr("").SOCKSListener(unused) })
	if _, err := unused.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept on a listener that is not used: got %v, want a closed listener", err)
	}

	for _, test := range []struct {
		name string
		b    *networkproxy.Builder
	}{
		{"nil", networkproxy.NewBuilder().Config(allow()).SOCKSListener(nil)},
		{"both", networkproxy.NewBuilder().Config(allow()).SOCKSAddr("127.0.0.1:0").SOCKSListener(ln)},
		{"shared", networkproxy.NewBuilder().Config(withSOCKS(allow())).
			HTTPAddr("127.0.0.1:18123").AdminAddr("127.0.0.1:0").SOCKSAddr("127.0.0.1:18123")},
	} {
		if _, err := test.b.Build(); err == nil {
			t.Errorf("%s: no error", test.name)
		}
	}
}

// After Shutdown, no handshake, tunnel or association is left.
func TestSOCKSShutdownLeavesNothing(t *testing.T) {
	testnet.CheckLeaks(t)
	asked := make(chan struct{})
	l := start(t, withSOCKS(allow("allowed.example")), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(ctx context.Context, _ networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			asked <- struct{}{}
			<-ctx.Done()
			return networkproxy.Allow(), nil
		})
	})
	l.mapHost("allowed.example", 7, testnet.Echo(t).Addr())
	l.mapHostUDP("allowed.example", 7, testnet.EchoUDP(t, "127.0.0.1"))

	handshake := l.dialSOCKS()
	handshake.Write([]byte{5})
	tunnel := l.socksTunnel("allowed.example", 7)
	if err := echoes(tunnel); err != nil {
		t.Fatal(err)
	}
	undecided := l.dialSOCKS()
	undecided.Write(append([]byte{5, 1, 0, 5, 1, 0}, socksDestName("new.example", 80)...))
	<-asked
	u := l.associate()
	u.send(socksDestName("allowed.example", 7), "ping")
	u.expect("ping", publicAddr+":7")
	u.send(socksDestName("new.example", 7), "ping")
	<-asked

	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := l.LiveTargets(); n != 0 {
		t.Errorf("%d connections to targets are left, want none", n)
	}
	for _, conn := range []net.Conn{handshake, tunnel, undecided, u.control} {
		conn.SetReadDeadline(testDeadline())
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v is still open", conn.LocalAddr())
		}
		conn.Close()
	}
	u.conn.Close()
}

// Every SOCKS5 encoding of a target gets the same verdict, which is also that of
// Explain.
func TestSOCKSVerdicts(t *testing.T) {
	t.Parallel()
	config := withSOCKS(allow("*.example", "localhost:3000", "10.1.0.0/16", "203.0.113.0/24", "93.184.215.14", "only.test:443"))
	config.Policy.DeniedDomains = []string{"denied.example", "**.tracker.example", "198.41.0.4", "x.example:25"}
	l := start(t, config, nil)
	tcp, udp := testnet.Echo(t).Addr(), testnet.EchoUDP(t, "127.0.0.1")
	reach := func(addr string, ports ...uint16) {
		for _, port := range ports {
			at := netip.AddrPortFrom(netip.MustParseAddr(addr), port)
			l.net.Map(at, tcp)
			l.net.MapUDP(at, udp)
		}
	}
	reach(publicAddr, 53, 443)
	reach("10.1.2.3", 53)
	reach("127.0.0.1", 3000)
	for _, row := range []struct {
		name  string
		addrs []string
	}{
		{"a.example", []string{publicAddr}}, {"b.a.example", []string{publicAddr}}, {"xn--bcher-kva.example", []string{publicAddr}}, {"only.test", []string{publicAddr}},
		{"inner.example", []string{"10.0.0.1"}}, {"mixed.example", []string{publicAddr, "fd00::1"}}, {"root.example", []string{"198.41.0.4"}},
		{"mapped.example", []string{"::ffff:127.0.0.1"}}, {"x.example", []string{publicAddr}},
	} {
		l.dns.Set(row.name, testnet.Addrs(row.addrs...))
	}
	tests := []struct {
		host string
		port uint16
	}{
		{"a.example", 53}, {"A.Example.", 53}, {"b.a.example", 53}, {"bücher.example", 53}, {"example", 53},
		{"only.test", 443}, {"only.test", 53}, {"other.test", 53},
		{"denied.example", 53}, {"Denied.EXAMPLE.", 53}, {"tracker.example", 53}, {"t.tracker.example", 53},
		{"x.example", 25}, {"x.example", 53},
		{publicAddr, 53}, {"::ffff:" + publicAddr, 53}, {"93.184.215.15", 53}, {"203.0.113.9", 53},
		{"198.41.0.4", 53}, {"::ffff:198.41.0.4", 53}, {"root.example", 53},
		{"10.1.2.3", 53}, {"10.2.0.1", 53}, {"::ffff:10.1.2.3", 53}, {"169.254.169.254", 80}, {"fd00::1", 53}, {"fe80::1", 53},
		{"127.0.0.1", 3000}, {"::1", 3000}, {"localhost", 3000}, {"localhost", 3001}, {"a.localhost", 3000},
		{"0.0.0.0", 3000}, {"::", 3000}, {"64:ff9b::a00:1", 53}, {"2002:a00:1::", 53},
		{"inner.example", 53}, {"mixed.example", 53}, {"mapped.example", 53},
		{"", 53}, {"a..example", 53}, {"127.1", 3000}, {"0x7f000001", 3000}, {"2130706433", 3000}, {"a.example", 0}, {"a_b.example\x00", 53},
	}
	for row, test := range tests {
		t.Run(fmt.Sprintf("%q:%d", test.host, test.port), func(t *testing.T) {
			want, err := l.Explain(context.Background(), networkproxy.PolicyRequest{
				Protocol: networkproxy.ProtocolSOCKS5TCP, Host: test.host, Port: test.port,
			})
			if err != nil {
				t.Fatal(err)
			}
			// Verdicts that depend on the addresses of the name.
			switch test.host {
			case "inner.example", "mixed.example", "mapped.example":
				want.Allowed, want.Reason = false, networkproxy.ReasonNotAllowedLocal
			case "root.example":
				want.Allowed, want.Reason = false, networkproxy.ReasonDenied
			}
			spellings := map[string][]byte{"as a name": socksDestName(test.host, test.port)}
			if a, err := netip.ParseAddr(test.host); err == nil {
				spellings["as an address"] = socksDestAddr(netip.AddrPortFrom(a, test.port))
			}
			for spelling, dst := range spellings {
				if got := l.verdictTCP(t, dst); got != want.Reason {
					t.Errorf("CONNECT %s: got %q, want %q", spelling, got, want.Reason)
				}
				if !testnet.Chosen(row, 0, 3) {
					continue // a row in three has datagrams under -short
				}
				if got := l.verdictUDP(t, dst); got != want.Reason {
					t.Errorf("a datagram, %s: got %q, want %q", spelling, got, want.Reason)
				}
			}
		})
	}
}
