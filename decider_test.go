// Tests of the decider: when it is called, what it gets, and that its failures
// affect only the request in question.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

type (
	request  = networkproxy.PolicyRequest
	decision = networkproxy.Decision
)

func withDecider(d networkproxy.PolicyDecider) func(*networkproxy.Builder) {
	return func(b *networkproxy.Builder) { b.PolicyDecider(d) }
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		decide   func(ctx context.Context) (decision, error)
		status   int
		reason   networkproxy.Reason
		decision string
	}{
		{"the zero decision", func(context.Context) (decision, error) { return decision{}, nil }, 403, "policy_denied", "deny"},
		{"allow", func(context.Context) (decision, error) { return networkproxy.Allow(), nil }, 200, "", ""},
		{"deny", func(context.Context) (decision, error) { return networkproxy.Deny("no uploads today"), nil }, 403, "no uploads today", "deny"},
		{"deny without a word", func(context.Context) (decision, error) { return networkproxy.Deny(""), nil }, 403, "policy_denied", "deny"},
		{"deny of blanks", func(context.Context) (decision, error) { return networkproxy.Deny(" \t\r\n "), nil }, 403, "policy_denied", "deny"},
		{"ask", func(context.Context) (decision, error) { return networkproxy.Ask("first time"), nil }, 403, "first time", "ask"},
		{"ask without a word", func(context.Context) (decision, error) { return networkproxy.Ask(""), nil }, 403, "policy_denied", "ask"},
		{"a header in the reason", func(context.Context) (decision, error) {
			return networkproxy.Deny("x\r\nx-proxy-error: none\r\n\r\n<b>"), nil
		}, 403, "xx-proxy-error: none<b>", "deny"},
		{"a terminal in the reason", func(context.Context) (decision, error) { return networkproxy.Deny("\x1b[2J\u009b2Jred\x00"), nil }, 403, "[2J2Jred", "deny"},
		{"bytes in the reason", func(context.Context) (decision, error) { return networkproxy.Deny("a\xff\xfeb é"), nil }, 403, "ab é", "deny"},
		{"a long reason", func(context.Context) (decision, error) { return networkproxy.Deny(strings.Repeat("é", 1000)), nil }, 403,
			networkproxy.Reason(strings.Repeat("é", 100)), "deny"},
		{"a reason of the built-in ones", func(context.Context) (decision, error) { return networkproxy.Deny("denied"), nil }, 403, "denied", "deny"},
		{"an error", func(context.Context) (decision, error) { return decision{}, errors.New("secret trouble") }, 403, "decider_failed", "deny"},
		{"allow and an error", func(context.Context) (decision, error) { return networkproxy.Allow(), errors.New("trouble") }, 403, "decider_failed", "deny"},
		{"ask and an error", func(context.Context) (decision, error) { return networkproxy.Ask("x"), errors.New("trouble") }, 403, "decider_failed", "deny"},
		{"a panic", func(context.Context) (decision, error) { panic("secret trouble") }, 403, "decider_failed", "deny"},
		{"a panic of nil", func(context.Context) (decision, error) { panic(nil) }, 403, "decider_failed", "deny"},
		{"Goexit", func(context.Context) (decision, error) { runtime.Goexit(); return networkproxy.Allow(), nil }, 403, "decider_failed", "deny"},
		{"too late", func(ctx context.Context) (decision, error) { <-ctx.Done(); return networkproxy.Allow(), nil }, 403, "decider_timeout", "deny"},
		{"too late, with an error", func(ctx context.Context) (decision, error) { <-ctx.Done(); return decision{}, ctx.Err() }, 403, "decider_timeout", "deny"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("listed.example"), func(b *networkproxy.Builder) {
				b.PolicyDecider(func(ctx context.Context, _ request) (decision, error) { return tt.decide(ctx) })
				if strings.HasPrefix(tt.name, "too late") {
					b.DeciderTimeout(20 * time.Millisecond)
				}
			})
			origin := l.origin("asked.example", 80, func(http.ResponseWriter, *http.Request) {})
			l.mapHost("listed.example", 80, origin.Listener.Addr())

			w := l.dialHTTP(t)
			w.get("http://asked.example/")
			a := w.readResponse("GET")
			if a.StatusCode != tt.status {
				t.Fatalf("got %s %s", a.Status, a.body)
			}
			if tt.status == 403 {
				f := a.refusal(t)
				if f.Reason != string(tt.reason) || f.Decision != tt.decision || f.Source != "decider" || f.Rule != "" {
					t.Errorf("got %+v", f)
				}
				if got := a.Header.Get("x-proxy-error"); got != "blocked-by-policy" {
					t.Errorf("x-proxy-error: %q", got)
				}
				if strings.Contains(a.body, "secret") {
					t.Errorf("the response contains the host's error: got %s", a.body)
				}
				if b := l.Blocked(); len(b) != 1 || b[0].Reason != tt.reason || string(b[0].Decision) != tt.decision || b[0].Source != networkproxy.SourceDecider {
					t.Errorf("got the record %+v", b)
				}
			}
			// Only this request failed.
			w.get("http://listed.example/")
			if a := w.readResponse("GET"); a.StatusCode != 200 {
				t.Errorf("the next request: got %s, want 200", a.Status)
			}
		})
	}
}

