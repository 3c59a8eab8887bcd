// Unix sockets as targets. The tests decide whether the platform supports them.

package networkproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// socketDir returns a new directory for sockets. Its path is short and has no
// symbolic links.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "np")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

// serveUnix serves HTTP on a Unix socket. Its responses begin with name.
func serveUnix(t testing.TB, path, name string, handler http.HandlerFunc) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handler != nil {
			handler(w, r)
			return
		}
		fmt.Fprintf(w, "%s %s %s", name, r.Method, r.RequestURI)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
}

// startSockets starts a proxy that allows some sockets, as on a platform that
// supports them.
func startSockets(t testing.TB, paths []string, change func(*networkproxy.Config)) *lab {
	t.Helper()
	config := allow("allowed.example")
	config.Policy.AllowUnixSockets = paths
	if change != nil {
		change(&config)
	}
	return start(t, config, func(b *networkproxy.Builder) {
		networkproxy.SetUnixSockets(b, true)
		b.UpstreamEnviron([]string{"ALL_PROXY=http://user:secret@10.0.0.5:3128"}) // no upstream proxy leads to a socket
	})
}

// viaUnixSocket makes a request for a Unix socket, with one header line for each path.
func (l *lab) viaUnixSocket(method, url string, paths ...string) response {
	l.t.Helper()
	return l.viaUnixSocketBy(l.HTTPAddr(), method, url, paths...)
}

// viaUnixSocketBy is viaUnixSocket through the listener at proxy.
func (l *lab) viaUnixSocketBy(proxy, method, target string, paths ...string) response {
	l.t.Helper()
	r, err := http.NewRequest(method, target, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header["X-Unix-Socket"] = paths
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: proxy})}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(body)}
}

func TestUnixSocketIsTheTarget(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	path := filepath.Join(dir, "s.sock")
	seen := make(chan *http.Request, 1)
	serveUnix(t, path, "service", func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Clone(context.Background())
		io.WriteString(w, "from the socket")
	})
	l := startSockets(t, []string{path}, func(c *networkproxy.Config) {
		c.Policy.DeniedDomains = []string{"denied.example"}
		c.AllowUpstreamProxy = true
	})

	// The proxy never connects to the host of the URL, so no list applies to it.
	// The service finds it in the Host field.
	for _, test := range []struct{ url, host string }{
		{"http://allowed.example/v1/info?x=1", "allowed.example"},
		{"http://unlisted.example/v1/info", "unlisted.example"},
		{"http://denied.example:81/v1/info", "denied.example:81"},
		{"http://localhost/v1/info", "localhost"},
	} {
		got := l.viaUnixSocket("POST", test.url, path)
		if got.status != 200 || got.body != "from the socket" {
			t.Errorf("%s: got %d %s", test.url, got.status, got.body)
			continue
		}
		r := <-seen
		if r.Host != test.host || r.Header.Get("X-Unix-Socket") != "" || r.Header.Get("Proxy-Authorization") != "" || !strings.HasPrefix(r.RequestURI, "/v1/info") {
			t.Errorf("%s: the service got Host %q, %s, %v", test.url, r.Host, r.RequestURI, r.Header)
		}
	}
	if got := l.dns.Queries(); len(got) != 0 {
		t.Errorf("looked up: %q", got)
	}
	if got := l.net.Dialed(); len(got) != 0 {
		t.Errorf("dialed: %v", got)
	}
}

