// Functions of the host: what they may call, and that they block nothing else.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// hook is called by a function of the host. It calls the function that was set
// last, once, and does nothing otherwise.
type hook struct{ do atomic.Pointer[func()] }

func (h *hook) set(do func()) { h.do.Store(&do) }

func (h *hook) call() {
	if do := h.do.Swap(nil); do != nil {
		(*do)()
	}
}

// hostFunction is a kind of function that a host provides.
type hostFunction struct {
	name    string
	named   string // in ErrCallbackRunning
	install func(t *testing.T, b *networkproxy.Builder, h *hook)

	// fire makes the proxy call the function, without waiting for it.
	fire func(t *testing.T, l *lab, h *hook)
}

func hostFunctions() []hostFunction {
	send := func(url string) func(*testing.T, *lab, *hook) {
		return func(t *testing.T, l *lab, _ *hook) {
			c, err := net.Dial("tcp", l.HTTPAddr())
			if err != nil {
				return // an earlier call has ended the proxy
			}
			t.Cleanup(func() { c.Close() })
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", url)
		}
	}
	return []hostFunction{
		{"OnBlocked", "OnBlocked", func(_ *testing.T, b *networkproxy.Builder, h *hook) {
			b.OnBlocked(func(networkproxy.BlockedRequest) { h.call() })
		}, send("http://denied.example/")},
		{"OnEvent", "OnEvent", func(_ *testing.T, b *networkproxy.Builder, h *hook) {
			b.OnEvent(func(networkproxy.Event) { h.call() })
		}, send("http://denied.example/")},
		{"PolicyDecider", "the PolicyDecider", func(_ *testing.T, b *networkproxy.Builder, h *hook) {
			b.DeciderTimeout(time.Second).PolicyDecider(func(context.Context, request) (decision, error) {
				h.call()
				return networkproxy.Allow().ForSession(), nil
			})
		}, send("http://miss.example/")},
		{"Resolver", "the Resolver", func(_ *testing.T, b *networkproxy.Builder, h *hook) {
			b.Limits(networkproxy.Limits{LookupTimeout: time.Second}).Resolver(hookedResolver{h})
		}, send("http://allowed.example/")},
		{"log handler", "the log handler", func(_ *testing.T, b *networkproxy.Builder, h *hook) {
			b.Logger(slog.New(hookedLog{handle: h}))
		}, send("http://denied.example/")},
		{"log handler that is asked for its level", "the log handler", func(_ *testing.T, b *networkproxy.Builder, h *hook) {
			b.Logger(slog.New(hookedLog{enabled: h}))
		}, func(t *testing.T, l *lab, h *hook) {
			// The results of Enabled are used for a moment.
			eventually(t, "the handler is asked", func() bool {
				l.SetMode(networkproxy.ModeFull)
				return h.do.Load() == nil
			})
		}},
		{"ConfigSource", "the ConfigSource", func(*testing.T, *networkproxy.Builder, *hook) {}, func(t *testing.T, l *lab, _ *hook) {
			ctx, cancel := context.WithCancel(context.Background())
			reloaded := make(chan struct{})
			go func() {
				defer close(reloaded)
				l.Reload(ctx)
			}()
			t.Cleanup(func() {
				cancel()
				wait(t, reloaded, "the end of the reload")
			})
		}},
		{"AmendmentWriter", "the AmendmentWriter", func(_ *testing.T, b *networkproxy.Builder, h *hook) {
			b.AmendmentWriter(func(context.Context, networkproxy.Amendment) error { h.call(); return nil })
		}, func(t *testing.T, l *lab, _ *hook) {
			ctx, cancel := context.WithCancel(context.Background())
			remembered := make(chan struct{})
			go func() {
				defer close(remembered)
				l.Remember(ctx, networkproxy.Amendment{Action: networkproxy.AmendDeny, Pattern: "never.example"})
			}()
			t.Cleanup(func() {
				cancel()
				wait(t, remembered, "the end of Remember")
			})
		}},
		{"listener's Accept", "a listener that the host provided", func(t *testing.T, b *networkproxy.Builder, h *hook) {
			b.HTTPAddr("").HTTPListener(hookedListener{Listener: listen(t, "127.0.0.1:0"), accept: h})
		}, send("http://denied.example/")},
		{"body of the host's own request", "", func(*testing.T, *networkproxy.Builder, *hook) {}, func(t *testing.T, l *lab, h *hook) {
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				r, _ := http.NewRequest("POST", "http://allowed.example/", hookedBody{h})
				if a, err := l.Transport(networkproxy.Attribution{}).RoundTrip(r); err == nil {
					a.Body.Close()
				}
			}()
			t.Cleanup(func() { wait(t, sent, "the end of the host's own request") })
		}},
	}
}

