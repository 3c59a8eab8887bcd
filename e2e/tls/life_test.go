//go:build e2e && linux

// This file tests explanations, managed limits, errors of configurations, and many hosts.

package tls

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	neturl "net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy/e2e/harness"
)

func TestLife(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"explain-inner", testExplain},
		{"check-inner", testCheck},
		{"limits-mitm", testManagedLimit},
		{"load-errors", testLoadErrors},
		{"mint-once", testMintOnce},
		{"absolute-https", testAbsolute},
		{"absolute-https-rules", testAbsoluteRules},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// explanation is the part of an explanation that the tests read.
type explanation struct {
	Allowed bool
	Reason  string
	Message string
	Checks  []json.RawMessage
}

func (p *proxy) explain(t *testing.T, url, method string) explanation {
	t.Helper()
	status, text := p.call("GET", "/explain?method="+method+"&url="+neturl.QueryEscape(url), "")
	var x explanation
	if err := json.Unmarshal([]byte(text), &x); err != nil || status != http.StatusOK {
		t.Fatalf("/explain: %d, %v: %s", status, err, text)
	}
	return x
}

func testExplain(t *testing.T) {
	host, closed := lab.host("web"), lab.host("web")
	p := start(t, full(v1(host), host, closed))
	for _, v := range []struct {
		method, path string
		reason       string
	}{
		{"GET", "/v1/x", ""},
		{"GET", "/v2", "mitm_hook_denied"},
		{"DELETE", "/v1/x", "mitm_hook_denied"},
		{"GET", "/v1/%2e%2e/v2", "invalid_target"},
		{"TRACE", "/v1/x", "method_not_allowed"},
	} {
		x := p.explain(t, "https://"+host+v.path, v.method)
		if x.Allowed != (v.reason == "") || x.Reason != v.reason {
			t.Errorf("%s %s: %+v, want the reason %q", v.method, v.path, x, v.reason)
		}
		text := fmt.Sprintf("%s", x.Checks)
		if v.reason == "mitm_hook_denied" && (!strings.Contains(text, `"inspection"`) || !strings.Contains(text, `"mitm_hooks"`)) {
			t.Errorf("%s %s: the checks %s do not say that TLS is opened and that a rule decides", v.method, v.path, text)
		}
		// What is explained is what happens.
		got := p.client(t, http1).do(t, func() *http.Request {
			req := rawTarget(t, host, v.path)
			req.Method = v.method
			return req
		}())
		if allowed := got.status == http.StatusOK; allowed != x.Allowed {
			t.Errorf("%s %s: status %d, but the explanation is %+v", v.method, v.path, got.status, x)
		}
	}
	if n := len(lab.origins.received(host)); n != 1 {
		t.Errorf("the origin server received %d requests, want 1: explanations send none", n)
	}
	if x := p.explain(t, "https://"+closed+"/v2", "DELETE"); !x.Allowed {
		t.Errorf("a host that is not opened: %+v, want allowed", x)
	}
	wantNothing(t, closed)

	host = lab.host("web")
	p = start(t, limited(host))
	if x := p.explain(t, "https://"+host+"/v1", "POST"); x.Allowed || x.Reason != "method_not_allowed" {
		t.Errorf("POST in limited mode: %+v, want method_not_allowed", x)
	}
	if x := p.explain(t, "https://"+host+"/v1", "GET"); !x.Allowed {
		t.Errorf("GET in limited mode: %+v, want allowed", x)
	}
	wantNothing(t, host)
}

func testCheck(t *testing.T) {
	host := lab.host("web")
	file := writeFile(t, "config.toml", []byte(full(v1(host), host).toml("", "", "")))
	for path, want := range map[string]int{"/v1/x": 0, "/v2": 3} {
		run := harness.Start(t, lab.dir+"/networkproxy", nil, "check", "-config", file, "https://"+host+path)
		if code := run.ExitCode(t); code != want {
			t.Errorf("networkproxy check %s: exit %d, want %d: %s", path, code, want, run.Log)
		}
	}
}

