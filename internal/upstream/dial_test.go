package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/hostname"
)

// pipe returns a proxy whose connection is one end of a pipe; serve gets the
// other.
func pipe(t *testing.T, serve func(net.Conn)) DialFunc {
	return func(_ context.Context, addr hostname.Target) (net.Conn, error) {
		if addr.String() != "proxy.example:3128" {
			t.Errorf("dialed %s", addr)
		}
		here, there := net.Pipe()
		go serve(there)
		return here, nil
	}
}

func plainProxy(t *testing.T) *Proxy {
	return mustEnviron(t, "HTTP_PROXY=http://user:secret@proxy.example:3128").http
}

// respondWith returns a proxy that reads a request and responds with fixed
// bytes.
func respondWith(bytes string) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, bytes)
		}
	}
}

func TestTunnelRequest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ env, want string }{
		{"http://proxy.example:3128", "CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\n\r\n"},
		{"http://user:secret@proxy.example:3128",
			"CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n"},
	} {
		got := make(chan string, 1)
		proxy := mustEnviron(t, "HTTP_PROXY="+test.env).http
		conn, err := proxy.DialTunnel(t.Context(), pipe(t, func(c net.Conn) {
			b := make([]byte, len(test.want))
			io.ReadFull(c, b)
			got <- string(b)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		}), mustTarget(t, "origin.example:443"))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if got := <-got; got != test.want {
			t.Errorf("sent %q, want %q", got, test.want)
		}
	}
}

// TestTunnelLosesNoBytes checks all forms of a 2xx response, each directly
// followed by the target's first bytes.
func TestTunnelLosesNoBytes(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{
		"the least":          "HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.0":           "HTTP/1.0 200 Connection established\r\n\r\n",
		"without a reason":   "HTTP/1.1 200 \r\n\r\n",
		"fields":             "HTTP/1.1 200 OK\r\nVia: 1.1 x\r\nX-A: b\r\n\r\n",
		"bare line feeds":    "HTTP/1.1 200 OK\nVia: 1.1 x\n\n",
		"another success":    "HTTP/1.1 204 No Content\r\n\r\n",
		"a length, ignored":  "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
		"chunked, ignored":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"informational":      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"closing, or not":    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
		"nearly too large":   "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", maxResponseBytes-40) + "\r\n\r\n",
		"a continuation too": "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const greeting = "SSH-2.0-x\r\n\r\nHTTP/1.1 500 not a header\r\n\r\n"
			conn, err := plainProxy(t).DialTunnel(t.Context(), pipe(t, respondWith(header+greeting)), mustTarget(t, "origin.example:22"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got, err := io.ReadAll(conn); err != nil || string(got) != greeting {
				t.Errorf("read %q, %v; want %q", got, err, greeting)
			}
		})
	}
}

func TestTunnelRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		response string
		status   int
		text     string
	}{
		"403":                             {"HTTP/1.1 403 No\x1b[31m\r\n\r\n<html>", 403, "response status 403 Forbidden"},
		"407":                             {"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", 407, "response status 407 Proxy Authentication Required; give the credentials"},
		"502":                             {"HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, "response status 502 Bad Gateway"},
		"301":                             {"HTTP/1.1 301 x\r\nLocation: http://elsewhere.example/\r\n\r\n", 301, "response status 301 Moved Permanently"},
		"101":                             {"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 101, "response status 101"},
		"an unknown status":               {"HTTP/1.1 599 x\r\n\r\n", 599, "response status 599"},
		"nothing":                         {"", 0, "connection closed before the end of the response header"},
		"half a header":                   {"HTTP/1.1 200 OK\r\nVia: 1", 0, "connection closed before the end of the response header"},
		"another protocol":                {"\x15\x03\x01secret\r\n\r\n", 0, "response is not HTTP/1.1"},
		"too large":                       {"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", maxResponseBytes) + "\r\n\r\n", 0, "response header larger than 65536 bytes"},
		"endless informational responses": {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxResponseBytes/20), 0, "response header larger"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := plainProxy(t).DialTunnel(t.Context(), pipe(t, respondWith(test.response)), mustTarget(t, "origin.example:443"))
			if err == nil {
				conn.Close()
				t.Fatal("DialTunnel succeeded")
			}
			var status *StatusError
			if errors.As(err, &status) != (test.status != 0) || status != nil && status.Status != test.status {
				t.Errorf("status of %v, want %d", err, test.status)
			}
			const proxy = "upstream proxy http://proxy.example:3128 (HTTP_PROXY): "
			if !strings.HasPrefix(err.Error(), proxy) || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("error %q, want %q", err, proxy+test.text)
			}
			if !errors.As(err, new(*Error)) {
				t.Errorf("%T is no *Error", err)
			}
		})
	}
}

