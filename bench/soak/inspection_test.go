//go:build soak

package soak

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"example.com/networkproxy"
)

// inspection is a soak of opened TLS: HTTP/1.1, HTTP/2 and WebSocket.
type inspection struct {
	*soak
	origin, untrusted string         // ports of the origin servers
	roots             *x509.CertPool // of the proxy and of the origin server
	kept              map[string]*http.Client
}

// The versions of HTTP, as ALPN names them.
const (
	http1 = "http/1.1"
	http2 = "h2"
)

// The hosts of the soak. Their TLS is opened.
const (
	openedHost = "h%d.opened.test" // of 20
	hookedHost = "hooked.test"     // allows GET below /allowed
	flipHost   = "flip.opened.test"
)

// TestInspectionSoak keeps opened TLS busy, and reloads the configuration every second.
//
//	go test -race -tags=soak -timeout=0 -v -run=TestInspectionSoak ./bench/soak -for=10m
func TestInspectionSoak(t *testing.T) {
	i := newInspection(t)
	i.run(time.Second)
}

func newInspection(t *testing.T) *inspection {
	i := &inspection{soak: &soak{t: t}, roots: x509.NewCertPool(), kept: make(map[string]*http.Client)}
	trusted, other := newIssuer(t), newIssuer(t)
	i.origin, i.untrusted = i.listen(trusted), i.listen(other)
	upstream := x509.NewCertPool()
	upstream.AddCert(trusted.cert)
	i.start(i.config, networkproxy.NewBuilder().UpstreamRoots(upstream))
	if !i.roots.AppendCertsFromPEM(i.proxy.CACertificate()) {
		t.Fatal("the proxy has no certificate")
	}
	for _, version := range []string{http1, http2} {
		i.kept[version] = i.client(version)
	}
	i.quiesce = func() {
		for _, client := range i.kept {
			client.CloseIdleConnections()
		}
	}
	i.actions = []action{
		{"GET, HTTP/1.1", 300, i.with(i.get, http1)},
		{"GET, HTTP/2", 300, i.with(i.get, http2)},
		{"upload, HTTP/1.1", 60, i.with(i.post, http1)},
		{"upload, HTTP/2", 60, i.with(i.post, http2)},
		{"refused by a rule, HTTP/1.1", 60, i.with(i.refusedByRule, http1)},
		{"refused by a rule, HTTP/2", 60, i.with(i.refusedByRule, http2)},
		{"new connection, HTTP/1.1", 30, i.with(i.fresh, http1)},
		{"new connection, HTTP/2", 30, i.with(i.fresh, http2)},
		{"abandoned response, HTTP/1.1", 20, i.with(i.abandon, http1)},
		{"abandoned response, HTTP/2", 20, i.with(i.abandon, http2)},
		{"reset by the origin server, HTTP/1.1", 10, i.with(i.truncated, http1)},
		{"reset by the origin server, HTTP/2", 10, i.with(i.truncated, http2)},
		{"both directions at once", 20, i.with(i.duplex, http2)},
		{"host that is denied by turns, HTTP/1.1", 20, i.with(i.flips, http1)},
		{"host that is denied by turns, HTTP/2", 20, i.with(i.flips, http2)},
		{"WebSocket", 40, func(*soak) error { return i.webSocket(false) }},
		{"reset WebSocket", 10, func(*soak) error { return i.webSocket(true) }},
		{"origin server without a valid certificate", 10, func(*soak) error { return i.badCertificate() }},
		{"client that distrusts the proxy", 10, func(*soak) error { return i.distrusts() }},
		{"another server name", 10, func(*soak) error { return i.otherName() }},
		{"neither TLS nor HTTP", 10, func(*soak) error { return i.noTLS() }},
		{"half a ClientHello", 10, func(*soak) error { return i.halfHello() }},
	}
	return i
}

func (i *inspection) with(do func(version string) error, version string) func(*soak) error {
	return func(*soak) error { return do(version) }
}