func testManagedLimit(t *testing.T) {
	limits := writeFile(t, "limits.toml", []byte("[network_proxy]\nmitm = false\n"))
	c := limited("web.test")
	c.Args = []string{"-requirements", limits}
	p := launch(t, c)
	code, log := p.ExitCode(t), p.Log.String()
	if code == 0 || !strings.Contains(log, "mitm") || !strings.Contains(log, limits+":2") || !strings.Contains(log, p.configFile+":3") {
		t.Errorf("exit %d, want an error that names %s:2 and %s:3:\n%s", code, limits, p.configFile, log)
	}

	host := lab.host("web")
	required := writeFile(t, "limits.toml", []byte("[network_proxy]\n\n"+v1(host)))
	c = full("", host)
	c.Args = []string{"-requirements", required}
	p = launch(t, c)
	if code, log := p.ExitCode(t), p.Log.String(); code == 0 || !strings.Contains(log, "mitm_hooks") {
		t.Errorf("without the required rule: exit %d, want an error about mitm_hooks:\n%s", code, log)
	}
	c.Hooks = v1(host)
	start(t, c)
}

func testLoadErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		config config
		words  []string
	}{
		{"hooks without mitm", config{Off: true, Hooks: v1("web.test")}, []string{"mitm"}},
		{"mitm_domains without mitm", config{Off: true, Domains: []string{"*"}}, []string{"mitm_domains", "mitm"}},
		{"hooked and exempt", config{Hooks: v1("web.test"), Exempt: []string{"web.test"}}, []string{"web.test", "mitm_exempt_domains"}},
		{"wildcard", config{Hooks: v1("*.web.test")}, []string{"*.web.test"}},
		{"no methods", config{Hooks: hook("web.test", `methods = []`, `path_prefixes = ["/"]`)}, []string{"methods"}},
		{"unknown access", config{Hooks: hook("web.test", `access = "git-pull"`)}, []string{"access", "git-pull"}},
		{"unknown key", config{Hooks: hook("web.test", `methods = ["GET"]`, `path_prefix = ["/"]`)}, []string{"path_prefix", "path_prefixes"}},
		{"bad pattern", config{Hooks: hook("web.test", `methods = ["GET"]`, `path_prefixes = ["v1"]`)}, []string{"path_prefixes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.config.Allowed = []string{"web.test"}
			p := launch(t, c.config)
			code, log := p.ExitCode(t), p.Log.String()
			if code == 0 || !strings.Contains(log, p.configFile+":") {
				t.Errorf("exit %d, want an error with a position:\n%s", code, log)
			}
			for _, word := range c.words {
				if !strings.Contains(log, word) {
					t.Errorf("the error lacks %q:\n%s", word, log)
				}
			}
		})
	}
}

// testMintOnce sends many first requests to one host at the same time.
func testMintOnce(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	var mu sync.Mutex
	serials := make(map[string]int)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			conn, err := p.tryTunnel(host + ":443")
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			client := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: p.pool, NextProtos: []string{http1}})
			if err := client.Handshake(); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			serials[client.ConnectionState().PeerCertificates[0].SerialNumber.String()]++
		})
	}
	wg.Wait()
	if len(serials) != 1 {
		t.Errorf("%d certificates for one host, want 1", len(serials))
	}
}