// Connections to sockets and to hosts are not shared.
func TestUnixSocketSharesNoConnection(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	one, two := filepath.Join(dir, "1"), filepath.Join(dir, "2")
	serveUnix(t, one, "one", nil)
	serveUnix(t, two, "two", nil)
	l := startSockets(t, []string{one, two}, nil)
	l.origin("allowed.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "origin") })
	for range 3 {
		for _, test := range []struct {
			want string
			got  response
		}{
			{"one GET /", l.viaUnixSocket("GET", "http://allowed.example/", one)},
			{"two GET /", l.viaUnixSocket("GET", "http://allowed.example/", two)},
			{"origin", l.get("http://allowed.example/")},
		} {
			if test.got.body != test.want {
				t.Errorf("%d %q, want %q", test.got.status, test.got.body, test.want)
			}
		}
	}
}

func TestUnixSocketRefusals(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	serveUnix(t, in("allowed"), "allowed", nil)
	serveUnix(t, in("other"), "other", nil)
	if err := os.WriteFile(in("file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(in("dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "allowed", "other-link": "other", "entry-link": "other", "loop": "loop", "dangling": "gone"} {
		if err := os.Symlink(in(to), in(name)); err != nil {
			t.Fatal(err)
		}
	}
	left, err := net.Listen("unix", in("left")) // a socket that nobody listens on
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	allowed := []string{in("allowed"), in("file"), in("dir"), in("gone"), in("left"), in("loop")}

	tests := []struct {
		name   string
		paths  []string
		status int
		want   string // part of the body
	}{
		{"allowed", []string{in("allowed")}, 200, "allowed GET /"},
		{"a link to it", []string{in("link")}, 200, "allowed GET /"},
		{"another", []string{in("other")}, 403, `"reason":"not_allowed"`},
		{"a link to another", []string{in("other-link")}, 403, `"reason":"not_allowed"`},
		{"not there", []string{in("nothing")}, 403, `"reason":"not_allowed"`},
		{"a prefix", []string{in("allowe")}, 403, `"reason":"not_allowed"`},
		{"below it", []string{in("allowed") + "/x"}, 403, `"reason":"not_allowed"`},
		{"another case", []string{in("ALLOWED")}, 403, `"reason":"not_allowed"`},
		{"a directory that is not allowed", []string{dir}, 403, `"reason":"not_allowed"`},

		{"an allowed file", []string{in("file")}, 502, "it is not a socket"},
		{"an allowed directory", []string{in("dir")}, 502, "it is not a socket"},
		{"allowed and not there", []string{in("gone")}, 502, "does not exist"},
		{"allowed and nobody listens", []string{in("left")}, 502, "refused"},
		{"allowed and a loop of links", []string{in("loop")}, 502, "the unix socket"},

		{"empty, twice", []string{"", ""}, 400, "2 times"},
		{"empty, and not", []string{"", in("allowed")}, 400, "2 times"},
		{"twice", []string{in("allowed"), in("allowed")}, 400, "2 times"},
		{"twice, and different", []string{in("allowed"), in("other")}, 400, "2 times"},
		{"relative", []string{"allowed"}, 400, "not an absolute path"},
		{"home", []string{"~/allowed"}, 400, "~ is not expanded"},
		{"dot dot", []string{dir + "/x/../allowed"}, 400, "not a clean path"},
		{"dot dot that climbs", []string{in("allowed") + "/../other"}, 400, "not a clean path"},
		{"dot", []string{dir + "/./allowed"}, 400, "not a clean path"},
		{"two slashes", []string{"/" + in("allowed")}, 400, "not a clean path"},
		{"a slash at the end", []string{in("allowed") + "/"}, 400, "not a clean path"},
		{"the root", []string{"/"}, 400, "names a directory"},
		{"a URL", []string{"unix://" + in("allowed")}, 400, "not an absolute path"},
		{"abstract", []string{"@" + in("allowed")}, 400, "not an absolute path"},
		{"a list", []string{in("allowed") + ", " + in("other")}, 403, `"reason":"not_allowed"`},
		{"escapes stay escapes", []string{strings.Replace(in("allowed"), "a", "%61", 1)}, 403, `"reason":"not_allowed"`},
		{"not UTF-8", []string{in("allowed\xff")}, 400, "UTF-8"},
		{"a tab", []string{in("a\tb")}, 400, "control"},
		{"C1 control", []string{in("a\u009bb")}, 400, "control"},
		{"too long", []string{"/" + strings.Repeat("x", 2000)}, 400, "the limit is 1024"},
	}
	l := startSockets(t, allowed, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := l.viaUnixSocket("GET", "http://host.example/", test.paths...)
			if got.status != test.status || !strings.Contains(got.body, test.want) {
				t.Errorf("%d %s, want %d with %q", got.status, got.body, test.status, test.want)
			}
			if token := got.header.Get("x-proxy-error"); (test.status == 403) != (token == "blocked-by-allowlist") {
				t.Errorf("x-proxy-error: %q", token)
			}
		})
	}
	for _, b := range l.Blocked() {
		if b.UnixSocket == "" || b.Reason != networkproxy.ReasonNotAllowed || b.Host != "host.example" {
			t.Errorf("recorded: %+v", b)
		}
	}
	n := 0
	for _, test := range tests {
		if test.status == 403 {
			n++
		}
	}
	if got := len(l.Blocked()); got != n {
		t.Errorf("%d refusals are recorded, want %d", got, n)
	}
}

