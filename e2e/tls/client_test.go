//go:build e2e && linux

// This file has the client of the tests: net/http through the proxy, over each version of
// HTTP, and raw connections.

package tls

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	neturl "net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy/e2e/harness"
)

// The versions of HTTP, as ALPN names them.
const (
	http1 = "http/1.1"
	http2 = "h2"
)

// route is how a client reaches an origin server.
type route string

const (
	byConnect route = "CONNECT"
	bySOCKS   route = "SOCKS5"
	direct    route = "direct" // without the proxy
)

// eachVersion runs a test over HTTP/1.1 and over HTTP/2.
func eachVersion(t *testing.T, test func(t *testing.T, version string)) {
	t.Helper()
	for _, version := range []string{http1, http2} {
		t.Run(strings.ReplaceAll(version, "/", ""), func(t *testing.T) {
			t.Parallel()
			test(t, version)
		})
	}
}

// eachWay runs a test with the proxy variables and in a fence.
func eachWay(t *testing.T, test func(t *testing.T, flags []string)) {
	t.Helper()
	for name, flags := range map[string][]string{"proxy": nil, "fence": {"-fence"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, flags)
		})
	}
}

// client is an HTTP client for one version. Its connections end with the test.
type client struct {
	*http.Client
	version string
}

// client returns a client of p that trusts both the proxy and the origin servers.
func (p *proxy) client(t *testing.T, version string) client {
	t.Helper()
	return p.clientBy(t, byConnect, version)
}

func (p *proxy) clientBy(t *testing.T, by route, version string) client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: p.pool},
		Protocols:       new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(version == http1)
	transport.Protocols.SetHTTP2(version == http2)
	if version == http1 {
		transport.TLSClientConfig.NextProtos = []string{http1}
	}
	switch by {
	case byConnect:
		transport.Proxy = http.ProxyURL(&neturl.URL{Scheme: "http", Host: p.http})
	case bySOCKS:
		transport.Proxy = http.ProxyURL(&neturl.URL{Scheme: "socks5", Host: p.socks})
	}
	t.Cleanup(transport.CloseIdleConnections)
	return client{&http.Client{Transport: transport, Timeout: 4 * harness.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, version}
}

// answer is a response.
type answer struct {
	status        int
	proto         string
	header        http.Header
	trailer       http.Header
	body          string
	leaf          *x509.Certificate // of the server; nil without TLS
	informational []int             // statuses of informational responses
	hints         http.Header       // of the last informational response
	reused        bool              // the connection was used before
}

// do sends a request and reads the response.
func (c client) do(t *testing.T, req *http.Request) answer {
	t.Helper()
	a, err := c.try(req)
	if err != nil {
		t.Fatalf("%s %s over %s: %v", req.Method, req.URL, c.version, err)
	}
	if want := map[string]string{http1: "HTTP/1.1", http2: "HTTP/2.0"}[c.version]; a.proto != want {
		t.Fatalf("%s %s: the response has version %s, want %s", req.Method, req.URL, a.proto, want)
	}
	return a
}

func (c client) try(req *http.Request) (a answer, err error) {
	trace := &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			a.informational, a.hints = append(a.informational, code), http.Header(header)
			return nil
		},
		GotConn: func(info httptrace.GotConnInfo) { a.reused = info.Reused },
	}
	resp, err := c.Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, fmt.Errorf("read the body after %s: %w", resp.Status, err)
	}
	a.status, a.proto, a.header, a.trailer, a.body = resp.StatusCode, resp.Proto, resp.Header, resp.Trailer, string(body)
	if resp.TLS != nil {
		a.leaf = resp.TLS.PeerCertificates[0]
	}
	return a, nil
}

// request returns a request. Its context has no deadline, because the client has one.
func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// send sends a request with a method and a body.
func (c client) send(t *testing.T, method, url, body string) answer {
	t.Helper()
	return c.do(t, request(t, method, url, body))
}

func (c client) get(t *testing.T, url string) answer {
	t.Helper()
	return c.send(t, "GET", url, "")
}

// opened reports whether a proxy has issued the certificate.
func (a answer) opened(p *proxy) bool {
	return a.leaf != nil && p.ca != nil && a.leaf.CheckSignatureFrom(p.ca) == nil
}

// seen decodes the request that an origin server has sent back.
func (a answer) seen(t *testing.T) (s seen) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatalf("status %d, not a request: %v: %q", a.status, err, a.body)
	}
	return s
}

// wantStatus fails the test unless the response has the status.
func (a answer) wantStatus(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %v %s", a.status, status, a.header, a.body)
	}
	return a
}

