package adminhttp

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

var loopbackAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}

func newTestServer(c Config) *Server {
	c.Logger = slog.New(slog.DiscardHandler)
	return New(c)
}

// respond returns the server's response to a request. fields are "Name: value".
func respond(s *Server, method, path, body string, fields ...string) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "localhost:8080"
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.guard(loopbackAddr, s.mux()).ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNamesListener(t *testing.T) {
	public := &net.TCPAddr{IP: net.IPv4zero, Port: 8080}
	unix := &net.UnixAddr{Name: "/run/admin.sock", Net: "unix"}
	for _, tt := range []struct {
		host string
		addr net.Addr
		want bool
	}{
		{"localhost", loopbackAddr, true},
		{"LocalHost:1", loopbackAddr, true},
		{"127.1.2.3:8080", loopbackAddr, true},
		{"[::1]:8080", loopbackAddr, true},
		{"[::ffff:127.0.0.1]", loopbackAddr, true},
		{"192.0.2.1:8080", loopbackAddr, false},
		{"0.0.0.0", loopbackAddr, false},
		{"localhost.", loopbackAddr, false},
		{"evil.example", loopbackAddr, false},
		{"[localhost]", loopbackAddr, false},
		{"::1", loopbackAddr, false},
		{"[::1", loopbackAddr, false},
		{"[::1%25lo]", loopbackAddr, false},
		{"localhost:x", loopbackAddr, false},
		{"localhost:65536", loopbackAddr, false},
		{"", loopbackAddr, false},
		{"192.0.2.1:8080", public, true},
		{"evil.example", public, false},
		{"", unix, true},
		{"evil.example", unix, true},
	} {
		if got := namesListener(tt.host, tt.addr); got != tt.want {
			t.Errorf("namesListener(%q, %v) = %v", tt.host, tt.addr, got)
		}
	}
}

func TestGuard(t *testing.T) {
	s := newTestServer(Config{
		Token:  "secret",
		Routes: []Route{{Method: "GET", Path: "/health", Serve: func(*http.Request) (any, error) { return "fine", nil }}},
	})
	const token = "Authorization: Bearer secret"
	for _, tt := range []struct {
		name   string
		fields []string
		status int
	}{
		{"with the token", []string{token}, 200},
		{"scheme in lower case", []string{"Authorization: bearer  secret"}, 200},
		{"without a token", nil, 401},
		{"wrong token", []string{"Authorization: Bearer secrets"}, 401},
		{"another scheme", []string{"Authorization: Basic secret"}, 401},
		{"typed into a browser", []string{token, "Sec-Fetch-Site: none"}, 200},
		{"page of another site", []string{token, "Sec-Fetch-Site: cross-site"}, 403},
		{"page of the same site", []string{token, "Sec-Fetch-Site: same-site"}, 403},
		{"Origin", []string{token, "Origin: null"}, 403},
		{"Referer", []string{token, "Referer: http://localhost:8080/"}, 403}, // of a browser without Sec-Fetch-Site
		{"the own page", []string{token, "Sec-Fetch-Site: same-origin"}, 200},
		{"the own page without a token", []string{"Sec-Fetch-Site: same-origin"}, 401},
		{"the own page with Origin and Referer", []string{token, "Sec-Fetch-Site: same-origin", "Origin: http://localhost:8080", "Referer: http://localhost:8080/x"}, 200},
		{"page of another port", []string{token, "Sec-Fetch-Site: same-origin", "Origin: http://localhost:8081"}, 403},
		{"page of another scheme", []string{token, "Sec-Fetch-Site: same-origin", "Origin: https://localhost:8080"}, 403},
		{"two origins", []string{token, "Sec-Fetch-Site: same-origin", "Origin: http://localhost:8080", "Origin: null"}, 403},
		{"two sites", []string{token, "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"}, 403},
		{"Referer of another port", []string{token, "Sec-Fetch-Site: same-origin", "Referer: http://localhost:80801/"}, 403},
		{"Origin without Sec-Fetch-Site", []string{token, "Origin: http://localhost:8080"}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := respond(s, "GET", "/health", "", tt.fields...)
			if r.StatusCode != tt.status {
				t.Errorf("status %d, want %d", r.StatusCode, tt.status)
			}
			if got := r.Header.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options is %q", got)
			}
		})
	}
}