// start starts a proxy with a function that calls the hook.
func (f *hostFunction) start(t *testing.T, h *hook) *lab {
	config := withSOCKS(allow("allowed.example"))
	config.Enabled = true
	config.Policy.DeniedDomains = []string{"denied.example"}
	l := startSource(t, func(b *networkproxy.Builder) {
		b.ConfigSource(func(context.Context) (networkproxy.Config, error) {
			if f.name == "ConfigSource" {
				h.call()
			}
			return config, nil
		})
	}, func(b *networkproxy.Builder) {
		networkproxy.SetCallbackGrace(b, 50*time.Millisecond)
		f.install(t, b, h)
	})
	l.log.Flush = nil // the hook may call the log
	l.origin("allowed.example", 80, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "ok")
	})
	return l
}

type hookedResolver struct{ *hook }

func (r hookedResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	r.call()
	return []netip.Addr{netip.MustParseAddr(publicAddr)}, nil
}

// hookedLog is a log handler that calls a hook and discards.
type hookedLog struct{ enabled, handle *hook }

func (l hookedLog) Enabled(context.Context, slog.Level) bool {
	if l.enabled != nil {
		l.enabled.call()
	}
	return true
}

func (l hookedLog) Handle(context.Context, slog.Record) error {
	if l.handle != nil {
		l.handle.call()
	}
	return nil
}

func (l hookedLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l hookedLog) WithGroup(string) slog.Handler      { return l }

// hookedListener calls hooks after an Accept and in Close.
type hookedListener struct {
	net.Listener
	accept, close *hook
}

func (l hookedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if l.accept != nil && err == nil {
		l.accept.call()
	}
	return c, err
}

func (l hookedListener) Close() error {
	err := l.Listener.Close()
	if l.close != nil {
		l.close.call()
	}
	return err
}

type hookedBody struct{ *hook }

func (c hookedBody) Read([]byte) (int, error) { c.call(); return 0, io.EOF }

