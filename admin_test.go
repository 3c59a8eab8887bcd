// Tests of the admin API: every route, requests of people, and attacks of web
// pages.

package networkproxy_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// curlForm is the Content-Type that curl -d sends.
const curlForm = "Content-Type: application/x-www-form-urlencoded"

// decode reads a JSON response of the admin API.
func decode[T any](t testing.TB, a rawResponse) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Errorf("response %s: the body %q is not JSON: %v", a.Status, a.body, err)
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("got the Content-Type %q", ct)
	}
	return v
}

type adminError struct{ Error string }

func TestAdminHealth(t *testing.T) {
	t.Parallel()
	s := newSource(allow("o.example"))
	l := startSource(t, s.builder, nil)
	l.scripted("o.example", emptyResponse)
	w := l.dialHTTP(t)
	for _, url := range []string{"http://o.example/", "http://other.example/", "http://o.example:81/"} {
		w.get(url)
		w.readResponse("GET")
	}
	h := l.health(t)
	if want := (health{Status: "ok", Mode: "full", Generation: 1, Connections: 1, Allowed: 1, Refused: 1, Failed: 1}); h != want {
		t.Errorf("%+v, want %+v", h, want)
	}

	s.fail(errors.New("the disk is on fire"))
	if err := l.Reload(t.Context()); err == nil {
		t.Error("a reload without a configuration to reload succeeded")
	}
	if h := l.health(t); h.Status != "degraded" || !strings.Contains(h.Detail, "the disk is on fire") || h.Generation != 1 {
		t.Errorf("got %+v", h)
	}
	s.fail(nil)
	s.set(func(c *networkproxy.Config) { c.Enabled = false })
	if err := l.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if h := l.health(t); h.Status != "disabled" || h.Generation != 2 {
		t.Errorf("got %+v", h)
	}
}

func TestAdminConfigAndPatterns(t *testing.T) {
	t.Parallel()
	config := allow("o.example", "*.wild.example:443")
	config.Policy.DeniedDomains = []string{"10.0.0.0/8"}
	l := start(t, config, nil)
	type policy struct {
		Allowed []string `json:"allowed_domains"`
		Denied  []string `json:"denied_domains"`
		Sockets []string `json:"allow_unix_sockets"`
	}
	got := decode[struct {
		NetworkProxy struct {
			Enabled  bool
			ProxyURL string `json:"proxy_url"`
			Policy   policy
		} `json:"network_proxy"`
		Mode  string `json:"mode_in_force"`
		HTTP  string `json:"http_address"`
		Admin string `json:"admin_address"`
	}](t, l.adminRaw(t, "GET", "/config", ""))
	p := got.NetworkProxy
	if !p.Enabled || p.ProxyURL != "http://127.0.0.1:3128" || fmt.Sprint(p.Policy.Allowed, p.Policy.Denied) != "[o.example *.wild.example:443] [10.0.0.0/8]" ||
		p.Policy.Sockets == nil || got.Mode != "full" || got.HTTP != l.HTTPAddr() || got.Admin != l.AdminAddr() {
		t.Errorf("got %+v", got)
	}
	patterns := decode[struct{ Allowed, Denied []networkproxy.Rule }](t, l.adminRaw(t, "GET", "/patterns", ""))
	if len(patterns.Allowed) != 2 || patterns.Allowed[1].Pattern != "*.wild.example:443" || patterns.Allowed[1].List != "allowed_domains" ||
		len(patterns.Denied) != 1 || patterns.Denied[0].List != "denied_domains" {
		t.Errorf("got %+v", patterns)
	}
	// Empty lists are [], not null.
	l = start(t, networkproxy.Config{}, nil)
	for _, path := range []string{"/config", "/patterns", "/blocked"} {
		if a := l.adminRaw(t, "GET", path, ""); strings.Contains(a.body, "null") {
			t.Errorf("%s: got %s", path, a.body)
		}
	}
}

