//go:build e2e && linux

// This file tests Encrypted Client Hello (ECH, RFC 9849): crypto/tls sends real ones, and
// Chromium sends one without meaning to every server (GREASE).

package tls

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy/e2e/harness"
	"example.com/networkproxy/internal/clienthello"
)

// echKeys are the keys of the origin servers.
type echKeys struct {
	mu   sync.Mutex
	keys []tls.EncryptedClientHelloKey
}

// list returns all keys. It is never nil, as crypto/tls requires.
func (e *echKeys) list() []tls.EncryptedClientHelloKey {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]tls.EncryptedClientHelloKey{}, e.keys...)
}

// add makes a key and returns the list of configurations with which clients use it (RFC
// 9849 section 4). publicName is the name that the outer hello shows.
func (e *echKeys) add(t *testing.T, publicName string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	vector := func(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }
	e.mu.Lock()
	defer e.mu.Unlock()
	const x25519, hkdfSHA256, aes128GCM = 0x20, 1, 1
	config := append([]byte{0xfe, 0x0d}, vector(slices.Concat(
		[]byte{byte(len(e.keys)), 0, x25519}, vector(key.PublicKey().Bytes()),
		vector([]byte{0, hkdfSHA256, 0, aes128GCM}),
		[]byte{0, byte(len(publicName))}, []byte(publicName), []byte{0, 0},
	))...)
	e.keys = append(e.keys, tls.EncryptedClientHelloKey{Config: config, PrivateKey: key.Bytes()})
	return vector(config)
}

func TestEncryptedHello(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"ech-outer-other", testECHOuterOther},
		{"ech-inner-other", testECHInnerOther},
		{"ech-spliced", testECHSpliced},
		{"ech-grease", testECHGrease},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// withECH returns a client that connects to target and encrypts its hello for the name of
// the URL. target and the name may differ.
func (p *proxy) withECH(t *testing.T, by route, version, target string, list []byte) client {
	t.Helper()
	c := p.clientBy(t, by, version)
	transport := c.Transport.(*http.Transport)
	transport.TLSClientConfig.EncryptedClientHelloConfigList = list
	if by == byConnect {
		// net/http would use one name for both.
		transport.Proxy = nil
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return p.tryTunnel(target + ":443") }
	}
	return c
}

// wantECHWorks checks without the proxy that the client reaches host, and that nobody
// between can read the name.
func wantECHWorks(t *testing.T, version, host string, list []byte) {
	t.Helper()
	before := len(lab.origins.received(host))
	p := &proxy{pool: lab.ca.pool}
	p.withECH(t, direct, version, host, list).get(t, "https://"+host+"/direct").wantStatus(t, http.StatusOK)
	if got := lab.origins.received(host)[before:]; len(got) != 1 || got[0].ServerName != host {
		t.Fatalf("without the proxy, the origin server received %+v, want one request for the inner name %s", got, host)
	}
}

// wantDirectOnly fails the test if an origin server has received a request for a host
// other than those of wantECHWorks.
func wantDirectOnly(t *testing.T, host string) {
	t.Helper()
	for _, s := range lab.origins.received(host) {
		if s.URI != "/direct" {
			t.Errorf("the origin server of %s received %+v", host, s)
		}
	}
}

// testECHOuterOther uses keys of a server whose public name is not the host, as those of a
// CDN are. The visible name is not that of the tunnel, so the tunnel is refused, whether
// TLS is opened or not.
func testECHOuterOther(t *testing.T) {
	for mode, configure := range map[string]func(...string) config{
		"opened":  limited,
		"spliced": func(allowed ...string) config { return full("", allowed...) },
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			eachVersion(t, func(t *testing.T, version string) {
				host, public := lab.host("web"), lab.host("web")
				list := lab.origins.ech.add(t, public)
				wantECHWorks(t, version, host, list)
				p := start(t, configure(host, public))
				got, err := p.withECH(t, byConnect, version, host, list).try(request(t, "GET", "https://"+host+"/hello", ""))
				if err == nil || !strings.Contains(err.Error(), "access denied") {
					t.Errorf("status %d, %v; want the alert access_denied", got.status, err)
				}
				p.wantBlocked(t, refusal{Host: host, Port: 443, Reason: "sni_mismatch"})
				wantDirectOnly(t, host)
				wantNothing(t, public)
				p.client(t, version).get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK)
			})
		})
	}
}

