package httpproxy_test

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/networkproxy/internal/policy"
)

// TestOpenedOriginCertificate: verification is never weaker than that of a client, and
// the client is told in its own protocol.
func TestOpenedOriginCertificate(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		for _, tt := range []struct {
			name   string
			change func(*tls.Config)
			text   string
			reason string
		}{
			{"expired.test", func(c *tls.Config) { c.Certificates = []tls.Certificate{*l.originCA.issue("expired.test", -time.Hour)} }, "expired", "upstream_certificate"},
			{"wrongname.test", func(c *tls.Config) { c.Certificates = []tls.Certificate{*l.originCA.issue("other.test", time.Hour)} }, "other.test", "upstream_certificate"},
			{"unknown.test", func(c *tls.Config) {
				c.Certificates = []tls.Certificate{*newIssuer(t, "x").issue("unknown.test", time.Hour)}
			}, "unknown authority", "upstream_certificate"},
			{"mutual.test", func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }, "client certificate", "client_certificate_required"},
			{"mutual12.test", func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }, "client certificate", "client_certificate_required"},
		} {
			l.origin(tt.name, http2, hello, tt.change)
			c := l.client(http2)
			for range 2 {
				resp, err := c.Get("https://" + tt.name + "/")
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
					continue
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 502 || !strings.Contains(string(body), tt.text) || !strings.Contains(string(body), `"reason":"`+tt.reason+`"`) {
					t.Errorf("%s: %d %s; want 502 and %q", tt.name, resp.StatusCode, body, tt.text)
				}
				if token := resp.Header.Get("X-Proxy-Error"); token != "" {
					t.Errorf("%s: X-Proxy-Error is %q, want none", tt.name, token)
				}
			}
		}
		if got := l.seen(); len(got) > 0 {
			t.Errorf("origin servers saw %q", got)
		}
	})
}

// TestOpenedMirrorsProtocol: the client gets what the origin server speaks.
func TestOpenedMirrorsProtocol(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		server []string // the protocols of the server; nil means that it knows no ALPN
		offer  []string
		want   string
		status int
	}{
		{"both", []string{"h2", "http/1.1"}, []string{"h2", "http/1.1"}, "h2", 200},
		{"the server has HTTP/1.1 alone", []string{"http/1.1"}, []string{"h2", "http/1.1"}, "http/1.1", 200},
		{"the server has no ALPN", nil, []string{"h2", "http/1.1"}, "http/1.1", 200},
		{"the client offers HTTP/1.1", []string{"h2", "http/1.1"}, []string{"http/1.1"}, "http/1.1", 200},
		{"the client offers nothing", []string{"h2", "http/1.1"}, nil, "", 200},
		{"the client offers something else, too", []string{"h2", "http/1.1"}, []string{"spdy/3", "http/1.1"}, "http/1.1", 200},
		{"the client offers HTTP/2 alone", []string{"http/1.1"}, []string{"h2"}, "h2", 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newOpenedLab(t)
			var protocol atomic.Value
			l.origin("a.test", len(tt.server) == 2, func(w http.ResponseWriter, r *http.Request) { protocol.Store(r.Proto) }, func(c *tls.Config) { c.NextProtos = tt.server })
			c := tls.Client(l.tunnel("a.test:443"), &tls.Config{RootCAs: l.proxyCA.pool, ServerName: "a.test", NextProtos: tt.offer})
			if err := c.Handshake(); err != nil {
				if tt.status == 502 {
					return // the server refuses the offer, and so does the proxy
				}
				t.Fatal(err)
			}
			if got := c.ConnectionState().NegotiatedProtocol; got != tt.want {
				t.Fatalf("the protocol is %q, want %q", got, tt.want)
			}
			if tt.want == "h2" {
				tr := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
				defer tr.CloseIdleConnections()
				resp, err := tr.RoundTrip(mustRequest("GET", "https://a.test/"))
				if err != nil || resp.StatusCode != tt.status || tt.status == 200 && protocol.Load() != "HTTP/2.0" {
					t.Fatalf("%v, %v; the server saw %v", resp, err, protocol.Load())
				}
				resp.Body.Close()
				return
			}
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != 200 || protocol.Load() != "HTTP/1.1" {
				t.Fatalf("%v, %v; the server saw %v", resp, err, protocol.Load())
			}
		})
	}
}