// TestAdminBlocked checks that /blocked has the newest refusals in order, counts
// all of them, and does not remove them.
func TestAdminBlocked(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	type blocked struct {
		Total, Limit int
		Blocked      []networkproxy.BlockedRequest
	}
	w := l.dialHTTP(t)
	for i := range 205 {
		w.get(fmt.Sprintf("http://host%d.example/", i))
		if a := w.readResponse("GET"); a.StatusCode != 403 {
			t.Fatalf("got %s, want 403", a.Status)
		}
	}
	for range 2 {
		b := decode[blocked](t, l.adminRaw(t, "GET", "/blocked", ""))
		if b.Total != 205 || b.Limit != 200 || len(b.Blocked) != 200 {
			t.Fatalf("got total %d, limit %d and %d records", b.Total, b.Limit, len(b.Blocked))
		}
		if first, last := b.Blocked[0].Host, b.Blocked[199].Host; first != "host204.example" || last != "host5.example" {
			t.Errorf("got the records from %s to %s", first, last)
		}
	}
	if list := l.Blocked(); len(list) != 200 || list[0].Host != "host5.example" || list[199].Host != "host204.example" {
		t.Errorf("Handle.Blocked returned %d records", len(list))
	}
}

func TestAdminMode(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	for _, tt := range []struct {
		name, body string
		status     int
		message    string
		mode       networkproxy.Mode
	}{
		{"to limited", `{"mode":"limited"}`, 200, `"mode": "limited"`, "limited"},
		{"with blanks around", " \n{ \"mode\" : \"full\" }\n ", 200, `"mode": "full"`, "full"},
		{"to the same", `{"mode":"full"}`, 200, `"mode": "full"`, "full"},
		{"unknown", `{"mode":"open"}`, 400, "unknown mode", "full"},
		{"in capitals", `{"mode":"LIMITED"}`, 400, "unknown mode", "full"},
		{"empty", `{"mode":""}`, 400, "unknown mode", "full"},
		{"missing", `{}`, 400, "unknown mode", "full"},
		{"null", `null`, 400, "unknown mode", "full"},
		{"nothing", "", 400, "it is empty", "full"},
		{"a number", `{"mode":1}`, 400, "invalid request body", "full"},
		{"a list", `["limited"]`, 400, "invalid request body", "full"},
		{"another key", `{"mode":"limited","force":true}`, 400, "force", "full"},
		{"something after it", `{"mode":"limited"} {"mode":"limited"}`, 400, "something after", "full"},
		{"a brace after it", `{"mode":"limited"}}`, 400, "something after", "full"},
		{"half", `{"mode":"limi`, 400, "invalid request body", "full"},
		{"a form", `mode=limited`, 400, "invalid request body", "full"},
		{"8 KiB", `{"mode":"full"}` + strings.Repeat(" ", 8<<10-15), 200, "", "full"},
		{"over 8 KiB", `{"mode":"limited","x":"` + strings.Repeat("x", 8<<10) + `"}`, 413, "8192 bytes", "full"},
		{"over 8 KiB of blanks", `{"mode":"limited"}` + strings.Repeat(" ", 8<<10), 413, "8192 bytes", "full"},
	} {
		a := l.adminRaw(t, "POST", "/mode", tt.body, curlForm)
		if a.StatusCode != tt.status || !strings.Contains(a.body, tt.message) || l.Mode() != tt.mode {
			t.Errorf("%s: got %s %q and the mode %s, want %d %q and %s", tt.name, a.Status, a.body, l.Mode(), tt.status, tt.message, tt.mode)
		}
		if e := decode[adminError](t, a); (e.Error != "") != (tt.status != 200) {
			t.Errorf("%s: got %q", tt.name, a.body)
		}
	}
}

