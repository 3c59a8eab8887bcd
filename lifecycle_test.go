// Tests of the life of a proxy: when its listeners are bound, and that nothing is
// left after its end.

package networkproxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// enabled returns a configuration that is enabled.
func enabled() networkproxy.Config {
	c := networkproxy.DefaultConfig()
	c.Enabled = true
	return c
}

// buildProxy builds a proxy on free ports, unless change sets others.
func buildProxy(t testing.TB, change func(*networkproxy.Builder)) *networkproxy.NetworkProxy {
	t.Helper()
	b := networkproxy.NewBuilder().Config(enabled())
	if change == nil {
		b.HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0")
	} else {
		change(b)
	}
	p, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// runProxy runs a proxy until the end of the test.
func runProxy(t testing.TB, p *networkproxy.NetworkProxy) *networkproxy.Handle {
	t.Helper()
	h, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// listenUnused listens on a loopback address of its own, where the port stays closed
// after the listener was closed.
func listenUnused(t testing.TB) net.Listener {
	t.Helper()
	return listen(t, net.JoinHostPort(testnet.UnusedLoopback(), "0"))
}

func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// isBound reports whether a listener accepts connections on addr.
func isBound(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"proxy_url", "admin_url"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			taken, handed := listen(t, "127.0.0.1:0"), listenUnused(t)
			p := buildProxy(t, func(b *networkproxy.Builder) {
				if key == "proxy_url" {
					b.HTTPAddr(taken.Addr().String()).AdminListener(handed)
				} else {
					b.AdminAddr(taken.Addr().String()).HTTPListener(handed)
				}
			})
			h, err := p.Run(t.Context())
			if h != nil || err == nil {
				t.Fatalf("Run: got %v, %v; want an error", h, err)
			}
			for _, part := range []string{taken.Addr().String(), key, "address already in use", "free the port"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error %q lacks %q", err, part)
				}
			}
			if isBound(handed.Addr().String()) {
				t.Error("the other listener is still bound")
			}
		})
	}
	// With both listeners opened by the proxy.
	t.Run("nothing stays bound", func(t *testing.T) {
		t.Parallel()
		taken, addr := listen(t, "127.0.0.1:0"), testnet.ClosedPort(t).String()
		p := buildProxy(t, func(b *networkproxy.Builder) { b.HTTPAddr(addr).AdminAddr(taken.Addr().String()) })
		if _, err := p.Run(t.Context()); err == nil {
			t.Fatal("Run succeeded, want an error")
		}
		if isBound(addr) {
			t.Error("the HTTP listener is still bound")
		}
	})
}

