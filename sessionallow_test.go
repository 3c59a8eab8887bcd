// Tests of hosts that a session is allowed after it has been opened.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// connectReason makes a CONNECT request through a session and returns the reason
// of its refusal, or "" if the tunnel is open. It closes the tunnel.
func connectReason(t testing.TB, s *networkproxy.Session, target string) networkproxy.Reason {
	t.Helper()
	conn, resp := sendRaw(t, "tcp", s.HTTPAddr(), fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target))
	defer conn.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return ""
	case http.StatusForbidden:
		list := s.Blocked()
		return list[len(list)-1].Reason
	}
	t.Fatalf("CONNECT %s: got %s, want 200 or 403", target, resp.Status)
	return ""
}

func TestSessionAllow(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	config := networkproxy.DefaultConfig()
	config.Policy.DeniedDomains = []string{"denied.example"}
	l := start(t, config, func(b *networkproxy.Builder) {
		b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			asked.Add(1)
			return networkproxy.Deny("not yet"), nil
		})
	})
	echo := testnet.Echo(t).Addr()
	for _, host := range []string{"a.example", "b.example", "denied.example", "own.example"} {
		l.mapHost(host, 443, echo)
	}
	local := testnet.Echo(t).AddrPort()
	l.net.Map(local, testnet.Echo(t).Addr())
	s := l.open(networkproxy.SessionConfig{DeniedDomains: []string{"own.example"}})
	limited := l.open(networkproxy.SessionConfig{Mode: networkproxy.ModeLimited})
	other := l.open(networkproxy.SessionConfig{})

	if got := connectReason(t, s, "a.example:443"); got != "not yet" {
		t.Fatalf("before Allow: got the reason %q, want that of the decider", got)
	}
	for range 2 { // an entry that the session has is no error
		if err := s.Allow("a.example", "denied.example", "own.example", "*"); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(limited.Allow("a.example"), other.Allow()); err != nil {
		t.Fatal(err)
	}
	questions := asked.Load()
	for _, test := range []struct {
		name    string
		session *networkproxy.Session
		target  string
		want    networkproxy.Reason
	}{
		// The decider's Deny is remembered for two seconds.
		{"just denied by the decider", s, "a.example:443", ""},
		{"wildcard", s, "b.example:443", ""},
		{"denylist", s, "denied.example:443", networkproxy.ReasonDenied},
		{"the session's denylist", s, "own.example:443", networkproxy.ReasonDenied},
		{"wildcard and a local address", s, local.String(), networkproxy.ReasonNotAllowedLocal},
		{"the session's mode", limited, "a.example:443", networkproxy.ReasonMethodNotAllowed},
	} {
		if got := connectReason(t, test.session, test.target); got != test.want {
			t.Errorf("%s: got the reason %q, want %q", test.name, got, test.want)
		}
	}
	if n := asked.Load() - questions; n != 0 {
		t.Errorf("the decider was asked %d times about hosts that the session allows or the policy forbids", n)
	}
	if got := connectReason(t, other, "a.example:443"); got != "not yet" {
		t.Errorf("another session: got the reason %q, want that of the decider", got)
	}
	if err := s.Allow(local.String()); err != nil {
		t.Fatal(err)
	}
	if got := connectReason(t, s, local.String()); got != "" {
		t.Errorf("a local address by an exact entry: got the reason %q, want none", got)
	}
}