func TestAdminReload(t *testing.T) {
	t.Parallel()
	s := newSource(allow())
	l := startSource(t, s.builder, nil)
	s.set(func(c *networkproxy.Config) { c.Policy.AllowedDomains = []string{"new.example"} })
	for i, body := range []string{"", "x=1"} { // curl -X POST without and with -d
		a := l.adminRaw(t, "POST", "/reload", body, curlForm)
		if got := decode[struct{ Generation int }](t, a); a.StatusCode != 200 || got.Generation != i+2 {
			t.Errorf("got %s %s", a.Status, a.body)
		}
	}
	if got := l.Config().Policy.AllowedDomains; len(got) != 1 || got[0] != "new.example" {
		t.Errorf("got the allowlist %q", got)
	}
	if a := l.adminRaw(t, "POST", "/reload", strings.Repeat("x", 9000)); a.StatusCode != 413 {
		t.Errorf("got %s %s", a.Status, a.body)
	}
	s.set(func(c *networkproxy.Config) { c.Policy.AllowedDomains = []string{"http://new.example/"} })
	a := l.adminRaw(t, "POST", "/reload", "")
	if e := decode[adminError](t, a); a.StatusCode != 409 || !strings.Contains(e.Error, "allowed_domains[0]") || !strings.Contains(e.Error, "last good") {
		t.Errorf("got %s %s", a.Status, a.body)
	}
}

func TestAdminRoutes(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	for _, test := range []struct{ path, allow string }{
		{"/health", "GET, HEAD"}, {"/config", "GET, HEAD"}, {"/patterns", "GET, HEAD"}, {"/blocked", "GET, HEAD"},
		{"/metrics", "GET, HEAD"}, {"/", "GET, HEAD"}, {"/page.js", "GET, HEAD"}, {"/mode", "POST"}, {"/reload", "POST"},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "MODE"} {
			a := l.adminRaw(t, method, test.path, "")
			if strings.Contains(", "+test.allow+",", ", "+method+",") {
				if a.StatusCode == 405 || a.Header.Get("Allow") != "" {
					t.Errorf("%s %s: got %s", method, test.path, a.Status)
				}
				continue
			}
			if a.StatusCode != 405 || a.Header.Get("Allow") != test.allow {
				t.Errorf("%s %s: got %s and Allow %q, want 405 and %q", method, test.path, a.Status, a.Header.Get("Allow"), test.allow)
			}
			if method != "HEAD" && decode[adminError](t, a).Error == "" {
				t.Errorf("%s %s: got %q", method, test.path, a.body)
			}
		}
	}
	for _, path := range []string{"/index.html", "/healthz", "/health/", "/Health", "/mode/x"} {
		a := l.adminRaw(t, "GET", path, "")
		if e := decode[adminError](t, a); a.StatusCode != 404 || !strings.Contains(e.Error, "GET /health") || !strings.Contains(e.Error, "POST /mode") {
			t.Errorf("%s: got %s %s", path, a.Status, a.body)
		}
	}
	if l.Mode() != networkproxy.ModeFull {
		t.Error("a GET request changed the mode")
	}
}