// config returns the configuration. Reloads change an entry of the denylist and a rule.
func (i *inspection) config() networkproxy.Config {
	c := networkproxy.DefaultConfig()
	c.Enabled, c.MITM = true, true
	c.ProxyURL, c.AdminURL = "http://127.0.0.1:0", "http://127.0.0.1:0"
	c.Policy.AllowLocalBinding = true
	c.Policy.AllowedDomains = []string{"*.opened.test", hookedHost}
	c.MITMDomains = []string{"*.opened.test"}
	rule := networkproxy.MITMHook{Host: hookedHost + ":" + i.origin, Methods: []string{"GET"}, PathPrefixes: []string{"/allowed"}}
	c.MITMHooks = []networkproxy.MITMHook{rule}
	if i.flip.Load() {
		c.Policy.DeniedDomains = append(c.Policy.DeniedDomains, flipHost)
		rule.Methods = []string{"POST"}
		c.MITMHooks = append(c.MITMHooks, rule)
	}
	return c
}

// client returns a client that trusts the proxy alone, and speaks one version of HTTP.
func (i *inspection) client(version string) *http.Client {
	transport := &http.Transport{
		Proxy:               http.ProxyURL(&url.URL{Scheme: "http", Host: i.proxy.HTTPAddr()}),
		TLSClientConfig:     &tls.Config{RootCAs: i.roots},
		Protocols:           new(http.Protocols),
		MaxIdleConnsPerHost: 4,
		MaxIdleConns:        64,
	}
	transport.Protocols.SetHTTP1(version == http1)
	transport.Protocols.SetHTTP2(version == http2)
	if version == http1 {
		transport.TLSClientConfig.NextProtos = []string{http1}
	}
	return &http.Client{Timeout: time.Minute, Transport: transport}
}

// opened returns the URL of a path at one of the opened hosts.
func (i *inspection) opened(path string) string {
	return "https://" + fmt.Sprintf(openedHost, mathrand.IntN(20)) + ":" + i.origin + path
}

// fetch sends a request and checks the status and, if want is not empty, the body.
func fetch(c *http.Client, method, target string, body io.Reader, status int, want string) error {
	r, err := http.NewRequest(method, target, body)
	if err != nil {
		return err
	}
	a, err := c.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		return err
	}
	if a.StatusCode != status || want != "" && string(text) != want {
		return fmt.Errorf("%s %s: %s %.200q, want %d %s", method, target, a.Status, text, status, want)
	}
	return nil
}

func (i *inspection) get(version string) error {
	return fetch(i.kept[version], "GET", i.opened("/"), nil, 200, "hello")
}

func (i *inspection) post(version string) error {
	return fetch(i.kept[version], "POST", i.opened("/upload"), io.LimitReader(zeros{}, 100<<10), 200, "102400")
}

func (i *inspection) refusedByRule(version string) error {
	base := "https://" + hookedHost + ":" + i.origin
	return errors.Join(
		fetch(i.kept[version], "GET", base+"/allowed", nil, 200, "hello"),
		fetch(i.kept[version], "DELETE", base+"/allowed", nil, 403, ""),
		fetch(i.kept[version], "GET", base+"/other", nil, 403, ""))
}

func (i *inspection) fresh(version string) error {
	c := i.client(version)
	defer c.CloseIdleConnections()
	return fetch(c, "GET", i.opened("/"), nil, 200, "hello")
}

// abandon closes a response before its end.
func (i *inspection) abandon(version string) error {
	c := i.kept[version]
	a, err := c.Get(i.opened("/big"))
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, a.Body, 10<<10)
	return errors.Join(err, a.Body.Close())
}

func (i *inspection) truncated(version string) error {
	c := i.client(version)
	defer c.CloseIdleConnections()
	a, err := c.Get(i.opened("/abort"))
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err == nil {
		return errors.New("a truncated body arrived without an error")
	}
	return nil
}

// duplex sends and receives by turns on one stream of HTTP/2.
func (i *inspection) duplex(version string) error {
	body, send := io.Pipe()
	r, err := http.NewRequest("POST", i.opened("/echo"), body)
	if err != nil {
		return err
	}
	a, err := i.kept[version].Do(r)
	if err != nil {
		send.Close()
		return err
	}
	defer a.Body.Close()
	b := make([]byte, 1000)
	for range 5 {
		if _, err := send.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(a.Body, b); err != nil {
			return err
		}
	}
	send.Close()
	_, err = io.Copy(io.Discard, a.Body)
	return err
}

// flips requests a host that every other reload denies. A reload also cuts its requests, so
// that any outcome is expected.
func (i *inspection) flips(version string) error {
	fetch(i.kept[version], "GET", "https://"+flipHost+":"+i.origin+"/", nil, 200, "hello")
	return nil
}

