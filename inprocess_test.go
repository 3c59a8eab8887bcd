// Tests of the host's own requests, which have the same policy and no listener.

package networkproxy_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// secure makes name:443 lead to an HTTPS server and returns its roots.
func (l *lab) secure(name string, handler http.HandlerFunc) *x509.CertPool {
	l.t.Helper()
	s := httptest.NewUnstartedServer(handler) // its certificate is for example.com
	return l.startTLS(name, s)
}

// startTLS starts s, makes name:443 lead to it, and returns its roots.
func (l *lab) startTLS(name string, s *httptest.Server) *x509.CertPool {
	l.t.Helper()
	s.StartTLS()
	l.t.Cleanup(s.Close)
	l.mapHost(name, 443, s.Listener.Addr())
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return roots
}

// inProcess returns a client that uses Handle.Transport.
func (l *lab) inProcess(a networkproxy.Attribution, roots *x509.CertPool) *http.Client {
	l.t.Helper()
	rt := l.Transport(a)
	if roots != nil {
		networkproxy.SetRootCAs(rt, roots)
	}
	c := &http.Client{Transport: rt}
	l.t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestTransport(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []networkproxy.PolicyRequest
	config := allow("example.com", "inner.example")
	config.Policy.DeniedDomains = []string{"denied.example"}
	l := start(t, config, func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, req)
			if req.Host == "asked.example" {
				return networkproxy.Allow(), nil
			}
			return networkproxy.Deny("not needed"), nil
		})
	})
	echo := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
		io.WriteString(w, r.Host+r.URL.RequestURI())
	}
	l.origin("example.com", 80, echo)
	l.origin("asked.example", 80, echo)
	l.mapHost("example.com", 8080, l.origin("unused.example", 80, echo).Listener.Addr())
	roots := l.secure("example.com", echo)
	l.dns.Set("inner.example", testnet.Addrs("10.0.0.7"))
	client := l.inProcess(networkproxy.Attribution{Command: "fetch tool", ExecPolicyHint: "hint"}, roots)

	for _, test := range []struct {
		name, url, host string
		want            string // the body, or "!" and the reason of the refusal
	}{
		{"http", "http://example.com/a%2Fb?q=1", "", "body example.com/a%2Fb?q=1"},
		{"http, another port", "http://example.com:8080/", "", "body example.com:8080/"},
		{"https", "https://example.com/", "", "body example.com/"},
		{"https, another spelling", "https://EXAMPLE.com.:443/", "", "body example.com/"},
		{"https, its own Host", "https://example.com/", "virtual.example", "body virtual.example/"},
		{"http, another Host", "http://example.com/", "other.example", "body example.com/"},
		{"http, allowed by the decider", "http://asked.example/", "", "body asked.example/"},
		{"http, refused by the decider", "http://other.example/", "", "!not needed"},
		{"https, refused by the decider", "https://other.example/", "", "!not needed"},
		{"denied", "https://denied.example/", "", "!denied"},
		{"local", "http://127.0.0.1/", "", "!not_allowed_local"},
		{"local by name", "https://inner.example/", "", "!not_allowed_local"},
		{"the proxy itself", "http://" + l.AdminAddr() + "/health", "", "!not_allowed_local"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(l.Blocked())
			r, err := http.NewRequest("POST", test.url, strings.NewReader("body "))
			if err != nil {
				t.Fatal(err)
			}
			if test.host != "" {
				r.Host = test.host
			}
			resp, err := client.Do(r)
			reason, refused := strings.CutPrefix(test.want, "!")
			if !refused {
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if body, err := io.ReadAll(resp.Body); string(body) != test.want || err != nil {
					t.Errorf("got the body %q, %v; want %q", body, err, test.want)
				}
				return
			}
			var refusal *networkproxy.RefusedError
			if !errors.As(err, &refusal) || string(refusal.Verdict.Reason) != reason {
				t.Fatalf("got the error %v, want a refusal with the reason %s", err, reason)
			}
			blocked := l.Blocked()
			if len(blocked) != before+1 || blocked[before].Command != "fetch tool" {
				t.Errorf("got the records %+v", blocked[before:])
			}
		})
	}
	for _, req := range asked {
		want := networkproxy.ProtocolHTTP
		if req.Method == http.MethodConnect {
			want = networkproxy.ProtocolHTTPSConnect
		}
		if req.Command != "fetch tool" || req.ExecPolicyHint != "hint" || req.Protocol != want {
			t.Errorf("the decider got %+v", req)
		}
	}
	if len(asked) != 3 {
		t.Errorf("the decider was called %d times, want 3", len(asked))
	}
	for _, name := range l.dns.Queries() {
		if strings.HasPrefix(name, "other") || strings.HasPrefix(name, "denied") {
			t.Errorf("looked up %s", name)
		}
	}
}

