// Tests of refusals: the response, the record and the log line.

package networkproxy_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
)

// TestRefusalShape compares every field of a refusal with its documented format,
// because programs parse it.
func TestRefusalShape(t *testing.T) {
	t.Parallel()
	l := start(t, allow("allowed.example"), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			return networkproxy.Ask("first use of this host"), nil
		})
	})
	w := l.dialHTTP(t)
	w.request("POST", "http://New.Example.:8080/secret?token=1", "Content-Length: 0", "Authorization: secret")
	a := w.readResponse("POST")
	if a.StatusCode != 403 || a.Proto != "HTTP/1.1" {
		t.Fatalf("got %s %s, want HTTP/1.1 403", a.Proto, a.Status)
	}
	var keys map[string]any
	if err := json.Unmarshal([]byte(a.body), &keys); err != nil {
		t.Fatal(err)
	}
	message, hint := keys["message"], keys["hint"]
	delete(keys, "message")
	delete(keys, "hint")
	want := map[string]any{
		"status": "blocked", "host": "new.example", "port": 8080.0, "protocol": "http", "method": "POST",
		"reason": "first use of this host", "source": "decider", "decision": "ask",
	}
	if !maps.Equal(keys, want) {
		t.Errorf("got the body %v, want %v", keys, want)
	}
	for _, text := range []any{message, hint} {
		if s, _ := text.(string); s == "" || strings.Contains(s, "secret") || strings.Contains(s, "token") {
			t.Errorf("message %q or hint %q is empty or repeats parts of the URL", message, hint)
		}
	}
	for _, test := range []struct{ name, want string }{
		{"X-Proxy-Error", "blocked-by-policy"},
		{"Content-Type", "application/json"},
		{"X-Content-Type-Options", "nosniff"},
	} {
		if got := a.Header.Get(test.name); got != test.want {
			t.Errorf("field %s: got %q, want %q", test.name, got, test.want)
		}
	}

	w.request("CONNECT", "new.example:443") // on the same connection
	a = rawResponse{Response: w.readHeader("GET")}
	if a.StatusCode != 403 || a.Header.Get("X-Proxy-Error") != "blocked-by-policy" || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("refusal of CONNECT: got %s with the header %v", a.Status, a.Header)
	}
	text := make([]byte, a.ContentLength)
	if _, err := io.ReadFull(a.Body, text); err != nil || !strings.HasPrefix(string(text), "networkproxy blocked new.example:443: ") || strings.Count(string(text), "\n") != 2 {
		t.Errorf("refusal of CONNECT: got the body %q, %v; want two lines of text", text, err)
	}

	blocked := l.Blocked()
	if len(blocked) != 2 {
		t.Fatalf("%d refusals recorded, want 2", len(blocked))
	}
	b := blocked[0]
	if b.Host != "new.example" || b.Port != 8080 || b.Protocol != networkproxy.ProtocolHTTP || b.Method != "POST" || b.Decision != "ask" ||
		b.Reason != "first use of this host" || b.Source != networkproxy.SourceDecider || b.Generation != 1 || b.Time.IsZero() ||
		b.Client.String() != w.LocalAddr().String() {
		t.Errorf("got the record %+v", b)
	}
	if log := l.log.String(); strings.Contains(log, "secret") || strings.Contains(log, "token") || !strings.Contains(log, "msg=refused host=new.example port=8080") {
		t.Errorf("the log lacks the refusal or contains parts of the URL:\n%s", log)
	}
}