// tls opens TLS for a name in a tunnel.
func (i *inspection) tls(target, name string, roots *x509.CertPool) (*tls.Conn, error) {
	conn, err := tunnel(i.proxy.HTTPAddr(), target)
	if err != nil {
		return nil, err
	}
	c := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: roots, NextProtos: []string{http1}})
	if err := c.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// webSocket exchanges messages, and then closes the connection, with a reset or without.
func (i *inspection) webSocket(reset bool) error {
	host := fmt.Sprintf(openedHost, mathrand.IntN(20))
	c, err := i.tls(host+":"+i.origin, host, i.roots)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /echo HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host)
	from := bufio.NewReader(c)
	a, err := http.ReadResponse(from, nil)
	if err != nil {
		return err
	}
	if a.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("%s, want 101", a.Status)
	}
	sent, got := bytes.Repeat([]byte("frame"), 200), make([]byte, 1000)
	for range 5 {
		if _, err := c.Write(sent); err != nil {
			return err
		}
		if _, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, sent) {
			return fmt.Errorf("echo: %w", err)
		}
	}
	if reset {
		c.NetConn().(*net.TCPConn).SetLinger(0)
		return c.NetConn().Close()
	}
	return nil
}

func (i *inspection) badCertificate() error {
	c := i.client(http1)
	defer c.CloseIdleConnections()
	return fetch(c, "GET", "https://h1.opened.test:"+i.untrusted+"/", nil, 502, "")
}

func (i *inspection) distrusts() error {
	c, err := i.tls("h1.opened.test:"+i.origin, "h1.opened.test", x509.NewCertPool())
	if err == nil {
		c.Close()
		return errors.New("a client without roots has trusted the proxy")
	}
	return nil
}

func (i *inspection) otherName() error {
	c, err := i.tls("h1.opened.test:"+i.origin, "h2.opened.test", i.roots)
	if err == nil {
		c.Close()
		return errors.New("TLS for another name was opened")
	}
	return nil
}

func (i *inspection) noTLS() error {
	c, err := tunnel(i.proxy.HTTPAddr(), "h1.opened.test:"+i.origin)
	if err != nil {
		return err
	}
	defer c.Close()
	io.WriteString(c, "SSH-2.0-client\r\n")
	io.Copy(io.Discard, c)
	return nil
}

// halfHello closes the connection inside the ClientHello.
func (i *inspection) halfHello() error {
	c, err := tunnel(i.proxy.HTTPAddr(), "h1.opened.test:"+i.origin)
	if err != nil {
		return err
	}
	c.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
	if mathrand.IntN(2) == 0 {
		c.SetLinger(0)
	}
	return c.Close()
}

// issuer issues one certificate for all names of the soak.
type issuer struct {
	cert *x509.Certificate
	leaf tls.Certificate
}

func newIssuer(t *testing.T) issuer {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		DNSNames: []string{"*.opened.test", hookedHost},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{cert, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
}

// listen starts an origin server for HTTP/1.1 and HTTP/2 and returns its port.
func (i *inspection) listen(by issuer) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		i.t.Fatal(err)
	}
	server := &http.Server{
		Handler:   http.HandlerFunc(secureOrigin),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{by.leaf}},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	go server.ServeTLS(l, "", "")
	i.t.Cleanup(func() { server.Close() })
	return port(l.Addr())
}

// secureOrigin serves the paths of origin, an echo, and a response that ends too early.
func secureOrigin(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	switch r.URL.Path {
	case "/abort":
		w.Header().Set("Content-Length", "100000")
		io.WriteString(w, "the beginning")
		control.Flush()
		panic(http.ErrAbortHandler)
	case "/echo":
		if r.ProtoMajor == 1 {
			echoUpgrade(control)
			return
		}
		control.Flush()
		for b := make([]byte, 1000); ; {
			n, err := r.Body.Read(b)
			if _, failed := w.Write(b[:n]); err != nil || failed != nil || control.Flush() != nil {
				return
			}
		}
	default:
		origin(w, r)
	}
}

// echoUpgrade accepts an upgrade and sends back what arrives.
func echoUpgrade(control *http.ResponseController) {
	c, rw, err := control.Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	io.Copy(c, rw)
}
