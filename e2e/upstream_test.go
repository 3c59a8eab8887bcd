//go:build e2e && linux

// This file tests an upstream proxy: tinyproxy with a user name and a password.

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// upstreamProxy is a tinyproxy that stops at the end of the test.
type upstreamProxy struct {
	addr, log string
}

func startUpstreamProxy(t *testing.T) *upstreamProxy {
	t.Helper()
	dir := t.TempDir()
	u := &upstreamProxy{addr: lab.addr(), log: filepath.Join(dir, "log")}
	_, port, _ := net.SplitHostPort(u.addr)
	file := filepath.Join(dir, "tinyproxy.conf")
	conf := fmt.Sprintf("Listen 127.0.0.1\nPort %s\nTimeout 60\nMaxClients 50\nLogFile %q\nLogLevel Connect\nBasicAuth user secret\n", port, u.log)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tinyproxy", "-d", "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	harness.Eventually(t, "tinyproxy listens", func() bool {
		conn, err := net.Dial("tcp", u.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return u
}

// requested reports whether the proxy's log contains text.
func (u *upstreamProxy) requested(t *testing.T, text string) bool {
	t.Helper()
	log, err := os.ReadFile(u.log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(log), text)
}

// startBehind starts the program with this upstream proxy.
func (u *upstreamProxy) startBehind(t *testing.T, c config, credentials string) *program {
	t.Helper()
	c.Upstream, c.Proxy, c.Admin = true, lab.addr(), lab.addr()
	file := writeConfig(t, c.toml())
	p := launchIn(t, []string{"ALL_PROXY=http://" + credentials + u.addr, "NO_PROXY=direct.example"}, "-config", file)
	return waitServing(t, p, file, c.Proxy, c.Admin, "")
}

func TestUpstreamProxy(t *testing.T) {
	t.Parallel()
	u := startUpstreamProxy(t)
	p := u.startBehind(t, config{Allowed: []string{"allowed.example", "direct.example"}}, "user:secret@")
	for _, url := range []string{"http://allowed.example/hello", "https://allowed.example/hello", "http://direct.example/hello"} {
		host := strings.Split(url, "/")[2]
		if got := fetchCurl(t, p, url); got.status != http.StatusOK || got.body != helloBody(host) {
			t.Errorf("%s: %d %q\n%s", url, got.status, got.body, got.detail)
		}
	}
	for _, request := range []string{"GET http://allowed.example/hello", "CONNECT allowed.example:443"} {
		if !u.requested(t, request) {
			t.Errorf("tinyproxy did not receive %s", request)
		}
	}
	if got := fetchCurl(t, p, "https://other.example/"); got.status != http.StatusForbidden {
		t.Errorf("other.example: status %d, want 403", got.status)
	}
	if u.requested(t, "other.example") || u.requested(t, "direct.example") {
		t.Error("tinyproxy received a request for a refused or a direct host")
	}
	if strings.Contains(p.Log.String(), "secret") {
		t.Error("the log shows the password")
	}
}

// TestUpstreamProxyRefuses omits the credentials.
func TestUpstreamProxyRefuses(t *testing.T) {
	t.Parallel()
	p := startUpstreamProxy(t).startBehind(t, config{Allowed: []string{"allowed.example"}}, "")
	for _, url := range []string{"http://allowed.example/hello", "https://allowed.example/hello"} {
		got := fetchCurl(t, p, url)
		if got.status != http.StatusBadGateway {
			t.Errorf("%s: %d, want 502\n%s", url, got.status, got.detail)
		}
	}
	harness.Eventually(t, "the log has the reason", func() bool {
		return strings.Contains(p.Log.String(), "response status 407 Proxy Authentication Required")
	})
}