// TestDeciderIsAskedAboutMissesOnly checks that the decider is called for allowlist
// misses only.
func TestDeciderIsAskedAboutMissesOnly(t *testing.T) {
	t.Parallel()
	config := allow("listed.example", "private.example")
	config.Policy.DeniedDomains = []string{"denied.example", "45.33.0.0/16"}
	var asked atomic.Int64
	l := start(t, config, withDecider(func(context.Context, request) (decision, error) {
		asked.Add(1)
		return networkproxy.Allow(), nil
	}))
	l.dns.Set("private.example", addrs("10.0.0.1"))
	l.dns.Set("miss-private.example", addrs("10.0.0.1"))
	l.dns.Set("miss-denied.example", addrs("45.33.1.1"))
	l.dns.Set("miss-self.example", addrs("127.0.0.1"))
	_, adminPort, _ := net.SplitHostPort(l.AdminAddr())
	for _, tt := range []struct {
		name, method, target string
		mode                 networkproxy.Mode
		asked                int64
		want                 networkproxy.Reason
	}{
		{"denied", "CONNECT", "denied.example:443", "full", 0, networkproxy.ReasonDenied},
		{"denied address", "CONNECT", "45.33.1.1:443", "full", 0, networkproxy.ReasonDenied},
		{"local", "CONNECT", "10.0.0.1:443", "full", 0, networkproxy.ReasonNotAllowedLocal},
		{"localhost", "CONNECT", "localhost:443", "full", 0, networkproxy.ReasonNotAllowedLocal},
		{"the proxy", "CONNECT", "127.0.0.1:" + adminPort, "full", 0, networkproxy.ReasonNotAllowedLocal},
		{"listed, and local by DNS", "CONNECT", "private.example:443", "full", 0, networkproxy.ReasonNotAllowedLocal},
		{"the mode forbids CONNECT", "CONNECT", "miss.example:443", "limited", 0, networkproxy.ReasonMethodNotAllowed},
		{"the mode forbids POST", "POST", "http://miss.example/", "limited", 0, networkproxy.ReasonMethodNotAllowed},
		// An allow overrides the allowlist miss only.
		{"allowed, and local by DNS", "CONNECT", "miss-private.example:443", "full", 1, networkproxy.ReasonNotAllowedLocal},
		{"allowed, and denied by DNS", "CONNECT", "miss-denied.example:443", "full", 1, networkproxy.ReasonDenied},
		{"allowed, and the proxy by DNS", "CONNECT", "miss-self.example:" + adminPort, "full", 1, networkproxy.ReasonNotAllowedLocal},
	} {
		asked.Store(0)
		if err := l.SetMode(tt.mode); err != nil {
			t.Fatal(err)
		}
		w := l.dialHTTP(t)
		w.request(tt.method, tt.target, "Content-Length: 0")
		a := w.readHeader("GET")
		list := l.Blocked()
		if b := list[len(list)-1]; a.StatusCode != 403 || b.Reason != tt.want || asked.Load() != tt.asked {
			t.Errorf("%s: got %s, reason %q and %d calls; want reason %q and %d calls", tt.name, a.Status, b.Reason, asked.Load(), tt.want, tt.asked)
		}
	}
}