// wantRefusal fails the test unless the response is a refusal in JSON, and returns it.
func (a answer) wantRefusal(t *testing.T, status int, reason, proxyError string) refusal {
	t.Helper()
	a.wantStatus(t, status)
	var r struct {
		refusal
		Status string
	}
	if err := json.Unmarshal([]byte(a.body), &r); err != nil {
		t.Fatalf("the refusal is not JSON: %v: %q", err, a.body)
	}
	if r.Reason != reason || r.Protocol != "https" {
		t.Errorf("the refusal is %+v, want the reason %s and the protocol https", r, reason)
	}
	if got := a.header.Get("X-Proxy-Error"); got != proxyError {
		t.Errorf("x-proxy-error %q, want %q", got, proxyError)
	}
	if r.Message == "" {
		t.Error("the refusal has no message")
	}
	return r.refusal
}

// tunnel opens a tunnel with CONNECT and returns the connection after the response.
func (p *proxy) tunnel(t *testing.T, target string) net.Conn {
	t.Helper()
	conn, err := p.tryTunnel(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (p *proxy) tryTunnel(target string) (net.Conn, error) {
	conn, err := net.Dial("tcp", p.http)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(harness.Timeout))
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target)
	// Read bytes one by one: what follows belongs to the tunnel.
	head := bufio.NewReaderSize(oneByte{conn}, 16)
	resp, err := http.ReadResponse(head, &http.Request{Method: "CONNECT"})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("CONNECT %s: %w", target, err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 2000))
		conn.Close()
		return nil, &connectError{resp.StatusCode, resp.Header, string(text)}
	}
	return conn, nil
}

// oneByte reads one byte at a time.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.r.Read(b[:1]) }

// connectError is the refusal of a CONNECT.
type connectError struct {
	status int
	header http.Header
	text   string
}

func (e *connectError) Error() string { return fmt.Sprintf("CONNECT: status %d: %s", e.status, e.text) }

// tls opens TLS for a name in a tunnel to a target.
func (p *proxy) tls(t *testing.T, target, name string, alpn ...string) *tls.Conn {
	t.Helper()
	conn := tls.Client(p.tunnel(t, target), &tls.Config{ServerName: name, RootCAs: p.pool, NextProtos: alpn})
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatalf("TLS for %s in a tunnel to %s: %v", name, target, err)
	}
	return conn
}

// exchange writes a raw request and reads a response.
func exchange(t *testing.T, conn net.Conn, raw string) answer {
	t.Helper()
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no response to %q: %v", raw, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
}

// raw sends a request as text inside a new tunnel to host:443.
func (p *proxy) raw(t *testing.T, host, text string) answer {
	t.Helper()
	return exchange(t, p.tls(t, host+":443", host, http1), text)
}

// deadline bounds a wait.
type deadline struct{ at time.Time }

func newDeadline() deadline { return deadline{time.Now().Add(10 * time.Second)} }

// passed waits for a moment and reports whether the time is over.
func (d deadline) passed() bool {
	<-time.After(20 * time.Millisecond)
	return time.Now().After(d.at)
}

// command returns a client that uses p, with the environment of a machine that trusts the
// proxy: only variables that users know.
func (p *proxy) command(ctx context.Context, t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	proxy := "http://" + p.http
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(harness.GitEnv(t.TempDir()), "LC_ALL=C",
		"HTTP_PROXY="+proxy, "http_proxy="+proxy, "HTTPS_PROXY="+proxy, "https_proxy="+proxy)
	if p.caFile != "" {
		for _, variable := range []string{"CURL_CA_BUNDLE", "SSL_CERT_FILE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"} {
			cmd.Env = append(cmd.Env, variable+"="+p.caFile)
		}
	}
	return cmd
}

// run runs a client to its end.
func (p *proxy) run(t *testing.T, name string, args ...string) harness.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*harness.Timeout)
	defer cancel()
	return harness.Run(t, p.command(ctx, t, name, args...))
}

// runCommand runs a command with "networkproxy run". flags are those of run.
func runCommand(t *testing.T, env, flags []string, argv ...string) harness.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*harness.Timeout)
	defer cancel()
	return harness.Run(t, newRun(ctx, t.TempDir(), env, flags, argv...))
}

// newRun returns "networkproxy run" for a command. home is its directory.
func newRun(ctx context.Context, home string, env, flags []string, argv ...string) *exec.Cmd {
	args := append(append([]string{"run"}, flags...), "--")
	cmd := exec.CommandContext(ctx, lab.dir+"/networkproxy", append(args, argv...)...)
	cmd.Env = append(harness.GitEnv(home), "LC_ALL=C", "GORACE=atexit_sleep_ms=10", "TMPDIR="+home, "SSL_CERT_FILE="+lab.ca.file)
	cmd.Env = append(cmd.Env, env...)
	cmd.Dir = home
	return cmd
}

// writeFile writes a file in a directory of the test.
func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	file := t.TempDir() + "/" + name
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// dialProxy opens a connection to the proxy's HTTP port.
func dialProxy(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.http)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(harness.Timeout))
	return conn
}