func TestRunIsForOnce(t *testing.T) {
	t.Parallel()
	p := buildProxy(t, nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Run(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Run with a canceled context: got %v, want %v", err, context.Canceled)
	}
	h := runProxy(t, p)
	if !isBound(h.HTTPAddr()) || !isBound(h.AdminAddr()) {
		t.Error("a listener does not accept connections when Run returns")
	}
	if _, err := p.Run(t.Context()); !errors.Is(err, networkproxy.ErrAlreadyRun) {
		t.Errorf("second Run: got %v, want %v", err, networkproxy.ErrAlreadyRun)
	}
}

func TestHandedInListeners(t *testing.T) {
	t.Parallel()
	front, admin := listenUnused(t), listen(t, "[::1]:0")
	h := runProxy(t, buildProxy(t, func(b *networkproxy.Builder) { b.HTTPListener(front).AdminListener(admin) }))
	if h.HTTPAddr() != front.Addr().String() || h.AdminAddr() != admin.Addr().String() || len(h.Warnings()) > 0 {
		t.Errorf("got the addresses %s and %s and the warnings %q", h.HTTPAddr(), h.AdminAddr(), h.Warnings())
	}
	if !isBound(h.HTTPAddr()) {
		t.Error("the listener does not accept connections")
	}
	h.Close()
	if isBound(front.Addr().String()) {
		t.Error("Close left the listener open")
	}
	if _, err := admin.Accept(); !errors.Is(err, net.ErrClosed) { // another test may use its port by now
		t.Errorf("Accept on the listener of the admin API: got %v, want %v", err, net.ErrClosed)
	}
}

// TestHandedInListenersAreClamped checks that a host's listener that is not on
// loopback is closed, and the proxy listens on loopback instead.
func TestHandedInListenersAreClamped(t *testing.T) {
	t.Parallel()
	front, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := listen(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(front.Addr().String())
	h := runProxy(t, buildProxy(t, func(b *networkproxy.Builder) { b.HTTPListener(front).AdminListener(admin) }))
	if want := "127.0.0.1:" + port; h.HTTPAddr() != want {
		t.Errorf("listens on %s, want %s", h.HTTPAddr(), want)
	}
	if w := h.Warnings(); len(w) != 1 || !strings.Contains(w[0], "dangerously_allow_non_loopback_proxy") {
		t.Errorf("got the warnings %q, want one", w)
	}
	if _, err := front.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept on the host's listener: got %v, want %v", err, net.ErrClosed)
	}
	if isBound("127.0.0.2:" + port) {
		t.Error("the proxy also listens on addresses other than 127.0.0.1")
	}
}

func TestUnixListener(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "proxy.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	h := runProxy(t, buildProxy(t, func(b *networkproxy.Builder) { b.HTTPListener(l).AdminAddr("127.0.0.1:0") }))
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n")
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || a.StatusCode != 403 || h.HTTPAddr() != path {
		t.Errorf("got %v, %v on the address %s", a, err, h.HTTPAddr())
	}
}

func TestNotEnabled(t *testing.T) {
	t.Parallel()
	front := listenUnused(t)
	p, err := networkproxy.NewBuilder().Config(networkproxy.DefaultConfig()).HTTPListener(front).Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if h.HTTPAddr() != "" || h.AdminAddr() != "" || len(h.Blocked()) != 0 || h.Mode() != networkproxy.ModeFull || h.Config().Enabled {
		t.Errorf("got %q %q %v", h.HTTPAddr(), h.AdminAddr(), h.Config())
	}
	if isBound(front.Addr().String()) {
		t.Error("a listener is bound")
	}
	for _, test := range []struct {
		name string
		err  error
	}{
		{"SetMode", h.SetMode(networkproxy.ModeLimited)}, {"Reload", h.Reload(t.Context())}, {"AllowDomain", h.AllowDomain("x.example")},
	} {
		if !errors.Is(test.err, networkproxy.ErrDisabled) {
			t.Errorf("%s: got the error %v", test.name, test.err)
		}
	}
	select {
	case <-h.Done():
		t.Error("the proxy has ended")
	default:
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.Wait(); err != nil {
		t.Error(err)
	}
}

func TestContextEndCloses(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	h, err := buildProxy(t, func(b *networkproxy.Builder) {
		addr := net.JoinHostPort(testnet.UnusedLoopback(), "0")
		b.HTTPAddr(addr).AdminAddr(addr)
	}).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	wait(t, h.Done(), "the end of the proxy")
	if err := h.Wait(); err != nil {
		t.Error(err)
	}
	if isBound(h.HTTPAddr()) || isBound(h.AdminAddr()) {
		t.Error("a listener is still bound")
	}
	if err := h.SetMode(networkproxy.ModeLimited); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("SetMode after the end: got the error %v", err)
	}
	if err := h.Reload(t.Context()); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("Reload after the end: got the error %v", err)
	}
}

// TestContextEndsAtOnce cancels the context at about the moment when Run returns.
func TestContextEndsAtOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		p := buildProxy(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		h, err := p.Run(ctx)
		if err != nil {
			continue // the context ended before Run returned
		}
		wait(t, h.Done(), "the end of the proxy")
	}
}

// TestShutdownDrains checks that an open request is completed.
func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), func(b *networkproxy.Builder) { b.HTTPAddr(net.JoinHostPort(testnet.UnusedLoopback(), "0")) })
	begun, finish := make(chan struct{}), make(chan struct{})
	l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-finish
		io.WriteString(w, "whole")
	})
	idle, w := l.dialHTTP(t), l.dialHTTP(t)
	idle.get("http://other.example/")
	idle.readResponse("GET")
	w.get("http://o.example/")
	wait(t, begun, "the request")

	ended := make(chan error, 1)
	go func() { ended <- l.Shutdown(context.Background()) }()
	eventually(t, "the listener is closed", func() bool { return !isBound(l.HTTPAddr()) })
	if rest := idle.readAll(); rest != "" {
		t.Errorf("on the idle connection: got %q, want the end", rest)
	}
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned %v before the end of the request", err)
	default:
	}
	close(finish)
	if a := w.readResponse("GET"); a.StatusCode != 200 || a.body != "whole" {
		t.Errorf("got %s %q", a.Status, a.body)
	}
	if err := wait(t, ended, "the end of Shutdown"); err != nil {
		t.Error(err)
	}
}