// testECHInnerOther uses an opened host as the visible name, and another host as the
// encrypted one. The proxy answers as a server without ECH does: the client learns this
// from a valid handshake for the visible name, sends nothing, and may try again without
// ECH (RFC 9849 section 6.1.6). The encrypted name reaches no server.
func testECHInnerOther(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host, other := lab.host("web"), lab.host("web")
		list := lab.origins.ech.add(t, host)
		wantECHWorks(t, version, other, list)
		for name, p := range map[string]*proxy{
			"limited": start(t, limited(host)),
			"hook":    start(t, full(v1(host), host)),
		} {
			for _, inner := range []string{other, host} {
				got, err := p.withECH(t, byConnect, version, host, list).try(request(t, "GET", "https://"+inner+"/v1", ""))
				rejected := (*tls.ECHRejectionError)(nil)
				if !errors.As(err, &rejected) || len(rejected.RetryConfigList) != 0 {
					t.Errorf("%s, inner name %s: status %d, %v; want that ECH is rejected without new keys", name, inner, got.status, err)
				}
			}
			wantDirectOnly(t, other)
			wantNothing(t, host)
			if list := p.blocked(t); len(list) > 0 {
				t.Errorf("%s: recorded: %+v", name, list)
			}
		}
		// The client's second attempt.
		p := start(t, limited(host))
		if got := p.client(t, version).get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK); !got.opened(p) {
			t.Error("the connection was not opened")
		}
	})
}

// testECHSpliced checks that ECH passes to a host that is not opened. Its visible name is
// all that is checked there.
func testECHSpliced(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		list := lab.origins.ech.add(t, host)
		p := start(t, full("", host))
		got := p.withECH(t, byConnect, version, host, list).get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK)
		if got.opened(p) || got.body != helloBody(host) {
			t.Errorf("issuer %s, body %q; want the origin server and %q", got.leaf.Issuer, got.body, helloBody(host))
		}
	})
}

// testECHGrease uses Chromium, whose hello has the extension with random content. The
// host is opened in one case and not in the other.
func testECHGrease(t *testing.T) {
	for _, c := range []struct {
		name, kind, proto string
		configure         func(...string) config
	}{
		{"opened h2", "web", "HTTP/2.0", limited},
		{"opened http1.1", "h1", "HTTP/1.1", limited},
		{"spliced", "web", "HTTP/2.0", func(allowed ...string) config { return full("", allowed...) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			host := lab.host(c.kind)
			p := start(t, c.configure(host))
			relay := startRelay(t, p.http)
			// Chromium has a certificate store of its own. It ignores that the certificate is not
			// trusted in its second connection, so the first is recorded.
			got := p.run(t, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
				"--user-data-dir="+t.TempDir(), "--proxy-server=http://"+relay.addr, "--ignore-certificate-errors", "--dump-dom", "https://"+host+"/hello")
			if !strings.Contains(got.Stdout, strings.TrimSpace(helloBody(host))) {
				t.Errorf("Chromium: exit %d, page %s; want %q\n%s", got.Exit, got.Stdout, helloBody(host), got.Stderr)
			}
			if received := lab.origins.received(host); len(received) == 0 || received[0].Proto != c.proto {
				t.Errorf("the origin server received %+v, want a request over %s", received, c.proto)
			}
			if !slices.ContainsFunc(relay.hellos(), func(h clienthello.Hello) bool { return h.ServerName == host && h.ECH }) {
				t.Errorf("the hellos are %+v; want one for %s with ECH, or the test shows nothing", relay.hellos(), host)
			}
			for _, r := range p.blocked(t) {
				if r.Host == host && r.Reason != "certificate_distrusted" {
					t.Errorf("recorded: %+v", r)
				}
			}
		})
	}
}

// relay passes connections on to a proxy and keeps the first bytes of the clients.
type relay struct {
	addr string

	mu   sync.Mutex
	sent []*[]byte
}

const relayKept = 16 << 10

func startRelay(t *testing.T, target string) *relay {
	t.Helper()
	r := &relay{addr: lab.addr()}
	ln, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go r.pass(client, target)
		}
	}()
	return r
}

func (r *relay) pass(client net.Conn, target string) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", target, harness.Timeout)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer client.Close()
		io.Copy(client, server)
	}()
	kept := new([]byte)
	r.mu.Lock()
	r.sent = append(r.sent, kept)
	r.mu.Unlock()
	for b := make([]byte, 4096); ; {
		n, err := client.Read(b)
		r.mu.Lock()
		if len(*kept) < relayKept {
			*kept = append(*kept, b[:n]...)
		}
		r.mu.Unlock()
		if _, failed := server.Write(b[:n]); err != nil || failed != nil {
			return
		}
	}
}

// hellos returns the TLS hellos that followed CONNECT requests.
func (r *relay) hellos() (hellos []clienthello.Hello) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sent := range r.sent {
		_, stream, ok := strings.Cut(string(*sent), "\r\n\r\n")
		if !ok {
			continue
		}
		var s clienthello.Scanner
		if event, err := s.Scan([]byte(stream)); err == nil && event == clienthello.Found {
			hellos = append(hellos, s.Hello())
		}
	}
	return hellos
}
