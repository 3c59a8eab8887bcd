// The kit is only worth something if it fails: every promise is put to a proxy
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
		"what is allowed arrives": withConfig(func(c *networkproxy.Config, _ *networkproxy.Builder) { c.Policy.AllowedDomains = nil }),
		"the limited mode only reads": withConfig(func(c *networkproxy.Config, _ *networkproxy.Builder) {
			c.Mode = networkproxy.ModeFull
		}),
		"a refusal is recorded for its session": withConfig(func(_ *networkproxy.Config, b *networkproxy.Builder) {
			b.Observe().Resolver(emptyResolver{})
		}),
		"the listeners are on loopback": withConfig(func(c *networkproxy.Config, _ *networkproxy.Builder) {
			c.DangerouslyAllowNonLoopbackProxy = true
			c.ProxyURL = "http://0.0.0.0:0"
		}),
		"a name that leads to a local network is refused, whatever else it leads to": publicNamesOnly(),
		"a name that leads to a denied address is refused":                           publicNamesOnly(),
		"a name that leads to the proxy is refused":                                  publicNamesOnly(),
		"a relay of datagrams serves its client alone": func(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
			return build(t, c, networkproxy.NewBuilder().SOCKSListener(openRelay(t)))
		},
		"a web page cannot drive the admin API": func(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
			return build(t, c, networkproxy.NewBuilder().AdminListener(okListener(t)))
		},
	}
	for _, p := range promises() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			start := weak[p.name]
			if start == nil {
				start = alwaysOK
			}
			if failures := failures(t, p, start); len(failures) == 0 {
				t.Error("a proxy that breaks the promise passes")
			}
		})
	}
}

// TestKitNamesFailedTargets: one entry too many in the allowlist, and the kit
// names the targets that it opens.
func TestKitNamesFailedTargets(t *testing.T) {
	t.Parallel()
	i := slices.IndexFunc(promises(), func(p promise) bool { return p.name == "what no list names is refused" })
	failures := failures(t, promises()[i], withConfig(func(c *networkproxy.Config, b *networkproxy.Builder) {
		c.Policy.AllowedDomains = append(c.Policy.AllowedDomains, "wild.invalid")
		b.Resolver(emptyResolver{})
	}))
	if len(failures) == 0 {
		t.Fatal("nothing failed")
	}
	for _, f := range failures {
		if !strings.Contains(f, `"wild.invalid:80"`) {
			t.Errorf("it says %s", f)
		}
	}
}

// withConfig starts a proxy whose configuration is not the kit's. It carries no
// datagrams: the kit waits long for what it does not see.
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

// TestKitWithoutNamesAndDatagrams: what a host leaves out is not tested, and
// no failure.
func TestKitWithoutNamesAndDatagrams(t *testing.T) {
	t.Parallel()
	Run(t, withConfig(func(_ *networkproxy.Config, b *networkproxy.Builder) { b.Resolver(emptyResolver{}) }))
}

// publicNamesOnly starts a proxy that finds none of the names that lead astray, and
// so refuses none of them.
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

// emptyResolver knows no name.
type emptyResolver struct{ networkproxy.Resolver }

func (emptyResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, fmt.Errorf("no such host")
}

// alwaysOK starts a proxy whose HTTP listener is that of a server which lets
// everybody believe that they got through.
func alwaysOK(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
	t.Helper()
	c.EnableSOCKS5UDP = false
	return build(t, c, networkproxy.NewBuilder().HTTPListener(okListener(t)))
}

// yes is a listener that has no connections: whoever connects to its address
// meets another server, which answers everything with 200.
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
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // what is no request, too
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

// openRelay is a SOCKS5 listener that relays datagrams for whoever sends it
// some, and for ever.
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

// redirectedListener is a listener that claims another's address.
type redirectedListener struct {
	net.Listener
	addr net.Addr
}

func (l redirectedListener) Addr() net.Addr { return l.addr }

// recorder takes the failures of a check.
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

// failures runs one check for itself.
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
