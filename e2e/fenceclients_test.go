//go:build e2e && linux

// This file tests real clients in fences.

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy/e2e/harness"
	"example.com/networkproxy/internal/testnet"
)

// fencedClient is a client without proxy settings. In argv and env, URL stands for the
// URL, HOST for its host, and DIR for a directory of the test.
type fencedClient struct {
	name    string
	argv    []string
	env     []string
	schemes []string
	path    string // of the URL
	want    string // in the output
}

func fencedClients() []fencedClient {
	both, plain, secure := []string{"http", "https"}, []string{"http"}, []string{"https"}
	const hello, origin = "/hello", "hello from HOST"
	npm := []string{"npm_config_update_notifier=false", "npm_config_fetch_retries=0", "npm_config_cache=DIR/cache", "npm_config_cafile=" + lab.ca.file}
	return []fencedClient{
		{name: "curl", argv: []string{"curl", "-sS", "--fail", "--noproxy", "*", "URL"}, schemes: both, path: hello, want: origin},
		{name: "curl-ipv6", argv: []string{"curl", "-sS", "--fail", "-6", "URL"}, schemes: both, path: hello, want: origin},
		{name: "wget", argv: []string{"wget", "-q", "--no-proxy", "--tries=1", "--ca-certificate=" + lab.ca.file, "-O", "-", "URL"}, schemes: both, path: hello, want: origin},
		{name: "git", argv: []string{"git", "ls-remote", "URL", "main"}, schemes: []string{"http", "https", "git"}, path: "/git/project.git", want: "refs/heads/main"},
		{name: "node-fetch", argv: []string{"node", "fetch.mjs", "URL"}, schemes: both, path: hello, want: origin},
		{name: "urllib", argv: []string{python, "fetch.py", "URL"}, schemes: both, path: hello, want: origin},
		{name: "requests", argv: []string{python, "requestsfetch.py", "URL"}, schemes: both, path: hello, want: origin},
		{name: "asyncio", argv: []string{python, "asyncfetch.py", "URL"}, schemes: both, path: hello, want: origin},
		{name: "socket", argv: []string{python, "sockets.py", "URL"}, schemes: plain, path: hello, want: origin},
		{name: "go-static", argv: []string{filepath.Join(lab.dir, "fetch"), "URL"}, schemes: both, path: hello, want: origin},
		{name: "java", argv: []string{"java", "-XX:TieredStopAtLevel=1", "Fetch.java", "URL"}, schemes: both, path: hello, want: origin},
		{name: "npm", argv: []string{"npm", "install", "--no-audit", "--no-fund", "--prefix", "DIR", "--registry", "URL", npmPackage}, env: npm, schemes: both, path: "/npm/", want: "added 1 package"},
		{name: "pip", argv: []string{python, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--retries", "0", "--no-deps", "--trusted-host", "HOST", "--target", "DIR/site", "--index-url", "URL", pipPackage}, schemes: plain, path: "/simple/", want: "Successfully installed"},
		{name: "pip", argv: []string{python, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--retries", "0", "--no-deps", "--cert", lab.ca.file, "--target", "DIR/site", "--index-url", "URL", pipPackage}, schemes: secure, path: "/simple/", want: "Successfully installed"},
		{name: "cargo", argv: []string{"sh", "cargofetch.sh", "URL", "DIR"}, env: []string{"CARGO_HTTP_CAINFO=" + lab.ca.file}, schemes: both, path: "/crates/", want: "Downloaded " + cargoPackage},
	}
}

// defaultPorts are the ports of the schemes.
var defaultPorts = map[string]int{"http": 80, "https": 443, "git": 9418}

// run runs the client for a URL of a host.
func (c fencedClient) run(t *testing.T, r resident, scheme, host string, flags ...string) fenced {
	t.Helper()
	replace := strings.NewReplacer("URL", scheme+"://"+host+c.path, "HOST", host, "DIR", r.dir(t))
	expand := func(list []string) []string {
		expanded := make([]string, len(list))
		for i, s := range list {
			expanded[i] = replace.Replace(s)
		}
		return expanded
	}
	return r.fence(t, flags, expand(c.env), expand(c.argv)...)
}

// TestFencedClients runs each client for an allowed host, for a host that is allowed at
// another port, and for a host that is not allowed.
func TestFencedClients(t *testing.T) {
	t.Parallel()
	t.Run("clients", func(t *testing.T) {
		forEachResident(t, func(t *testing.T, r resident) {
			for _, c := range fencedClients() {
				for _, scheme := range c.schemes {
					t.Run(c.name+" "+scheme, func(t *testing.T) {
						t.Parallel()
						c.test(t, r, scheme)
					})
				}
			}
		})
	})
}

func (c fencedClient) test(t *testing.T, r resident, scheme string) {
	const allowed, refused = "dual.example", "other.example"
	want := strings.ReplaceAll(c.want, "HOST", allowed)
	got := c.run(t, r, scheme, allowed, "-allow", allowed)
	if output := got.Stdout + got.Stderr; got.Exit != 0 || !strings.Contains(output, want) {
		t.Errorf("allowed: exit %d, want 0 and %q\nstdout: %s\nstderr: %s", got.Exit, want, got.Stdout, got.Stderr)
	}
	if got.summary.Allowed == 0 || got.summary.Refused != 0 || got.summary.Failed != 0 {
		t.Errorf("allowed: the summary is %+v, want requests that were allowed, and no others", got.summary)
	}

	began := time.Now()
	port := defaultPorts[scheme]
	got = c.run(t, r, scheme, refused, "-allow", refused+":9")
	got.wantRefusal(t, fmt.Sprintf("%s:%d captured_tcp not_allowed 1", refused, port))
	c.wantFailure(t, got, refused)

	got = c.run(t, r, scheme, refused, "-allow", allowed)
	got.wantRefusal(t, refused+":0 dns not_allowed 1")
	c.wantFailure(t, got, refused)
	t.Logf("two refusals took %v", time.Since(began))
	if n := lab.dns.queryCount(refused); n != 0 {
		t.Errorf("the name server outside got %d queries for %s", n, refused)
	}
}

// wantFailure fails the test if the client has reached the host.
func (c fencedClient) wantFailure(t *testing.T, got fenced, host string) {
	t.Helper()
	if strings.Contains(got.Stdout, strings.ReplaceAll(c.want, "HOST", host)) || got.Exit == 0 && c.name != "urllib" {
		t.Errorf("refused: exit %d, want a failure\nstdout: %s\nstderr: %s", got.Exit, got.Stdout, got.Stderr)
	}
}

// startGitDaemon serves the repositories of the suite at the public addresses until stop is called.
func startGitDaemon() (stop func(), err error) {
	// The path of a URL begins with /git, like that of the HTTP server.
	cmd := exec.Command("git", "daemon", "--reuseaddr", "--export-all", "--base-path="+lab.dir, "--listen="+publicA.String(), "--listen="+public6.String())
	cmd.Env = append(harness.GitEnv(lab.dir), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		cmd.Process.Signal(syscall.SIGTERM) // git passes it on to the daemon
		cmd.Wait()
	}
	accepts := func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort(publicA.String(), "9418"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	if !testnet.Poll(harness.Timeout, accepts) {
		stop()
		return nil, errors.New("git daemon does not accept connections")
	}
	return stop, nil
}

// TestFencedSSH runs git over ssh without a ProxyCommand. The server speaks first.
func TestFencedSSH(t *testing.T) {
	t.Parallel()
	server := startSSH(t)
	t.Run("ssh", func(t *testing.T) {
		forEachResident(t, func(t *testing.T, r resident) {
			dir := r.dir(t)
			key, err := os.ReadFile(server.key)
			if err != nil {
				t.Fatal(err)
			}
			config := fmt.Sprintf("IdentityFile %s/key\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nBatchMode yes\n", dir)
			for name, text := range map[string]string{"key": string(key), "config": config} {
				file := filepath.Join(dir, name)
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(file, r.id, r.id); err != nil {
					t.Fatal(err)
				}
			}
			list := func(host string, flags ...string) fenced {
				return r.fence(t, flags, []string{"GIT_SSH_COMMAND=ssh -F " + dir + "/config"}, "git", "ls-remote",
					fmt.Sprintf("ssh://root@%s:%d%s", host, server.port, filepath.Join(lab.dir, "git", "project.git")), "main")
			}
			if got := list("allowed.example", "-allow", "allowed.example"); got.Exit != 0 || !strings.Contains(got.Stdout, "refs/heads/main") || got.summary.Allowed != 1 {
				t.Errorf("allowed: exit %d, stdout %q, stderr %s, summary %+v; want refs/heads/main and one request", got.Exit, got.Stdout, got.Stderr, got.summary)
			}
			got := list("other.example", "-allow", "other.example:9")
			got.wantRefusal(t, fmt.Sprintf("other.example:%d captured_tcp not_allowed 1", server.port))
			if got.Exit == 0 {
				t.Error("refused: exit 0, want a failure")
			}
			got = list("other.example", "-allow", "allowed.example")
			got.wantRefusal(t, "other.example:0 dns not_allowed 1")
		})
	})
}