// handleCalls and sessionCalls contain a call of every method. Methods that wait
// get something that ends.
var handleCalls = map[string]func(h *networkproxy.Handle){
	"AdminAddr":   func(h *networkproxy.Handle) { h.AdminAddr() },
	"AllowDomain": func(h *networkproxy.Handle) { h.AllowDomain("new.example") },
	"AllowGroup":  func(h *networkproxy.Handle) { h.AllowGroup("talk", "allowed.example") },
	"Blocked":     func(h *networkproxy.Handle) { h.Blocked() },
	"Close":       func(h *networkproxy.Handle) { h.Close() },
	"CloseGroup":  func(h *networkproxy.Handle) { h.CloseGroup("group") },
	"Config":      func(h *networkproxy.Handle) { h.Config() },
	"DenyDomain":  func(h *networkproxy.Handle) { h.DenyDomain("allowed.example") },
	"DialContext": func(h *networkproxy.Handle) {
		h.DialContext(networkproxy.Attribution{})(context.Background(), "tcp", "denied.example:443")
	},
	"Done":    func(h *networkproxy.Handle) { go h.Close(); <-h.Done() },
	"Environ": func(h *networkproxy.Handle) { h.Environ(nil) },
	"Events": func(h *networkproxy.Handle) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for range h.Events(ctx) {
		}
	},
	"Explain": func(h *networkproxy.Handle) {
		h.Explain(context.Background(), networkproxy.PolicyRequest{Host: "allowed.example", Port: 80})
	},
	"ExplainURL": func(h *networkproxy.Handle) {
		h.ExplainURL(context.Background(), "http://allowed.example/", "GET", true)
	},
	"Grants":   func(h *networkproxy.Handle) { h.Grants() },
	"HTTPAddr": func(h *networkproxy.Handle) { h.HTTPAddr() },
	"Mode":     func(h *networkproxy.Handle) { h.Mode() },
	"OpenSession": func(h *networkproxy.Handle) {
		for _, c := range []networkproxy.SessionConfig{
			{},
			{SharedPort: true, AllowedDomains: []string{"new.example"}},
		} {
			if s, err := h.OpenSession(context.Background(), c); err == nil {
				s.Close()
			}
		}
	},
	"Forget": func(h *networkproxy.Handle) { h.Forget(context.Background(), "new.example") },
	"Remember": func(h *networkproxy.Handle) {
		h.Remember(context.Background(), networkproxy.Amendment{Action: networkproxy.AmendAllow, Pattern: "new.example"})
	},
	"Reload":       func(h *networkproxy.Handle) { h.Reload(context.Background()) },
	"RemoveDomain": func(h *networkproxy.Handle) { h.RemoveDomain("allowed.example") },
	"Answer":       func(h *networkproxy.Handle) { h.Answer(1, networkproxy.Allow()) },
	"PageURL":      func(h *networkproxy.Handle) { h.PageURL() },
	"Questions":    func(h *networkproxy.Handle) { h.Questions() },
	"Revoke": func(h *networkproxy.Handle) {
		h.Revoke(1)
		for _, g := range h.Grants() {
			h.Revoke(g.ID)
		}
	},
	"SOCKSAddr": func(h *networkproxy.Handle) { h.SOCKSAddr() },
	"SelfTest": func(h *networkproxy.Handle) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		h.SelfTest(ctx)
	},
	"Sessions": func(h *networkproxy.Handle) { h.Sessions() },
	"SetMode":  func(h *networkproxy.Handle) { h.SetMode(networkproxy.ModeLimited) },
	"Shutdown": func(h *networkproxy.Handle) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		h.Shutdown(ctx)
	},
	"Suggest":      func(h *networkproxy.Handle) { h.Suggest() },
	"SuggestLocal": func(h *networkproxy.Handle) { h.SuggestLocal() },
	"SuggestTOML":  func(h *networkproxy.Handle) { h.SuggestTOML() },
	"Transport": func(h *networkproxy.Handle) {
		r, _ := http.NewRequest("GET", "http://denied.example/", nil)
		h.Transport(networkproxy.Attribution{}).RoundTrip(r)
	},
	"Wait":          func(h *networkproxy.Handle) { go h.Close(); h.Wait() },
	"CACertificate": func(h *networkproxy.Handle) { h.CACertificate() },
	"Warnings":      func(h *networkproxy.Handle) { h.Warnings() },
}

var sessionCalls = map[string]func(s *networkproxy.Session){
	"Allow":   func(s *networkproxy.Session) { s.Allow("allowed.example") },
	"Blocked": func(s *networkproxy.Session) { s.Blocked() },
	"Close":   func(s *networkproxy.Session) { s.Close() },
	"Done":    func(s *networkproxy.Session) { go s.Close(); <-s.Done() },
	"Environ": func(s *networkproxy.Session) { s.Environ(nil) },
	"Explain": func(s *networkproxy.Session) {
		s.Explain(context.Background(), networkproxy.PolicyRequest{Host: "allowed.example", Port: 80})
	},
	"ExplainURL": func(s *networkproxy.Session) {
		s.ExplainURL(context.Background(), "http://allowed.example/", "GET", true)
	},
	"Group":          func(s *networkproxy.Session) { s.Group() },
	"HTTPAddr":       func(s *networkproxy.Session) { s.HTTPAddr() },
	"ID":             func(s *networkproxy.Session) { s.ID() },
	"Fence":          func(s *networkproxy.Session) { s.Fence(context.Background(), networkproxy.FenceConfig{}) },
	"Outcome":        func(s *networkproxy.Session) { s.Outcome() },
	"ProxyURL":       func(s *networkproxy.Session) { s.ProxyURL() },
	"Report":         func(s *networkproxy.Session) { s.Report() },
	"SOCKSAddr":      func(s *networkproxy.Session) { s.SOCKSAddr() },
	"SetAttribution": func(s *networkproxy.Session) { s.SetAttribution(networkproxy.Attribution{Command: "next"}) },
	"CABundle":       func(s *networkproxy.Session) { s.CABundle() },
	"SharedProxyURL": func(s *networkproxy.Session) { s.SharedProxyURL() },
	"Summary":        func(s *networkproxy.Session) { s.Summary() },
	"Token":          func(s *networkproxy.Session) { s.Token() },
	"UnixSocket":     func(s *networkproxy.Session) { s.UnixSocket() },
}

