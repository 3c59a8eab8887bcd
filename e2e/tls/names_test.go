//go:build e2e && linux

// This file tests that one name is used four times: in the tunnel, in the handshake, in
// the certificate and in the request.

package tls

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"name-sni-other", testSNIOther},
		{"name-sni-none", testSNINone},
		{"name-host-other", testHostOther},
		{"name-host-port", testHostPort},
		{"name-host-missing", testHostMissing},
		{"name-host-case-dot", testHostCaseDot},
		{"name-h2-authority", testAuthority},
		{"name-absolute-form", testAbsoluteInside},
		{"inner-connect", testInnerConnect},
		{"inner-trace", testInnerTrace},
		{"inner-framing", testInnerFraming},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// twoHosts starts a program in limited mode that allows two hosts at one address.
func twoHosts(t *testing.T) (p *proxy, a, b string) {
	t.Helper()
	a, b = lab.host("web"), lab.host("web")
	return start(t, limited(a, b)), a, b
}

func testSNIOther(t *testing.T) {
	p, a, b := twoHosts(t)
	for _, alpn := range []string{http1, http2} {
		err := tls.Client(p.tunnel(t, a+":443"), &tls.Config{ServerName: b, RootCAs: p.pool, NextProtos: []string{alpn}}).Handshake()
		if err == nil || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("TLS for %s in a tunnel to %s: %v, want the alert access_denied", b, a, err)
		}
	}
	p.wantBlocked(t, refusal{Host: a, Port: 443, Reason: "sni_mismatch"})
	wantNothing(t, a, b)
}

func testSNINone(t *testing.T) {
	p, a, _ := twoHosts(t)
	err := tls.Client(p.tunnel(t, a+":443"), &tls.Config{InsecureSkipVerify: true}).Handshake()
	if err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("TLS without a name: %v, want the alert access_denied", err)
	}
	p.wantBlocked(t, refusal{Host: a, Port: 443, Reason: "sni_mismatch"})
	wantNothing(t, a)
}

func testHostOther(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		p, a, b := twoHosts(t)
		req := request(t, "GET", "https://"+a+"/hello", "")
		req.Host = b
		p.client(t, version).do(t, req).wantRefusal(t, http.StatusMisdirectedRequest, "host_mismatch", "blocked-by-host-mismatch")
		p.wantBlocked(t, refusal{Host: a, Port: 443, Protocol: "https", Method: "GET", Reason: "host_mismatch"})
		wantNothing(t, a, b)
	})
}

// testHostPort sends other ports in Host. The port of the tunnel is right, and 80 is what
// Node sends by mistake.
func testHostPort(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		p, a, _ := twoHosts(t)
		for port, want := range map[string]int{":443": 200, ":80": 200, ":8443": 421, ":0443": 400, ":65536": 400, ":": 200} {
			req := request(t, "GET", "https://"+a+"/hello", "")
			req.Host = a + port
			got, err := p.client(t, version).try(req)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != want {
				t.Errorf("Host %s: status %d, want %d: %s", req.Host, got.status, want, got.body)
			}
		}
		for _, s := range lab.origins.received(a) {
			if strings.Contains(s.Host, "8443") || strings.Contains(s.Host, ":80") {
				t.Errorf("the origin server received Host %s", s.Host)
			}
		}
	})
}

func testHostMissing(t *testing.T) {
	p, a, b := twoHosts(t)
	for name, head := range map[string]string{
		"none":   "GET /hello HTTP/1.1\r\n\r\n",
		"two":    "GET /hello HTTP/1.1\r\nHost: " + a + "\r\nHost: " + b + "\r\n\r\n",
		"twice":  "GET /hello HTTP/1.1\r\nHost: " + a + "\r\nHost: " + a + "\r\n\r\n",
		"empty":  "GET /hello HTTP/1.1\r\nHost: \r\n\r\n",
		"blank":  "GET /hello HTTP/1.1\r\nHost : " + a + "\r\n\r\n",
		"folded": "GET /hello HTTP/1.1\r\nHost:\r\n " + a + "\r\n\r\n",
		"list":   "GET /hello HTTP/1.1\r\nHost: " + a + ", " + b + "\r\n\r\n",
		"user":   "GET /hello HTTP/1.1\r\nHost: " + a + "@" + b + "\r\n\r\n",
	} {
		if got := p.raw(t, a, head); got.status != http.StatusBadRequest && got.status != http.StatusMisdirectedRequest {
			t.Errorf("Host %s: status %d, want 400 or 421: %s", name, got.status, got.body)
		}
	}
	wantNothing(t, a, b)

	// HTTP/1.0 does not require Host. The origin server gets that of the tunnel.
	p.raw(t, a, "GET /hello HTTP/1.0\r\n\r\n").wantStatus(t, http.StatusOK)
	if received := lab.origins.received(a); len(received) != 1 || received[0].Host != a {
		t.Errorf("the origin server received %+v, want one request for %s", received, a)
	}
}

