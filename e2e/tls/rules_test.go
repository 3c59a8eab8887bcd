//go:build e2e && linux

// This file tests the rules for requests.

package tls

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

func TestRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"hook-match", testHookMatch},
		{"hook-no-match", testHookNoMatch},
		{"hook-limited", testHookLimited},
		{"hook-boundary", testHookBoundary},
		{"hook-glob", testHookGlob},
		{"hook-query", testHookQuery},
		{"hook-headers", testHookHeaders},
		{"hook-deny", testHookDeny},
		{"hook-access", testHookAccess},
		{"hook-port", testHookPort},
		{"hook-plain-http", testHookPlainHTTP},
		{"hook-override", testHookOverride},
		{"path-bytes-kept", testPathBytesKept},
		{"path-encoded-unreserved", testPathEncodedUnreserved},
		{"path-two-readings", testPathTwoReadings},
		{"path-incomplete-escape", testPathIncompleteEscape},
		{"path-encoded-slash", testPathEncodedSlash},
		{"hook-other-host", testHookOtherHost},
		{"hook-reload", testHookReload},
		{"hook-reload-spliced", testHookReloadSpliced},
		{"mode-reload", testModeReload},
		{"deny-reload", testDenyReload},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// v1 returns the hook of most cases: GET and POST below /v1.
func v1(host string) string {
	return hook(host, `methods = ["GET", "POST"]`, `path_prefixes = ["/v1"]`)
}

// verdict is a request and whether it passes.
type verdict struct {
	method, path string
	header       http.Header
	status       int // 200, 403 by a hook, or 400
}

// wantVerdicts sends requests to a host over both versions. Refused ones must not reach
// the origin server.
func wantVerdicts(t *testing.T, configure func(host string) config, verdicts []verdict) {
	t.Helper()
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		p := start(t, configure(host))
		c := p.client(t, version)
		passed := 0
		for _, v := range verdicts {
			req := request(t, v.method, "https://"+host+v.path, "")
			for name, values := range v.header {
				req.Header[name] = values
			}
			got := c.do(t, req)
			if got.status != v.status {
				t.Errorf("%s %s %v: status %d, want %d: %s", v.method, v.path, v.header, got.status, v.status, got.body)
				continue
			}
			switch v.status {
			case http.StatusOK:
				passed++
			case http.StatusForbidden:
				if v.method == "HEAD" {
					continue // it has no body
				}
				r := got.wantRefusal(t, http.StatusForbidden, "mitm_hook_denied", "blocked-by-mitm-hook")
				if strings.Contains(v.path, "?") && strings.Contains(got.body, v.path[strings.Index(v.path, "?"):]) {
					t.Errorf("the refusal of %s shows the query: %+v", v.path, r)
				}
			case http.StatusBadRequest:
				got.wantRefusal(t, http.StatusBadRequest, "invalid_target", "")
			}
		}
		if received := lab.origins.received(host); len(received) != passed {
			t.Errorf("the origin server received %d requests, want %d: %+v", len(received), passed, received)
		}
	})
}

func testHookMatch(t *testing.T) {
	wantVerdicts(t, func(host string) config { return full(v1(host), host) }, []verdict{
		{method: "GET", path: "/v1/x", status: 200},
		{method: "POST", path: "/v1/x", status: 200},
		{method: "GET", path: "/v1/x?any=thing", status: 200},
	})
}