// net/http refuses NUL and line breaks. The proxy checks the rest of the header.
func TestUnixSocketRawHeaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	serveUnix(t, path, "service", nil)
	l := startSockets(t, []string{path}, nil)
	for _, test := range []struct {
		name    string
		request string
		status  int
	}{
		{"plain", "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nx-unix-socket: " + path + "\r\n\r\n", 200},
		{"NUL", "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nx-unix-socket: " + path + "\x00\r\n\r\n", 400},
		{"folded", "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nx-unix-socket: /x\r\n " + path + "\r\n\r\n", 400},
		{"in two cases", "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nx-unix-socket: " + path + "\r\nX-UNIX-SOCKET: " + path + "\r\n\r\n", 400},
		{"named as hop-by-hop", "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nConnection: x-unix-socket\r\nx-unix-socket: " + path + "\r\n\r\n", 200},
		{"of CONNECT", "CONNECT allowed.example:443 HTTP/1.1\r\nHost: allowed.example:443\r\nx-unix-socket: " + path + "\r\n\r\n", 400},
		{"empty", "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\nx-unix-socket:\r\n\r\n", 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", l.HTTPAddr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, test.request)
			got, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			got.Body.Close()
			if got.StatusCode != test.status {
				t.Errorf("status %s, want %d", got.Status, test.status)
			}
		})
	}
	if got := l.net.Dialed(); len(got) != 0 {
		t.Errorf("dialed: %v", got)
	}
}

func TestUnixSocketEntryIsALink(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	serveUnix(t, in("real"), "real", nil)
	serveUnix(t, in("other"), "other", nil)
	if err := os.Symlink(in("real"), in("entry")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, in("here")); err != nil {
		t.Fatal(err)
	}
	l := startSockets(t, []string{in("entry")}, nil)
	for _, test := range []struct {
		path   string
		status int
	}{
		{in("entry"), 200}, {in("real"), 200}, {in("here/entry"), 200}, {in("here/real"), 200},
		{in("other"), 403}, {in("here/other"), 403},
	} {
		if got := l.viaUnixSocket("GET", "http://h.example/", test.path); got.status != test.status {
			t.Errorf("%s: %d %s, want %d", test.path, got.status, got.body, test.status)
		}
	}
}

// A path changes between the decision and the connection.
func TestUnixSocketSwaps(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		// swap runs between the check and the connection, unswap after it.
		swap, unswap func(in func(string) string) error
		ask          string
		status       int
		body         string
	}{
		{
			name: "the link that was asked for", ask: "link", status: 200, body: "allowed",
			swap: func(in func(string) string) error {
				return errors.Join(os.Remove(in("link")), os.Symlink(in("dir/secret"), in("link")))
			},
		},
		{
			name: "the socket itself", ask: "dir/allowed", status: 403, body: "not_allowed",
			swap: func(in func(string) string) error {
				return errors.Join(os.Rename(in("dir/allowed"), in("dir/away")), os.Symlink(in("dir/secret"), in("dir/allowed")))
			},
		},
		{
			name: "by another socket", ask: "dir/allowed", status: 403, body: "not_allowed",
			swap: func(in func(string) string) error {
				return errors.Join(os.Rename(in("dir/allowed"), in("dir/away")), os.Rename(in("dir/secret"), in("dir/allowed")))
			},
		},
		{
			name: "a directory above it", ask: "dir/allowed", status: 403, body: "not_allowed",
			swap: func(in func(string) string) error {
				return errors.Join(
					os.Rename(in("dir"), in("away")), os.Mkdir(in("trap"), 0o700),
					os.Rename(in("away/secret"), in("trap/allowed")), os.Symlink(in("trap"), in("dir")))
			},
		},
		{
			name: "gone afterwards", ask: "dir/allowed", status: 403, body: "not_allowed",
			unswap: func(in func(string) string) error { return os.Remove(in("dir/allowed")) },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := socketDir(t)
			in := func(name string) string { return filepath.Join(dir, name) }
			if err := os.Mkdir(in("dir"), 0o700); err != nil {
				t.Fatal(err)
			}
			serveUnix(t, in("dir/allowed"), "allowed", nil)
			serveUnix(t, in("dir/secret"), "secret", func(http.ResponseWriter, *http.Request) { t.Error("a socket that is not allowed was sent a request") })
			if err := os.Symlink(in("dir/allowed"), in("link")); err != nil {
				t.Fatal(err)
			}
			config := allow()
			config.Policy.AllowUnixSockets = []string{in("dir/allowed")}
			l := start(t, config, func(b *networkproxy.Builder) {
				networkproxy.SetUnixSockets(b, true)
				networkproxy.SetConnectUnix(b, func(ctx context.Context, path string) (*net.UnixConn, error) {
					if test.swap != nil {
						if err := test.swap(in); err != nil {
							t.Error(err)
						}
					}
					conn, err := new(net.Dialer).DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
					if test.unswap != nil {
						if err := test.unswap(in); err != nil {
							t.Error(err)
						}
					}
					return conn, err
				})
			})
			got := l.viaUnixSocket("GET", "http://h.example/", in(test.ask))
			if got.status != test.status || !strings.Contains(got.body, test.body) {
				t.Errorf("%d %s, want %d %s", got.status, got.body, test.status, test.body)
			}
			if n := len(l.Blocked()); (test.status == 403) != (n == 1) {
				t.Errorf("%d refusals are recorded", n)
			}
		})
	}
}