// TestAdminAgainstWebPages sends requests that a page in the user's browser could
// send.
func TestAdminAgainstWebPages(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	_, port, _ := net.SplitHostPort(l.AdminAddr())
	for _, tt := range []struct {
		name   string
		fields []string
		ok     bool
	}{
		{"curl", nil, true},
		{"localhost", []string{"Host: localhost:" + port}, true},
		{"localhost without a port", []string{"Host: localhost"}, true},
		{"LOCALHOST", []string{"Host: LocalHost:" + port}, true},
		{"IPv6", []string{"Host: [::1]:" + port}, true},
		{"IPv6 without a port", []string{"Host: [::1]"}, true},
		{"a browser's address bar", []string{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"}, true},
		{"rebound DNS", []string{"Host: evil.example:" + port}, false},
		{"a name below localhost", []string{"Host: evil.localhost.example"}, false},
		{"a name of digits", []string{"Host: 127.0.0.1.evil.example:" + port}, false},
		{"no host", []string{"Host:"}, false},
		{"another loopback address", []string{"Host: 127.1.2.3:" + port}, true},
		{"a forwarded port", []string{"Host: localhost:9999"}, true},
		{"an empty port", []string{"Host: 127.0.0.1:"}, true},
		{"mapped IPv4", []string{"Host: [::ffff:127.0.0.1]:" + port}, true},
		{"a public address", []string{"Host: 93.184.216.34:" + port}, false},
		{"a public address without a port", []string{"Host: 93.184.216.34"}, false},
		{"a private address", []string{"Host: 192.168.1.1:" + port}, false},
		{"a public IPv6 address", []string{"Host: [2606:2800:21f::1]:" + port}, false},
		{"mapped public IPv4", []string{"Host: [::ffff:93.184.216.34]:" + port}, false},
		{"the unspecified address", []string{"Host: 0.0.0.0:" + port}, false},
		{"the unspecified IPv6 address", []string{"Host: [::]:" + port}, false},
		{"a scoped address", []string{"Host: [::1%25lo]:" + port}, false},
		{"an absolute name", []string{"Host: localhost.:" + port}, false},
		{"a name in brackets", []string{"Host: [localhost]:" + port}, false},
		{"IPv4 in brackets", []string{"Host: [127.0.0.1]:" + port}, false},
		{"IPv6 without brackets", []string{"Host: ::1"}, false},
		{"something after the bracket", []string{"Host: [::1]evil.example:" + port}, false},
		{"an invalid port", []string{"Host: localhost:x"}, false},
		{"a port out of range", []string{"Host: localhost:65536"}, false},
		{"a subdomain of localhost", []string{"Host: evil.localhost:" + port}, false},
		{"a number for an address", []string{"Host: 2130706433:" + port}, false},
		{"a page's image in an old browser", []string{"Referer: https://evil.example/"}, false},
		{"a page of another port in an old browser", []string{"Referer: http://127.0.0.1:3000/"}, false},
		{"an empty origin", []string{"Origin:"}, false},
		{"two origins", []string{"Origin:", "Origin: https://evil.example"}, false},
		{"two sites", []string{"Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"}, false},
		{"a script of another origin", []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, false},
		{"an old browser", []string{"Origin: https://evil.example"}, false},
		{"a sandboxed frame", []string{"Origin: null"}, false},
		{"the same site", []string{"Sec-Fetch-Site: same-site"}, false},
		{"another port of this machine", []string{"Origin: http://127.0.0.1:3000", "Sec-Fetch-Site: same-site"}, false},
		{"an image", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, false},
	} {
		for _, path := range []string{"GET /health", "GET /blocked", "GET /config", "POST /mode", "GET /none"} {
			method, path, _ := strings.Cut(path, " ")
			body := ""
			if method == "POST" {
				body = `{"mode":"full"}`
			}
			a := l.adminRaw(t, method, path, body, tt.fields...)
			if (a.StatusCode == 403) == tt.ok {
				t.Errorf("%s: %s %s: got %s", tt.name, method, path, a.Status)
			}
			if decode[adminError](t, a).Error == "" && !tt.ok {
				t.Errorf("%s: got %q", tt.name, a.body)
			}
			if cors := a.Header.Get("Access-Control-Allow-Origin"); cors != "" {
				t.Errorf("%s: got Access-Control-Allow-Origin: %s, want none", tt.name, cors)
			}
			if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: got the header %v", tt.name, a.Header)
			}
		}
	}
	// A URL in the request line counts as Host, too.
	if a := l.adminRaw(t, "GET", "http://evil.example/health", ""); a.StatusCode != 403 {
		t.Errorf("absolute-form: got %s, want 403", a.Status)
	}
	for _, host := range []string{"93.184.216.34", "evil.example:80", "localhost."} {
		if a := l.adminRaw(t, "GET", "http://"+host+"/health", "", "Host: "+l.AdminAddr()); a.StatusCode != 403 {
			t.Errorf("absolute-form for %s: got %s, want 403", host, a.Status)
		}
		if a := l.adminRaw(t, "CONNECT", host, "", "Host: "+l.AdminAddr()); a.StatusCode < 400 {
			t.Errorf("CONNECT %s: got %s", host, a.Status)
		}
	}
	if a := l.adminRaw(t, "OPTIONS", "*", "", "Host: evil.example", "Origin: https://evil.example", "Access-Control-Request-Method: POST"); a.StatusCode < 400 {
		t.Errorf("OPTIONS *: got %s", a.Status)
	}
}

// otherAddr is a listener that reports another address, like one that other
// machines can reach.
type otherAddr struct {
	net.Listener
	addr net.Addr
}

func (l otherAddr) Addr() net.Addr { return l.addr }

// TestAdminHostWhereOthersReachIt checks the Host field where the address of the
// listener is translated, so that clients do not know the listener's own address.
func TestAdminHostWhereOthersReachIt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		addr   net.Addr
		public int
	}{
		{"any address", &net.TCPAddr{IP: net.IPv4zero, Port: 8080}, 200},
		{"one address", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 8080}, 200},
		{"loopback", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}, 403},
		{"IPv6 loopback", &net.TCPAddr{IP: net.IPv6loopback, Port: 8080}, 403},
		{"not known", &net.UnixAddr{Name: "pipe", Net: "pipe"}, 403},
		{"abstract socket", &net.UnixAddr{Name: "@admin", Net: "unix"}, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			config := allow()
			config.DangerouslyAllowNonLoopbackAdmin = true
			start(t, config, func(b *networkproxy.Builder) { b.AdminAddr("").AdminListener(otherAddr{inner, test.addr}) })
			for host, want := range map[string]int{"93.184.216.34": test.public, "localhost": 200, "127.0.0.1": 200} {
				if _, resp := sendRaw(t, "tcp", inner.Addr().String(), "GET /health HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); resp.StatusCode != want {
					t.Errorf("Host %s: got %s, want %d", host, resp.Status, want)
				}
			}
		})
	}
}

