//go:build e2e && linux

// This file starts and stops the program and runs clients.

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy/e2e/harness"
)

// timeout is the limit of every wait. Tests that pass do not reach it.
const timeout = harness.Timeout

// config is the configuration of one program. The zero value allows nothing, in full
// mode, on unused addresses.
type config struct {
	Proxy, Admin string // listener addresses; start fills in empty ones
	Mode         string // "full" if empty
	SNICheck     string // the program's default if empty
	Allowed      []string
	Denied       []string
	AllowLocal   bool
	Upstream     bool // allow_upstream_proxy
}

// toml returns the text of the configuration file.
func (c config) toml() string {
	if c.Mode == "" {
		c.Mode = "full"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[network_proxy]\nenabled = true\nmode = %q\n", c.Mode)
	if c.SNICheck != "" {
		fmt.Fprintf(&b, "sni_check = %q\n", c.SNICheck)
	}
	if c.Upstream {
		b.WriteString("allow_upstream_proxy = true\n")
	}
	if c.Proxy != "" {
		fmt.Fprintf(&b, "proxy_url = %q\n", "http://"+c.Proxy)
	}
	if c.Admin != "" {
		fmt.Fprintf(&b, "admin_url = %q\n", "http://"+c.Admin)
	}
	fmt.Fprintf(&b, "\n[network_proxy.policy]\nallowed_domains = %s\ndenied_domains = %s\nallow_local_binding = %t\n",
		tomlArray(c.Allowed), tomlArray(c.Denied), c.AllowLocal)
	return b.String()
}

func tomlArray(entries []string) string {
	quoted := make([]string, len(entries))
	for i, entry := range entries {
		quoted[i] = fmt.Sprintf("%q", entry)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// program is a running networkproxy.
type program struct {
	*harness.Process
	proxy, admin string // its addresses, host:port
	configFile   string
	token        string // admin token, if any
	home         string // an empty home directory for clients
}

// start starts the program with c and returns when it responds. At the end of the test
// it stops the program and checks that it exits without an error, a data race or a
// panic.
func start(t *testing.T, c config, args ...string) *program {
	t.Helper()
	if c.Proxy == "" {
		c.Proxy = lab.addr()
	}
	if c.Admin == "" {
		c.Admin = lab.addr()
	}
	return startFile(t, writeConfig(t, c.toml()), c.Proxy, c.Admin, "", args...)
}

func startFile(t *testing.T, file, proxy, admin, token string, args ...string) *program {
	t.Helper()
	return waitServing(t, launch(t, append([]string{"-config", file}, args...)...), file, proxy, admin, token)
}

// waitServing waits until a launched program responds.
func waitServing(t *testing.T, p *program, file, proxy, admin, token string) *program {
	t.Helper()
	p.configFile, p.proxy, p.admin, p.token = file, proxy, admin, token
	p.home = t.TempDir()
	t.Cleanup(func() { p.Finish(t) })
	harness.Eventually(t, "the program responds on "+admin, func() bool {
		if p.Ended() {
			t.Fatalf("the program exited with code %d before it responded", p.Cmd.ProcessState.ExitCode())
		}
		status, _ := p.call("GET", "/health", "")
		return status == http.StatusOK
	})
	return p
}

// launch starts the program without waiting.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	return launchIn(t, nil, args...)
}

// launchIn is launch with additional environment variables.
func launchIn(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	return &program{Process: harness.Start(t, lab.program(), env, args...)}
}

// call sends a request to the admin API and returns the status and the body, or status
// 0 and the error if there is no response.
func (p *program) call(method, path, body string) (status int, response string) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.admin+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// rewrite replaces the program's configuration file atomically.
func (p *program) rewrite(t *testing.T, text string) {
	t.Helper()
	next := p.configFile + ".next"
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, p.configFile); err != nil {
		t.Fatal(err)
	}
}

// connect opens a raw connection to the proxy.
func (p *program) connect(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// waitClosed waits for done to be closed.
func waitClosed(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(timeout):
		t.Fatalf("not within %v: %s", timeout, what)
	}
}

// command returns a client that is configured for this proxy by environment variables,
// as docs/clients.md describes.
func (p *program) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	proxy := "http://" + p.proxy
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(clientEnv(p.home),
		"HTTP_PROXY="+proxy, "http_proxy="+proxy, "HTTPS_PROXY="+proxy, "https_proxy="+proxy)
	return cmd
}

// clientEnv returns the environment of a client without a proxy. It has the CA of the
// run for all clients.
func clientEnv(home string) []string {
	return append(harness.GitEnv(home),
		"LC_ALL=C",
		"CURL_CA_BUNDLE="+lab.ca.file,
		"SSL_CERT_FILE="+lab.ca.file,
		"GIT_SSL_CAINFO="+lab.ca.file,
	)
}

// directCommand returns a client without a proxy.
func directCommand(t *testing.T, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = clientEnv(t.TempDir())
	return cmd
}

// run runs a client to its end.
func (p *program) run(t *testing.T, name string, args ...string) harness.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*timeout)
	defer cancel()
	return harness.Run(t, p.command(ctx, name, args...))
}

// decodeJSON decodes text as one JSON object.
func decodeJSON(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("not a JSON object: %v: %q", err, text)
	}
	return object
}
