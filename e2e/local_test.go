//go:build e2e && linux

// This file requests targets that a command must not reach: loopback and private
// addresses in many spellings, and the program's own listeners.

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// requestForms are the two forms of a request for a target.
var requestForms = []struct{ name, format string }{
	{"forward", "GET http://%[1]s/ HTTP/1.1\r\nHost: %[1]s\r\n\r\n"},
	{"CONNECT", "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n"},
}

// TestLocalTargets uses the widest policy without allow_local_binding. Neither "*" nor
// an entry for the name allows a local address.
func TestLocalTargets(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"*", "inner.example", "metadata.example", "mixed.example", "self.example"}})
	const local, malformed = http.StatusForbidden, http.StatusBadRequest
	for _, target := range []struct {
		host   string
		status int
	}{
		{"127.0.0.1", local},
		{"127.255.255.254", local},
		{"0.0.0.0", local},
		{"10.0.0.1", local},
		{"172.16.0.1", local},
		{"192.168.0.1", local},
		{"100.64.0.1", local},
		{"169.254.169.254", local},
		{"255.255.255.255", local},
		{"[::1]", local},
		{"[::]", local},
		{"[0:0:0:0:0:0:0:1]", local},
		{"[::ffff:127.0.0.1]", local},
		{"[::ffff:7f00:1]", local},
		{"[::127.0.0.1]", local},
		{"[64:ff9b::7f00:1]", local},
		{"[2002:7f00:1::]", local},
		{"[fe80::1]", local},
		{"[fd00::1]", local},
		{"localhost", local},
		{"LocalHost", local},
		{"localhost.", local},
		{"deep.localhost", local},
		{"inner.example", local},
		{"INNER.example.", local},
		{"metadata.example", local},
		{"mixed.example", local},
		{"self.example", local},
		{"2130706433", malformed},
		{"0x7f.1", malformed},
		{"0x7f000001", malformed},
		{"127.1", malformed},
		{"0177.0.0.1", malformed},
		{"127.0.0.01", malformed},
		{"local%68ost", malformed},
	} {
		for _, form := range requestForms {
			t.Run(form.name+" "+target.host, func(t *testing.T) {
				t.Parallel()
				checkRefused(t, p, fmt.Sprintf(form.format, target.host+":80"), target.status)
			})
		}
	}
	t.Cleanup(func() { checkTraps(t) })
}

// checkRefused sends a raw request and checks the refusal.
func checkRefused(t *testing.T, p *program, request string, status int) {
	t.Helper()
	resp := rawRoundTrip(t, p, request)
	if resp.StatusCode == http.StatusOK {
		// Do not read the body: it could be a tunnel without an end.
		t.Fatalf("status 200, want %d", status)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, body)
	}
	if status != http.StatusForbidden {
		return
	}
	if got := resp.Header.Get("X-Proxy-Error"); got != "blocked-by-allowlist" {
		t.Errorf("x-proxy-error %q, want blocked-by-allowlist", got)
	}
	if strings.HasPrefix(request, "GET") {
		if got := decodeJSON(t, string(body)); got["reason"] != "not_allowed_local" || got["source"] != "baseline_policy" {
			t.Errorf("reason %v, source %v; want not_allowed_local, baseline_policy", got["reason"], got["source"])
		}
	}
}

func checkTraps(t *testing.T) {
	t.Helper()
	if hits := lab.traps.hits(); hits != 0 {
		t.Errorf("%d connections reached a trap", hits)
	}
}

// TestLocalServer checks that an explicit entry opens a local target and no other.
func TestLocalServer(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{localServer}})
	got := fetchCurl(t, p, "http://"+localServer+"/hello")
	if got.status != http.StatusOK || got.body != helloBody(localServer) {
		t.Errorf("status %d, body %q; want 200, %q\n%s", got.status, got.body, helloBody(localServer), got.detail)
	}
	for _, host := range []string{"127.0.0.1:80", "localhost:3000", "127.0.0.2:3000"} {
		for _, form := range requestForms {
			checkRefused(t, p, fmt.Sprintf(form.format, host), http.StatusForbidden)
		}
	}
	checkTraps(t)
}

// TestOwnListeners uses a policy that allows all local addresses. Only the check for
// the program's own listeners then protects the admin API.
func TestOwnListeners(t *testing.T) {
	t.Parallel()
	p := start(t, config{AllowLocal: true, Allowed: []string{
		"*", "127.0.0.0/8", "0.0.0.0", "[::1]", "[::]", "localhost", "self.example",
	}})
	if got := fetchCurl(t, p, "http://"+localServer+"/hello"); got.status != http.StatusOK {
		t.Fatalf("the policy must allow local addresses: status %d, want 200\n%s", got.status, got.detail)
	}
	for _, listener := range []struct{ name, addr string }{{"admin", p.admin}, {"proxy", p.proxy}} {
		_, port, err := net.SplitHostPort(listener.addr)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{
			"127.0.0.1", "localhost", "LOCALHOST.", "self.example",
			"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1]", "0.0.0.0", "[::]",
			publicA.String(), "allowed.example",
		} {
			for _, form := range requestForms {
				t.Run(form.name+" "+listener.name+" as "+host, func(t *testing.T) {
					t.Parallel()
					checkRefused(t, p, fmt.Sprintf(form.format, host+":"+port), http.StatusForbidden)
				})
			}
		}
	}
}

// TestRebinding requests a name whose address alternates between a public one and
// loopback. The program uses the same DNS answer for the check and the connection, so
// that no connection reaches the trap on loopback.
func TestRebinding(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"rebind.example"}})
	seen := make(map[int]int)
	for range 20 {
		for _, form := range requestForms {
			resp := rawRoundTrip(t, p, fmt.Sprintf(form.format, "rebind.example:80"))
			if resp.StatusCode == http.StatusNotFound {
				// The public origin has nothing at "/".
				resp.StatusCode = http.StatusOK
			}
			seen[resp.StatusCode]++
		}
	}
	if seen[http.StatusOK] == 0 || seen[http.StatusForbidden] == 0 || len(seen) != 2 {
		t.Errorf("statuses %v, want both 200 and 403 and no other", seen)
	}
	checkTraps(t)
}
