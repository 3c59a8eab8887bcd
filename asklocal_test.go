// Tests of ask_local: the decider decides about loopback targets. The spellings of
// targets are in the tables of verdicts_test.go.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// askLocal returns a configuration with ask_local and an allowlist.
func askLocal(patterns ...string) networkproxy.Config {
	c := withSOCKS(allow(patterns...))
	c.Policy.AskLocal = true
	return c
}

// questions is a decider that gives one answer and collects its questions.
type questions struct {
	answer networkproxy.Decision

	mu    sync.Mutex
	asked []request
}

func (q *questions) decide(_ context.Context, r request) (decision, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asked = append(q.asked, r)
	return q.answer, nil
}

// reply changes the answer.
func (q *questions) reply(d networkproxy.Decision) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answer = d
}

// take returns the questions since the last call, as "host port local".
func (q *questions) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []string
	for _, r := range q.asked {
		list = append(list, fmt.Sprintln(r.Host, r.Port, r.Local))
	}
	q.asked = nil
	return list
}

// mapLocal makes addr lead to a TCP and a UDP server that echo.
func (l *lab) mapLocal(addr string) {
	from := netip.MustParseAddrPort(addr)
	l.net.Map(from, testnet.Echo(l.t).Addr())
	l.net.MapUDP(from, testnet.EchoUDP(l.t, "127.0.0.1"))
}

// Every way into the proxy asks about loopback, and the grant covers all of them.
func TestAskLocal(t *testing.T) {
	t.Parallel()
	served := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "served") }
	const target = "127.0.0.1:3000"
	send := map[string]func(t *testing.T, l *lab) error{
		"http": func(t *testing.T, l *lab) error {
			if got := l.get("http://" + target + "/"); got.status != 200 || got.body != "served" {
				return fmt.Errorf("got %d %s", got.status, got.body)
			}
			return nil
		},
		"connect": func(t *testing.T, l *lab) error { return getOver(l.connect(target)) },
		"session": func(t *testing.T, l *lab) error {
			got := doRequest(t, clientThrough(t, l.command("make").ProxyURL()), "GET", "http://"+target+"/", "")
			if got.status != 200 {
				return fmt.Errorf("got %d %s", got.status, got.body)
			}
			return nil
		},
		"socks5 tcp": func(t *testing.T, l *lab) error { return getOver(l.socksTunnel("127.0.0.1", 3000)) },
		"socks5 udp": func(t *testing.T, l *lab) error {
			u := l.associate()
			u.send(socksDest("127.0.0.1", 3000), "ping")
			u.expect("ping", target)
			return nil
		},
		"transport": func(t *testing.T, l *lab) error {
			resp, err := l.inProcess(networkproxy.Attribution{}, nil).Get("http://" + target + "/")
			if err == nil {
				resp.Body.Close()
			}
			return err
		},
		"dial": func(t *testing.T, l *lab) error {
			conn, err := l.DialContext(networkproxy.Attribution{})(t.Context(), "tcp", target)
			if err != nil {
				return err
			}
			defer conn.Close()
			return getOver(conn)
		},
	}
	for name, f := range send {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := &questions{answer: networkproxy.Allow()}
			l := start(t, askLocal("*"), withDecider(q.decide))
			l.mapLocal(target)
			origin := httptest.NewServer(http.HandlerFunc(served))
			t.Cleanup(origin.Close)
			l.net.Map(netip.MustParseAddrPort(target), origin.Listener.Addr())
			if err := f(t, l); err != nil {
				t.Error(err)
			}
			if got, want := q.take(), []string{"127.0.0.1 3000 true\n"}; !slices.Equal(got, want) {
				t.Errorf("the decider was asked %q, want %q", got, want)
			}
			if x, err := l.ExplainURL(t.Context(), target, "", true); err != nil || x.Allowed || !x.Decider || !x.Request.Local {
				t.Errorf("explained as %+v, %v", x, err)
			}
			if got := l.dns.Queries(); len(got) != 0 {
				t.Errorf("looked up %q", got)
			}
		})
	}
}

