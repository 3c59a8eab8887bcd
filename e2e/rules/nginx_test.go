//go:build e2e && linux

// This file compares how rules and nginx read paths.

package rules_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy/e2e/harness"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/testnet"
)

// places are rules, and the locations of nginx for the same paths. Each has a server
// of its own, whose name is place and its index.
var places = []struct {
	prefix    string
	locations []string
}{
	{"/v1", []string{"= /v1", "^~ /v1/"}},
	{"/v1/", []string{"^~ /v1/"}},
	{"/a/b", []string{"= /a/b", "^~ /a/b/"}},
	{"/@x", []string{"= /@x", "^~ /@x/"}},
	{"/%7eu", []string{"= /~u", "^~ /~u/"}},
	{"pattern:/v1/*", []string{"~ ^/v1/[^/]+$"}},
	{"pattern:/a/*/b", []string{"~ ^/a/[^/]+/b$"}},
	{"pattern:/**/b/**", []string{"~ ^(/[^/]+)*/b(/.*)?$"}},
	{"pattern:/v?/x", []string{"~ ^/v[^/]/x$"}},
}

// pathsPerPlace is the number of random paths for each place.
const pathsPerPlace = 60_000

// startNginx starts nginx with the places and returns its address. It answers 200 for
// a path in the place, and 404 for another.
func startNginx(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	addr := testnet.ClosedPort(t).String()
	var conf bytes.Buffer
	fmt.Fprintf(&conf, "daemon off; master_process off; pid %s/pid; error_log stderr crit;\nevents {}\nhttp { access_log off; keepalive_requests 1000000;\n", dir)
	for i, p := range places {
		fmt.Fprintf(&conf, "server { listen %s; server_name place%d;\nlocation / { return 404; }\n", addr, i)
		for _, location := range p.locations {
			fmt.Fprintf(&conf, "location %s { return 200; }\n", location)
		}
		conf.WriteString("}\n")
	}
	conf.WriteString("}\n")
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, conf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command("/usr/sbin/nginx", "-e", "stderr", "-p", dir, "-c", file)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("nginx: %s", &log)
		}
	})
	harness.Eventually(t, "nginx accepts connections", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr
}

// reader asks nginx about paths on one connection.
type reader struct {
	t          *testing.T
	addr, host string
	conn       net.Conn
	responses  *bufio.Reader
}

// statuses returns the status for each path.
func (r *reader) statuses(paths []string) []int {
	r.t.Helper()
	list := make([]int, 0, len(paths))
	for len(list) < len(paths) {
		if r.conn == nil {
			var err error
			if r.conn, err = net.Dial("tcp", r.addr); err != nil {
				r.t.Fatal(err)
			}
			r.conn.SetDeadline(time.Now().Add(time.Minute))
			r.responses = bufio.NewReader(r.conn)
		}
		var requests bytes.Buffer
		for _, path := range paths[len(list):] {
			fmt.Fprintf(&requests, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, r.host)
		}
		// nginx closes the connection after a request that it cannot parse, so that
		// the rest may fail to arrive, and is sent again.
		r.conn.Write(requests.Bytes())
		list = r.read(list, len(paths))
	}
	return list
}

// read appends statuses to list until it has n, or the connection ends.
func (r *reader) read(list []int, n int) []int {
	r.t.Helper()
	for before := len(list); len(list) < n; {
		resp, err := http.ReadResponse(r.responses, nil)
		if err != nil {
			if len(list) == before {
				r.t.Fatalf("no response from nginx: %v", err)
			}
			r.conn.Close()
			r.conn = nil
			break
		}
		io.Copy(io.Discard, resp.Body)
		list = append(list, resp.StatusCode)
		if resp.Close {
			r.conn.Close()
			r.conn = nil
			break
		}
	}
	return list
}

func rules(t *testing.T, specs ...httprule.Spec) *httprule.HostRules {
	t.Helper()
	var compiled []*httprule.Rule
	for _, s := range specs {
		s.Host = "api.test"
		r, problems := httprule.Parse(&s)
		if len(problems) > 0 {
			t.Fatalf("%+v: %+v", s, problems)
		}
		compiled = append(compiled, r)
	}
	return httprule.NewSet(compiled).For(compiled[0].Target())
}

// TestNginxReadsTheSame checks with random paths that nginx serves no path that a rule
// allows from another place, and no path that a deny rule lets pass from the place that
// is denied.
func TestNginxReadsTheSame(t *testing.T) {
	t.Parallel()
	addr := startNginx(t)
	for i, p := range places {
		t.Run(p.prefix, func(t *testing.T) {
			t.Parallel()
			get := httprule.Spec{Methods: []string{"GET"}, PathPrefixes: []string{p.prefix}}
			allow, deny := get, get
			allow.AllowEncodedSlash = !strings.HasPrefix(p.prefix, "pattern:") // there it makes a segment of two
			deny.Deny = true
			allows := rules(t, allow)
			denies := rules(t, deny, httprule.Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/"}, AllowEncodedSlash: true})
			nginx := &reader{t: t, addr: addr, host: fmt.Sprintf("place%d", i)}
			r := rand.New(rand.NewPCG(uint64(i), 1))
			var allowed, passed int
			for range pathsPerPlace / 100 {
				var paths []string
				for range 100 {
					path := randomPath(r)
					q := &httprule.Request{Method: "GET", Target: path}
					if allows.Judge(q).Allowed || denies.Judge(q).Allowed {
						paths = append(paths, path)
					}
				}
				for k, status := range nginx.statuses(paths) {
					q := &httprule.Request{Method: "GET", Target: paths[k]}
					if allows.Judge(q).Allowed {
						if allowed++; status != http.StatusOK {
							t.Fatalf("the rule allows %q, and nginx answers %d", paths[k], status)
						}
					}
					if denies.Judge(q).Allowed {
						if passed++; status == http.StatusOK {
							t.Fatalf("the deny rule lets %q pass, and nginx serves it", paths[k])
						}
					}
				}
			}
			t.Logf("of %d paths, %d are allowed, and %d pass the deny rule", pathsPerPlace, allowed, passed)
			if min(allowed, passed) < 100 {
				t.Error("want at least 100 of each")
			}
		})
	}
}

// pieces are parts of paths. Servers read those at the end in different ways.
var pieces = strings.Fields(`/ / / / / / v1 v 1 v2 a b x u ~u %7Eu @x %40x %61 %62 %76%31 %62 .x ... %20 %c3%a9 * + : = , - _ %2a %21
	.. . /../ /./ %2e %2E%2e .%2e %2f %2F ..%2f %2f.. // %5c \ %25 %252e % %4 ; ..; ;x %3b # %23 %3f %00 %7f é %c0%ae %c0%af %e0%80%af %ff`)

// randomPath returns a path that often lies in or near a place.
func randomPath(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString([]string{"/", "/", "/v1", "/%76%31", "/v1/", "/a/b", "/%61/b", "/a/", "/@x", "/~u", "/%7eu/", "/v2/x", "/a/x/b", "/x/b/"}[r.IntN(14)])
	for range r.IntN(6) {
		if r.IntN(8) > 0 {
			b.WriteString(pieces[r.IntN(33)])
		} else {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
	}
	return b.String()
}