// TestSessionAllowErrors checks that a call of Allow with an error adds nothing.
func TestSessionAllowErrors(t *testing.T) {
	t.Parallel()
	limits := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(limits, []byte("[network_proxy.policy]\nallowed_domains = [\"**.corp.example\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := start(t, allow(), func(b *networkproxy.Builder) { b.Requirements(limits) })
	l.mapHost("a.corp.example", 443, testnet.Echo(t).Addr())
	s := l.open(networkproxy.SessionConfig{})
	for _, test := range []struct {
		name  string
		entry string
		limit bool
	}{
		{"outside the limits", "other.example", true},
		{"wider than the limits", "*", true},
		{"not a pattern", "http://corp.example/", false},
		{"every address", "0.0.0.0/0", false},
		{"empty", "", false},
		{"two lines", "x.corp.example\ny.corp.example", false},
	} {
		err := s.Allow("a.corp.example", test.entry)
		var limit *networkproxy.LimitError
		if err == nil || errors.As(err, &limit) != test.limit || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got the error %v, want one line and a *LimitError: %t", test.name, err, test.limit)
		}
	}
	err := s.Allow("first.example", "second.example")
	if err == nil || !strings.Contains(err.Error(), `"first.example"`) || !strings.Contains(err.Error(), `"second.example"`) {
		t.Errorf("got the error %v, want one that names both entries", err)
	}
	if got := connectReason(t, s, "a.corp.example:443"); got == "" {
		t.Error("a call that failed has added an entry")
	}

	s.Close()
	if err := s.Allow("a.corp.example"); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close of the session: got %v, want an error", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	of, err := l.OpenSession(ctx, networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ended := errors.New("the command has ended")
	cancel(ended)
	<-of.Done()
	if err := of.Allow("a.corp.example"); !errors.Is(err, ended) {
		t.Errorf("after the end of the session's context: got %v, want %v", err, ended)
	}
	last := l.open(networkproxy.SessionConfig{})
	l.Close()
	if err := last.Allow("a.corp.example"); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("after the end of the proxy: got %v, want %v", err, networkproxy.ErrClosed)
	}
}

// TestSessionAllowUnderTightenedLimits checks that limits that are tightened later
// apply to the entries, and cut the tunnels that these allowed.
func TestSessionAllowUnderTightenedLimits(t *testing.T) {
	t.Parallel()
	limits := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = [\"**.corp.example\"]\n")
	f := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = []\n")
	l := startFile(t, func(b *networkproxy.Builder) { b.Requirements(limits.path) }, f.path)
	for _, host := range []string{"a.corp.example", "b.corp.example"} {
		l.mapHost(host, 443, testnet.Echo(t).Addr())
	}
	s := l.open(networkproxy.SessionConfig{})
	if err := s.Allow("a.corp.example", "b.corp.example"); err != nil {
		t.Fatal(err)
	}
	a := connectThrough(t, s.HTTPAddr(), "a.corp.example:443", "")
	b := connectThrough(t, s.HTTPAddr(), "b.corp.example:443", "")
	limits.replace("[network_proxy.policy]\nallowed_domains = [\"a.corp.example\"]\n")
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "a tunnel outside the tightened limits", b)
	if err := echoes(a); err != nil {
		t.Errorf("a tunnel within the tightened limits: %v", err)
	}
	if got := connectReason(t, s, "b.corp.example:443"); got != networkproxy.ReasonNotAllowed {
		t.Errorf("outside the tightened limits: got the reason %q, want %q", got, networkproxy.ReasonNotAllowed)
	}
	if err := s.Allow("b.corp.example"); err == nil {
		t.Error("Allow adds an entry outside the tightened limits")
	}
}

// TestSessionAllowKeepsOpenTunnels removes the entry of the configuration that
// allowed a tunnel. The session allows the host as well, so the tunnel stays open.
func TestSessionAllowKeepsOpenTunnels(t *testing.T) {
	t.Parallel()
	src := newSource(allow("kept.example", "cut.example"))
	l := startSource(t, src.builder, nil)
	l.mapHost("kept.example", 443, testnet.Echo(t).Addr())
	l.mapHost("cut.example", 443, testnet.Echo(t).Addr())
	s := l.open(networkproxy.SessionConfig{})
	kept := connectThrough(t, s.HTTPAddr(), "kept.example:443", "")
	cut := connectThrough(t, s.HTTPAddr(), "cut.example:443", "")
	if err := s.Allow("kept.example"); err != nil {
		t.Fatal(err)
	}
	src.set(func(c *networkproxy.Config) { c.Policy.AllowedDomains = nil })
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "a tunnel that nothing allows", cut)
	if err := echoes(kept); err != nil {
		t.Errorf("a tunnel that the session allows: %v", err)
	}
}