// TestRefusalMessages checks that every message names the target and that its
// hint says what to change in the configuration, and never how to bypass the
// proxy.
func TestRefusalMessages(t *testing.T) {
	t.Parallel()
	config := allow("allowed.example", "private.example")
	config.Policy.DeniedDomains = []string{"*.denied.example", "45.33.0.0/16"}
	config.Mode = networkproxy.ModeLimited
	l := start(t, config, nil)
	l.dns.Set("private.example", addrs("10.1.1.1"))
	for _, tt := range []struct{ method, url, message, hint, rule string }{
		{"GET", "http://other.example/", "the host is not on the allowlist", `"other.example" to allowed_domains`, ""},
		{"GET", "http://x.denied.example/", "the denylist forbids it (*.denied.example)", "The denylist wins", "*.denied.example"},
		{"GET", "http://45.33.1.1/", "the denylist forbids it (45.33.0.0/16)", "The denylist wins", "45.33.0.0/16"},
		{"GET", "http://127.0.0.1/", "not a public address (Loopback, RFC 1122)", `add exactly "127.0.0.1"`, ""},
		{"GET", "http://localhost/", "this machine", `add exactly "localhost"`, ""},
		{"GET", "http://private.example/", "it resolves to 10.1.1.1, which is not public (Private-Use, RFC 1918)", "allow_local_binding", ""},
		{"POST", "http://allowed.example/", "limited mode", `mode = "full"`, ""},
		{"GET", "http://" + l.AdminAddr() + "/", "it is the proxy itself", "", ""},
	} {
		w := l.dialHTTP(t)
		w.request(tt.method, tt.url, "Content-Length: 0")
		f := w.readResponse(tt.method).refusal(t)
		if !strings.HasPrefix(f.Message, "networkproxy blocked ") || !strings.Contains(f.Message, tt.message) || !strings.Contains(f.Hint, tt.hint) || f.Rule != tt.rule {
			t.Errorf("%s %s: got message %q, hint %q, rule %q; want %q, %q, %q", tt.method, tt.url, f.Message, f.Hint, f.Rule, tt.message, tt.hint, tt.rule)
		}
		for _, word := range []string{"NO_PROXY", "no_proxy", "bypass", "unset"} {
			if strings.Contains(f.Message+f.Hint, word) {
				t.Errorf("%s %s: message %q or hint %q suggests a bypass", tt.method, tt.url, f.Message, f.Hint)
			}
		}
	}
}

// TestDisabledAtRunTime turns the proxy off by a reload.
func TestDisabledAtRunTime(t *testing.T) {
	t.Parallel()
	source := newSource(allow("allowed.example"))
	l := startSource(t, source.builder, nil)
	l.origin("allowed.example", 80, func(w http.ResponseWriter, r *http.Request) {})
	source.set(func(c *networkproxy.Config) { c.Enabled = false })
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"http://allowed.example/", "http://other.example/", "http://127.0.0.1/"} {
		w := l.dialHTTP(t)
		w.get(url)
		a := w.readResponse("GET")
		if f := a.refusal(t); a.StatusCode != 503 || f.Reason != "proxy_disabled" || f.Source != "proxy_state" {
			t.Errorf("%s: got %s with %+v", url, a.Status, f)
		}
	}
	source.set(func(c *networkproxy.Config) { c.Enabled = true })
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := l.dialHTTP(t)
	w.get("http://allowed.example/")
	if a := w.readResponse("GET"); a.StatusCode != 200 {
		t.Errorf("after the proxy is turned on again: got %s, want 200", a.Status)
	}
}