func TestAdminToken(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	l := start(t, allow(), func(b *networkproxy.Builder) { b.AdminToken(token) })
	for _, tt := range []struct {
		field string
		ok    bool
	}{
		{"Authorization: Bearer " + token, true},
		{"authorization: bearer  " + token + " ", true},
		{"X-None: 1", false},
		{"Authorization: Bearer", false},
		{"Authorization: Bearer 0123456789abcdeF", false},
		{"Authorization: Bearer " + token + "0", false},
		{"Authorization: Bearer " + token[:15], false},
		{"Authorization: Basic " + token, false},
		{"Authorization: " + token, false},
	} {
		for _, path := range []string{"/health", "/config", "/none"} {
			a := l.adminRaw(t, "GET", path, "", tt.field)
			if (a.StatusCode == 401) == tt.ok || !tt.ok && !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("%q %s: got %s", tt.field, path, a.Status)
			}
			if strings.Contains(a.body, token) {
				t.Errorf("the response to %s contains the token: got %s", path, a.body)
			}
		}
	}
	if strings.Contains(l.log.String(), token) {
		t.Error("the log contains the token")
	}
}

// TestAdminConnectionsAreBounded opens more connections than the limit.
func TestAdminConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), func(b *networkproxy.Builder) {
		// Longer than the test, so that no timeout closes the connections.
		b.Limits(networkproxy.Limits{HeaderTimeout: time.Minute, IdleTimeout: time.Minute})
	})
	var open []*rawConn
	for range 100 {
		w := dialRaw(t, l.AdminAddr())
		open = append(open, w)
	}
	// The first connections are closed to make room. The proxy is not affected.
	closed := 0
	for _, w := range open[:36] {
		if w.readAll() == "" {
			closed++
		}
	}
	if closed != 36 {
		t.Errorf("%d of the first 36 connections were closed, want all", closed)
	}
	w := l.dialHTTP(t)
	w.get("http://other.example/")
	if a := w.readResponse("GET"); a.StatusCode != 403 {
		t.Errorf("got %s, want 403", a.Status)
	}
	if a := l.adminRaw(t, "GET", "/health", ""); a.StatusCode != 200 {
		t.Errorf("the API: got %s, want 200", a.Status)
	}
}