// DialTimeout applies to sockets as it does to hosts.
func TestUnixSocketDialTimeout(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	serveUnix(t, path, "service", nil)
	config := allow()
	config.Policy.AllowUnixSockets = []string{path}
	l := start(t, config, func(b *networkproxy.Builder) {
		b.Limits(networkproxy.Limits{DialTimeout: 50 * time.Millisecond})
		networkproxy.SetUnixSockets(b, true)
		networkproxy.SetConnectUnix(b, func(ctx context.Context, _ string) (*net.UnixConn, error) {
			select {
			case <-ctx.Done():
			case <-time.After(testTimeout):
				t.Error("the connection attempt does not end")
			}
			return nil, ctx.Err()
		})
	})
	if got := l.viaUnixSocket("GET", "http://h.example/", path); got.status != 504 {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// An empty field means a socket and names none. The request must not go to the
// host of the URL, on any platform.
func TestUnixSocketFieldIsEmpty(t *testing.T) {
	t.Parallel()
	for _, supported := range []bool{true, false} {
		l := start(t, allow("allowed.example"), func(b *networkproxy.Builder) { networkproxy.SetUnixSockets(b, supported) })
		l.origin("allowed.example", 80, func(w http.ResponseWriter, r *http.Request) { t.Error("the origin got the request") })
		for _, test := range []struct{ name, request string }{
			{"empty", "GET http://allowed.example/ HTTP/1.1\r\nHost: allowed.example\r\nx-unix-socket:\r\n\r\n"},
			{"white space", "GET http://allowed.example/ HTTP/1.1\r\nHost: allowed.example\r\nX-Unix-Socket: \t \r\n\r\n"},
			{"named by Connection", "GET http://allowed.example/ HTTP/1.1\r\nHost: allowed.example\r\nConnection: x-unix-socket\r\nx-unix-socket: \r\n\r\n"},
			{"with content", "POST http://allowed.example/ HTTP/1.1\r\nHost: allowed.example\r\nx-unix-socket:\r\nContent-Length: 1\r\n\r\nx"},
			{"an upgrade", "GET http://allowed.example/ HTTP/1.1\r\nHost: allowed.example\r\nx-unix-socket:\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
			{"CONNECT", "CONNECT allowed.example:80 HTTP/1.1\r\nHost: allowed.example:80\r\nx-unix-socket:\r\n\r\n"},
			{"a host that is not known", "GET http://refused.example/ HTTP/1.1\r\nHost: refused.example\r\nx-unix-socket:\r\n\r\n"},
		} {
			_, resp := sendRaw(t, "tcp", l.HTTPAddr(), test.request)
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != 400 || !strings.Contains(string(body), "x-unix-socket is empty") {
				t.Errorf("supported %t, %s: %s %s", supported, test.name, resp.Status, body)
			}
		}
		if got := l.Blocked(); len(got) != 0 {
			t.Errorf("supported %t: recorded %+v", supported, got)
		}
	}
}

func TestUnixSocketMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	serveUnix(t, path, "service", nil)
	l := startSockets(t, []string{path}, func(c *networkproxy.Config) { c.Mode = networkproxy.ModeLimited })
	for method, status := range map[string]int{"GET": 200, "HEAD": 200, "OPTIONS": 200, "POST": 403, "DELETE": 403, "get": 403} {
		got := l.viaUnixSocket(method, "http://h.example/", path)
		if got.status != status || status == 403 && (got.header.Get("x-proxy-error") != "blocked-by-method-policy" || !strings.Contains(got.body, path)) {
			t.Errorf("%s: got %d %s", method, got.status, got.body)
		}
	}
	// A path that is not allowed is refused for that reason, whatever the method.
	if got := l.viaUnixSocket("POST", "http://h.example/", path+"x"); !strings.Contains(got.body, `"reason":"not_allowed"`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// A session's own mode applies, and neither its own listener nor a shared one is
// a target.
func TestUnixSocketOfASession(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	path, own := filepath.Join(dir, "s"), filepath.Join(dir, "own")
	serveUnix(t, path, "service", nil)
	l := startSockets(t, []string{path, own}, nil)
	session := l.open(networkproxy.SessionConfig{Mode: networkproxy.ModeLimited, UnixSocket: own})
	for method, status := range map[string]int{"GET": 200, "POST": 403} {
		if got := l.viaUnixSocketBy(session.HTTPAddr(), method, "http://h.example/", path); got.status != status {
			t.Errorf("%s: %d %s, want %d", method, got.status, got.body, status)
		}
	}
	if got := l.viaUnixSocket("POST", "http://h.example/", path); got.status != 200 {
		t.Errorf("outside of the session: got %d %s", got.status, got.body)
	}
	if got := l.viaUnixSocket("GET", "http://h.example/", own); got.status != 403 || !strings.Contains(got.body, "not_allowed_local") {
		t.Errorf("the session's listener: got %d %s", got.status, got.body)
	}
	session.Close()
	serveUnix(t, own, "successor", nil)
	if got := l.viaUnixSocket("GET", "http://h.example/", own); got.status != 200 {
		t.Errorf("another socket at the path after the session: got %d %s", got.status, got.body)
	}
}

// A request to a socket can be upgraded, as container engines do to attach.
func TestUnixSocketUpgrade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	serveUnix(t, path, "service", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		io.Copy(conn, rw)
	})
	f := newConfigFile(t, fmt.Sprintf("policy.allow_unix_sockets = [%q]", path))
	l := startFile(t, func(b *networkproxy.Builder) { networkproxy.SetUnixSockets(b, true) }, f.path)
	conn, err := net.Dial("tcp", l.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST http://docker/attach HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nx-unix-socket: %s\r\n\r\n", path)
	in := bufio.NewReader(conn)
	got, err := http.ReadResponse(in, nil)
	if err != nil || got.StatusCode != 101 {
		t.Fatalf("got %v, %v", got, err)
	}
	if err := echoes(conn); err != nil {
		t.Fatal(err)
	}
	// A reload that removes the path from the list cuts open connections.
	f.replace("policy.allow_unix_sockets = []")
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := echoes(conn); err == nil {
		t.Error("the tunnel is still open after its path was removed")
	}
}

// Neither a decider nor observing allows a socket.
func TestUnixSocketIsForTheListAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	serveUnix(t, path, "service", nil)
	for _, test := range []struct {
		name   string
		change func(*networkproxy.Builder)
	}{
		{"decider", func(b *networkproxy.Builder) {
			b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
				t.Error("the decider was asked")
				return networkproxy.Allow(), nil
			})
		}},
		{"observing", func(b *networkproxy.Builder) { b.Observe() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("*"), func(b *networkproxy.Builder) {
				networkproxy.SetUnixSockets(b, true)
				test.change(b)
			})
			if got := l.viaUnixSocket("GET", "http://allowed.example/", path); got.status != 403 {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
	// Requests to sockets do not add hosts to the suggestion.
	config := allow()
	config.Policy.AllowUnixSockets = []string{path}
	l := start(t, config, func(b *networkproxy.Builder) {
		networkproxy.SetUnixSockets(b, true)
		b.Observe()
	})
	if got := l.viaUnixSocket("GET", "http://h.example/", path); got.status != 200 || len(l.Suggest()) != 0 {
		t.Errorf("%d %s, suggested %q", got.status, got.body, l.Suggest())
	}
}

// The proxy's own sockets are never a target, even if the list allows them, and
// under every name that they have or get.
func TestUnixSocketIsNeverThisProxy(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	listener, err := net.Listen("unix", in("admin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(in("admin"), in("link")), os.Symlink(dir, in("dir")), os.Link(in("admin"), in("second"))); err != nil {
		t.Fatal(err)
	}
	config := allow()
	config.Policy.AllowUnixSockets = []string{in("admin"), in("link"), in("dir/admin"), in("second"), in("third"), in("renamed")}
	l := start(t, config, func(b *networkproxy.Builder) {
		networkproxy.SetUnixSockets(b, true)
		b.AdminAddr("").AdminListener(listener)
	})
	refused := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if got := l.viaUnixSocket("GET", "http://localhost/config", in(name)); got.status != 403 || !strings.Contains(got.body, "not_allowed_local") {
				t.Errorf("%s: got %d %s", name, got.status, got.body)
			}
		}
	}
	refused("admin", "link", "dir/admin", "second")
	if err := errors.Join(os.Link(in("admin"), in("third")), os.Rename(in("admin"), in("renamed"))); err != nil {
		t.Fatal(err)
	}
	refused("admin", "second", "third", "renamed")
}

func TestUnixSocketOnOtherPlatforms(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	serveUnix(t, path, "service", nil)
	config := allow("allowed.example")
	config.Policy.AllowUnixSockets = []string{path}
	l := start(t, config, func(b *networkproxy.Builder) { networkproxy.SetUnixSockets(b, false) })
	for _, path := range []string{path, "/elsewhere", "relative"} {
		if got := l.viaUnixSocket("GET", "http://allowed.example/", path); got.status != 501 || !strings.Contains(got.body, "unix_socket_unsupported") {
			t.Errorf("%q: got %d %s", path, got.status, got.body)
		}
	}
	if got, want := networkproxy.UnixSocketsSupported, runtime.GOOS == "darwin"; got != want {
		t.Errorf("supported here: %t, want %t", got, want)
	}
}

// Sockets that a reload adds stay off while other machines can reach a listener,
// and the proxy warns. Otherwise they take effect.
func TestUnixSocketsOfAReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	serveUnix(t, path, "service", nil)
	for _, exposed := range []bool{true, false} {
		t.Run(fmt.Sprintf("exposed %t", exposed), func(t *testing.T) {
			t.Parallel()
			const head = "dangerously_allow_non_loopback_proxy = true\n"
			f := newConfigFile(t, head)
			l := startFile(t, func(b *networkproxy.Builder) {
				networkproxy.SetUnixSockets(b, true)
				if exposed {
					b.HTTPAddr("0.0.0.0:0")
				}
			}, f.path)
			_, port, _ := net.SplitHostPort(l.HTTPAddr())
			get := func() response {
				r, _ := http.NewRequest("GET", "http://h.example/", nil)
				r.Header.Set("X-Unix-Socket", path)
				conn, err := net.Dial("tcp", "127.0.0.1:"+port)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				r.WriteProxy(conn)
				got, err := http.ReadResponse(bufio.NewReader(conn), r)
				if err != nil {
					t.Fatal(err)
				}
				defer got.Body.Close()
				body, _ := io.ReadAll(got.Body)
				return response{got.StatusCode, got.Header, string(body)}
			}
			warned := func() bool {
				return slices.ContainsFunc(l.Warnings(), func(w string) bool { return strings.Contains(w, "allow_unix_sockets stays off") })
			}
			if warned() {
				t.Error("a warning although no socket is allowed")
			}
			f.replace(head + fmt.Sprintf("policy.allow_unix_sockets = [%q]", path))
			if err := l.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
			want := 200
			if exposed {
				want = 403
			}
			if got := get(); got.status != want {
				t.Errorf("%d %s, want %d", got.status, got.body, want)
			}
			if warned() != exposed || strings.Contains(l.log.String(), "allow_unix_sockets stays off") != exposed {
				t.Errorf("warnings %q", l.Warnings())
			}
			if got := l.admin("POST", "/reload", ""); strings.Contains(got.body, "allow_unix_sockets stays off") != exposed {
				t.Errorf("POST /reload: got %s", got.body)
			}
			// A change of something else does not allow them.
			if err := l.SetMode(networkproxy.ModeLimited); err != nil {
				t.Fatal(err)
			}
			if got := get(); got.status != want {
				t.Errorf("after another change: %d %s, want %d", got.status, got.body, want)
			}
		})
	}
}

func TestUnixSocketLeavesNothing(t *testing.T) {
	testnet.CheckLeaks(t)
	path := filepath.Join(socketDir(t), "s")
	serveUnix(t, path, "service", nil)
	l := startSockets(t, []string{path}, nil)
	c := l.client()
	for _, p := range []string{path, path + "x"} {
		r, _ := http.NewRequest("GET", "http://h.example/", nil)
		r.Header.Set("X-Unix-Socket", p)
		got, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
	}
	c.CloseIdleConnections()
	l.Close()
}