// TestMalformedRequests checks that malformed requests for an allowed host are
// refused, logged and counted, without a look-up or a connection.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	const host = "Host: allowed.example\r\n"
	for _, tt := range []struct{ name, send, status, message string }{
		{"origin-form", "GET / HTTP/1.1\r\n" + host + "\r\n", "400", "this is an HTTP proxy"},
		{"origin-form of two slashes", "GET //allowed.example/ HTTP/1.1\r\n" + host + "\r\n", "400", "this is an HTTP proxy"},
		{"asterisk-form", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "400", "this is an HTTP proxy"},
		{"asterisk-form of GET", "GET * HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"authority-form of GET", "GET allowed.example:80 HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"another scheme", "GET ftp://allowed.example/ HTTP/1.1\r\n" + host + "\r\n", "400", "ftp"},
		{"no scheme", "GET ://allowed.example/ HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"no slashes", "GET http:allowed.example/ HTTP/1.1\r\n" + host + "\r\n", "400", "no host"},
		{"one slash", "GET http:/allowed.example/ HTTP/1.1\r\n" + host + "\r\n", "400", "no host"},
		{"no host", "GET http:///x HTTP/1.1\r\n" + host + "\r\n", "400", "no host"},
		{"no host but a port", "GET http://:80/x HTTP/1.1\r\n" + host + "\r\n", "400", "no host"},
		{"user and password", "GET http://me:hunter2@allowed.example/ HTTP/1.1\r\n" + host + "\r\n", "400", "user name or password"},
		{"an empty user", "GET http://@allowed.example/ HTTP/1.1\r\n" + host + "\r\n", "400", "user name or password"},
		{"a bad port", "GET http://allowed.example:x/ HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"a space in the URL", "GET http://allowed.example/a b HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"CONNECT of a path", "CONNECT /x HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"CONNECT of a URL", "CONNECT http://allowed.example HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"CONNECT of an https URL", "CONNECT https://allowed.example:443/ HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"CONNECT without a port", "CONNECT allowed.example HTTP/1.1\r\n" + host + "\r\n", "400", "no port"},
		{"CONNECT without a host", "CONNECT :443 HTTP/1.1\r\n" + host + "\r\n", "400", "no host"},
		{"CONNECT without a target", "CONNECT * HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"CONNECT with a path", "CONNECT allowed.example:443/x HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"CONNECT with a query", "CONNECT allowed.example:443?x HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"CONNECT with a user", "CONNECT me:hunter2@allowed.example:443 HTTP/1.1\r\n" + host + "\r\n", "400", "user name or password"},
		{"CONNECT with a length", "CONNECT allowed.example:443 HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello", "400", "must not have a body"},
		{"CONNECT with chunks", "CONNECT allowed.example:443 HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "must not have a body"},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", "HTTP/2.0"},
		{"HTTP/2.0", "GET http://allowed.example/ HTTP/2.0\r\n" + host + "\r\n", "505", ""},
		{"HTTP/0.9", "GET http://allowed.example/\r\n\r\n", "400", ""},
		{"no version", "GET http://allowed.example/ \r\n\r\n", "400", ""},
		{"no Host", "GET http://allowed.example/ HTTP/1.1\r\n\r\n", "400", ""},
		{"two Hosts", "GET http://allowed.example/ HTTP/1.1\r\n" + host + host + "\r\n", "400", ""},
		{"an invalid Host", "GET http://allowed.example/ HTTP/1.1\r\nHost: a b\r\n\r\n", "400", ""},
		{"a field without colon", "GET http://allowed.example/ HTTP/1.1\r\n" + host + "Foo\r\n\r\n", "400", ""},
		{"a space before the colon", "GET http://allowed.example/ HTTP/1.1\r\n" + host + "Content-Length : 3\r\n\r\nabc", "400", ""},
		{"NUL in a field", "GET http://allowed.example/ HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", "400", ""},
		{"two lengths", "POST http://allowed.example/ HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400", ""},
		{"a list of lengths", "POST http://allowed.example/ HTTP/1.1\r\n" + host + "Content-Length: 1, 1\r\n\r\na", "400", ""},
		{"a negative length", "POST http://allowed.example/ HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", "400", ""},
		{"an unknown transfer coding", "POST http://allowed.example/ HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501", ""},
		{"an unknown expectation", "GET http://allowed.example/ HTTP/1.1\r\n" + host + "Expect: more\r\n\r\n", "417", ""},
		{"an invalid method", "G@T http://allowed.example/ HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"TLS", "\x16\x03\x01\x00\x05hello\r\n\r\n", "400", ""},
		{"SOCKS5", "\x05\x01\x00\r\n\r\n", "400", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("allowed.example"), nil)
			w := l.dialHTTP(t)
			w.send(tt.send)
			got := w.readAll()
			if !strings.HasPrefix(got, "HTTP/1.1 "+tt.status+" ") || !strings.Contains(got, tt.message) {
				t.Errorf("got %q, want status %s and %q", got, tt.status, tt.message)
			}
			l.waitLogged(t, `msg="malformed request"`)
			if n := strings.Count(l.log.String(), "malformed request"); n != 1 {
				t.Errorf("logged %d times, want once", n)
			}
			if strings.Contains(got+l.log.String(), "hunter2") {
				t.Errorf("the password is in the response or in the log:\n%s\n%s", got, l.log)
			}
			if h := l.health(t); h.Refused != 1 || h.Allowed+h.Failed != 0 {
				t.Errorf("counters %+v, want one refusal", h)
			}
			if len(l.net.Dialed()) > 0 || len(l.dns.Queries()) > 0 || len(l.Blocked()) > 0 {
				t.Errorf("dialed %v, looked up %q, recorded %v; want nothing", l.net.Dialed(), l.dns.Queries(), l.Blocked())
			}
		})
	}
}

// TestBytesThatAreNoRequest checks that a connection that ends in the middle of a
// request is logged, and one that ends between requests is not.
func TestBytesThatAreNoRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		first bool // send a complete request first
		send  string
		want  bool // a log line
	}{
		{"nothing", false, "", false},
		{"half a request line", false, "GET http://all", true},
		{"half a header", false, "GET http://allowed.example/ HTTP/1.1\r\nHo", true},
		{"nothing after a request", true, "", false},
		{"half a request after another", true, "GET http://all", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("allowed.example"), nil)
			w := l.dialHTTP(t)
			if tt.first {
				w.get("http://other.example/")
				w.readResponse("GET")
			}
			w.send(tt.send)
			w.CloseWrite()
			w.readAll()
			eventually(t, "the end of the connection", func() bool { return l.health(t).Connections == 0 })
			if logged := strings.Contains(l.log.String(), "malformed request"); logged != tt.want {
				t.Errorf("logged: got %t, want %t:\n%s", logged, tt.want, l.log)
			}
		})
	}
}