func mustRequest(method, url string) *http.Request {
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		panic(err)
	}
	return r
}

// TestOpenedOriginClosesIdle: one more connection, verified again.
func TestOpenedOriginClosesIdle(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		s := l.origin("a.test", http2, hello, nil)
		c := l.client(http2)
		get := func() (int, string) {
			resp, err := c.Get("https://a.test/")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			return resp.StatusCode, string(body)
		}
		get()
		s.CloseClientConnections()
		if status, body := get(); status != 200 {
			t.Errorf("after the origin server closed the connection: %d %s", status, body)
		}
		s.TLS.Certificates[0] = *newIssuer(t, "other").issue("a.test", time.Hour)
		s.TLS.SetSessionTicketKeys([][32]byte{{1}})
		s.CloseClientConnections()
		if status, body := get(); status != 502 || !strings.Contains(body, "upstream_certificate") {
			t.Errorf("after the certificate changed: %d %s", status, body)
		}
	})
}

// TestOpenedStreams: nothing waits for the end of a body, in either direction.
func TestOpenedStreams(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		l.Install(openAll(l))
		l.origin("a.test", http2, func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			rc.EnableFullDuplex()
			w.Header().Set("Trailer", "X-Announced")
			w.Header().Set("Alt-Svc", `h3=":443"`)
			w.Header().Set("Link", "</early>")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.WriteHeader(200)
			rc.Flush() // the server answers before the client has sent its body
			br := bufio.NewReader(r.Body)
			for {
				line, err := br.ReadString('\n')
				if err != nil {
					break
				}
				io.WriteString(w, "echo "+line)
				rc.Flush()
			}
			w.Header().Set("X-Announced", r.Trailer.Get("X-Request"))
			w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
		}, nil)
		pr, pw := io.Pipe()
		r, _ := http.NewRequest("POST", "https://a.test/", pr)
		r.Trailer = http.Header{"X-Request": {"sent"}}
		hints := make(chan string, 1)
		r = withEarlyHints(r, hints)
		resp, err := l.client(http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := <-hints; got != "</early>" {
			t.Errorf("early hints: %q", got)
		}
		if resp.Header.Get("Alt-Svc") != "" {
			t.Error("Alt-Svc was passed on")
		}
		br := bufio.NewReader(resp.Body)
		for i := range 3 {
			fmt.Fprintf(pw, "line %d\n", i)
			if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("echo line %d\n", i) {
				t.Fatalf("line %d: %q, %v", i, line, err)
			}
		}
		pw.Close()
		if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
			t.Errorf("the rest is %q, %v", rest, err)
		}
		if resp.Trailer.Get("X-Announced") != "sent" {
			t.Errorf("trailers: %v, want the value of the request's trailer", resp.Trailer)
		}
		if resp.Trailer.Get("X-Late") != "yes" {
			t.Errorf("trailers: %v, want X-Late", resp.Trailer)
		}
	})
}

// TestOpenedExpect: the body of a refused request is never asked for.
func TestOpenedExpect(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		l.Install(openAll(l))
		l.origin("a.test", http2, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }, nil)
		c := l.client(http2)
		c.Transport.(*http.Transport).ExpectContinueTimeout = 20 * time.Second
		send := func() (*http.Response, *countingReader) {
			body := &countingReader{r: strings.NewReader("hello")}
			r, _ := http.NewRequest("POST", "https://a.test/", body)
			r.ContentLength = 5
			r.Header.Set("Expect", "100-continue")
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			return resp, body
		}
		resp, _ := send()
		if got, _ := io.ReadAll(resp.Body); string(got) != "hello" {
			t.Errorf("the body is %q", got)
		}
		resp.Body.Close()
		l.Install(func(p *policy.Policy) {})
		resp, body := send()
		resp.Body.Close()
		if resp.StatusCode != 403 || body.n.Load() != 0 {
			t.Errorf("refused with %d after %d bytes of the body; want 403 and none", resp.StatusCode, body.n.Load())
		}
	})
}

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (r *countingReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.n.Add(int64(n))
	return n, err
}