// Stalled clients do not lock out others.
func TestAdminMakesRoom(t *testing.T) {
	t.Parallel()
	const token = "a token of the admin API"
	auth := "Host: localhost\r\nAuthorization: Bearer " + token + "\r\n"
	stalled := 200
	if testing.Short() {
		stalled = 80 // more than the 64 that the API serves at once
	}
	for _, test := range []struct{ name, stall string }{
		{"silent", ""},
		{"half a header", "GET /health HTTP/1.1\r\nHost:"},
		{"kept alive", "GET /health HTTP/1.1\r\n" + auth + "\r\n"},
		{"a late body", "POST /mode HTTP/1.1\r\n" + auth + "Content-Length: 17\r\n\r\n{"},
		{"the body of a GET", "GET /health HTTP/1.1\r\n" + auth + "Content-Length: 17\r\n\r\n{"},
		{"a body without a token", "POST /mode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n{"},
		{"the body of a refused request", "POST /nothing HTTP/1.1\r\n" + auth + "Content-Length: 17\r\n\r\n{"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow(), func(b *networkproxy.Builder) {
				// Longer than the test, so that no timeout ends the stalled connections.
				b.AdminToken(token).Limits(networkproxy.Limits{HeaderTimeout: time.Minute, IdleTimeout: time.Minute})
			})
			for range stalled {
				io.WriteString(dialRaw(t, l.AdminAddr()), test.stall)
			}
			// For a moment, each of the 64 connections may have a request.
			eventually(t, "the API responds", func() bool {
				c, err := net.Dial("tcp", l.AdminAddr())
				if err != nil {
					return false
				}
				defer c.Close()
				c.SetDeadline(testDeadline()) // before the server's own timeouts
				io.WriteString(c, "GET /health HTTP/1.0\r\n"+auth+"\r\n")
				response, _ := io.ReadAll(c)
				return strings.Contains(string(response), " 200 OK\r\n")
			})
		})
	}
}