// TestCallbacksMayCallEverything calls every method of the Handle and of a
// session from every function of the host. Each call returns, and the proxy ends.
func TestCallbacksMayCallEverything(t *testing.T) {
	t.Parallel()
	type call struct {
		name string
		do   func(*networkproxy.Handle, *networkproxy.Session)
	}
	var calls []call
	for _, name := range methodsOf[*networkproxy.Handle]() {
		do := handleCalls[name]
		if do == nil {
			t.Errorf("the table has no call of Handle.%s", name)
			continue
		}
		calls = append(calls, call{"Handle." + name, func(h *networkproxy.Handle, _ *networkproxy.Session) { do(h) }})
	}
	for _, name := range methodsOf[*networkproxy.Session]() {
		do := sessionCalls[name]
		if do == nil {
			t.Errorf("the table has no call of Session.%s", name)
			continue
		}
		calls = append(calls, call{"Session." + name, func(_ *networkproxy.Handle, s *networkproxy.Session) { do(s) }})
	}
	for way, f := range hostFunctions() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for row, c := range calls {
				if !testnet.Chosen(row, way, 5) {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					h := new(hook)
					l := f.start(t, h)
					s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{Group: "group"})
					if err != nil {
						t.Fatal(err)
					}
					returned := make(chan struct{})
					h.set(func() {
						defer close(returned)
						c.do(l.Handle, s)
					})
					f.fire(t, l, h)
					waitReturned(t, returned, "the method")
					ended := make(chan struct{})
					go func() {
						defer close(ended)
						l.Close()
					}()
					waitReturned(t, ended, "Close")
				})
			}
		})
	}
}

// methodsOf returns the exported methods of a type, without those of
// export_test.go.
func methodsOf[T any]() (names []string) {
	forTests := []string{"Decide", "DenyWithoutCut", "Dropped", "LiveClients", "LiveEntries", "LiveTargets", "ServeHTTPConn", "ServeSOCKSPasswords"}
	for m := range reflect.TypeFor[T]().Methods() {
		if !slices.Contains(forTests, m.Name) {
			names = append(names, m.Name)
		}
	}
	return names
}

// TestCallbacksThatHang: a function of the host that does not return blocks only
// the requests that need its result. It delays the end of the proxy for a bounded
// time, and Shutdown's error names it.
func TestCallbacksThatHang(t *testing.T) {
	t.Parallel()
	for _, f := range hostFunctions() {
		if f.named == "" {
			continue // only the host's own request blocks
		}
		for _, end := range []string{"Shutdown", "Close"} {
			t.Run(f.name+"/"+end, func(t *testing.T) {
				t.Parallel()
				h := new(hook)
				l := f.start(t, h)
				release, hangs := make(chan struct{}), make(chan struct{})
				h.set(func() {
					close(hangs)
					<-release
				})
				f.fire(t, l, h)
				t.Cleanup(sync.OnceFunc(func() { close(release) })) // runs before the cleanups of fire
				wait(t, hangs, "the call")

				statuses := map[string]int{"http://denied.example/": 403, "http://allowed.example/": 200}
				if f.name == "listener's Accept" {
					statuses = nil
				}
				for range 2 {
					for url, status := range statuses {
						if a := l.get(url); a.status != status {
							t.Errorf("GET %s: %d, want %d", url, a.status, status)
						}
					}
				}
				if err := l.SetMode(networkproxy.ModeLimited); err != nil {
					t.Error(err)
				}

				ended := make(chan error, 1)
				go func() {
					if end == "Close" {
						ended <- l.Close()
						return
					}
					ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
					defer cancel()
					ended <- l.Shutdown(ctx)
				}()
				err := wait(t, ended, "the end")
				if !errors.Is(err, networkproxy.ErrCallbackRunning) || !strings.Contains(err.Error(), f.named) {
					t.Errorf("%s: %v, want an error that names %s", end, err, f.named)
				}
				if err := l.Wait(); err != nil {
					t.Errorf("Wait: %v", err)
				}
			})
		}
	}
}

