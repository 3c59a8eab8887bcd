//go:build e2e && linux

// This file tests domain fronting: TLS for a refused host in a tunnel to an allowed
// host with the same address.

package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// frontedCurl requests other.example in a tunnel to target.
func frontedCurl(t *testing.T, p *program, target string) harness.Result {
	t.Helper()
	return p.run(t, "curl", "-sS", "--connect-to", "other.example:443:"+target, "https://other.example/hello")
}

func TestFronting(t *testing.T) {
	t.Parallel()
	// Without the check, the attack succeeds. This proves that the check prevents it
	// below.
	off := start(t, config{Allowed: []string{"allowed.example"}, SNICheck: "off"})
	if got := frontedCurl(t, off, "allowed.example:443").MustSucceed(t).Stdout; got != helloBody("other.example") {
		t.Fatalf("without the check: %q, want the body of other.example", got)
	}

	p := start(t, config{Allowed: []string{"allowed.example", publicA.String()}})
	for _, target := range []string{"allowed.example:443", publicA.String() + ":443"} {
		got := frontedCurl(t, p, target)
		const sslConnectError = 35
		if got.Exit != sslConnectError || !strings.Contains(got.Stderr, "access denied") {
			t.Errorf("%s: exit %d, want %d\nstdout: %s\nstderr: %s", target, got.Exit, sslConnectError, got.Stdout, got.Stderr)
		}
		_, blocked := p.call("GET", "/blocked", "")
		for _, want := range []string{`"sni_mismatch"`, `"other.example"`, `"` + strings.TrimSuffix(target, ":443") + `"`} {
			if !strings.Contains(blocked, want) {
				t.Errorf("%s: /blocked lacks %s: %s", target, want, blocked)
			}
		}
	}
	if lab.dns.queryCount("other.example") != 0 {
		t.Error("the DNS server got a query for other.example")
	}
	if got := fetchCurl(t, p, "https://allowed.example/hello"); got.status != http.StatusOK {
		t.Errorf("the allowed host: %+v, want status 200", got)
	}
}

// TestServerNameOfAnAddress checks that TLS to an allowed address works. curl sends no
// server name for an address.
func TestServerNameOfAnAddress(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{publicA.String(), public6.String()}})
	for _, host := range []string{publicA.String(), "[" + public6.String() + "]"} {
		if got := fetchCurl(t, p, "https://"+host+"/hello"); got.status != http.StatusOK {
			t.Errorf("%s: %+v, want status 200", host, got)
		}
	}
}

// TestNoServerName checks that TLS without a server name in a tunnel to a name is
// refused.
func TestNoServerName(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example"}})
	conn := p.connect(t)
	fmt.Fprint(conn, "CONNECT allowed.example:443 HTTP/1.1\r\nHost: allowed.example:443\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"})
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT: %v, %v", resp, err)
	}
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake()
	if err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("the handshake: %v, want access denied", err)
	}
}
