package httpproxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/gatetest"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/testnet"
)

// issuer is a certificate authority of the tests.
type issuer struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newIssuer(t testing.TB, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key, pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	template.Subject.CommonName = name
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if i.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	i.pool.AddCert(i.cert)
	return i
}

// issue returns a certificate for a name that is valid for a time from now.
func (i *issuer) issue(name string, valid time.Duration) *tls.Certificate {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(valid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		template.IPAddresses = []net.IP{addr.AsSlice()}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// openedLab is an HTTP front whose policy opens TLS.
type openedLab struct {
	*gatetest.Lab
	t          testing.TB
	proxy      net.Addr
	proxyCA    *issuer // of the leaves
	originCA   *issuer // of the origin servers
	hosts      int
	requestsMu sync.Mutex
	requests   []string // that origin servers have seen, as "METHOD host path"
}

// newOpenedLab starts a front in limited mode with TLS inspection.
func newOpenedLab(t testing.TB) *openedLab {
	t.Helper()
	l := &openedLab{t: t, proxyCA: newIssuer(t, "proxy"), originCA: newIssuer(t, "origin")}
	l.Lab = gatetest.New(t, func(c *gate.Config) { c.OpenedTunnels = 64 }, func(p *policy.Policy) {
		p.Mode = policy.ModeLimited
		p.Inspection = &policy.Inspection{Exempt: gatetest.RuleSets(t, "mitm_exempt_domains", "exempt.test")}
	}, "**.test", "93.184.216.0/24")
	h := httpproxy.New(l.Gate, httpproxy.Config{
		Tokens: new(gate.Tokens), HeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		HeaderBytes: 64 << 10, HeaderFields: 100, ResponseHeaderBytes: 64 << 10, IdleUpstream: 8,
		DialTimeout: 10 * time.Second, HandshakeTimeout: 10 * time.Second,
		Leaf:  func(h hostname.Host) (*tls.Certificate, error) { return l.proxyCA.issue(h.String(), time.Hour), nil },
		Roots: func(hostname.Host) *x509.CertPool { return l.originCA.pool },
	})
	h.Adopt(l.Principal)
	proxy, stop := l.Serve(t, "tcp", "127.0.0.1:0", 256, func(listener *gate.Listener) { h.Serve(listener) })
	l.proxy = proxy
	t.Cleanup(func() {
		h.Shutdown()
		stop()
		h.CloseIdle(l.Principal)
	})
	return l
}

// lead makes name lead to a server, on port 443.
func (l *openedLab) lead(name string, addr net.Addr) {
	l.hosts = l.hosts%250 + 1
	public := netip.AddrFrom4([4]byte{93, 184, 216, byte(l.hosts)})
	l.Resolver.Set(name, testnet.Addrs(public.String()))
	l.Dialer.Map(netip.AddrPortFrom(public, 443), addr)
}

// target returns the target of a name, on port 443.
func (l *openedLab) target(name string) hostname.Target {
	l.t.Helper()
	t, err := hostname.ParseTargetDefault(name, 443)
	if err != nil {
		l.t.Fatal(err)
	}
	return t
}

// origin starts an origin server for name.
func (l *openedLab) origin(name string, http2 bool, handler http.HandlerFunc, change func(*tls.Config)) *httptest.Server {
	l.t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.requestsMu.Lock()
		l.requests = append(l.requests, r.Method+" "+r.Host+" "+r.RequestURI)
		l.requestsMu.Unlock()
		handler(w, r)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*l.originCA.issue(name, time.Hour)}}
	s.EnableHTTP2 = http2
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	if change != nil {
		change(s.TLS)
	}
	s.StartTLS()
	l.t.Cleanup(s.Close)
	l.lead(name, s.Listener.Addr())
	return s
}

// seen returns the requests that origin servers have seen.
func (l *openedLab) seen() []string {
	l.requestsMu.Lock()
	defer l.requestsMu.Unlock()
	return append([]string(nil), l.requests...)
}