// TestCallbacksThatReturnLate: the end of the proxy waits for functions of the
// host that are about to return.
func TestCallbacksThatReturnLate(t *testing.T) {
	t.Parallel()
	release, called := make(chan struct{}), make(chan string, 10)
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.OnBlocked(func(r networkproxy.BlockedRequest) {
			<-release
			called <- r.Host
		})
	})
	for i := range 3 {
		l.get(fmt.Sprintf("http://h%d.example/", i))
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Close() }()
	wait(t, networkproxy.Drained(l.Handle), "the cut")
	close(release)
	if err := wait(t, ended, "the end"); err != nil {
		t.Error(err)
	}
	for i := range 3 {
		if want := fmt.Sprintf("h%d.example", i); len(called) == 0 || <-called != want {
			t.Errorf("OnBlocked was not called for %s, or not in order", want)
		}
	}
}

// TestCloseAfterALateReturn: if the last function of the host returns while Close
// waits for it, Close waits for the requests as well.
func TestCloseAfterALateReturn(t *testing.T) {
	t.Parallel()
	const grace = 50 * time.Millisecond
	asked, connecting, connect := make(chan struct{}), make(chan struct{}), make(chan struct{})
	l := start(t, allow("slow.example"), func(b *networkproxy.Builder) {
		networkproxy.SetCallbackGrace(b, grace)
		networkproxy.SetConnect(b, func(context.Context, netip.AddrPort) (*net.TCPConn, error) {
			close(connecting)
			<-connect
			return nil, syscall.ECONNREFUSED
		})
		b.PolicyDecider(func(ctx context.Context, _ request) (decision, error) {
			close(asked)
			<-ctx.Done()
			<-time.After(grace * 3 / 2) // Close has stopped waiting for the requests then, and waits for the decider
			return decision{}, ctx.Err()
		})
	})
	l.dns.Set("slow.example", testnet.Addrs(publicAddr))
	for _, host := range []string{"slow.example", "miss.example"} {
		w := l.dialHTTP(t)
		w.get("http://" + host + "/")
	}
	wait(t, asked, "the question")
	wait(t, connecting, "the connection")
	ended := make(chan error, 1)
	go func() { ended <- l.Close() }()
	select {
	case err := <-ended:
		if !errors.Is(err, networkproxy.ErrCallbackRunning) { // it is, if the machine is so busy that the decider returns too late
			t.Errorf("Close returned %v while a request was in progress", err)
		}
		ended <- err
	case <-time.After(6 * grace):
	}
	close(connect)
	wait(t, ended, "the end")
}

// TestRefusalsBeyondTheMailbox: refusals that OnBlocked has no time for are
// dropped, counted and logged.
func TestRefusalsBeyondTheMailbox(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var called atomic.Int64
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.OnBlocked(func(networkproxy.BlockedRequest) {
			<-release
			called.Add(1)
		})
	})
	const beyond = 5
	w := l.dialHTTP(t)
	for range 1 + networkproxy.MailboxLimit + beyond {
		w.SetDeadline(time.Now().Add(testTimeout)) // a limit for each request, because there are many
		w.get("http://other.example/")
		if a := w.readResponse("GET"); a.StatusCode != 403 {
			t.Fatalf("got %s, want 403", a.Status)
		}
	}
	if got := l.metrics(t)[`networkproxy_callbacks_dropped_total{callback="OnBlocked"}`]; got != beyond {
		t.Errorf("%v refusals are counted as dropped, want %d", got, beyond)
	}
	l.waitLogged(t, "OnBlocked does not return")
	close(release)
	networkproxy.FlushOnBlocked(l.Handle)
	if n := called.Load(); n != 1+networkproxy.MailboxLimit {
		t.Errorf("OnBlocked was called for %d refusals, want %d", n, 1+networkproxy.MailboxLimit)
	}
	l.waitLogged(t, fmt.Sprintf("refusals=%d", beyond))
}