// getOver makes a GET request on a connection to the origin server.
func getOver(conn net.Conn) error {
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	b, err := io.ReadAll(conn)
	if !strings.HasSuffix(string(b), "served") {
		return fmt.Errorf("got %q, %v", b, err)
	}
	return nil
}

// Without a decider, and with one that refuses, loopback stays out of reach.
func TestAskLocalRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*networkproxy.Builder)
		want   networkproxy.Reason
	}{
		{"no decider", nil, networkproxy.ReasonNotAllowedLocal},
		{"the observer is no decider", func(b *networkproxy.Builder) { b.Observe() }, networkproxy.ReasonNotAllowedLocal},
		{"the decider denies", withDecider((&questions{answer: networkproxy.Deny("no servers")}).decide), "no servers"},
		{"the decider denies while observing", func(b *networkproxy.Builder) {
			b.Observe().PolicyDecider((&questions{answer: networkproxy.Deny("no servers")}).decide)
		}, "no servers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, askLocal("*"), test.change)
			for _, host := range []string{"127.0.0.1", "localhost", "a.localhost", "::1"} {
				for _, got := range []networkproxy.Reason{l.verdictTCP(t, socksDest(host, 3000)), l.verdictUDP(t, socksDest(host, 3000))} {
					if got != test.want {
						t.Errorf("%s: got the reason %q, want %q", host, got, test.want)
					}
				}
			}
			if got := l.net.Dialed(); len(got) != 0 {
				t.Errorf("connected to %v", got)
			}
			if got := l.Suggest(); len(got) != 0 {
				t.Errorf("suggested %q", got)
			}
		})
	}
}

// A grant covers the host and port that it was given for, and with AnyPort every
// port but those of the proxy, including a session's that was opened afterwards.
func TestAskLocalGrants(t *testing.T) {
	t.Parallel()
	for _, anyPort := range []bool{false, true} {
		t.Run(fmt.Sprintf("any port %t", anyPort), func(t *testing.T) {
			t.Parallel()
			q := &questions{answer: networkproxy.Allow().ForSession()}
			if anyPort {
				q.answer = q.answer.AnyPort()
			}
			l := start(t, askLocal(), withDecider(q.decide))
			l.mapLocal("127.0.0.1:3000")
			if err := echoes(l.connect("127.0.0.1:3000")); err != nil {
				t.Fatal(err)
			}
			q.take()
			q.reply(networkproxy.Deny("another"))
			for _, test := range []struct {
				target  string
				covered bool
			}{
				{"127.0.0.1:3000", true},
				{"[::ffff:127.0.0.1]:3000", true},
				{"127.0.0.1:3001", anyPort},
				{"127.0.0.2:3000", false},
				{"localhost:3000", false},
				{"[::1]:3000", false},
			} {
				l.tryConnect(test.target)
				if asked := q.take(); (len(asked) == 0) != test.covered {
					t.Errorf("%s: the decider was asked %q, want covered %t", test.target, asked, test.covered)
				}
			}
			session := l.command("make")
			before := len(l.net.Dialed())
			for _, addr := range []string{l.HTTPAddr(), l.AdminAddr(), l.SOCKSAddr(), session.HTTPAddr(), session.SOCKSAddr()} {
				for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"} {
					target := fmt.Sprintf("%s:%d", host, netip.MustParseAddrPort(addr).Port())
					if status, _ := l.tryConnect(target); status != 403 {
						t.Errorf("%s, which is the proxy: got %d", target, status)
					}
					if x := l.reason("https://" + target + "/"); x != networkproxy.ReasonNotAllowedLocal {
						t.Errorf("%s, which is the proxy: explained as %q", target, x)
					}
				}
			}
			if asked, dialed := q.take(), l.net.Dialed()[before:]; len(asked) != 0 || len(dialed) != 0 {
				t.Errorf("about the proxy itself, the decider was asked %q, and connections went to %v", asked, dialed)
			}
		})
	}
}