// testHookNoMatch also checks the record: it names the path without the query, and the
// table.
func testHookNoMatch(t *testing.T) {
	wantVerdicts(t, func(host string) config { return full(v1(host), host) }, []verdict{
		{method: "GET", path: "/v2", status: 403},
		{method: "GET", path: "/", status: 403},
		{method: "DELETE", path: "/v1/x", status: 403},
		{method: "HEAD", path: "/v1/x", status: 403},
		{method: "OPTIONS", path: "/v1/x", status: 403},
		{method: "GET", path: "/V1/x", status: 403},
		{method: "GET", path: "/v2?secret=1", status: 403},
		{method: "GET", path: "/v1/x", status: 200},
	})
	host := lab.host("web")
	p := start(t, full(v1(host), host))
	r := p.client(t, http1).get(t, "https://"+host+"/v2/long/path?secret=1").
		wantRefusal(t, http.StatusForbidden, "mitm_hook_denied", "blocked-by-mitm-hook")
	if !strings.Contains(r.Message+r.Hint+string(r.Rule), "/v1") {
		t.Errorf("the refusal does not name the rule: %+v", r)
	}
	p.wantBlocked(t, refusal{Host: host, Port: 443, Protocol: "https", Method: "GET", Reason: "mitm_hook_denied", Path: "/v2/long/path"})
	if _, text := p.call("GET", "/blocked", ""); strings.Contains(text, "secret") {
		t.Errorf("the record has the query: %s", text)
	}
	p.client(t, http1).get(t, "https://"+host+"/"+strings.Repeat("x", 1000)).wantStatus(t, http.StatusForbidden)
	for _, got := range p.blocked(t) {
		if len(got.Path) > 210 {
			t.Errorf("the record has a path of %d bytes", len(got.Path))
		}
	}
}

// testHookLimited checks that a hook does not widen the mode.
func testHookLimited(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		c := limited(host)
		c.Hooks = v1(host)
		client := start(t, c).client(t, version)
		client.get(t, "https://"+host+"/v1/x").wantStatus(t, http.StatusOK)
		client.send(t, "POST", "https://"+host+"/v1/x", "data").
			wantRefusal(t, http.StatusForbidden, "method_not_allowed", "blocked-by-method-policy")
		client.get(t, "https://"+host+"/v2").
			wantRefusal(t, http.StatusForbidden, "mitm_hook_denied", "blocked-by-mitm-hook")
		if n := len(lab.origins.received(host)); n != 1 {
			t.Errorf("the origin server received %d requests, want 1", n)
		}
	})
}

func testHookBoundary(t *testing.T) {
	wantVerdicts(t, func(host string) config { return full(v1(host), host) }, []verdict{
		{method: "GET", path: "/v1", status: 200},
		{method: "GET", path: "/v1/", status: 200},
		{method: "GET", path: "/v1?x", status: 200},
		{method: "GET", path: "/v10", status: 403},
		{method: "GET", path: "/v1-evil", status: 403},
		{method: "GET", path: "/v1.evil", status: 403},
		{method: "GET", path: "/v1%2evil", status: 403},
		{method: "GET", path: "/v", status: 403},
	})
}

func testHookGlob(t *testing.T) {
	configure := func(host string) config {
		return full(hook(host, `methods = ["GET"]`, `path_prefixes = ["pattern:/orgs/*/repos", "pattern:/all/**/end", "pattern:/v?/x"]`), host)
	}
	wantVerdicts(t, configure, []verdict{
		{method: "GET", path: "/orgs/a/repos", status: 200},
		{method: "GET", path: "/orgs/a/b/repos", status: 403},
		{method: "GET", path: "/orgs/repos", status: 403},
		{method: "GET", path: "/orgs/a/repos/x", status: 403},
		{method: "GET", path: "/all/a/b/c/end", status: 200},
		{method: "GET", path: "/all/a/b/c/ends", status: 403},
		{method: "GET", path: "/v1/x", status: 200},
		{method: "GET", path: "/v/x", status: 403},
		{method: "GET", path: "/v12/x", status: 403},
	})
}

func testHookQuery(t *testing.T) {
	configure := func(host string) config {
		return full(hook(host, `methods = ["GET"]`, `path_prefixes = ["/v1"]`, `query = { state = ["open", "pattern:tri*"] }`)+
			hook(host, `methods = ["GET"]`, `path_prefixes = ["/v2"]`, `query = { state = ["open"] }`, `query_only = true`), host)
	}
	wantVerdicts(t, configure, []verdict{
		{method: "GET", path: "/v1?state=open", status: 200},
		{method: "GET", path: "/v1?state=open&page=2", status: 200},
		{method: "GET", path: "/v1?state=triage", status: 200},
		{method: "GET", path: "/v1?st%61te=ope%6e", status: 200},
		{method: "GET", path: "/v1", status: 403},
		{method: "GET", path: "/v1?state=closed", status: 403},
		{method: "GET", path: "/v1?state=open&state=closed", status: 403},
		{method: "GET", path: "/v1?state=open;state=closed", status: 403},
		{method: "GET", path: "/v1?state=%zz", status: 403},
		{method: "GET", path: "/v2?state=open", status: 200},
		{method: "GET", path: "/v2?state=open&page=2", status: 403},
	})
}