// panickingListener panics in Close and, once the test says so, after an Accept.
type panickingListener struct {
	net.Listener
	panics *atomic.Bool
}

func (l panickingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && l.panics.Load() {
		c.Close()
		panic("accept")
	}
	return c, err
}

func (l panickingListener) Close() error {
	l.Listener.Close()
	panic("close")
}

// TestListenerPanics: a panic in a listener of the host ends the proxy, as an
// error does.
func TestListenerPanics(t *testing.T) {
	t.Parallel()
	var panics atomic.Bool
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.HTTPAddr("").HTTPListener(panickingListener{listen(t, "127.0.0.1:0"), &panics})
	})
	if a := l.get("http://other.example/"); a.status != 403 {
		t.Errorf("before: got %d, want 403", a.status)
	}
	panics.Store(true)
	if c, err := net.Dial("tcp", l.HTTPAddr()); err == nil {
		defer c.Close()
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Wait() }()
	if err := wait(t, ended, "the end"); err == nil || !strings.Contains(err.Error(), "panicked: accept") {
		t.Errorf("Wait: %v", err)
	}
}

// addrListener is a listener whose Addr method calls a function.
type addrListener struct {
	net.Listener
	call *atomic.Pointer[func()]
}

func (l addrListener) Addr() net.Addr {
	if call := l.call.Load(); call != nil {
		(*call)()
	}
	return l.Listener.Addr()
}

// A change of the policy does not call Addr of a provided listener while it
// holds a lock.
func TestListenerAddrMayCallTheHandle(t *testing.T) {
	t.Parallel()
	var call atomic.Pointer[func()]
	l := start(t, allow("o.example", publicAddr), func(b *networkproxy.Builder) {
		b.HTTPAddr("").HTTPListener(addrListener{listen(t, "127.0.0.1:0"), &call})
	})
	useHandle := func() { l.Config() }
	call.Store(&useHandle)
	done := make(chan error, 1)
	go func() { done <- l.SetMode(networkproxy.ModeLimited) }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("SetMode: %v", err)
		}
	case <-time.After(testTimeout):
		t.Fatal("SetMode did not return")
	}
}

// TestCallbacksThatExit: a function of the host that calls runtime.Goexit costs
// one call only.
func TestCallbacksThatExit(t *testing.T) {
	testnet.CheckLeaks(t)
	var called, logged atomic.Int64
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.OnBlocked(func(networkproxy.BlockedRequest) {
			called.Add(1)
			runtime.Goexit()
		}).Logger(slog.New(exitingLog{&logged}))
	})
	for range 3 {
		if a := l.get("http://other.example/"); a.status != 403 {
			t.Errorf("got %d, want 403", a.status)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if called.Load() != 3 || logged.Load() < 3 {
		t.Errorf("OnBlocked was called %d times, and the log handler %d times", called.Load(), logged.Load())
	}
}

type exitingLog struct{ n *atomic.Int64 }

func (exitingLog) Enabled(context.Context, slog.Level) bool { return true }
func (l exitingLog) Handle(context.Context, slog.Record) error {
	l.n.Add(1)
	runtime.Goexit()
	return nil
}
func (l exitingLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l exitingLog) WithGroup(string) slog.Handler      { return l }

// TestLogLevelChanges: a host may change the level of its log at any time.
func TestLogLevelChanges(t *testing.T) {
	t.Parallel()
	var level slog.LevelVar
	level.Set(slog.LevelError)
	var log testnet.Buffer
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.Logger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: &level})))
	})
	l.get("http://before.example/")
	level.Set(slog.LevelInfo)
	eventually(t, "lines at the new level", func() bool {
		l.get("http://behind.example/")
		networkproxy.FlushLog(l.Handle)
		return strings.Contains(log.String(), "behind.example")
	})
	if strings.Contains(log.String(), "before.example") {
		t.Errorf("a line below the level: %s", log.String())
	}
}