// TestAdminAgainstScripts sends, to every route that changes something, the
// requests that a page can send without a preflight: with fetch, forms and
// sockets.
func TestAdminAgainstScripts(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	_, port, _ := net.SplitHostPort(l.AdminAddr())
	own := "Host: " + l.AdminAddr()
	for _, test := range []struct {
		name   string
		fields []string
	}{
		{"fetch in mode no-cors", []string{own, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Content-Type: text/plain"}},
		{"a form", []string{own, "Origin: https://evil.example", "Sec-Fetch-Mode: navigate", curlForm}},
		{"a form of a file", []string{own, "Origin: null", "Content-Type: multipart/form-data; boundary=x"}},
		{"sendBeacon", []string{own, "Origin: https://evil.example", "Sec-Fetch-Dest: empty", "Content-Type: text/plain"}},
		{"a page of this port", []string{own, "Origin: http://localhost:" + port, "Sec-Fetch-Site: same-origin"}},
		{"rebound", []string{"Host: evil.example:" + port, "Origin: http://evil.example:" + port, "Sec-Fetch-Site: same-origin"}},
		{"rebound, no origin", []string{"Host: evil.example:" + port}},
		{"rebound by a dot", []string{"Host: localhost.:" + port}},
		{"rebound below us", []string{"Host: admin.localhost:" + port}},
		{"an invalid address", []string{"Host: 127.0.0.1.:" + port}},
		{"a WebSocket", []string{own, "Origin: https://evil.example", "Connection: Upgrade", "Upgrade: websocket"}},
		{"two hosts", []string{own, "Host: evil.example"}},
	} {
		for _, path := range []string{"/mode", "/reload", "/grants/revoke"} {
			a := l.adminRaw(t, "POST", path, `{"mode":"limited"}`, test.fields...)
			if a.StatusCode != 403 && a.StatusCode != 400 {
				t.Errorf("%s: POST %s: got %s", test.name, path, a.Status)
			}
		}
		// The browser's preflight.
		a := l.adminRaw(t, "OPTIONS", "/mode", "", append(test.fields, "Access-Control-Request-Method: POST", "Access-Control-Request-Private-Network: true")...)
		for field := range a.Header {
			if strings.HasPrefix(field, "Access-Control-") {
				t.Errorf("%s: the response to the preflight has %s: %s", test.name, field, a.Header.Get(field))
			}
		}
		if a.StatusCode < 400 {
			t.Errorf("%s: OPTIONS: got %s", test.name, a.Status)
		}
	}
	if l.Mode() != networkproxy.ModeFull || l.health(t).Generation != 1 {
		t.Error("a page changed the policy")
	}
}

// TestAdminNotThroughTheProxy checks that the proxy refuses the API's address in
// every spelling.
func TestAdminNotThroughTheProxy(t *testing.T) {
	t.Parallel()
	c := withSOCKS(allow("*", "localhost", "127.0.0.0/8", "0.0.0.0", "[::1]", "[::]", "[::ffff:0:0]"))
	c.Policy.AllowLocalBinding = true
	l := start(t, c, nil)
	l.dns.Set("admin.example", addrs("127.0.0.1"))
	l.dns.Set("both.example", addrs(publicAddr, "127.0.0.1"))
	l.dns.Set("mapped.example", addrs("::ffff:127.0.0.1"))
	l.dns.Set("any.example", addrs("0.0.0.0"))
	_, port, _ := net.SplitHostPort(l.AdminAddr())
	n := netip.MustParseAddrPort(l.AdminAddr()).Port()
	for _, host := range []string{
		"127.0.0.1", "localhost", "LOCALHOST.", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
		"[0:0:0:0:0:0:0:1]", "[64:ff9b::7f00:1]", "admin.example", "both.example", "mapped.example", "any.example", "Admin.Example.",
		"127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "%6cocalhost", "user@127.0.0.1",
	} {
		for _, method := range []string{"GET", "POST", "CONNECT"} {
			target := "http://" + host + ":" + port + "/mode"
			if method == "CONNECT" {
				target = host + ":" + port
			}
			w := l.dialHTTP(t)
			w.send(method + " " + target + " HTTP/1.1\r\nHost: localhost:" + port + "\r\n\r\n")
			if a := w.readResponse(method); a.StatusCode != 403 && a.StatusCode != 400 {
				t.Errorf("%s %s: got %s", method, target, a.Status)
			}
			w.Close()
		}
		plain := strings.Trim(host, "[]")
		if _, code, _ := l.socksRequest(socksConnect, socksDest(plain, n)); code != 2 {
			t.Errorf("SOCKS5 to %s: got the reply %d", plain, code)
		}
	}
	if dialed := l.net.Dialed(); len(dialed) > 0 {
		t.Errorf("dialed %v, want nothing", dialed)
	}
}

// unixWire makes a request to an admin API on a Unix socket.
func unixWire(t testing.TB, path, request string) rawResponse {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(testTimeout))
	io.WriteString(c, request)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("reading the response to %q: %v", request, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rawResponse{resp, string(body)}
}

func TestAdminUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "admin.sock")
	stale, err := net.Listen("unix", path) // the leftover of a process that has ended
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()

	c := allow()
	c.AdminURL = "unix://" + path
	c.DangerouslyAllowNonLoopbackAdmin = true // has no effect on a socket
	l := start(t, c, func(b *networkproxy.Builder) { b.AdminAddr("") })
	if l.AdminAddr() != path || len(l.Warnings()) > 0 {
		t.Errorf("got the address %q and the warnings %q", l.AdminAddr(), l.Warnings())
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	for _, host := range []string{"localhost", "unix", "admin.example"} {
		if a := unixWire(t, path, "GET /health HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); a.StatusCode != 200 || !strings.Contains(a.body, `"status": "ok"`) {
			t.Errorf("%s: got %s %s", host, a.Status, a.body)
		}
	}
	if a := unixWire(t, path, "GET /config HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.Contains(a.body, `"admin_address": "`+path+`"`) {
		t.Errorf("got %s", a.body)
	}
	if a := unixWire(t, path, "GET /health HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n"); a.StatusCode != 403 {
		t.Errorf("a web page: got %s, want 403", a.Status)
	}
	if a := unixWire(t, path, "POST /mode HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{\"mode\":\"limited\"}"); a.StatusCode != 200 || l.Mode() != networkproxy.ModeLimited {
		t.Errorf("POST /mode: got %s", a.Status)
	}
	if results, err := l.SelfTest(t.Context()); err != nil || len(results) == 0 {
		t.Errorf("self-test: %v", err)
	}

	// A second proxy does not take over a socket that is in use.
	c.Enabled = true
	second, err := networkproxy.NewBuilder().Config(c).HTTPAddr("127.0.0.1:0").Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("a second proxy on the same socket: got the error %v", err)
	}
	l.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket file still exists after Close: %v", err)
	}
}