func TestTransportInLimitedMode(t *testing.T) {
	t.Parallel()
	config := allow("example.com")
	config.Mode = networkproxy.ModeLimited
	l := start(t, config, nil)
	l.origin("example.com", 80, func(http.ResponseWriter, *http.Request) {})
	client := l.inProcess(networkproxy.Attribution{}, nil)
	for _, test := range []struct {
		method, url string
		refused     bool
	}{{"GET", "http://example.com/", false}, {"POST", "http://example.com/", true}, {"GET", "https://example.com/", true}} {
		r, _ := http.NewRequest(test.method, test.url, nil)
		resp, err := client.Do(r)
		if err == nil {
			resp.Body.Close()
		}
		var refusal *networkproxy.RefusedError
		if errors.As(err, &refusal) != test.refused {
			t.Errorf("%s %s: got the error %v", test.method, test.url, err)
		}
	}
}

// closer records its Close.
type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error {
	c.closed = true
	return nil
}

func TestTransportKeepsTheContract(t *testing.T) {
	t.Parallel()
	l := start(t, allow("example.com"), nil)
	l.origin("example.com", 80, func(http.ResponseWriter, *http.Request) {})
	rt := l.Transport(networkproxy.Attribution{})
	for _, url := range []string{"http://example.com/", "http://other.example/", "http://2130706433/", "ftp://example.com/", "http:///"} {
		body := &closer{Reader: strings.NewReader("content")}
		r, err := http.NewRequest("POST", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body, r.ContentLength = body, 7
		u, host := *r.URL, r.Host
		resp, err := rt.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != (url == "http://example.com/") {
			t.Errorf("%s: got the error %v", url, err)
		}
		if !body.closed {
			t.Errorf("%s: the body was not closed", url)
		}
		if *r.URL != u || r.Host != host {
			t.Errorf("%s: the request was changed", url)
		}
	}
	rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
}

func TestInProcessConnectionsFollowThePolicy(t *testing.T) {
	testnet.CheckLeaks(t)
	l := start(t, allow("example.com", "echo.example"), nil)
	release := make(chan struct{})
	roots := l.secure("example.com", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			http.NewResponseController(w).Flush()
			<-release
		}
	})
	l.mapHost("echo.example", 22, testnet.Echo(t).Addr())
	client := l.inProcess(networkproxy.Attribution{}, roots)
	dial := l.DialContext(networkproxy.Attribution{})

	conn, err := dial(context.Background(), "tcp", "echo.example:22")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echoes(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get("https://example.com/slow")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := errors.Join(l.DenyDomain("example.com"), l.DenyDomain("echo.example")); err != nil {
		t.Fatal(err)
	}
	var refusal *networkproxy.RefusedError
	if _, err := io.ReadAll(resp.Body); !errors.As(err, &refusal) {
		t.Errorf("reading after a deny: got the error %v", err)
	}
	if err := echoes(conn); err == nil {
		t.Error("a connection is still open after a deny")
	}
	if _, err := client.Get("https://example.com/"); !errors.As(err, &refusal) || refusal.Verdict.Reason != networkproxy.ReasonDenied {
		t.Errorf("a request after a deny: got the error %v", err)
	}
	close(release)

	if err := errors.Join(l.RemoveDomain("example.com"), l.RemoveDomain("echo.example")); err != nil {
		t.Fatal(err)
	}
	if conn, err = dial(context.Background(), "tcp", "echo.example:22"); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l.Close()
	if err := echoes(conn); err == nil {
		t.Error("a connection is still open after the end of the proxy")
	}
	if _, err := dial(context.Background(), "tcp", "echo.example:22"); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("dial after the end: got the error %v", err)
	}
	if _, err := dial(context.Background(), "tcp", "miss.example:22"); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("dial of a host that is not allowed, after the end: got the error %v", err)
	}
	if _, err := client.Get("https://example.com/"); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("request after the end: got the error %v", err)
	}
}