// TestCutIsNoResponse checks that a request that is cut at the end of the proxy gets
// no response that looks complete.
func TestCutIsNoResponse(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"Close", "Shutdown"} {
		for _, where := range []string{"before the response", "in the response", "in the look-up", "in an upgrade"} {
			t.Run(how+" "+where, func(t *testing.T) {
				t.Parallel()
				l := start(t, allow("o.example"), nil)
				begun := make(chan struct{}, 1)
				l.serve("o.example", 80, func(c *net.TCPConn) {
					r := bufio.NewReader(c)
					readHeader(r)
					if where == "in the response" {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
					}
					begun <- struct{}{}
					io.Copy(io.Discard, r)
				})
				if where == "in the look-up" {
					l.dns.Set("o.example", testnet.Silence())
					close(begun)
				}
				w := l.dialHTTP(t)
				if where == "in an upgrade" {
					w.send(upgradeRequest)
				} else {
					w.get("http://o.example/")
				}
				wait(t, begun, "the request")
				eventually(t, "the look-up", func() bool { return len(l.dns.Queries()) > 0 })
				if where == "in the response" {
					w.readHeader("GET")
					w.readN(4)
				}
				ended := make(chan error, 1)
				go func() {
					if how == "Close" {
						ended <- l.Close()
						return
					}
					ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
					defer cancel()
					ended <- l.Shutdown(ctx)
				}()
				rest := w.readAll()
				if rest != "" && !strings.HasPrefix(rest, "HTTP/1.1 50") {
					t.Errorf("the client got %q", rest)
				}
				err := wait(t, ended, "the end of the proxy")
				if how == "Shutdown" && !errors.Is(err, context.DeadlineExceeded) || how == "Close" && err != nil {
					t.Errorf("%s: got the error %v", how, err)
				}
			})
		}
	}
}

// TestShutdownAndCloseTogether calls Shutdown and Close from many goroutines.
func TestShutdownAndCloseTogether(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.mapHost("o.example", 443, testnet.Hang(t).Addr())
	l.connectRaw(t, "o.example:443") // an idle tunnel, which does not end by itself
	var together sync.WaitGroup
	for i := range 20 {
		together.Go(func() {
			if i%2 == 0 {
				l.Close()
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond)
			defer cancel()
			l.Shutdown(ctx)
		})
	}
	together.Wait()
	wait(t, l.Done(), "the end of the proxy")
	if err := l.Shutdown(t.Context()); err != nil {
		t.Errorf("another call: %v", err)
	}
}

// failingListener is a listener whose Accept fails with the error from fail.
type failingListener struct {
	net.Listener
	fail chan error
}

func (l *failingListener) Accept() (net.Conn, error) { return nil, <-l.fail }

// TestListenerFails checks that the whole proxy ends when one listener fails, and
// that Wait returns the reason.
func TestListenerFails(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"HTTP", "admin", "SOCKS"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			broken := &failingListener{listen(t, "127.0.0.1:0"), make(chan error, 1)}
			config := enabled()
			config.EnableSOCKS5 = true
			b := networkproxy.NewBuilder().Config(config).HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").SOCKSAddr("127.0.0.1:0")
			switch which {
			case "HTTP":
				b.HTTPAddr("").HTTPListener(broken)
			case "admin":
				b.AdminAddr("").AdminListener(broken)
			case "SOCKS":
				b.SOCKSAddr("").SOCKSListener(broken)
			}
			p, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			h := runProxy(t, p)
			s, err := h.OpenSession(t.Context(), networkproxy.SessionConfig{})
			if err != nil {
				t.Fatal(err)
			}
			listeners := slices.Concat(networkproxy.ListenersOf(h), networkproxy.ListenersOfSession(s))
			broken.fail <- errors.New("out of luck")
			wait(t, h.Done(), "the end of the proxy")
			if err := h.Wait(); err == nil || !strings.Contains(err.Error(), "out of luck") {
				t.Errorf("Wait: got %v, want the listener's error", err)
			}
			for _, l := range append(listeners, broken.Listener) {
				if l, ok := l.(*net.TCPListener); ok && !errors.Is(l.SetDeadline(time.Time{}), net.ErrClosed) {
					t.Errorf("the listener on %s is still open", l.Addr())
				}
			}
			if err := h.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if err := h.Wait(); err == nil || !strings.Contains(err.Error(), "out of luck") {
				t.Errorf("Wait after Close: got %v, want the listener's error", err)
			}
		})
	}
}