// TestEveryRequestIsJudged checks that each request on a connection has its own
// verdict.
func TestEveryRequestIsJudged(t *testing.T) {
	t.Parallel()
	l := start(t, allow("allowed.example"), nil)
	l.origin("allowed.example", 80, func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(r.Host)) })
	w := l.dialHTTP(t)
	for _, tt := range []struct {
		url    string
		status int
	}{
		{"http://allowed.example/", 200},
		{"http://other.example/", 403},
		{"http://allowed.example/", 200},
		{"http://allowed.example.other.example/", 403},
		{"http://127.0.0.1/", 403},
	} {
		w.get(tt.url)
		if a := w.readResponse("GET"); a.StatusCode != tt.status {
			t.Errorf("%s: got %s, want %d", tt.url, a.Status, tt.status)
		}
	}
	// Pipelined, and with the allowed host in every field that might count.
	w.send("GET http://allowed.example/ HTTP/1.1\r\nHost: allowed.example\r\n\r\n" +
		"GET http://other.example/ HTTP/1.1\r\nHost: allowed.example\r\nX-Forwarded-Host: allowed.example\r\nForwarded: host=allowed.example\r\nConnection: host\r\n\r\n")
	if a, b := w.readResponse("GET"), w.readResponse("GET"); a.StatusCode != 200 || b.StatusCode != 403 {
		t.Errorf("pipelined requests: got %s and %s, want 200 and 403", a.Status, b.Status)
	}
	// A request in the body of another is not a request, after the body it is.
	inner := "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n"
	w.request("POST", "http://allowed.example/", "Transfer-Encoding: chunked")
	w.send("0\r\n\r\n" + inner)
	if a := w.readResponse("POST"); a.StatusCode != 200 {
		t.Errorf("request with a body: got %s, want 200", a.Status)
	}
	if a := w.readResponse("GET"); a.StatusCode != 403 {
		t.Errorf("request after the body: got %s, want 403", a.Status)
	}
	if q := l.dns.Queries(); slices.Contains(q, "other.example") {
		t.Errorf("DNS queries %q, want none for other.example", q)
	}
}

func TestUnixSocketHeader(t *testing.T) {
	t.Parallel()
	l := start(t, allow("allowed.example"), nil)
	w := l.dialHTTP(t)
	w.get("http://allowed.example/", "X-Unix-Socket: /var/run/docker.sock")
	a := w.readResponse("GET")
	if f := a.refusal(t); a.StatusCode != http.StatusNotImplemented || f.Status != "error" {
		t.Errorf("got %s with %+v, want 501 and the status error", a.Status, f)
	}
	if len(l.net.Dialed()) > 0 {
		t.Errorf("dialed %v, want nothing", l.net.Dialed())
	}
}

// TestOnBlocked checks that the host's function is called for refusals and may
// panic.
func TestOnBlocked(t *testing.T) {
	t.Parallel()
	calls := make(chan networkproxy.BlockedRequest, 10)
	l := start(t, allow("allowed.example"), func(b *networkproxy.Builder) {
		b.OnBlocked(func(r networkproxy.BlockedRequest) {
			calls <- r
			panic("the host's own mistake")
		})
	})
	w := l.dialHTTP(t)
	for range 2 {
		w.get("http://other.example/")
		if a := w.readResponse("GET"); a.StatusCode != 403 {
			t.Errorf("got %s, want 403", a.Status)
		}
		if r := wait(t, calls, "the call of OnBlocked"); r.Host != "other.example" || r.Reason != networkproxy.ReasonNotAllowed {
			t.Errorf("OnBlocked got %+v, want other.example and %s", r, networkproxy.ReasonNotAllowed)
		}
	}
	l.waitLogged(t, "OnBlocked panicked")
}

// TestNoChainingToItself checks that the proxy's own addresses are refused even
// if their names are on the allowlist.
func TestNoChainingToItself(t *testing.T) {
	t.Parallel()
	config := allow("127.0.0.1", "localhost", "self.example")
	l := start(t, config, nil)
	l.dns.Set("self.example", addrs("127.0.0.1"))
	_, port, _ := net.SplitHostPort(l.HTTPAddr())
	for _, target := range []string{l.HTTPAddr(), "localhost:" + port, "self.example:" + port, l.AdminAddr()} {
		for _, method := range []string{"CONNECT", "GET"} {
			w := l.dialHTTP(t)
			if method == "GET" {
				w.get("http://" + target + "/")
			} else {
				w.request(method, target)
			}
			if a := w.readHeader("GET"); a.StatusCode != 403 {
				t.Errorf("%s %s: got %s, want 403", method, target, a.Status)
			}
		}
	}
}