func testHookHeaders(t *testing.T) {
	configure := func(host string) config {
		return full(hook(host, `methods = ["GET"]`, `path_prefixes = ["/"]`, `headers = { x-api = ["v1"] }`), host)
	}
	header := func(values ...string) http.Header { return http.Header{"X-Api": values} }
	wantVerdicts(t, configure, []verdict{
		{method: "GET", path: "/a", header: header("v1"), status: 200},
		{method: "GET", path: "/a", header: header("v2"), status: 403},
		{method: "GET", path: "/a", header: header("v1", "v2"), status: 403},
		{method: "GET", path: "/a", header: header("v1", "v1"), status: 200},
		{method: "GET", path: "/a", status: 403},
	})
}

func testHookDeny(t *testing.T) {
	for _, order := range []string{"deny first", "deny last"} {
		configure := func(host string) config {
			allow := hook(host, `methods = ["*"]`, `path_prefixes = ["/"]`)
			deny := hook(host, `methods = ["DELETE"]`, `path_prefixes = ["/v1/keep"]`, `deny = true`)
			if order == "deny first" {
				return full(deny+allow, host)
			}
			return full(allow+deny, host)
		}
		wantVerdicts(t, configure, []verdict{
			{method: "DELETE", path: "/v1/keep/x", status: 403},
			{method: "GET", path: "/v1/keep/x", status: 200},
			{method: "DELETE", path: "/v1/other", status: 200},
		})
	}
}

func testHookAccess(t *testing.T) {
	wantVerdicts(t, func(host string) config { return full(hook(host, `access = "read-only"`), host) }, []verdict{
		{method: "GET", path: "/v1", status: 200},
		{method: "HEAD", path: "/v1", status: 200},
		{method: "OPTIONS", path: "/v1", status: 200},
		{method: "POST", path: "/v1", status: 403},
	})
}

// testHookPort checks that a hook without a port is for port 443, and one with a port for
// that port alone.
func testHookPort(t *testing.T) {
	host := lab.host("web")
	p := start(t, full(v1(host), host))
	c := p.client(t, http1)
	c.get(t, "https://"+host+"/v2").wantStatus(t, http.StatusForbidden)
	if got := c.get(t, "https://"+host+":8443/v2").wantStatus(t, http.StatusOK); got.opened(p) {
		t.Error("port 8443 was opened, although the hook is for port 443")
	}
	host = lab.host("web")
	p = start(t, full(v1(host+":8443"), host))
	c = p.client(t, http1)
	c.get(t, "https://"+host+":8443/v2").wantStatus(t, http.StatusForbidden)
	c.get(t, "https://"+host+":8443/v1").wantStatus(t, http.StatusOK)
	if got := c.get(t, "https://"+host+"/v2").wantStatus(t, http.StatusOK); got.opened(p) {
		t.Error("port 443 was opened, although the hook is for port 8443")
	}
}

// testHookPlainHTTP uses a hook for port 80, which plain HTTP goes to: by a forwarded
// request and in a tunnel.
func testHookPlainHTTP(t *testing.T) {
	host := lab.host("web")
	p := start(t, full(v1(host+":80"), host))
	c := p.client(t, http1)
	for path, want := range map[string]int{"/v1/x": 200, "/v2": 403, "/v10": 403, "/v1/../v2": 400} {
		if got := c.get(t, "http://"+host+path); got.status != want {
			t.Errorf("forwarded %s: status %d, want %d: %s", path, got.status, want, got.body)
		}
		got := exchange(t, p.tunnel(t, host+":80"), "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if got.status != want {
			t.Errorf("in a tunnel %s: status %d, want %d: %s", path, got.status, want, got.body)
		}
	}
	if n := len(lab.origins.received(host)); n != 2 {
		t.Errorf("the origin server received %d requests, want 2", n)
	}
}

