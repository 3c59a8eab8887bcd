// Tests of faults outside of the proxy and in the host's functions. They fail only
// the requests that they affect, and leave no goroutine, descriptor or connection
// behind.

package networkproxy_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// faulty is a lab with one origin server for each kind of failure:
//
//	ok.example       responds
//	flood.example    sends without end, and signals stalled when nobody reads
//	deaf.example     does not read and sends nothing
//	silent.example   reads and never responds
//	reset.example    resets in the middle of a response
//	mute.example     reads, sends nothing, and closes after its peer
//	hole.example     never accepts a connection
//	lost.example     has a name server that does not answer
//	servfail.example has a name server that fails
type faulty struct {
	*lab
	stalled chan struct{}
	dialing chan struct{} // of hole.example
}

func newFaulty(t *testing.T, change func(*networkproxy.Builder)) *faulty {
	t.Helper()
	f := &faulty{stalled: make(chan struct{}, 8), dialing: make(chan struct{}, 8)}
	config := withSOCKS(allow("ok.example", "flood.example", "deaf.example", "silent.example", "reset.example", "mute.example",
		"hole.example", "lost.example", "servfail.example"))
	f.lab = start(t, config, func(b *networkproxy.Builder) {
		networkproxy.SetConnect(b, func(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
			if addr.Port() == holePort {
				f.dialing <- struct{}{}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return f.net.Connect(ctx, addr)
		})
		if change != nil {
			change(b)
		}
	})
	for _, o := range []struct {
		name  string
		port  uint16
		serve func(*net.TCPConn)
	}{
		{"ok.example", 80, answerAndClose},
		{"flood.example", 81, f.flood},
		{"deaf.example", 82, f.deaf},
		{"silent.example", 83, func(c *net.TCPConn) { io.Copy(io.Discard, c) }},
		{"reset.example", 84, resetMidway},
	} {
		f.serve(o.name, o.port, o.serve)
	}
	f.dns.Set("hole.example", addrs(publicAddr))
	f.dns.Set("lost.example", testnet.Silence())
	f.dns.Set("servfail.example", testnet.ServFail())
	return f
}

const holePort = 89

func answerAndClose(c *net.TCPConn) {
	readHeader(bufio.NewReader(c))
	io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

// flood sends until nobody reads.
func (f *faulty) flood(c *net.TCPConn) {
	io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	f.push(c)
	io.Copy(io.Discard, c)
}

// deaf does not read until the sender is blocked.
func (f *faulty) deaf(c *net.TCPConn) {
	wait(f.t, f.stalled, "the blocked sender")
	io.Copy(io.Discard, c)
}

// push writes until a write blocks.
func (f *faulty) push(c net.Conn) {
	block := make([]byte, 256<<10)
	stalled := 300 * time.Millisecond
	if testing.Short() {
		stalled /= 5
	}
	for {
		c.SetWriteDeadline(time.Now().Add(stalled))
		if _, err := c.Write(block); err != nil {
			f.stalled <- struct{}{}
			return
		}
	}
}

func resetMidway(c *net.TCPConn) {
	readHeader(bufio.NewReader(c))
	io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart")
	c.SetLinger(0)
}

// checkWorks checks that the proxy still serves requests.
func (f *faulty) checkWorks(t *testing.T) {
	t.Helper()
	w := f.dialHTTP(t)
	defer w.Close()
	w.get("http://ok.example/", "Connection: close")
	if a := w.readResponse("GET"); a.StatusCode != 200 || a.body != "ok" {
		t.Errorf("a request during or after the fault: got %s %q", a.Status, a.body)
	}
}

// socksTo requests a tunnel and returns the reply.
func (f *faulty) socksTo(t *testing.T, host string, port uint16) (*net.TCPConn, byte) {
	t.Helper()
	c := dialSOCKS(t, f.SOCKSAddr())
	code, _, err := socksRequest(c, socksConnect, socksDestName(host, port))
	if err != nil {
		t.Fatal(err)
	}
	return c, code
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(t *testing.T, f *faulty)
	}{
		{"a client that never reads a response", func(t *testing.T, f *faulty) {
			w := f.dialHTTP(t)
			defer w.Close()
			w.SetReadBuffer(4 << 10)
			w.get("http://flood.example:81/")
			wait(t, f.stalled, "the blocked origin server")
			f.checkWorks(t)
		}},
		{"a client that never reads a tunnel", func(t *testing.T, f *faulty) {
			w := f.connectRaw(t, "flood.example:81")
			defer w.Close()
			wait(t, f.stalled, "the blocked origin server")
			f.checkWorks(t)
		}},
		{"a client that never reads SOCKS5", func(t *testing.T, f *faulty) {
			c, _ := f.socksTo(t, "flood.example", 81)
			defer c.Close()
			wait(t, f.stalled, "the blocked origin server")
			f.checkWorks(t)
		}},
		{"an origin that never reads", func(t *testing.T, f *faulty) {
			w := f.dialHTTP(t)
			w.request("POST", "http://deaf.example:82/", "Content-Length: 100000000000")
			f.push(w) // the origin server reads again when this is blocked
			f.checkWorks(t)
			w.Close()
		}},
		{"an origin that never responds", func(t *testing.T, f *faulty) {
			w := f.dialHTTP(t)
			w.get("http://silent.example:83/")
			eventually(t, "the origin server has the request", func() bool { return f.LiveTargets() == 1 })
			f.checkWorks(t)
			w.Close()
		}},
		{"an origin that never responds to an upgrade", func(t *testing.T, f *faulty) {
			w := f.dialHTTP(t)
			w.get("http://silent.example:83/", "Connection: Upgrade", "Upgrade: x")
			eventually(t, "the origin server has the request", func() bool { return f.LiveTargets() == 1 })
			w.Close()
		}},
		{"an origin that resets in the middle of a response", func(t *testing.T, f *faulty) {
			w := f.dialHTTP(t)
			defer w.Close()
			w.get("http://reset.example:84/")
			a := w.readHeader("GET")
			if b, err := io.ReadAll(a.Body); err == nil {
				t.Errorf("a truncated response looks complete: %q", b)
			}
		}},
		{"a client that resets in the middle of a response", func(t *testing.T, f *faulty) {
			w := f.dialHTTP(t)
			w.get("http://flood.example:81/")
			w.readN(1000)
			w.SetLinger(0)
			w.Close()
			wait(t, f.stalled, "the origin server's failed write")
		}},
		{"a client that resets in the middle of its body", func(t *testing.T, f *faulty) {
			w := f.dialHTTP(t)
			w.request("POST", "http://silent.example:83/", "Content-Length: 1000")
			w.send("part")
			eventually(t, "the origin server has the request", func() bool { return f.LiveTargets() == 1 })
			w.SetLinger(0)
			w.Close()
		}},
		{"a tunnel that its origin resets", func(t *testing.T, f *faulty) {
			w := f.connectRaw(t, "reset.example:84")
			defer w.Close()
			w.send("x\r\n\r\n")
			w.readAll()
		}},
		{"a tunnel that its client resets", func(t *testing.T, f *faulty) {
			w := f.connectRaw(t, "silent.example:83")
			w.send("x")
			w.SetLinger(0)
			w.Close()
		}},
		{"a tunnel that its client half-closes", func(t *testing.T, f *faulty) {
			w := f.connectRaw(t, "silent.example:83") // closes after it has read to the end
			defer w.Close()
			w.CloseWrite()
			if rest := w.readAll(); rest != "" {
				t.Errorf("got %q", rest)
			}
		}},
		{"a tunnel that its origin half-closes", func(t *testing.T, f *faulty) {
			w := f.connectRaw(t, "ok.example:80")
			w.send("GET / HTTP/1.1\r\n\r\n")
			if rest := w.readAll(); !strings.HasSuffix(rest, "ok") {
				t.Errorf("got %q", rest)
			}
			w.Close()
		}},
		{"a half-closed tunnel whose session ends", func(t *testing.T, f *faulty) {
			s, err := f.OpenSession(t.Context(), networkproxy.SessionConfig{})
			if err != nil {
				t.Fatal(err)
			}
			w := dialRaw(t, s.HTTPAddr())
			defer w.Close()
			w.request("CONNECT", "flood.example:81")
			w.readHeader("CONNECT")
			w.CloseWrite()
			wait(t, f.stalled, "the blocked origin server")
			s.Close()
		}},
		{"a dial into a black hole", func(t *testing.T, f *faulty) {
			w, x, s := f.dialHTTP(t), f.dialHTTP(t), dialSOCKS(t, f.SOCKSAddr())
			w.get("http://hole.example:89/")
			x.request("CONNECT", "hole.example:89")
			s.Write(append([]byte{5, 1, 0, 5, 1, 0}, socksDestName("hole.example", holePort)...))
			for range 3 {
				wait(t, f.dialing, "the dials")
			}
			f.checkWorks(t)
			w.Close()
			x.Close()
			s.Close()
		}},
		{"a dial into a black hole whose session ends", func(t *testing.T, f *faulty) {
			s, err := f.OpenSession(t.Context(), networkproxy.SessionConfig{})
			if err != nil {
				t.Fatal(err)
			}
			w := dialRaw(t, s.HTTPAddr())
			defer w.Close()
			w.get("http://hole.example:89/")
			wait(t, f.dialing, "the dial")
			s.Close()
		}},
		{"a name server that does not answer", func(t *testing.T, f *faulty) {
			w, x, s := f.dialHTTP(t), f.dialHTTP(t), dialSOCKS(t, f.SOCKSAddr())
			w.get("http://lost.example/")
			x.request("CONNECT", "lost.example:443")
			s.Write(append([]byte{5, 1, 0, 5, 1, 0}, socksDestName("lost.example", 443)...))
			eventually(t, "three lookups", func() bool {
				n := 0
				for _, q := range f.dns.Queries() {
					if q == "lost.example" {
						n++
					}
				}
				return n == 3
			})
			f.checkWorks(t)
			w.Close()
			x.Close()
			s.Close()
		}},
		{"a name server that fails", func(t *testing.T, f *faulty) {
			for _, send := range []string{"GET http://servfail.example/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "CONNECT servfail.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"} {
				w := f.dialHTTP(t)
				w.send(send)
				if a := w.readHeader("GET"); a.StatusCode != http.StatusBadGateway {
					t.Errorf("%.10q: got %s, want %d", send, a.Status, http.StatusBadGateway)
				}
				w.Close()
			}
			c, code := f.socksTo(t, "servfail.example", 443)
			c.Close()
			if code != 4 {
				t.Errorf("SOCKS5: got the reply %d, want 4", code)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testnet.CheckLeaks(t)
			f := newFaulty(t, nil)
			f.checkWorks(t)
			testnet.CheckLeaksOf(t, func() { tt.fault(t, f) })
			eventually(t, "no connection is left", func() bool { return f.LiveClients()+f.LiveTargets() == 0 })
			f.checkWorks(t)
		})
	}
}

// panics is a resolver and a slog.Handler that panic.
type panics struct{}

func (panics) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	panic("resolver")
}
func (panics) Enabled(context.Context, slog.Level) bool  { return true }
func (panics) Handle(context.Context, slog.Record) error { panic("handler") }
func (p panics) WithAttrs([]slog.Attr) slog.Handler      { return p }
func (p panics) WithGroup(string) slog.Handler           { return p }

// panicsWhenAsked also panics in Enabled.
type panicsWhenAsked struct{ panics }

func (panicsWhenAsked) Enabled(context.Context, slog.Level) bool { panic("enabled") }
func (p panicsWhenAsked) WithAttrs([]slog.Attr) slog.Handler     { return p }
func (p panicsWhenAsked) WithGroup(string) slog.Handler          { return p }

// TestPanics checks that a panic in the host's code fails at most the request that
// it was called for.
func TestPanics(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*networkproxy.Builder)
		miss    networkproxy.Reason
		allowed int // status of an allowed request
		reply   byte
	}{
		{"decider", withDecider(func(context.Context, request) (decision, error) { panic("decider") }), networkproxy.ReasonDeciderFailed, 200, 0},
		{"observer", func(b *networkproxy.Builder) { b.OnBlocked(func(networkproxy.BlockedRequest) { panic("observer") }) }, networkproxy.ReasonNotAllowed, 200, 0},
		{"resolver", func(b *networkproxy.Builder) { b.Resolver(panics{}) }, networkproxy.ReasonNotAllowed, 502, 4},
		{"log handler", func(b *networkproxy.Builder) { b.Logger(slog.New(panics{})) }, networkproxy.ReasonNotAllowed, 200, 0},
		{"log handler that is asked", func(b *networkproxy.Builder) { b.Logger(slog.New(panicsWhenAsked{})) }, networkproxy.ReasonNotAllowed, 200, 0},
		{"everything", func(b *networkproxy.Builder) {
			b.Logger(slog.New(panics{})).Resolver(panics{}).OnBlocked(func(networkproxy.BlockedRequest) { panic("observer") })
			b.PolicyDecider(func(context.Context, request) (decision, error) { panic("decider") })
		}, networkproxy.ReasonDeciderFailed, 502, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testnet.CheckLeaks(t)
			f := newFaulty(t, tt.change)
			testnet.CheckLeaksOf(t, func() {
				s, err := f.OpenSession(t.Context(), networkproxy.SessionConfig{})
				if err != nil {
					t.Fatal(err)
				}
				for _, addr := range []string{f.HTTPAddr(), s.HTTPAddr()} {
					w := dialRaw(t, addr)
					w.get("http://miss.example/")
					if a := w.readResponse("GET"); a.StatusCode != 403 || a.refusal(t).Reason != string(tt.miss) {
						t.Errorf("an allowlist miss: got %s %s", a.Status, a.body)
					}
					w.get("http://ok.example/") // on the same connection
					if a := w.readResponse("GET"); a.StatusCode != tt.allowed {
						t.Errorf("an allowed request: got %s %s", a.Status, a.body)
					}
					w.send("END\r\n\r\n")
					if a := w.readResponse("GET"); a.StatusCode != 400 {
						t.Errorf("a malformed request: got %s", a.Status)
					}
					w.Close()
				}
				c, code := f.socksTo(t, "ok.example", 80)
				c.Close()
				if code != tt.reply {
					t.Errorf("SOCKS5: got the reply %d, want %d", code, tt.reply)
				}
				s.Close()
			})
			if n, m := f.LiveClients(), f.LiveTargets(); n+m != 0 {
				t.Errorf("%d client connections and %d connections to targets are left", n, m)
			}
			// Each panic was recovered where requests are still counted.
			if h := f.health(t); h.Allowed+h.Refused+h.Failed != 7 {
				t.Errorf("got the counters %+v after 7 requests", h)
			}
		})
	}
}