// TestSeveralProxies checks that the proxies of one process are independent.
func TestSeveralProxies(t *testing.T) {
	t.Parallel()
	a, b := start(t, allow("a.example"), nil), start(t, allow("b.example"), nil)
	for _, l := range []*lab{a, b} {
		l.scripted("a.example", emptyResponse)
		l.scripted("b.example", emptyResponse)
	}
	for _, tt := range []struct {
		l      *lab
		url    string
		status int
	}{{a, "http://a.example/", 200}, {a, "http://b.example/", 403}, {b, "http://a.example/", 403}, {b, "http://b.example/", 200}} {
		if got := tt.l.get(tt.url); got.status != tt.status {
			t.Errorf("%s: got %d, want %d", tt.url, got.status, tt.status)
		}
	}
	if err := a.SetMode(networkproxy.ModeLimited); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if b.Mode() != networkproxy.ModeFull || len(b.Blocked()) != 1 || b.get("http://b.example/").status != 200 {
		t.Error("the end of one proxy changed the other")
	}
}

func TestBuilderErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		build   func(*networkproxy.Builder)
		message []string
	}{
		{"nothing", func(*networkproxy.Builder) {}, []string{"no configuration", "ConfigFile"}},
		{"two sources", func(b *networkproxy.Builder) { b.Config(enabled()).ConfigFile("x.toml") }, []string{"more than one configuration"}},
		{"all at once", func(b *networkproxy.Builder) {
			b.Config(enabled()).HTTPListener(nil).AdminListener(nil).Resolver(nil).Logger(nil).DeciderTimeout(-1).AdminToken("short").
				ConfigSource(nil).ConfigFile("").Requirements("")
		}, []string{"HTTPListener", "AdminListener", "Resolver", "Logger", "DeciderTimeout", "AdminToken", "ConfigSource", "ConfigFiles", "Requirements"}},
		{"address and listener", func(b *networkproxy.Builder) {
			b.Config(enabled()).HTTPAddr("127.0.0.1:1").HTTPListener(listen(t, "127.0.0.1:0")).AdminAddr("127.0.0.1:2").AdminListener(listen(t, "127.0.0.1:0"))
		}, []string{"HTTPAddr and HTTPListener", "AdminAddr and AdminListener"}},
		{"a name for an address", func(b *networkproxy.Builder) { b.Config(enabled()).HTTPAddr("proxy.example:3128") }, []string{"proxy_url", "proxy.example"}},
		{"one address for both", func(b *networkproxy.Builder) {
			b.Config(enabled()).HTTPAddr("127.0.0.1:3128").AdminAddr("localhost:3128")
		}, []string{"another port"}},
		{"no such file", func(b *networkproxy.Builder) { b.ConfigFile("/nonexistent/config.toml") }, []string{"/nonexistent/config.toml"}},
		{"a source that fails", func(b *networkproxy.Builder) {
			b.ConfigSource(func(context.Context) (networkproxy.Config, error) {
				return networkproxy.Config{}, errors.New("vault sealed")
			})
		}, []string{"vault sealed"}},
		{"patterns", func(b *networkproxy.Builder) {
			c := enabled()
			c.Policy.AllowedDomains = []string{"ok.example", "https://x.example/", "*."}
			c.Policy.DeniedDomains = []string{"*"}
			b.Config(c)
		}, []string{"allowed_domains[1]", "x.example", "allowed_domains[2]", "denied_domains[0]"}},
	} {
		b := networkproxy.NewBuilder()
		tt.build(b)
		p, err := b.Build()
		if p != nil || err == nil {
			t.Errorf("%s: Build succeeded, want an error", tt.name)
			continue
		}
		for _, part := range tt.message {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error lacks %q:\n%v", tt.name, part, err)
			}
		}
	}
}

