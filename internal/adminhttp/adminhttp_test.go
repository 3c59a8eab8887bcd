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
		Routes: []Route{{"GET", "/health", func(*http.Request) (any, error) { return "fine", nil }}},
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
		{"Referer", []string{token, "Referer: http://localhost:8080/"}, 403},
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

func TestRoutes(t *testing.T) {
	readOnly := false
	s := newTestServer(Config{
		ReadOnly: func() bool { return readOnly },
		Routes: []Route{
			{"GET", "/value", func(*http.Request) (any, error) { return map[string]string{"k": "<v>"}, nil }},
			{"GET", "/text", func(*http.Request) (any, error) { return Text{"text/plain", "plain"}, nil }},
			{"GET", "/gone", func(*http.Request) (any, error) {
				return nil, &StatusError{http.StatusNotFound, errors.New("no such grant")}
			}},
			{"GET", "/conflict", func(*http.Request) (any, error) { return nil, errors.New("not now") }},
			{"POST", "/change", func(r *http.Request) (any, error) {
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