// testAbsolute sends https:// URLs to the proxy in place of CONNECT, as old versions of
// axios do. The client needs no certificate of the proxy.
func testAbsolute(t *testing.T) {
	host, other := lab.host("web"), lab.host("web")
	get := func(p *proxy, method, url, more string) answer {
		t.Helper()
		conn := dialProxy(t, p)
		return exchange(t, conn, method+" "+url+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n"+more+"\r\n")
	}
	for name, c := range map[string]config{
		"full": full("", host), "limited": limited(host), "off": {Off: true, Allowed: []string{host}},
		"exempt": {Limited: true, Allowed: []string{host}, Exempt: []string{host}}, "limited, off": {Limited: true, Off: true, Allowed: []string{host}},
	} {
		p := start(t, c)
		if got := get(p, "GET", "https://"+host+"/hello", ""); got.status != http.StatusOK || got.body != helloBody(host) {
			t.Errorf("%s: status %d, body %q; want 200 and %q", name, got.status, got.body, helloBody(host))
		}
		want := http.StatusOK
		if c.Limited {
			want = http.StatusForbidden
		}
		if got := get(p, "POST", "https://"+host+"/v1", "Content-Length: 0\r\n"); got.status != want {
			t.Errorf("%s: POST: status %d, want %d: %s", name, got.status, want, got.body)
		}
		if got := get(p, "GET", "https://"+other+"/hello", ""); got.status != http.StatusForbidden || got.header.Get("X-Proxy-Error") != "blocked-by-allowlist" {
			t.Errorf("%s: a host that is not allowed: status %d: %s", name, got.status, got.body)
		}
	}
	wantNothing(t, other)
	for _, s := range lab.origins.received(host) {
		if s.ServerName != host {
			t.Errorf("the origin server received %s %s without TLS for %s", s.Method, s.URI, host)
		}
	}

	// The verification is that of opened tunnels.
	for kind, want := range map[string]string{"expired": "expired", "wrongname": "elsewhere.test", "selfsigned": "unknown authority"} {
		faulty := lab.host(kind)
		got := get(start(t, full("", faulty)), "GET", "https://"+faulty+"/hello", "")
		if got.status != http.StatusBadGateway || !strings.Contains(got.body, "upstream_certificate") || !strings.Contains(got.body, want) {
			t.Errorf("%s: status %d, body %s; want 502, upstream_certificate and %q", kind, got.status, got.body, want)
		}
		wantNothing(t, faulty)
	}
}

func testAbsoluteRules(t *testing.T) {
	host := lab.host("web")
	p := start(t, full(v1(host), host))
	for path, want := range map[string]int{"/v1/x": 200, "/v2": 403, "/v10": 403, "/v1/../v2": 400, "/v1/%7Eu?a=%20": 200} {
		got := exchange(t, dialProxy(t, p), "GET https://"+host+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if got.status != want {
			t.Errorf("%s: status %d, want %d: %s", path, got.status, want, got.body)
		}
	}
	p.wantBlocked(t, refusal{Host: host, Port: 443, Method: "GET", Reason: "mitm_hook_denied", Path: "/v2"})
	if !slices.ContainsFunc(lab.origins.received(host), func(s seen) bool { return s.URI == "/v1/%7Eu?a=%20" }) {
		t.Error("the origin server did not receive the bytes as they were sent")
	}
}

// TestLeafFlood requests many hosts that the policy allows. It does not run at the same time
// as other tests, because it measures memory and time.
func TestLeafFlood(t *testing.T) {
	names := 5000
	if testing.Short() {
		names = 300
	}
	host := lab.host("web")
	c := limited("*.flood.test", host)
	c.Program = "networkproxy-fast"
	p := start(t, c)
	kept := p.client(t, http2)
	kept.get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK)
	before := p.memory(t)

	work := make(chan int)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range work {
				name := fmt.Sprintf("f%d.flood.test", n)
				conn, err := p.tryTunnel(name + ":443")
				if err != nil {
					t.Error(err)
					continue
				}
				if err := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: p.pool, NextProtos: []string{http1}}).Handshake(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				conn.Close()
			}
		})
	}
	var slowest time.Duration
	for n := range names {
		work <- n + 1
		if n%50 == 0 {
			began := time.Now()
			kept.get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK)
			slowest = max(slowest, time.Since(began))
		}
	}
	close(work)
	wg.Wait()
	peak := p.memory(t)
	t.Logf("%d hosts: the peak of memory is %d MiB, %d MiB before; the slowest other request took %v", names, peak>>20, before>>20, slowest)
	if peak > before+64<<20 {
		t.Errorf("the peak of memory is %d MiB, %d MiB before; want less than 64 MiB more", peak>>20, before>>20)
	}
	if slowest > 2*time.Second {
		t.Errorf("another request took %v, want less than 2 s", slowest)
	}
}