// TestConfigSources loads a configuration in each way that the Builder has.
func TestConfigSources(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte("[other]\nx = 1\n[network_proxy]\nenabled = true\nmode = \"limited\"\n[network_proxy.policy]\nallowed_domains = [\"a.example\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := networkproxy.Config{Enabled: true, Mode: networkproxy.ModeLimited} // the zero values mean the defaults
	config.Policy.AllowedDomains = []string{"a.example"}
	for _, test := range []struct {
		name   string
		source func(*networkproxy.Builder)
	}{
		{"file", func(b *networkproxy.Builder) { b.ConfigFile(path) }},
		{"value", func(b *networkproxy.Builder) { b.Config(config) }},
		{"source", func(b *networkproxy.Builder) { b.ConfigSource(newSource(config).load) }},
	} {
		l := startSource(t, test.source, nil)
		got := l.Config()
		if !got.Enabled || got.Mode != networkproxy.ModeLimited || got.AdminURL != "http://127.0.0.1:8080" || len(got.Policy.AllowedDomains) != 1 {
			t.Errorf("%s: %+v", test.name, got)
		}
		got.Policy.AllowedDomains[0] = "changed.example" // the caller's copy
		if l.Config().Policy.AllowedDomains[0] != "a.example" {
			t.Errorf("%s: Config returns the proxy's own slice", test.name)
		}
		l.scripted("a.example", emptyResponse)
		if got := l.get("http://a.example/"); got.status != 200 {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
	config.Policy.AllowedDomains[0] = "changed.example"
}

// TestConfigIsCopied checks that later changes of the host's value have no effect.
func TestConfigIsCopied(t *testing.T) {
	t.Parallel()
	config := allow("a.example")
	l := start(t, config, nil)
	config.Policy.AllowedDomains[0] = "b.example"
	if err := l.SetMode(networkproxy.ModeLimited); err != nil { // compiles the policy again
		t.Fatal(err)
	}
	if got := l.Config().Policy.AllowedDomains[0]; got != "a.example" {
		t.Errorf("got the allowlist %q", got)
	}
}

// TestNothingIsLeft leaves every kind of request unfinished, ends the proxy, and
// checks that no goroutine or descriptor is left. It is not parallel, because the
// goroutines of other tests would count.
func TestNothingIsLeft(t *testing.T) {
	for _, how := range []string{"Close", "Shutdown", "a port in use", "not enabled"} {
		t.Run(how, func(t *testing.T) {
			testnet.CheckLeaks(t)
			switch how {
			case "a port in use":
				taken := listen(t, "127.0.0.1:0")
				p := buildProxy(t, func(b *networkproxy.Builder) { b.HTTPAddr("127.0.0.1:0").AdminAddr(taken.Addr().String()) })
				if _, err := p.Run(t.Context()); err == nil {
					t.Error("Run succeeded, want an error")
				}
				return
			case "not enabled":
				p, err := networkproxy.NewBuilder().Config(networkproxy.DefaultConfig()).Build()
				if err != nil {
					t.Fatal(err)
				}
				h, err := p.Run(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				h.Close()
				return
			}
			asked := make(chan struct{})
			l := start(t, allow("o.example", "silent.example", "hold.example"), withDecider(func(ctx context.Context, _ request) (decision, error) {
				close(asked)
				<-ctx.Done()
				return decision{}, ctx.Err()
			}))
			l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
			l.mapHost("o.example", 443, testnet.Echo(t).Addr())
			hold := testnet.Hang(t).Addr()
			l.mapHost("hold.example", 81, hold)
			l.dns.Set("silent.example", testnet.Silence())

			l.get("http://o.example/")         // a connection in the pool
			l.dialHTTP(t)                      // a connection without a request
			l.dialHTTP(t).send("GET http://o") // half a request
			w := l.dialHTTP(t)                 // a stalled upload
			w.request("POST", "http://o.example/", "Content-Length: 100")
			l.dialHTTP(t).get("http://hold.example:81/") // a response that never arrives
			l.dialHTTP(t).get("http://silent.example/")  // a look-up
			l.dialHTTP(t).request("CONNECT", "silent.example:443")
			l.dialHTTP(t).get("http://hold.example:81/", "Connection: Upgrade", "Upgrade: x")
			l.dialHTTP(t).get("http://asked.example/") // a question to the decider
			if err := echoes(l.connectRaw(t, "o.example:443")); err != nil {
				t.Error(err)
			}
			dialRaw(t, l.AdminAddr())
			wait(t, asked, "the question")
			if how == "Close" {
				l.Close()
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := l.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown: got the error %v, want %v", err, context.DeadlineExceeded)
			}
		})
	}
}