// TestPageChangesWithToken checks that the page needs a token for what may change
// something, even if other clients need none.
func TestPageChangesWithToken(t *testing.T) {
	readOnly := false
	s := newTestServer(Config{ReadOnly: func() bool { return readOnly }})
	s.config.Routes = []Route{
		{Method: "GET", Path: "/value", Serve: func(*http.Request) (any, error) { return 1, nil }},
		{Method: "POST", Path: "/change", Serve: func(*http.Request) (any, error) { return 1, nil }},
	}
	token, ok := s.Login(s.NewCode())
	if !ok || len(token) < 16 {
		t.Fatalf("token %q", token)
	}
	const page, origin = "Sec-Fetch-Site: same-origin", "Origin: http://localhost:8080"
	for _, tt := range []struct {
		name, method, path string
		fields             []string
		status             int
	}{
		{"a tool reads", "GET", "/value", nil, 200},
		{"a tool changes", "POST", "/change", nil, 200},
		{"the page reads", "GET", "/value", []string{page}, 200},
		{"the page changes without a token", "POST", "/change", []string{page, origin}, 401},
		{"the page changes with a wrong token", "POST", "/change", []string{page, origin, "Authorization: Bearer " + token + "x"}, 401},
		{"the page changes", "POST", "/change", []string{page, origin, "Authorization: Bearer " + token}, 200},
		{"another page with the token", "POST", "/change", []string{"Sec-Fetch-Site: same-site", "Authorization: Bearer " + token}, 403},
	} {
		if r := respond(s, tt.method, tt.path, "{}", tt.fields...); r.StatusCode != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, r.StatusCode, tt.status)
		}
	}
}

// TestPublicRoutes checks that a public route needs no token, but refuses other pages.
func TestPublicRoutes(t *testing.T) {
	s := newTestServer(Config{
		Token: "secret", ReadOnly: func() bool { return true },
		Routes: []Route{
			{Method: "POST", Path: "/login", Public: true, Serve: func(*http.Request) (any, error) { return 1, nil }},
			{Method: "GET", Path: "/{$}", Public: true, Serve: func(*http.Request) (any, error) {
				return Text{Type: "text/html", Body: "page", Header: http.Header{"Content-Security-Policy": {"default-src 'none'"}}}, nil
			}},
		},
	})
	for _, tt := range []struct {
		method, path string
		fields       []string
		status       int
	}{
		{"POST", "/login", nil, 200},
		{"POST", "/login", []string{"Sec-Fetch-Site: same-origin", "Origin: http://localhost:8080"}, 200},
		{"POST", "/login", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"POST", "/login", []string{"Origin: http://localhost:8080"}, 403},
		{"GET", "/", nil, 200},
		{"GET", "/", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"GET", "/x", nil, 401},
		{"GET", "//", nil, 401},
		{"GET", "/login/..", nil, 401},
	} {
		r := respond(s, tt.method, tt.path, "{}", tt.fields...)
		if r.StatusCode != tt.status {
			t.Errorf("%s %s %v: status %d, want %d", tt.method, tt.path, tt.fields, r.StatusCode, tt.status)
		}
		if tt.path == "/" && tt.status == 200 && r.Header.Get("Content-Security-Policy") != "default-src 'none'" {
			t.Errorf("header %v", r.Header)
		}
	}
}

// TestCodes checks that a code can be used once, and that few are kept.
func TestCodes(t *testing.T) {
	s := newTestServer(Config{Token: "secret"})
	first, second := s.NewCode(), s.NewCode()
	for _, tt := range []struct {
		code string
		ok   bool
	}{{second, true}, {second, false}, {"", false}, {first + "x", false}, {first, true}, {first, false}} {
		if token, ok := s.Login(tt.code); ok != tt.ok || ok && token != "secret" {
			t.Errorf("Login(%q) = %q, %v", tt.code, token, ok)
		}
	}
	oldest := s.NewCode()
	for range maxCodes {
		s.NewCode()
	}
	if _, ok := s.Login(oldest); ok {
		t.Error("a code that was displaced by newer ones is accepted")
	}
}