// TestOpenedUpgrade: a WebSocket is a request, and then a tunnel between both TLS
// connections.
func TestOpenedUpgrade(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("the first request %t", first), func(t *testing.T) {
			t.Parallel()
			l := newOpenedLab(t)
			l.Install(openAll(l))
			l.origin("a.test", false, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") == "" {
					return
				}
				c, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				io.Copy(c, rw)
			}, nil)
			c := tls.Client(l.tunnel("a.test:443"), &tls.Config{RootCAs: l.proxyCA.pool, ServerName: "a.test"})
			br := bufio.NewReader(c)
			if !first {
				fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
				if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
					t.Fatal(resp, err)
				}
			}
			fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 101 {
				t.Fatalf("%v, %v; want status 101", resp, err)
			}
			for range 3 {
				io.WriteString(c, "ping")
				got := make([]byte, 4)
				if _, err := io.ReadFull(br, got); err != nil || string(got) != "ping" {
					t.Fatalf("%q, %v", got, err)
				}
			}
			l.Install(func(p *policy.Policy) {}) // limited
			if _, err := br.ReadByte(); err == nil {
				t.Error("the tunnel goes on in limited mode")
			}
			d := tls.Client(l.tunnel("a.test:443"), &tls.Config{RootCAs: l.proxyCA.pool, ServerName: "a.test"})
			fmt.Fprint(d, "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			if resp, err := http.ReadResponse(bufio.NewReader(d), nil); err != nil || resp.StatusCode != 403 {
				t.Errorf("in limited mode: %v, %v; want 403", resp, err)
			}
			c.Close()
			d.Close()
			await(t, "no request and no connection is in the set", func() bool { return l.Gate.Live.Len() == 0 })
		})
	}
}

// TestOpenedDialPanics: a request whose dial panics leaves the set of open requests, and
// gives back the place of its tunnel.
func TestOpenedDialPanics(t *testing.T) {
	t.Parallel()
	l := newOpenedLab(t)
	l.origin("a.test", false, hello, nil)
	l.Install(func(p *policy.Policy) { p.Mode = policy.ModeFull })
	connect := l.Gate.Dialer.Connect
	l.Gate.Dialer.Connect = func(context.Context, netip.AddrPort) (*net.TCPConn, error) { panic("out of order") }
	for _, request := range []string{
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
		"GET https://a.test/ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		for range 65 { // more than the places for opened tunnels
			c, err := net.Dial("tcp", l.proxy.String())
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(30 * time.Second))
			io.WriteString(c, request)
			if got, err := io.ReadAll(c); len(got) != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%.10s: got %q, %v; want the end of the connection", request, got, err)
			}
			c.Close()
		}
		await(t, "no request is in the set", func() bool { return l.Gate.Live.Len() == 0 })
	}
	l.Gate.Dialer.Connect = connect
	l.tunnel("a.test:443")
}

// TestOpenedDistrust: a client that does not trust the certificate is recorded, once a
// minute.
func TestOpenedDistrust(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		l := newOpenedLab(t)
		l.origin("a.test", true, hello, nil)
		for range 3 {
			c := tls.Client(l.tunnel("a.test:443"), &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "a.test", MaxVersion: version})
			if err := c.Handshake(); err == nil {
				t.Fatal("the client trusts the certificate")
			}
			c.Close()
		}
		await(t, "the record", func() bool { return l.reasons() == "certificate_distrusted" })
	}
}