// A grant for a name opens no loopback address, whether the name resolves to it or
// its server redirects to it.
func TestAskLocalNamesAndRedirects(t *testing.T) {
	t.Parallel()
	q := &questions{answer: networkproxy.Allow().ForSession().AnyPort().Subdomains()}
	l := start(t, askLocal(), withDecider(q.decide))
	l.mapLocal("127.0.0.1:80")
	l.origin("site.example", 80, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1/", http.StatusFound)
	})
	client := l.inProcess(networkproxy.Attribution{}, nil)
	client.CheckRedirect = func(*http.Request, []*http.Request) error {
		q.reply(networkproxy.Deny("not here"))
		return nil
	}
	_, err := client.Get("http://site.example/")
	var refusal *networkproxy.RefusedError
	if !errors.As(err, &refusal) || refusal.Host != "127.0.0.1" || refusal.Verdict.Reason != "not here" {
		t.Errorf("after the redirect: got the error %v", err)
	}
	if got, want := q.take(), []string{"site.example 80 false\n", "127.0.0.1 80 true\n"}; !slices.Equal(got, want) {
		t.Errorf("the decider was asked %q, want %q", got, want)
	}

	// The name now resolves to loopback.
	q.reply(networkproxy.Allow().ForSession())
	for name, addr := range map[string]string{"re.example": "127.0.0.1", "bind.example": "::1", "ing.example": "::ffff:127.0.0.1"} {
		l.dns.Set(name, testnet.Addrs(addr))
		if got := l.get("http://" + name + "/"); got.status != 403 || !strings.Contains(got.body, string(networkproxy.ReasonNotAllowedLocal)) {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
	}
	for _, asked := range q.take() {
		if !strings.HasSuffix(asked, " 80 false\n") {
			t.Errorf("the decider was asked %q", asked)
		}
	}
	for _, dialed := range l.net.Dialed() {
		if dialed.Addr() != netip.MustParseAddr(publicAddr) {
			t.Errorf("connected to %s", dialed)
		}
	}
}