func TestDialFails(t *testing.T) {
	t.Parallel()
	cause := errors.New("no route")
	dial := func(context.Context, hostname.Target) (net.Conn, error) { return nil, cause }
	_, err := plainProxy(t).DialTunnel(t.Context(), dial, mustTarget(t, "origin.example:443"))
	if !errors.Is(err, cause) || !errors.As(err, new(*Error)) {
		t.Errorf("got %v", err)
	}
}

// TestTimeouts checks that a silent proxy ends the call at its timeout.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url  string
		want time.Duration
		text string
	}{
		"no response to CONNECT": {"http://proxy.example:3128", responseTimeout, "CONNECT timed out after 1m0s"},
		"no TLS handshake":       {"https://proxy.example:3128", handshakeTimeout, "TLS handshake timed out after 10s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				proxy := mustEnviron(t, "HTTP_PROXY="+test.url).http
				begin := time.Now()
				_, err := proxy.DialTunnel(t.Context(), pipe(t, func(c net.Conn) { io.Copy(io.Discard, c) }), mustTarget(t, "origin.example:443"))
				var timeout interface{ Timeout() bool }
				if !errors.As(err, &timeout) || !timeout.Timeout() || !strings.Contains(err.Error(), test.text) {
					t.Errorf("error %v, want a timeout with %q", err, test.text)
				}
				if took := time.Since(begin); took != test.want {
					t.Errorf("took %v, want %v", took, test.want)
				}
			})
		})
	}
}

// TestCancel checks that canceling ends the call, and that the error says so.
func TestCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		_, err := plainProxy(t).DialTunnel(ctx, pipe(t, func(c net.Conn) { io.Copy(io.Discard, c) }), mustTarget(t, "origin.example:443"))
		if !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// TestTunnelHasNoDeadline checks that the deadline for the response is removed.
func TestTunnelHasNoDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn, err := plainProxy(t).DialTunnel(t.Context(), pipe(t, func(c net.Conn) {
			respondWith("HTTP/1.1 200 OK\r\n\r\n")(unclosable{c})
			time.Sleep(2 * responseTimeout)
			io.WriteString(c, "late")
			c.Close()
		}), mustTarget(t, "origin.example:443"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got, err := io.ReadAll(conn); err != nil || string(got) != "late" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// unclosable ignores Close.
type unclosable struct{ net.Conn }

func (unclosable) Close() error { return nil }

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") == "" {
			t.Errorf("%s, TLS %v", r.Method, r.TLS)
		}
		conn, _, _ := http.NewResponseController(w).Hijack()
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nearly")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	dial := func(ctx context.Context, _ hostname.Target) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}
	target := mustTarget(t, "origin.example:443")

	// The certificate is for example.com and 127.0.0.1.
	for name, test := range map[string]struct {
		host  string
		roots *x509.CertPool
		ok    bool
	}{
		"trusted":      {"example.com", roots, true},
		"an address":   {"127.0.0.1", roots, true},
		"another host": {"other.test", roots, false},
		"not trusted":  {"example.com", nil, false},
		"no roots":     {"example.com", x509.NewCertPool(), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := FromEnviron([]string{"HTTPS_PROXY=https://user:secret@" + test.host}, test.roots)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := p.https.DialTunnel(t.Context(), dial, target)
			if (err == nil) != test.ok {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				if !errors.As(err, new(*tls.CertificateVerificationError)) || strings.Contains(err.Error(), "secret") {
					t.Errorf("error %v", err)
				}
				return
			}
			defer conn.Close()
			if _, ok := conn.(*tls.Conn); !ok {
				t.Errorf("%T is not TLS", conn)
			}
			if got, err := io.ReadAll(conn); err != nil || string(got) != "early" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// TestConnIsNotWrapped checks that a connection without TLS is returned as it
// is, so that splice can be used.
func TestConnIsNotWrapped(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	go respondWith("HTTP/1.1 200 OK\r\n\r\n")(there)
	conn, err := plainProxy(t).DialTunnel(t.Context(), func(context.Context, hostname.Target) (net.Conn, error) { return here, nil }, mustTarget(t, "origin.example:443"))
	if err != nil || conn != here {
		t.Errorf("got %T, %v", conn, err)
	}
	here.Close()
}

func FuzzTunnelResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\n\r\n", "rest")
	f.Add("HTTP/1.0 200 OK\nA: b\n\n", "")
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "\x00")
	f.Add("HTTP/1.1 407 x\r\n\r\n", "rest")
	f.Fuzz(func(t *testing.T, header, rest string) {
		conn, err := plainProxy(t).DialTunnel(t.Context(), pipe(t, respondWith(header+rest)), mustTarget(t, "origin.example:443"))
		if err != nil {
			return
		}
		defer conn.Close()
		// The remaining bytes must be a suffix that begins after a line feed.
		got, err := io.ReadAll(conn)
		taken, ok := strings.CutSuffix(header+rest, string(got))
		if err != nil || !ok || !strings.HasSuffix(taken, "\n") {
			t.Fatalf("of %q were left %q, %v", header+rest, got, err)
		}
	})
}