func TestAdminUnixAddresses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, message string }{
		{"unix://run/x.sock", "not an absolute path"},
		{"unix://", "not an absolute path"},
		{"unix:///run/../x.sock", "not a clean path"},
		{"unix:///", "names a directory"},
		{"unix:///a\x00b", "NUL"},
		{"unix:///" + strings.Repeat("x", 200), "at most 103"},
		{"unix:/run/x.sock", ""},
	} {
		c := allow()
		c.AdminURL = test.url
		_, err := networkproxy.NewBuilder().Config(c).Build()
		if err == nil || !strings.Contains(err.Error(), test.message) || !strings.Contains(err.Error(), "admin_url") {
			t.Errorf("%q: got the error %v, want %q in it", test.url, err, test.message)
		}
	}
	for _, change := range []func(*networkproxy.Config){
		func(c *networkproxy.Config) { c.ProxyURL = "unix:///run/x.sock" },
		func(c *networkproxy.Config) { c.SOCKSURL = "unix:///run/x.sock" },
	} {
		c := allow()
		change(&c)
		if _, err := networkproxy.NewBuilder().Config(c).Build(); err == nil {
			t.Errorf("proxy_url %q, socks_url %q: got no error", c.ProxyURL, c.SOCKSURL)
		}
	}
}

func TestAdminReadOnly(t *testing.T) {
	t.Parallel()
	s := newSource(allow())
	l := startSource(t, s.builder, nil)
	set := func(readOnly bool) {
		t.Helper()
		s.set(func(c *networkproxy.Config) { c.AdminReadOnly = readOnly })
		if err := l.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(l *lab) {
		t.Helper()
		generation := l.health(t).Generation
		for _, path := range []string{"/mode", "/reload", "/grants/revoke"} {
			a := l.adminRaw(t, "POST", path, `{"mode":"limited"}`)
			if e := decode[adminError](t, a); a.StatusCode != 403 || !strings.Contains(e.Error, "read-only") {
				t.Errorf("POST %s: got %s %s", path, a.Status, a.body)
			}
		}
		for _, path := range []string{"/health", "/config", "/blocked", "/metrics"} {
			if a := l.adminRaw(t, "GET", path, ""); a.StatusCode != 200 {
				t.Errorf("GET %s: got %s, want 200", path, a.Status)
			}
		}
		if l.Mode() != networkproxy.ModeFull || l.health(t).Generation != generation {
			t.Error("a read-only API changed the policy")
		}
	}
	set(true)
	refused(l)
	set(false)
	if a := l.adminRaw(t, "POST", "/mode", `{"mode":"limited"}`); a.StatusCode != 200 {
		t.Errorf("with admin_read_only off again: got %s", a.Status)
	}

	// The builder's setting overrides the configuration and satisfies the managed
	// limits.
	limits := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(limits, []byte("[network_proxy]\nadmin_read_only = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l = start(t, allow(), func(b *networkproxy.Builder) { b.AdminReadOnly().Requirements(limits) })
	refused(l)
	if err := l.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	refused(l)
	_, err := networkproxy.NewBuilder().Config(allow()).Requirements(limits).Build()
	if err == nil || !strings.Contains(err.Error(), "admin_read_only = false: exceeds a managed limit: must be true") {
		t.Errorf("admin_read_only = false under the limit true: got the error %v", err)
	}
	if err := os.WriteFile(limits, []byte("[network_proxy]\nadmin_read_only = false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := allow()
	c.AdminReadOnly = true
	if _, err := networkproxy.NewBuilder().Config(c).Requirements(limits).Build(); err != nil {
		t.Errorf("admin_read_only = true under the limit false: %v", err)
	}
}

// shortDir returns a directory whose path leaves room for the name of a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "np")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
