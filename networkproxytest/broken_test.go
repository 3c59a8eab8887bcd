// Tests that the kit fails for broken proxies: each promise is checked with a proxy
// that breaks it.

package networkproxytest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"example.com/networkproxy"
)

func TestKitFailsBrokenProxies(t *testing.T) {
	t.Parallel()
	weak := map[string]Start{
		"an allowed request arrives": withConfig(func(c *networkproxy.Config, _ *networkproxy.Builder) { c.Policy.AllowedDomains = nil }),
		"the limited mode allows only GET, HEAD and OPTIONS": withConfig(func(c *networkproxy.Config, _ *networkproxy.Builder) {
			c.Mode = networkproxy.ModeFull
		}),
		"a refusal is recorded for its session": withConfig(func(_ *networkproxy.Config, b *networkproxy.Builder) {
			b.Observe().Resolver(emptyResolver{})
		}),
		"all listeners are on loopback": withConfig(func(c *networkproxy.Config, _ *networkproxy.Builder) {
			c.DangerouslyAllowNonLoopbackProxy = true
			c.ProxyURL = "http://0.0.0.0:0"
		}),
		"a name with a local address is refused even if it has a public one, too": publicNamesOnly(),
		"a name with a denied address is refused":                                 publicNamesOnly(),
		"a name with an address of the proxy is refused":                          publicNamesOnly(),
		"a UDP relay serves only its own client": func(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
			return build(t, c, networkproxy.NewBuilder().SOCKSListener(openRelay(t)))
		},
		"a web page cannot use the admin API": func(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
			return build(t, c, networkproxy.NewBuilder().AdminListener(okListener(t)))
		},
	}
	for _, p := range promises() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && p.name == "a new deny entry closes open tunnels" {
				t.Skip("waits for the kit's time limit")
			}
			start := weak[p.name]
			if start == nil {
				start = alwaysOK
			}
			if failures := failures(t, p, start); len(failures) == 0 {
				t.Error("the check passed for a proxy that breaks the promise")
			}
		})
	}
}

// TestKitNamesFailedTargets checks that failures name the target that an extra
// allowlist entry opens.
func TestKitNamesFailedTargets(t *testing.T) {
	t.Parallel()
	i := slices.IndexFunc(promises(), func(p promise) bool { return p.name == "a target on no list is refused" })
	failures := failures(t, promises()[i], withConfig(func(c *networkproxy.Config, b *networkproxy.Builder) {
		c.Policy.AllowedDomains = append(c.Policy.AllowedDomains, "wild.invalid")
		b.Resolver(emptyResolver{})
	}))
	if len(failures) == 0 {
		t.Fatal("the check passed, want failures")
	}
	for _, f := range failures {
		if !strings.Contains(f, `"wild.invalid:80"`) {
			t.Errorf("failure %q does not name wild.invalid:80", f)
		}
	}
}

// withConfig returns a Start that changes the kit's configuration. UDP is off,
// because the kit waits long for the refusal of a datagram that never comes.
func withConfig(change func(*networkproxy.Config, *networkproxy.Builder)) Start {
	return func(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
		t.Helper()
		b := networkproxy.NewBuilder()
		c.EnableSOCKS5UDP = false
		change(&c, b)
		return build(t, c, b)
	}
}

func build(t testing.TB, c networkproxy.Config, b *networkproxy.Builder) *networkproxy.Handle {
	t.Helper()
	proxy, err := b.Config(c).Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := proxy.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestKitWithoutNamesAndDatagrams checks that the kit passes if a host uses neither
// the kit's Resolver nor UDP.
func TestKitWithoutNamesAndDatagrams(t *testing.T) {
	t.Parallel()
	Run(t, withConfig(func(_ *networkproxy.Config, b *networkproxy.Builder) { b.Resolver(emptyResolver{}) }))
}

// publicNamesOnly returns a Start whose proxy resolves only the kit's public names.
// It fails to look up the forbidden names instead of refusing them.
func publicNamesOnly() Start {
	return withConfig(func(_ *networkproxy.Config, b *networkproxy.Builder) { b.Resolver(publicOnly{}) })
}

type publicOnly struct{ networkproxy.Resolver }

func (publicOnly) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if !strings.HasPrefix(host, "public.") {
		return nil, fmt.Errorf("no such host")
	}
	return Resolver{}.LookupNetIP(ctx, network, host)
}

// emptyResolver resolves no name.
type emptyResolver struct{ networkproxy.Resolver }

func (emptyResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, fmt.Errorf("no such host")
}

// alwaysOK is a Start whose HTTP listener is a server that responds to every request
// with 200.
func alwaysOK(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
	t.Helper()
	c.EnableSOCKS5UDP = false
	return build(t, c, networkproxy.NewBuilder().HTTPListener(okListener(t)))
}

// okListener returns a listener that never accepts a connection. Its Addr is the
// address of another server, which responds to every request with 200.
func okListener(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			request, err := http.ReadRequest(r)
			if err != nil && request == nil {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // also for malformed requests
				return
			}
			if request.Method != http.MethodConnect {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
		}
	})
	return redirectedListener{l, s.l.Addr()}
}

// openRelay returns the listener of a SOCKS5 server whose UDP relay serves all
// clients and never ends.
func openRelay(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	loopback := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	near, err := net.ListenUDP("udp4", loopback)
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.ListenUDP("udp4", loopback)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	var client atomic.Pointer[netip.AddrPort]
	go func() {
		b := make([]byte, 1<<10)
		for {
			n, from, err := near.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			client.Store(&from)
			header := 4 + 4 // type 1, an address
			if b[3] == 3 {
				header = 4 + 1 + int(b[4])
			}
			port := uint16(b[header])<<8 | uint16(b[header+1])
			far.WriteToUDPAddrPort(b[header+2:n], netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
		}
	}()
	go func() {
		b := make([]byte, 1<<10)
		for {
			n, _, err := far.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			near.WriteToUDPAddrPort(append(make([]byte, 3, 1<<10), append([]byte{1, 127, 0, 0, 1, 0, 0}, b[:n]...)...), *client.Load())
		}
	}()
	port := near.LocalAddr().(*net.UDPAddr).Port
	s := serve(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, 3))
		c.Write([]byte{5, 0})
		io.ReadFull(c, make([]byte, 4+4+2))
		c.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, byte(port >> 8), byte(port)})
		io.Copy(io.Discard, c)
	})
	return redirectedListener{l, s.l.Addr()}
}

// redirectedListener is a listener that returns the address of another one.
type redirectedListener struct {
	net.Listener
	addr net.Addr
}

func (l redirectedListener) Addr() net.Addr { return l.addr }

// recorder is a testing.TB that records the failures of a check.
type recorder struct {
	testing.TB

	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (r *recorder) Helper() {}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recorder) Error(args ...any) { r.fail(fmt.Sprint(args...)) }

func (r *recorder) Errorf(format string, args ...any) { r.fail(fmt.Sprintf(format, args...)) }

func (r *recorder) Fatal(args ...any) {
	r.fail(fmt.Sprint(args...))
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.fail(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (r *recorder) fail(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

// failures runs one check and returns its failures.
func failures(t *testing.T, p promise, start Start) []string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.check(r, start)
	}()
	<-done
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
	return r.failures
}