// TestOpenedECH: a client that sends an Encrypted Client Hello (RFC 9849) learns that the
// server has no keys for it. That the client leaves then is no sign of distrust.
func TestOpenedECH(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		l.origin("a.test", http2, hello, nil)
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		vector := func(parts ...[]byte) []byte {
			b := slices.Concat(parts...)
			return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
		}
		// X25519, HKDF-SHA256 and AES-128-GCM; the public name is that of the tunnel.
		list := vector([]byte{0xfe, 0x0d}, vector([]byte{1, 0, 0x20}, vector(key.PublicKey().Bytes()), vector([]byte{0, 1, 0, 1}), []byte("\x00\x06a.test\x00\x00")))
		c := tls.Client(l.tunnel("a.test:443"), &tls.Config{
			RootCAs: l.proxyCA.pool, ServerName: "hidden.test", EncryptedClientHelloConfigList: list,
			NextProtos: []string{map[bool]string{true: "h2", false: "http/1.1"}[http2]},
		})
		rejected := (*tls.ECHRejectionError)(nil)
		if err := c.Handshake(); !errors.As(err, &rejected) || len(rejected.RetryConfigList) > 0 {
			t.Errorf("the handshake: %v, want that ECH is rejected without new keys", err)
		}
		c.Close()
		await(t, "the tunnel has ended", func() bool { return l.Gate.Live.Len() == 0 })
		if got := l.reasons(); got != "" {
			t.Errorf("the records have the reasons %q, want none", got)
		}
		if got := l.seen(); len(got) > 0 {
			t.Errorf("the origin server saw %q", got)
		}
	})
}

// TestHTTPSInAbsoluteForm: the proxy opens TLS to the origin server itself, and judges
// the request as one inside a tunnel. Neither mitm nor an exemption matter.
func TestHTTPSInAbsoluteForm(t *testing.T) {
	t.Parallel()
	l := newOpenedLab(t)
	l.origin("a.test", true, hello, nil)
	l.origin("exempt.test", true, hello, nil)
	l.origin("expired.test", true, hello, func(c *tls.Config) { c.Certificates = []tls.Certificate{*l.originCA.issue("expired.test", -time.Hour)} })
	l.Install(func(p *policy.Policy) { p.Inspection = nil })
	c, err := net.Dial("tcp", l.proxy.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for _, tt := range []struct {
		request string
		status  int
		text    string
	}{
		{"GET https://a.test/x", 200, "hello"},
		{"GET https://a.test:443/y", 200, "hello"},
		{"GET https://exempt.test/", 200, "hello"},
		{"POST https://a.test/x", 403, "method_not_allowed"},
		{"GET https://denied.test/", 403, "denied"},
		{"GET https://elsewhere.example/", 403, "not_allowed"},
		{"GET https://expired.test/", 502, "upstream_certificate"},
	} {
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", tt.request)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.request, err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.text) {
			t.Errorf("%s: %d %s, want %d and %q", tt.request, resp.StatusCode, body, tt.status, tt.text)
		}
		if resp.Close {
			c.Close()
			if c, err = net.Dial("tcp", l.proxy.String()); err != nil {
				t.Fatal(err)
			}
			br.Reset(c)
		}
	}
	if got := strings.Join(l.seen(), ", "); got != "GET a.test /x, GET a.test /y, GET exempt.test /" {
		t.Errorf("origin servers saw %s", got)
	}
}

// TestOpenedAddsNothing: what the origin server leaves out stays out.
func TestOpenedAddsNothing(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		var got http.Header
		l.origin("a.test", http2, func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Clone()
			w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
			io.WriteString(w, "<html>")
		}, nil)
		r := mustRequest("GET", "https://a.test/")
		r.Header["User-Agent"] = nil
		resp, err := l.client(http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for _, name := range []string{"Date", "Content-Type"} {
			if values := resp.Header.Values(name); !http2 && name == "Date" {
				continue // HTTP/1.1 has a date (RFC 9110 section 6.6.1)
			} else if len(values) > 0 {
				t.Errorf("the client got %s: %q", name, values)
			}
		}
		if len(got) > 0 {
			t.Errorf("the origin server got %v", got)
		}
	})
}

// TestOpenedOptionsAsterisk: OPTIONS * is for the origin server.
func TestOpenedOptionsAsterisk(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		s := l.origin("a.test", http2, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Asked", r.RequestURI) }, nil)
		s.Config.DisableGeneralOptionsHandler = true
		r := mustRequest("OPTIONS", "https://a.test")
		r.URL.Opaque = "*"
		resp, err := l.client(http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("X-Asked"); got != "*" {
			t.Errorf("the origin server was asked for %q, want *", got)
		}
	})
}