// A change that takes the permission away ends every open connection to loopback
// that the decider allowed.
func TestAskLocalIsCutBack(t *testing.T) {
	t.Parallel()
	const config = "enabled = true\nenable_socks5 = true\nenable_socks5_udp = true\npolicy.ask_local = true\n"
	for _, test := range []struct {
		name   string
		change func(t *testing.T, l *managedLab)
	}{
		{"a reload turns it off", func(t *testing.T, l *managedLab) {
			l.write(t, l.config, strings.Replace(config, "policy.ask_local = true", "policy.ask_local = false", 1))
		}},
		{"the limits forbid it", func(t *testing.T, l *managedLab) { l.write(t, l.limits, "policy.ask_local = false\n") }},
		{"the limits do not list the target", func(t *testing.T, l *managedLab) {
			l.write(t, l.limits, "policy.allowed_domains = [\"*\", \"localhost\", \"127.0.0.1:3001\"]\n")
		}},
		{"a reload denies the target", func(t *testing.T, l *managedLab) {
			l.write(t, l.config, config+"policy.denied_domains = [\"127.0.0.0/8\"]\n")
		}},
		{"the proxy is turned off", func(t *testing.T, l *managedLab) {
			l.write(t, l.config, strings.Replace(config, "enabled = true", "enabled = false", 1))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q := &questions{answer: networkproxy.Allow().ForSession()}
			l := startManaged(t, config, "", withDecider(q.decide))
			l.mapLocal("127.0.0.1:3000")
			u := l.associate()
			u.send(socksDest("127.0.0.1", 3000), "ping")
			u.expect("ping", "127.0.0.1:3000")
			direct, err := l.DialContext(networkproxy.Attribution{})(t.Context(), "tcp", "127.0.0.1:3000")
			if err != nil {
				t.Fatal(err)
			}
			defer direct.Close()
			open := map[string]net.Conn{"CONNECT": l.connect("127.0.0.1:3000"), "SOCKS5": l.socksTunnel("127.0.0.1", 3000), "DialContext": direct}
			for name, conn := range open {
				if err := echoes(conn); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			if got := l.LiveTargets(); got != 4 {
				t.Fatalf("%d targets are connected, want 4", got)
			}
			q.take()

			test.change(t, l)
			// A configuration that exceeds the limits makes Reload return an error.
			if err := l.Reload(t.Context()); err != nil && !strings.HasPrefix(test.name, "the limits") {
				t.Fatal(err)
			}
			for name, conn := range open {
				if !isCut(conn) {
					t.Errorf("%s: still open", name)
				}
			}
			eventually(t, "no target is connected", func() bool { return l.LiveTargets() == 0 })
			if status, _ := l.tryConnect("127.0.0.1:3000"); status < 400 {
				t.Errorf("a new request: got %d", status)
			}
			if asked := q.take(); len(asked) != 0 {
				t.Errorf("the decider was asked %q", asked)
			}
		})
	}
}

// An answer that arrives after ask_local was turned off opens nothing.
func TestAskLocalEndsWhileTheDeciderThinks(t *testing.T) {
	t.Parallel()
	src := newSource(askLocal())
	asked, answer := make(chan struct{}), make(chan struct{})
	l := startSource(t, src.builder, withDecider(func(context.Context, request) (decision, error) {
		close(asked)
		<-answer
		return networkproxy.Allow().ForSession(), nil
	}))
	l.mapLocal("127.0.0.1:3000")
	status := make(chan int, 1)
	go func() {
		got, _ := l.tryConnect("127.0.0.1:3000")
		status <- got
	}()
	wait(t, asked, "the question")
	src.set(func(c *networkproxy.Config) { c.Policy.AskLocal = false })
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(answer)
	if got := wait(t, status, "the response"); got != 403 {
		t.Errorf("got %d, want 403", got)
	}
	if b := l.Blocked(); len(b) != 1 || b[0].Reason != networkproxy.ReasonNotAllowedLocal {
		t.Errorf("got the records %+v", b)
	}
	if got := l.net.Dialed(); len(got) != 0 {
		t.Errorf("connected to %v", got)
	}
}

// With ask_local, clients send requests for loopback to the proxy.
func TestAskLocalEnviron(t *testing.T) {
	t.Parallel()
	config := askLocal()
	config.Policy.AllowLocalBinding = true
	src := newSource(config)
	l := startSource(t, src.builder, nil)
	session := l.command("make")
	for _, test := range []struct {
		ask  bool
		want string
	}{{true, "NO_PROXY="}, {false, "NO_PROXY=localhost,127.0.0.1,::1"}, {true, "NO_PROXY="}} {
		src.set(func(c *networkproxy.Config) { c.Policy.AskLocal = test.ask })
		if err := l.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, env := range map[string][]string{"session": session.Environ(nil), "handle": l.Environ(nil)} {
			if !slices.Contains(env, test.want) {
				t.Errorf("%s, ask_local = %t: no %s in the environment %q", name, test.ask, test.want, env)
			}
		}
	}
}

// A managed limit refuses the key at the start and names both places.
func TestAskLocalLimit(t *testing.T) {
	t.Parallel()
	dir := newConfigFile(t, "policy.ask_local = true\n")
	limits := newConfigFile(t, "policy.ask_local = false\n")
	_, err := networkproxy.NewBuilder().ConfigFile(dir.path).Requirements(limits.path).Build()
	want := dir.path + ":3:20: network_proxy.policy.ask_local = true: exceeds a managed limit: must be false (" + limits.path + ":3:20)"
	if err == nil || err.Error() != want {
		t.Errorf("got the error %v, want %s", err, want)
	}
}