func testHostCaseDot(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		p, a, _ := twoHosts(t)
		for _, host := range []string{strings.ToUpper(a), a + ".", strings.ToUpper(a) + "."} {
			req := request(t, "GET", "https://"+a+"/hello", "")
			req.Host = host
			p.client(t, version).do(t, req).wantStatus(t, http.StatusOK)
		}
	})
}

// testAuthority sends a wrong authority in the middle of a connection. The streams around
// it are not affected.
func testAuthority(t *testing.T) {
	p, a, b := twoHosts(t)
	c := p.client(t, http2)
	c.get(t, "https://"+a+"/hello").wantStatus(t, http.StatusOK)
	wrong := request(t, "GET", "https://"+a+"/hello", "")
	wrong.Host = b
	got := c.do(t, wrong)
	got.wantRefusal(t, http.StatusMisdirectedRequest, "host_mismatch", "blocked-by-host-mismatch")
	if !got.reused {
		t.Error("the request with the wrong authority used a new connection")
	}
	if next := c.get(t, "https://"+a+"/hello").wantStatus(t, http.StatusOK); !next.reused {
		t.Error("the next request used a new connection")
	}
	wantNothing(t, b)
	if n := len(lab.origins.received(a)); n != 2 {
		t.Errorf("the origin server received %d requests, want 2", n)
	}
}

func testAbsoluteInside(t *testing.T) {
	p, a, b := twoHosts(t)
	p.raw(t, a, "GET https://"+a+"/hello HTTP/1.1\r\nHost: "+a+"\r\n\r\n").wantStatus(t, http.StatusOK)
	for _, target := range []string{"https://" + b + "/hello", "http://" + a + "/hello", "http://" + b + "/hello", "https://" + a + ":8443/hello", "ftp://" + a + "/"} {
		got := p.raw(t, a, "GET "+target+" HTTP/1.1\r\nHost: "+a+"\r\n\r\n")
		if got.status != http.StatusBadRequest && got.status != http.StatusMisdirectedRequest {
			t.Errorf("%s: status %d, want 400 or 421: %s", target, got.status, got.body)
		}
	}
	wantNothing(t, b)
	if received := lab.origins.received(a); len(received) != 1 || received[0].URI != "/hello" {
		t.Errorf("the origin server received %+v, want one request for /hello", received)
	}
}

func testInnerConnect(t *testing.T) {
	p, a, b := twoHosts(t)
	for _, target := range []string{a + ":443", b + ":443", "127.0.0.1:80"} {
		got := p.raw(t, a, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
		if got.status != http.StatusMethodNotAllowed {
			t.Errorf("CONNECT %s: status %d, want 405: %s", target, got.status, got.body)
		}
	}
	req := request(t, "CONNECT", "https://"+a, "")
	if got, err := p.client(t, http2).try(req); err != nil || got.status != http.StatusMethodNotAllowed {
		t.Errorf("CONNECT over HTTP/2: status %d, %v; want 405", got.status, err)
	}
	wantNothing(t, a, b)
}

func testInnerTrace(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		for _, mode := range []string{"limited", "full"} {
			host := lab.host("web")
			c := limited(host)
			if mode == "full" {
				c = full(anyRequest(host), host)
			}
			p := start(t, c)
			p.client(t, version).send(t, "TRACE", "https://"+host+"/hello", "").
				wantRefusal(t, http.StatusMethodNotAllowed, "method_not_allowed", "blocked-by-method-policy")
			wantNothing(t, host)
		}
	})
}

// testInnerFraming sends requests that two parsers read differently.
func testInnerFraming(t *testing.T) {
	p, a, b := twoHosts(t)
	inner := "GET /smuggled HTTP/1.1\r\nHost: " + b + "\r\n\r\n"
	for name, head := range map[string]string{
		"both lengths":  "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"two lengths":   "Content-Length: 0\r\nContent-Length: 40\r\n\r\n" + inner,
		"signed length": "Content-Length: +40\r\n\r\n" + inner,
		"odd coding":    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner,
		"bare LF":       "X: y\nContent-Length: 40\r\n\r\n" + inner,
	} {
		if got := p.raw(t, a, "GET /hello HTTP/1.1\r\nHost: "+a+"\r\n"+head); got.status != http.StatusBadRequest && got.status != http.StatusNotImplemented {
			t.Errorf("%s: status %d, want 400: %s", name, got.status, got.body)
		}
	}
	wantNothing(t, b)
	for _, s := range lab.origins.received(a) {
		if s.URI != "/hello" {
			t.Errorf("the origin server received %+v", s)
		}
	}
}