// TestPanicsInADial checks that a request whose dial panics leaves the set of open
// requests, whatever its protocol.
func TestPanicsInADial(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		request func(l *lab)
	}{
		{"forwarded", func(l *lab) {
			w := l.dialHTTP(l.t)
			w.get("http://ok.example/")
			w.readAll()
		}},
		{"upgrade", func(l *lab) {
			w := l.dialHTTP(l.t)
			w.get("http://ok.example/", "Connection: Upgrade", "Upgrade: websocket")
			w.readAll()
		}},
		{"CONNECT", func(l *lab) {
			w := l.dialHTTP(l.t)
			w.request("CONNECT", "ok.example:443")
			w.readAll()
		}},
		{"SOCKS5", func(l *lab) {
			c := l.dialSOCKS()
			c.Write(slices.Concat([]byte{5, 1, 0, 5, socksConnect, 0}, socksDestName("ok.example", 443)))
			io.Copy(io.Discard, c)
		}},
		{"UDP", func(l *lab) {
			u := l.associate()
			u.send(socksDestName("ok.example", 53), "ping")
			if err := checkClosed(u.control); err != nil {
				l.t.Error(err)
			}
		}},
		{"of the host", func(l *lab) {
			defer func() {
				if recover() == nil {
					l.t.Error("the dial of the host does not panic")
				}
			}()
			l.DialContext(networkproxy.Attribution{})(l.t.Context(), "tcp", "ok.example:443")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, withSOCKS(allow("ok.example")), func(b *networkproxy.Builder) {
				networkproxy.SetConnect(b, func(context.Context, netip.AddrPort) (*net.TCPConn, error) { panic("out of order") })
				networkproxy.SetConnectUDP(b, func(context.Context, netip.AddrPort) (*net.UDPConn, error) { panic("out of order") })
			})
			l.dns.Set("ok.example", addrs(publicAddr))
			test.request(l)
			eventually(t, "the request is over", func() bool { return l.LiveEntries() == 0 })
		})
	}
}