// testHookOverride sends header fields that frameworks take for the method.
func testHookOverride(t *testing.T) {
	override := func(name, value string) http.Header { return http.Header{name: {value}} }
	verdicts := []verdict{{method: "POST", path: "/v1", header: override("X-Http-Method-Override", "GET"), status: 200}}
	for _, name := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "x-method-override"} {
		verdicts = append(verdicts, verdict{method: "POST", path: "/v1", header: override(name, "DELETE"), status: 403})
	}
	wantVerdicts(t, func(host string) config { return full(v1(host), host) }, verdicts)

	host := lab.host("web")
	c := start(t, limited(host)).client(t, http1)
	req := request(t, "GET", "https://"+host+"/v1", "")
	req.Header = override("X-Http-Method-Override", "DELETE")
	c.do(t, req).wantRefusal(t, http.StatusForbidden, "method_not_allowed", "blocked-by-method-policy")
	wantNothing(t, host)
}

// rawTarget returns a request whose target has exactly these bytes, over both versions.
func rawTarget(t *testing.T, host, target string) *http.Request {
	t.Helper()
	req := request(t, "GET", "https://"+host+"/", "")
	req.URL.Opaque = target
	if path, query, ok := strings.Cut(target, "?"); ok {
		req.URL.Opaque, req.URL.RawQuery = path, query
	}
	if strings.HasPrefix(target, "//") { // which would be a host
		req.URL.Opaque, req.URL.Path = "", target
	}
	return req
}

func testPathBytesKept(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		c := start(t, full(v1(host), host)).client(t, version)
		for _, target := range []string{"/v1/%7Eu?a=%20&b=+", "/v1/%7eu", "/v1/a%20b", "/v1/!$&'()*+,=:@~", "/v1?", "/v1/x?a=b?c&d=%zz"} {
			got := c.do(t, rawTarget(t, host, target)).wantStatus(t, http.StatusOK).seen(t)
			if want := strings.TrimSuffix(target, "?"); got.URI != target && got.URI != want {
				t.Errorf("the origin server received %q, want %q", got.URI, target)
			}
		}
	})
}

func testPathEncodedUnreserved(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		c := start(t, full(v1(host), host)).client(t, version)
		if got := c.do(t, rawTarget(t, host, "/%76%31/x")).wantStatus(t, http.StatusOK).seen(t); got.URI != "/%76%31/x" {
			t.Errorf("the origin server received %q, want the bytes as they were sent", got.URI)
		}
		c.do(t, rawTarget(t, host, "/%76%32/x")).wantStatus(t, http.StatusForbidden)
	})
}

func testPathTwoReadings(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		c := start(t, full(v1(host), host)).client(t, version)
		for _, target := range []string{
			"/v1/../v2", "/v1/./x", "/v1/%2e%2e/v2", "/v1/.%2E/v2", "/v1/..;/v2", "/v1/x;y", "/v1//x", "//v1", "/v1/%2fx", "/v1/%5cx",
			"/v1/\\x", "/v1/%25x", "/v1/%00", "/v1/%0a", "/v1/%7f", "/v1/..", "/v1/.",
		} {
			got, err := c.try(rawTarget(t, host, target))
			if err != nil {
				t.Errorf("%s: %v", target, err)
			} else if got.status != http.StatusBadRequest {
				t.Errorf("%s: status %d, want 400: %s", target, got.status, got.body)
			}
		}
		wantNothing(t, host)
	})
}

// testPathIncompleteEscape uses curl, because net/http sends a request again whose stream
// was reset with PROTOCOL_ERROR.
func testPathIncompleteEscape(t *testing.T) {
	host := lab.host("web")
	p := start(t, full(v1(host), host))
	for _, path := range []string{"/v1/%", "/v1/%4", "/v1/%zz"} {
		got := p.run(t, "curl", "-sS", "--path-as-is", "--http1.1", "-o", "/dev/null", "-w", "%{http_code}", "https://"+host+path).MustSucceed(t)
		if got.Stdout != "400" {
			t.Errorf("%s over HTTP/1.1: status %s, want 400", path, got.Stdout)
		}
		got = p.run(t, "curl", "-sS", "--path-as-is", "--http2", "-o", "/dev/null", "-w", "%{http_code}", "https://"+host+path)
		const streamError = 92
		if got.Stdout != "400" && got.Exit != streamError {
			t.Errorf("%s over HTTP/2: exit %d, status %s; want 400 or a reset stream: %s", path, got.Exit, got.Stdout, got.Stderr)
		}
	}
	wantNothing(t, host)
}