// TestSessionAllowAndRefusedDatagrams checks that a target whose datagrams were
// refused is judged again at once.
func TestSessionAllowAndRefusedDatagrams(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow()), func(b *networkproxy.Builder) {
		networkproxy.SetRefusalTTL(b, time.Hour)
	})
	l.mapHostUDP("dns.example", 53, testnet.EchoUDP(t, "127.0.0.1"))
	s := l.open(networkproxy.SessionConfig{})
	control := dialSOCKS(t, s.SOCKSAddr())
	code, relay, err := socksRequest(control, socksAssociate, socksDestAddr(netip.MustParseAddrPort("0.0.0.0:0")))
	if err != nil || code != 0 {
		t.Fatalf("UDP ASSOCIATE: got the reply %d, %v", code, err)
	}
	u := &udpClient{t, control, listenUDP(t, relay.Addr().String()), relay}
	u.send(socksDestName("dns.example", 53), "refused")
	eventually(t, "the datagram is refused", func() bool { return l.Dropped()["refused"] == 1 })
	if err := s.Allow("dns.example"); err != nil {
		t.Fatal(err)
	}
	u.send(socksDestName("dns.example", 53), "allowed")
	u.expect("allowed", publicAddr+":53")
}

// TestSessionAllowDuringRequests adds entries while the session's requests are
// decided, and checks that each entry is in force when Allow returns.
func TestSessionAllowDuringRequests(t *testing.T) {
	t.Parallel()
	l := start(t, allow("listed.example"), nil)
	l.origin("listed.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	s := l.open(networkproxy.SessionConfig{AllowedDomains: []string{"given.example"}})
	stop := make(chan struct{})
	var requests, adding sync.WaitGroup
	for range 2 {
		client := clientThrough(t, s.ProxyURL())
		requests.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if resp, err := client.Get("http://listed.example/"); err != nil || resp.StatusCode != 200 {
					t.Errorf("a listed host: got %v, %v", resp, err)
					return
				} else {
					resp.Body.Close()
				}
			}
		})
	}
	echo := testnet.Echo(t).Addr()
	for g := range 4 {
		for i := range scaled(50) {
			l.mapHost(fmt.Sprintf("h%d-%d.example", g, i), 443, echo)
		}
		adding.Go(func() {
			for i := range scaled(50) {
				host := fmt.Sprintf("h%d-%d.example", g, i)
				if err := s.Allow(host); err != nil {
					t.Errorf("Allow: %v", err)
				}
				conn, err := net.Dial("tcp", s.HTTPAddr())
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				conn.SetDeadline(testDeadline())
				fmt.Fprintf(conn, "CONNECT %s:443 HTTP/1.1\r\nHost: x\r\n\r\n", host)
				status := make([]byte, len("HTTP/1.1 200"))
				if _, err := io.ReadFull(conn, status); err != nil || string(status) != "HTTP/1.1 200" {
					t.Errorf("%s after Allow: got %q, %v; want status 200", host, status, err)
				}
				conn.Close()
			}
		})
	}
	adding.Wait()
	close(stop)
	requests.Wait()
}

func TestAllowGroup(t *testing.T) {
	t.Parallel()
	config := networkproxy.DefaultConfig()
	config.Policy.DeniedDomains = []string{"denied.example"}
	c := &counting{answer: networkproxy.Deny("not yet").ForGroup()}
	l := start(t, config, withDecider(c.decide))
	for _, host := range []string{"a.example", "b.example", "own.example", "denied.example"} {
		l.mapHost(host, 443, testnet.Echo(t).Addr())
	}
	open := l.open(networkproxy.SessionConfig{Group: "talk", AllowedDomains: []string{"own.example"}})
	other, alone := l.member("other", ""), l.command("")
	if got := connectReason(t, open, "a.example:443"); got != "not yet" {
		t.Fatalf("before AllowGroup: got the reason %q, want that of the decider", got)
	}
	for range 2 {
		if err := errors.Join(l.AllowGroup("talk", "a.example", "denied.example"), l.AllowGroup("talk")); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.AllowGroup("talk", "b.example"), l.AllowGroup("before", "a.example")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		session *networkproxy.Session
		host    string
		want    networkproxy.Reason
	}{
		{"open session", open, "a.example", ""}, // the denial for the group is remembered
		{"open session, second call", open, "b.example", ""},
		{"open session, its own entry", open, "own.example", ""},
		{"later session", l.member("talk", ""), "a.example", ""},
		{"later session, second call", l.member("talk", ""), "b.example", ""},
		{"group that began with AllowGroup", l.member("before", ""), "a.example", ""},
		{"denylist", open, "denied.example", networkproxy.ReasonDenied},
		{"other group", other, "a.example", "not yet"},
		{"no group", alone, "a.example", "not yet"},
	} {
		if got := connectReason(t, test.session, test.host+":443"); got != test.want {
			t.Errorf("%s: got the reason %q, want %q", test.name, got, test.want)
		}
	}

	open.Close()
	if got := connectReason(t, l.member("talk", ""), "a.example:443"); got != "" {
		t.Errorf("a session after the others: got the reason %q, want none", got)
	}
	if err := l.CloseGroup("talk"); err != nil {
		t.Fatal(err)
	}
	if got := connectReason(t, l.member("talk", ""), "a.example:443"); got != "not yet" {
		t.Errorf("after CloseGroup: got the reason %q, want that of the decider", got)
	}
}