// After an upgrade, a policy change still ends the connection.
func TestSwitchedConnectionsFollowThePolicy(t *testing.T) {
	t.Parallel()
	const name = "example.com" // the name in httptest's certificate
	for _, scheme := range []string{"http", "https"} {
		for _, test := range []struct {
			how    string
			change func(*lab) error
		}{
			{"deny", func(l *lab) error { return l.DenyDomain(name) }},
			{"limited", func(l *lab) error { return l.SetMode(networkproxy.ModeLimited) }},
			{"end", func(l *lab) error { return l.Close() }},
		} {
			t.Run(scheme+", "+test.how, func(t *testing.T) {
				t.Parallel()
				l := start(t, allow(name), nil)
				handler := func(w http.ResponseWriter, _ *http.Request) {
					c, rw, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					io.WriteString(c, upgradeResponse)
					io.Copy(c, rw)
				}
				l.origin(name, 80, handler)
				client := l.inProcess(networkproxy.Attribution{}, l.secure(name, handler))
				r, err := http.NewRequestWithContext(t.Context(), "GET", scheme+"://"+name+"/", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "websocket")
				resp, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				conn := resp.Body.(io.ReadWriter)
				say := func() error {
					if _, err := io.WriteString(conn, "said"); err != nil {
						return err
					}
					_, err := io.ReadFull(conn, make([]byte, len("said")))
					return err
				}
				if err := say(); err != nil {
					t.Fatal(err)
				}
				if err := test.change(l); err != nil {
					t.Fatal(err)
				}
				err = say()
				var refusal *networkproxy.RefusedError
				if err == nil || test.how != "end" && !errors.As(err, &refusal) {
					t.Errorf("after the change: got the error %v", err)
				}
			})
		}
	}
}

func TestDialContext(t *testing.T) {
	t.Parallel()
	l := start(t, allow("echo.example"), nil)
	l.mapHost("echo.example", 22, testnet.Echo(t).Addr())
	dial := l.DialContext(networkproxy.Attribution{Command: "db"})
	for _, test := range []struct {
		network, addr string
		want          networkproxy.Reason // "-": another error
	}{
		{"tcp", "echo.example:22", ""},
		{"tcp", "other.example:22", "not_allowed"},
		{"tcp", "127.0.0.1:22", "not_allowed_local"},
		{"tcp", "echo.example", "-"},
		{"tcp", "echo.example:0", "-"},
		{"tcp4", "echo.example:22", "-"},
		{"udp", "echo.example:22", "-"},
		{"unix", "/run/docker.sock", "-"},
	} {
		conn, err := dial(t.Context(), test.network, test.addr)
		var refusal *networkproxy.RefusedError
		switch {
		case test.want == "":
			if err != nil {
				t.Errorf("%s: %v", test.addr, err)
				continue
			}
			if err := echoes(conn); err != nil {
				t.Errorf("%s: %v", test.addr, err)
			}
			conn.Close()
		case err == nil:
			conn.Close()
			t.Errorf("%s %s: got no error", test.network, test.addr)
		case errors.As(err, &refusal) != (test.want != "-"):
			t.Errorf("%s %s: %v", test.network, test.addr, err)
		case test.want != "-" && (refusal.Verdict.Reason != test.want || refusal.Host+":22" != test.addr):
			t.Errorf("%s %s: got the error %v, want the reason %s", test.network, test.addr, err, test.want)
		}
	}
	if blocked := l.Blocked(); len(blocked) != 2 || blocked[0].Command != "db" || blocked[0].Protocol != networkproxy.ProtocolHTTPSConnect {
		t.Errorf("got the records %+v", blocked)
	}
	var _ func(context.Context, string, string) (net.Conn, error) = (&http.Transport{DialContext: dial}).DialContext
}