// TestDeciderRequest compares every field of the decider's request.
func TestDeciderRequest(t *testing.T) {
	t.Parallel()
	requests := make(chan request, 1)
	l := start(t, allow(), withDecider(func(_ context.Context, r request) (decision, error) {
		requests <- r
		return decision{}, nil
	}))
	for _, tt := range []struct {
		method, target string
		want           request
	}{
		{"PUT", "http://BÜCHER.example.:8080/secret?token", request{Protocol: "http", Host: "xn--bcher-kva.example", Port: 8080, Method: "PUT"}},
		{"GET", "http://Miss.Example/", request{Protocol: "http", Host: "miss.example", Port: 80, Method: "GET"}},
		{"CONNECT", "MISS.example.:443", request{Protocol: "https_connect", Host: "miss.example", Port: 443, Method: "CONNECT"}},
		{"CONNECT", "[2606:4700:0:0::1]:443", request{Protocol: "https_connect", Host: "2606:4700::1", Port: 443, Method: "CONNECT"}},
		{"CONNECT", "[::ffff:1.1.1.1]:443", request{Protocol: "https_connect", Host: "1.1.1.1", Port: 443, Method: "CONNECT"}},
	} {
		w := l.dialHTTP(t)
		w.send(tt.method + " " + tt.target + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		got := wait(t, requests, "the question")
		if got.Client.String() != w.LocalAddr().String() {
			t.Errorf("got the client %v, want %v", got.Client, w.LocalAddr())
		}
		got.Client = tt.want.Client
		if got.Labels != nil {
			t.Errorf("got the labels %v", got.Labels)
		}
		if got.Protocol != tt.want.Protocol || got.Host != tt.want.Host || got.Port != tt.want.Port || got.Method != tt.want.Method || got.Command != "" || got.ExecPolicyHint != "" {
			t.Errorf("%s %s: got %+v, want %+v", tt.method, tt.target, got, tt.want)
		}
	}
}

// TestDenyWhileTheDeciderThinks checks that a policy change before the decider's
// answer overrides it.
func TestDenyWhileTheDeciderThinks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(l *lab, s *source) error
		want   networkproxy.Reason
	}{
		{"a run-time deny", func(l *lab, _ *source) error { return l.DenyDomain("miss.example") }, networkproxy.ReasonDenied},
		{"a reload", func(l *lab, s *source) error {
			s.set(func(c *networkproxy.Config) { c.Policy.DeniedDomains = []string{"*.example"} })
			return l.Reload(context.Background())
		}, networkproxy.ReasonDenied},
		{"a deny of the address", func(l *lab, _ *source) error { return l.DenyDomain(publicAddr + "/32") }, networkproxy.ReasonDenied},
		{"the limited mode", func(l *lab, _ *source) error { return l.SetMode(networkproxy.ModeLimited) }, networkproxy.ReasonMethodNotAllowed},
		{"turned off", func(l *lab, s *source) error {
			s.set(func(c *networkproxy.Config) { c.Enabled = false })
			return l.Reload(context.Background())
		}, networkproxy.ReasonProxyDisabled},
		{"nothing", func(*lab, *source) error { return nil }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			thinking, answer := make(chan struct{}), make(chan struct{})
			s := newSource(allow())
			l := startSource(t, s.builder, withDecider(func(context.Context, request) (decision, error) {
				close(thinking)
				<-answer
				return networkproxy.Allow(), nil
			}))
			l.mapHost("miss.example", 443, testnet.Echo(t).Addr())
			w := l.dialHTTP(t)
			w.request("CONNECT", "miss.example:443")
			wait(t, thinking, "the question")
			if err := tt.change(l, s); err != nil {
				t.Error(err)
			}
			close(answer)
			a := w.readHeader("CONNECT")
			var got networkproxy.Reason
			if list := l.Blocked(); len(list) > 0 {
				got = list[0].Reason
			}
			if got != tt.want || (a.StatusCode == 200) != (tt.want == "") {
				t.Errorf("%s %q, want %q", a.Status, got, tt.want)
			}
		})
	}
}