func testPathEncodedSlash(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		c := start(t, full(hook(host, `methods = ["GET"]`, `path_prefixes = ["pattern:/pkg/*"]`, `allow_encoded_slash = true`), host)).client(t, version)
		for target, want := range map[string]int{"/pkg/@scope%2fname": 200, "/pkg/a/b": 403, "/pkg/..%2fx": 400, "/pkg/%2e%2e%2fx": 400} {
			if got := c.do(t, rawTarget(t, host, target)); got.status != want {
				t.Errorf("%s: status %d, want %d: %s", target, got.status, want, got.body)
			}
		}
	})
}

func testHookOtherHost(t *testing.T) {
	host, other := lab.host("web"), lab.host("web")
	wantSpliced(t, start(t, full(v1(host), host, other)), other)
}

// testHookReload changes the hooks. The next request on an open connection is judged by
// the new ones.
func testHookReload(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		p := start(t, full(v1(host)+hook(host, `methods = ["GET"]`, `path_prefixes = ["/v2"]`), host))
		c := p.client(t, version)
		c.get(t, "https://"+host+"/v2").wantStatus(t, http.StatusOK)
		p.reload(t, full(v1(host), host))
		got := c.get(t, "https://"+host+"/v2")
		got.wantRefusal(t, http.StatusForbidden, "mitm_hook_denied", "blocked-by-mitm-hook")
		if !got.reused {
			t.Error("the request after the reload used a new connection")
		}
		if n := len(lab.origins.received(host)); n != 1 {
			t.Errorf("the origin server received %d requests, want 1", n)
		}
		c.get(t, "https://"+host+"/v1").wantStatus(t, http.StatusOK)
	})
}

// testHookReloadSpliced adds a hook for a host with an open tunnel that was not opened.
// The tunnel is cut, because its requests cannot be seen.
func testHookReloadSpliced(t *testing.T) {
	host, other := lab.host("web"), lab.host("web")
	p := start(t, full("", host, other))
	conn, kept := p.tls(t, host+":443", host, http1), p.tls(t, other+":443", other, http1)
	get := func(conn *tls.Conn, host string) answer {
		return exchange(t, conn, "GET /v2 HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
	}
	get(conn, host).wantStatus(t, http.StatusOK)
	get(kept, other).wantStatus(t, http.StatusOK)
	p.reload(t, full(v1(host), host, other))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || isTimeout(err) {
		t.Errorf("the tunnel to the hooked host: read %d bytes, %v; want that it is cut", n, err)
	}
	get(kept, other).wantStatus(t, http.StatusOK)
	if n := len(lab.origins.received(host)); n != 1 {
		t.Errorf("the origin server received %d requests, want 1", n)
	}
}

// testModeReload turns limited mode on and off again.
func testModeReload(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		c := full(anyRequest(host), host)
		p := start(t, c)
		client := p.client(t, version)
		post := func() answer { return client.send(t, "POST", "https://"+host+"/v1", "data") }
		post().wantStatus(t, http.StatusOK)
		c.Limited = true
		p.reload(t, c)
		post().wantRefusal(t, http.StatusForbidden, "method_not_allowed", "blocked-by-method-policy")
		c.Limited = false
		p.reload(t, c)
		post().wantStatus(t, http.StatusOK)
	})
}

// testDenyReload denies a host whose connection is open. The connection is cut.
func testDenyReload(t *testing.T) {
	host := lab.host("web")
	c := limited(host)
	p := start(t, c)
	conn := p.tls(t, host+":443", host, http1)
	exchange(t, conn, "GET /hello HTTP/1.1\r\nHost: "+host+"\r\n\r\n").wantStatus(t, http.StatusOK)
	c.Denied = []string{host}
	p.reload(t, c)
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || isTimeout(err) {
		t.Errorf("read %d bytes, %v; want that the connection is cut", n, err)
	}
	harness.Eventually(t, "new tunnels are refused", func() bool {
		_, err := p.tryTunnel(host + ":443")
		return err != nil
	})
}