// tunnel opens a tunnel with CONNECT.
func (l *openedLab) tunnel(target string) net.Conn {
	l.t.Helper()
	c, response := l.connect(target)
	if !strings.HasPrefix(response, "HTTP/1.1 200") {
		l.t.Fatalf("CONNECT %s: %s", target, response)
	}
	return c
}

func (l *openedLab) connect(target string) (net.Conn, string) {
	l.t.Helper()
	c, err := net.Dial("tcp", l.proxy.String())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	br := bufio.NewReaderSize(c, 16)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		l.t.Fatal(err)
	}
	text := resp.Proto + " " + resp.Status
	if resp.StatusCode != 200 {
		body, _ := io.ReadAll(resp.Body)
		text += "\n" + string(body)
	}
	return c, text
}

// client returns an HTTP client that trusts the proxy's certificates.
func (l *openedLab) client(http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	tr := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			config := &tls.Config{RootCAs: l.proxyCA.pool, ServerName: host, NextProtos: []string{"http/1.1"}}
			if http2 {
				config.NextProtos = []string{"h2"}
			}
			c := tls.Client(l.tunnel(addr), config)
			return c, c.HandshakeContext(ctx)
		},
		Protocols: protocols, DisableCompression: true, ForceAttemptHTTP2: http2,
	}
	l.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// both runs a test over HTTP/1.1 and HTTP/2.
func both(t *testing.T, test func(t *testing.T, l *openedLab, http2 bool)) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP1", true: "HTTP2"}[http2], func(t *testing.T) {
			t.Parallel()
			test(t, newOpenedLab(t), http2)
		})
	}
}

func TestOpenedReadsPassAndWritesDoNot(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		l.origin("a.test", http2, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s over %s", r.RequestURI, r.Proto)
		}, nil)
		c := l.client(http2)
		resp, err := c.Get("https://a.test/x/%7Eu?a=%20&b=+")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if want := "/x/%7Eu?a=%20&b=+ over HTTP/" + map[bool]string{false: "1.1", true: "2.0"}[http2]; string(body) != want {
			t.Errorf("the body is %q, want %q", body, want)
		}
		resp, err = c.Post("https://a.test/y", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ = io.ReadAll(resp.Body)
		if resp.StatusCode != 403 || !bytes.Contains(body, []byte(`"reason":"method_not_allowed"`)) || resp.Header.Get("X-Proxy-Error") != "blocked-by-method-policy" {
			t.Errorf("POST: %d %s %v", resp.StatusCode, body, resp.Header)
		}
		if got := l.seen(); len(got) != 1 {
			t.Errorf("the origin server saw %q, want the GET alone", got)
		}
		blocked, _ := l.Gate.Blocked.List()
		if len(blocked) != 1 || blocked[0].Protocol != policy.ProtocolHTTPS || blocked[0].Method != "POST" {
			t.Errorf("recorded: %+v", blocked)
		}
	})
}

// newPlainOrigin starts a server that writes what it receives to w, and answers every
// request with 200. Its Close waits for its connections.
func newPlainOrigin(t testing.TB, w io.Writer) *plainOrigin {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &plainOrigin{Listener: inner}
	t.Cleanup(func() { s.Close() })
	s.serving.Go(func() {
		for {
			c, err := inner.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() {
				defer c.Close()
				br := bufio.NewReader(io.TeeReader(c, w))
				for {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					io.Copy(io.Discard, r.Body)
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
		}
	})
	return s
}

type plainOrigin struct {
	net.Listener
	serving sync.WaitGroup
}

func (s *plainOrigin) Close() error {
	err := s.Listener.Close()
	s.serving.Wait()
	return err
}

// withEarlyHints sends the Link field of a 103 response to hints.
func withEarlyHints(r *http.Request, hints chan<- string) *http.Request {
	return r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints {
				hints <- header.Get("Link")
			}
			return nil
		},
	}))
}