// TestDeciderConcurrency checks that concurrent questions do not wait for each
// other, even if the decider hangs for one.
func TestDeciderConcurrency(t *testing.T) {
	t.Parallel()
	const n = 20
	var together sync.WaitGroup
	together.Add(n)
	l := start(t, allow(), withDecider(func(ctx context.Context, r request) (decision, error) {
		if r.Host == "hangs.example" {
			<-ctx.Done()
			return decision{}, ctx.Err()
		}
		together.Done()
		together.Wait() // until all are called
		return networkproxy.Deny(r.Host), nil
	}))
	hanging := l.dialHTTP(t)
	hanging.get("http://hangs.example/")
	var wires []*rawConn
	for i := range n { // different targets, because identical questions are asked once
		w := l.dialHTTP(t)
		w.get(fmt.Sprintf("http://miss%d.example/", i))
		wires = append(wires, w)
	}
	for i, w := range wires {
		if f := w.readResponse("GET").refusal(t); string(f.Reason) != fmt.Sprintf("miss%d.example", i) {
			t.Errorf("got %+v", f)
		}
	}
	hanging.Close()
}

// TestDeciderContextEnds checks that the decider's context ends with the client
// and with the proxy.
func TestDeciderContextEnds(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"the client leaves", "Close", "Shutdown"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			asked, ended := make(chan struct{}), make(chan struct{})
			l := start(t, allow(), withDecider(func(ctx context.Context, _ request) (decision, error) {
				close(asked)
				<-ctx.Done()
				close(ended)
				return networkproxy.Allow(), nil // too late
			}))
			w := l.dialHTTP(t)
			w.request("CONNECT", "miss.example:443")
			wait(t, asked, "the question")
			switch how {
			case "Close":
				l.Close()
			case "Shutdown":
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				l.Shutdown(ctx)
			default:
				w.Close()
			}
			wait(t, ended, "the end of the decider's context")
			eventually(t, "the refusal is recorded", func() bool { return len(l.Blocked()) == 1 })
			if b := l.Blocked()[0]; b.Reason != networkproxy.ReasonCanceled {
				t.Errorf("got the record %+v", b)
			}
			if len(l.dns.Queries()) > 0 {
				t.Errorf("looked up %q, want nothing", l.dns.Queries())
			}
		})
	}
}

// TestDeciderThatIgnoresItsContext checks that its request is refused at the
// deadline, and that the end of the proxy does not wait for it.
func TestDeciderThatIgnoresItsContext(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.DeciderTimeout(20 * time.Millisecond).PolicyDecider(func(context.Context, request) (decision, error) {
			<-release
			return networkproxy.Allow(), nil
		})
	})
	w := l.dialHTTP(t)
	w.get("http://miss.example/")
	if f := w.readResponse("GET").refusal(t); f.Reason != "decider_timeout" {
		t.Errorf("got %+v", f)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.Shutdown(ctx) }()
	wait(t, ended, "the end of Shutdown")
	l.waitLogged(t, "left behind")
}

func TestDeciderTimeoutZeroIsNoLimit(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.DeciderTimeout(0).PolicyDecider(func(ctx context.Context, _ request) (decision, error) {
			if until, limited := ctx.Deadline(); limited {
				return networkproxy.Deny("the deadline is " + until.String()), nil
			}
			return networkproxy.Allow(), nil
		})
	})
	l.origin("miss.example", 80, func(http.ResponseWriter, *http.Request) {})
	if a := l.get("http://miss.example/"); a.status != 200 {
		t.Errorf("got %v, want 200", a)
	}
}

func TestDecisionString(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		d    decision
		want string
	}{
		{networkproxy.Allow(), "allow"},
		{networkproxy.Ask("why"), "ask(why)"},
		{networkproxy.Deny("no"), "deny(no)"},
		{decision{}, "deny()"},
	} {
		if got := tt.d.String(); got != tt.want {
			t.Errorf("String: got %q, want %q", got, tt.want)
		}
	}
}