// TestSourcePanics checks that a panic of the configuration source fails the
// reload.
func TestSourcePanics(t *testing.T) {
	t.Parallel()
	s := newSource(allow("ok.example"))
	broken := false
	l := startSource(t, func(b *networkproxy.Builder) {
		b.ConfigSource(func(ctx context.Context) (networkproxy.Config, error) {
			if broken {
				panic("source")
			}
			return s.load(ctx)
		})
	}, nil)
	broken = true
	if err := l.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "panicked: source") {
		t.Errorf("Reload: got the error %v", err)
	}
	if v, err := l.ExplainURL(t.Context(), "http://ok.example/", "GET", false); err != nil || !v.Allowed {
		t.Errorf("got the cause %+v, %v", v, err)
	}
}

// fullDisk is a slog.Handler that cannot write.
type fullDisk struct{ slog.Handler }

func (fullDisk) Handle(context.Context, slog.Record) error { return syscall.ENOSPC }

// TestFullDisk checks that requests are served if the log cannot be written.
func TestFullDisk(t *testing.T) {
	testnet.CheckLeaks(t)
	f := newFaulty(t, func(b *networkproxy.Builder) {
		b.Logger(slog.New(fullDisk{slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug})}))
	})
	testnet.CheckLeaksOf(t, func() {
		f.checkWorks(t)
		w := f.dialHTTP(t)
		defer w.Close()
		w.get("http://miss.example/")
		if a := w.readResponse("GET"); a.StatusCode != 403 {
			t.Errorf("an allowlist miss: got %s", a.Status)
		}
	})
	if list := f.Blocked(); len(list) != 1 {
		t.Errorf("got the records %v", list)
	}
}