func TestRoutes(t *testing.T) {
	readOnly := false
	s := newTestServer(Config{
		ReadOnly: func() bool { return readOnly },
		Routes: []Route{
			{Method: "GET", Path: "/value", Serve: func(*http.Request) (any, error) { return map[string]string{"k": "<v>"}, nil }},
			{Method: "GET", Path: "/text", Serve: func(*http.Request) (any, error) { return Text{Type: "text/plain", Body: "plain"}, nil }},
			{Method: "GET", Path: "/gone", Serve: func(*http.Request) (any, error) {
				return nil, &StatusError{http.StatusNotFound, errors.New("no such grant")}
			}},
			{Method: "GET", Path: "/conflict", Serve: func(*http.Request) (any, error) { return nil, errors.New("not now") }},
			{Method: "POST", Path: "/change", Serve: func(r *http.Request) (any, error) {
				var v struct{ N int }
				return v, ReadJSON(r, &v)
			}},
		},
	})
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string // in the response body
	}{
		{"GET", "/value", "", 200, `"k": "<v>"`},
		{"GET", "/text", "", 200, "plain"},
		{"GET", "/gone", "", 404, "no such grant"},
		{"GET", "/conflict", "", 409, "not now"},
		{"GET", "/none", "", 404, "GET /value, GET /text"},
		{"POST", "/value", "", 405, "POST"},
		{"GET", "/change", "", 405, "GET"},
		{"POST", "/change", `{"n":1}`, 200, ""},
		{"POST", "/change", "", 400, "empty"},
		{"POST", "/change", `{"x":1}`, 400, "x"},
		{"POST", "/change", `{"n":1} 2`, 400, "after"},
		{"POST", "/change", strings.Repeat(" ", maxBodyBytes+1), 413, "8192 bytes"},
	} {
		t.Run(tt.method+" "+tt.path+" "+tt.body[:min(len(tt.body), 10)], func(t *testing.T) {
			r := respond(s, tt.method, tt.path, tt.body)
			if got := text(t, r); r.StatusCode != tt.status || !strings.Contains(got, tt.want) {
				t.Errorf("status %d, body %q; want %d, %q", r.StatusCode, got, tt.status, tt.want)
			}
		})
	}

	readOnly = true
	if r := respond(s, "POST", "/change", `{"n":1}`); r.StatusCode != 403 {
		t.Errorf("POST while read-only: status %d", r.StatusCode)
	}
	if r := respond(s, "HEAD", "/value", ""); r.StatusCode != 200 {
		t.Errorf("HEAD while read-only: status %d", r.StatusCode)
	}
}

// TestPage checks that the page needs no token, and that its fields forbid other pages
// to use it.
func TestPage(t *testing.T) {
	s := newTestServer(Config{Token: "secret", Routes: PageRoutes()})
	for path, mediaType := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"} {
		r := respond(s, "GET", path, "")
		if r.StatusCode != 200 || !strings.HasPrefix(r.Header.Get("Content-Type"), mediaType+";") {
			t.Errorf("%s: status %d, type %q", path, r.StatusCode, r.Header.Get("Content-Type"))
		}
		policy := r.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy %q lacks %s", path, policy, part)
			}
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	if r := respond(s, "GET", "/", "", "Sec-Fetch-Site: cross-site"); r.StatusCode != 403 {
		t.Errorf("a frame or a link of another site: status %d, want 403", r.StatusCode)
	}
	if r := respond(s, "GET", "/", "", "Sec-Fetch-Site: none"); r.StatusCode != 200 {
		t.Errorf("typed into a browser: status %d, want 200", r.StatusCode)
	}
}

func TestMetrics(t *testing.T) {
	var m Metrics
	m.Metric("open", Gauge, "Open things.", 3)
	m.Family("total", Counter, "All things.")
	m.Sample("total", uint64(1), "kind", "a\"b\\c\nd", "side", "left")
	const want = "# HELP open Open things.\n# TYPE open gauge\nopen 3\n" +
		"# HELP total All things.\n# TYPE total counter\ntotal{kind=\"a\\\"b\\\\c\\nd\",side=\"left\"} 1\n"
	if got := m.Text().Body; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
