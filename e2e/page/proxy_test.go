//go:build e2e

// The proxy, its clients, and the origin servers that they reach.

package page

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
)

// token is the admin token of the proxies that have one.
const token = "a-token-for-the-tests"

// proxy is a running proxy. All names have one address, and every connection leads to
// the origin, which is an upstream proxy.
type proxy struct {
	*networkproxy.Handle
	t testing.TB
}

// start starts a proxy that allows patterns. Whatever change does comes last.
func start(t testing.TB, change func(*networkproxy.Builder), patterns ...string) *proxy {
	t.Helper()
	origin := startOrigin(t)
	c := networkproxy.DefaultConfig()
	c.Enabled = true
	c.AllowUpstreamProxy = true
	c.Policy.AllowedDomains = patterns
	b := networkproxy.NewBuilder().Config(c).
		HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		Resolver(oneAddress{}).
		UpstreamEnviron([]string{"HTTP_PROXY=" + origin, "HTTPS_PROXY=" + origin}).
		Logger(slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if change != nil {
		change(b)
	}
	built, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := built.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{h, t}
	t.Cleanup(p.stop)
	return p
}

// stop ends the proxy. It may be called again.
func (p *proxy) stop() { p.Close() }

// oneAddress gives every name a public address.
type oneAddress struct{}

func (oneAddress) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.AddrFrom4([4]byte{93, 184, 215, 14})}, nil
}

// startOrigin starts an upstream proxy that is the origin server of every host, and
// returns its URL. The paths say what it answers:
//
//	/bytes/N   N bytes
//	/endless   bytes until the client has gone
func startOrigin(t testing.TB) string {
	t.Helper()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if n, ok := strings.CutPrefix(r.URL.Path, "/bytes/"); ok {
			size, _ := strconv.Atoi(n)
			w.Write(make([]byte, size))
			return
		}
		if r.URL.Path == "/endless" {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
				http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(20 * time.Millisecond): // the pace of the download
				}
			}
		}
		io.WriteString(w, "hello")
	})
	inside := httptest.NewTLSServer(answer) // its certificate is for every host, because clients do not check it
	t.Cleanup(inside.Close)
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			answer(w, r)
			return
		}
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", inside.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(server, buffered)
			server.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(client, server)
	}))
	t.Cleanup(outside.Close)
	return outside.URL
}

// client returns a client of a proxy URL.
func client(t testing.TB, proxyURL string) *http.Client {
	t.Helper()
	u, err := url.Parse(proxyURL)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// shared returns a client of the shared listener.
func (p *proxy) shared() *http.Client { return client(p.t, "http://"+p.HTTPAddr()) }

// session opens a session with a command, and returns it with a client.
func (p *proxy) session(c networkproxy.SessionConfig) (*networkproxy.Session, *http.Client) {
	p.t.Helper()
	s, err := p.OpenSession(context.Background(), c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { s.Close() })
	return s, client(p.t, s.ProxyURL())
}

// get sends a request and returns the status of the response, whose body it reads.
func get(t testing.TB, c *http.Client, address string) int {
	t.Helper()
	resp, err := c.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// begin sends a request, and returns a channel with the status of its response, or 0 if
// there is none.
func begin(t testing.TB, c *http.Client, address string) <-chan int {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan int, 1)
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	r, err := http.NewRequestWithContext(ctx, "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		resp, err := c.Do(r)
		if err != nil {
			result <- 0
			return
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		result <- resp.StatusCode
	})
	return result
}

// receive waits for a value of a channel.
func receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("timeout waiting for %s", what)
	}
	panic("unreachable")
}

// asking makes a proxy ask on the page.
func asking(b *networkproxy.Builder) { b.AskOnPage().AdminToken(token) }

// withToken makes the admin API require the token.
func withToken(b *networkproxy.Builder) { b.AdminToken(token) }

// attribution returns a session's configuration with a command and a group.
func attribution(command, group string) networkproxy.SessionConfig {
	return networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: command}, Group: group}
}

// hosts returns n host names.
func hosts(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("h%d.refused.example", i)
	}
	return list
}