// TestAllowGroupWithoutSessions checks that a group keeps its entries while no session
// of it is open.
func TestAllowGroupWithoutSessions(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	l.mapHost("a.example", 443, testnet.Echo(t).Addr())
	if err := l.AllowGroup("talk", "a.example"); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		s := l.member("talk", "")
		if got := connectReason(t, s, "a.example:443"); got != "" {
			t.Errorf("session %d: got the reason %q, want none", i, got)
		}
		s.Close()
	}
}

func TestAllowGroupErrors(t *testing.T) {
	t.Parallel()
	limits := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = [\"**.corp.example\"]\n")
	f := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = []\n")
	l := startFile(t, func(b *networkproxy.Builder) { b.Requirements(limits.path) }, f.path)
	for _, host := range []string{"a.corp.example", "b.corp.example"} {
		l.mapHost(host, 443, testnet.Echo(t).Addr())
	}
	s := l.member("talk", "")
	var limit *networkproxy.LimitError
	if err := l.AllowGroup("talk", "a.corp.example", "other.example"); !errors.As(err, &limit) {
		t.Errorf("outside the limits: got %v, want a *LimitError", err)
	}
	if err := l.AllowGroup("", "a.corp.example"); err == nil {
		t.Error("the empty name of a group: got no error")
	}
	if got := connectReason(t, s, "a.corp.example:443"); got == "" {
		t.Error("a call that failed has added an entry")
	}

	if err := l.AllowGroup("talk", "a.corp.example", "b.corp.example"); err != nil {
		t.Fatal(err)
	}
	tunnel := connectThrough(t, s.HTTPAddr(), "b.corp.example:443", "")
	limits.replace("[network_proxy.policy]\nallowed_domains = [\"a.corp.example\"]\n")
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "a tunnel outside the tightened limits", tunnel)
	if got := connectReason(t, l.member("talk", ""), "b.corp.example:443"); got != networkproxy.ReasonNotAllowed {
		t.Errorf("outside the tightened limits: got the reason %q, want %q", got, networkproxy.ReasonNotAllowed)
	}
	l.Close()
	if err := l.AllowGroup("talk", "a.corp.example"); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("after the end of the proxy: got %v, want %v", err, networkproxy.ErrClosed)
	}
}

// TestAllowGroupWhileSessionsOpen adds entries to a group while its sessions open
// and close. A session that is open when AllowGroup returns has the entry.
func TestAllowGroupWhileSessionsOpen(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	echo := testnet.Echo(t).Addr()
	const groups, entries = 3, 10
	for i := range entries {
		l.mapHost(fmt.Sprintf("h%d.example", i), 443, echo)
	}
	var wg sync.WaitGroup
	for g := range groups {
		name := fmt.Sprintf("g%d", g)
		allowed := make(chan int, entries)
		wg.Go(func() {
			defer close(allowed)
			for i := range entries {
				if err := l.AllowGroup(name, fmt.Sprintf("h%d.example", i)); err != nil {
					t.Error(err)
				}
				allowed <- i
			}
		})
		for range 2 {
			wg.Go(func() {
				for i := range allowed {
					s, err := l.OpenSession(context.Background(), networkproxy.SessionConfig{Group: name})
					if err != nil {
						t.Error(err)
						return
					}
					conn, err := net.Dial("tcp", s.HTTPAddr())
					if err != nil {
						t.Error(err)
						return
					}
					conn.SetDeadline(testDeadline())
					fmt.Fprintf(conn, "CONNECT h%d.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", i)
					status := make([]byte, len("HTTP/1.1 200"))
					if _, err := io.ReadFull(conn, status); err != nil || string(status) != "HTTP/1.1 200" {
						t.Errorf("group %s, entry %d: got %q, %v; want status 200", name, i, status, err)
					}
					conn.Close()
					s.Close()
				}
			})
		}
	}
	wg.Wait()
}
