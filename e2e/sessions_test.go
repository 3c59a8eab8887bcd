//go:build e2e && linux

// This file tests sessions of an embedding host in this process, with common clients
// that are configured only by Session.Environ.

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/e2e/harness"
)

// hostResolver resolves the names of sessionNames.
type hostResolver struct{}

func (hostResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	for _, pattern := range sessionNames {
		if strings.HasSuffix(host, pattern[1:]) {
			return []netip.Addr{publicA}, nil
		}
	}
	return nil, fmt.Errorf("no such host as %s", host)
}

// runHost starts a proxy in this process that allows *.session.example and asks decider
// about all other hosts.
func runHost(t *testing.T, decider networkproxy.PolicyDecider, change func(*networkproxy.Builder)) *networkproxy.Handle {
	t.Helper()
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.AllowedDomains = []string{"*.session.example"}
	b := networkproxy.NewBuilder().Config(config).Resolver(hostResolver{}).PolicyDecider(decider).
		HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").
		ConnectHelper(lab.program(), "connect")
	if change != nil {
		change(b)
	}
	proxy, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := proxy.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// refuseAll is a decider that denies everything and records the hosts of each command.
type refuseAll struct {
	mu    sync.Mutex
	asked map[string][]string // hosts by command
}

func (d *refuseAll) decide(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked == nil {
		d.asked = make(map[string][]string)
	}
	d.asked[req.Command] = append(d.asked[req.Command], req.Host)
	return networkproxy.Deny("refused by the suite"), nil
}

func (d *refuseAll) hosts(command string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[command]
}

// sessionClient is a client that an agent's command may use.
type sessionClient struct {
	name string
	argv []string // "URL" is replaced
	// path is the requested path, and want the required output. Empty means
	// /hello and its body.
	path, want     string
	schemes        []string
	ignoresEnviron bool // it ignores the environment and connects directly
	sendsToken     bool // it sends the credentials in a proxy URL
}

func sessionClients(t *testing.T) []sessionClient {
	t.Helper()
	both, secure := []string{"http", "https"}, []string{"https"}
	node := nodeReadsEnvironment(t)
	return []sessionClient{
		{name: "curl", argv: []string{"curl", "-sSf", "URL"}, schemes: both, sendsToken: true},
		{name: "wget", argv: []string{"wget", "-q", "--ca-certificate=" + lab.ca.file, "-O", "-", "URL"}, schemes: both, sendsToken: true},
		{name: "git", argv: []string{"git", "ls-remote", "URL", "main"}, path: "/git/project.git", want: "refs/heads/main", schemes: both, sendsToken: true},
		{name: "urllib", argv: []string{python, "testdata/fetch.py", "URL"}, schemes: both, sendsToken: true},
		{name: "http-client", argv: []string{python, "testdata/httpclient.py", "URL"}, schemes: both},
		{name: "node-fetch", argv: []string{"node", "testdata/fetch.mjs", "URL"}, schemes: both, ignoresEnviron: !node, sendsToken: true},
		{name: "node-http", argv: []string{"node", "testdata/request.mjs", "URL"}, schemes: both, ignoresEnviron: !node, sendsToken: true},
		{name: "node-tunnel", argv: []string{"node", "testdata/tunnel.mjs", "URL"}, schemes: both},
		{name: "npm", argv: []string{"npm", "install", "--registry", "URL", npmPackage}, path: "/npm/", want: "added 1 package", schemes: secure, sendsToken: true},
		{name: "cargo", argv: []string{"sh", "testdata/cargofetch.sh", "URL"}, path: "/crates/", want: "Downloaded " + cargoPackage, schemes: both, sendsToken: true},
		{name: "go", argv: []string{"go", "run", "testdata/fetch.go", "URL"}, schemes: both, sendsToken: true},
		{name: "java", argv: []string{"java", "testdata/Fetch.java", "URL"}, schemes: both},
	}
}

// nodeReadsEnvironment reports whether the installed node supports NODE_USE_ENV_PROXY:
// 22.21 or later of version 22, or 24.5 or later.
func nodeReadsEnvironment(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command("node", "--version").Output()
	if err != nil {
		t.Fatalf("node --version: %v", err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "v%d.%d", &major, &minor); err != nil {
		t.Fatalf("node --version: %q", out)
	}
	t.Logf("node %s", strings.TrimSpace(string(out)))
	return major == 22 && minor >= 21 || major == 24 && minor >= 5 || major > 24
}

// command returns the client's command for a URL. env makes its environment.
func (c sessionClient) command(t *testing.T, env func(base []string) []string, url string) *exec.Cmd {
	t.Helper()
	argv := make([]string, len(c.argv))
	for i, arg := range c.argv {
		argv[i] = strings.ReplaceAll(arg, "URL", url)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*timeout)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	home := t.TempDir()
	cmd.Env = env(append(clientEnv(home),
		// Variables of a parent that must not affect the child.
		"HTTPS_PROXY=http://127.0.0.1:9", "NO_PROXY=*", "npm_config_noproxy=*", "REQUEST_METHOD=GET",
		"JAVA_TOOL_OPTIONS=-Dhttp.nonProxyHosts=* -DsocksProxyHost=127.0.0.1",
		// Variables that the clients need in the suite.
		"NODE_EXTRA_CA_CERTS="+lab.ca.file, "CARGO_HTTP_CAINFO="+lab.ca.file,
		"npm_config_update_notifier=false", "npm_config_fetch_retries=0", "npm_config_prefix="+home, "npm_config_global=true",
		"GOCACHE="+goCache(t), "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local"))
	return cmd
}

func goCache(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// url returns the URL that the client fetches from host, and the required output.
func (c sessionClient) url(scheme, host string) (url, want string) {
	if c.path == "" {
		return scheme + "://" + host + "/hello", strings.TrimSpace(helloBody(host))
	}
	return scheme + "://" + host + c.path, c.want
}

// TestClientsInSessions runs each client in its own session of one proxy. Allowed
// requests succeed through the session, refused ones fail, and no client connects
// directly.
func TestClientsInSessions(t *testing.T) {
	t.Parallel()
	var decider refuseAll
	h := runHost(t, decider.decide, nil)
	for _, tt := range []struct {
		name   string
		shared bool
	}{{"own port", false}, {"token", true}} {
		for _, c := range sessionClients(t) {
			if tt.shared && !c.sendsToken {
				continue
			}
			for _, scheme := range c.schemes {
				t.Run(tt.name+" "+c.name+" "+scheme, func(t *testing.T) {
					t.Parallel()
					name := strings.ReplaceAll(tt.name, " ", "-") + "-" + c.name + "-" + scheme
					s, err := h.OpenSession(t.Context(), networkproxy.SessionConfig{
						Attribution: networkproxy.Attribution{Command: name}, SharedPort: tt.shared,
					})
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close()
					allowed, refused := name+".session.example", name+".refused.example"

					url, want := c.url(scheme, allowed)
					got := harness.Run(t, c.command(t, s.Environ, url))
					if c.ignoresEnviron {
						if got.Exit == 0 || lab.dns.queryCount(allowed) == 0 {
							t.Errorf("exit %d; want this client to connect directly and to fail", got.Exit)
						}
						return
					}
					if got.Exit != 0 || !strings.Contains(got.Stdout, want) {
						t.Errorf("allowed: exit %d, want 0 and %q\nstdout: %s\nstderr: %s", got.Exit, want, got.Stdout, got.Stderr)
					}

					url, want = c.url(scheme, refused)
					got = harness.Run(t, c.command(t, s.Environ, url))
					if strings.Contains(got.Stdout, want) || got.Exit == 0 && c.name != "urllib" {
						t.Errorf("refused: exit %d, want a failure without %q in %s", got.Exit, want, got.Stdout)
					}
					if hosts := decider.hosts(name); len(hosts) == 0 || hosts[0] != refused {
						t.Errorf("the decider was asked about %q for this command, want %s first", hosts, refused)
					}
					if blocked := s.Blocked(); len(blocked) == 0 || blocked[0].Host != refused || blocked[0].Command != name {
						t.Errorf("the session's refusals are %+v, want %s first", blocked, refused)
					}
					for _, host := range []string{allowed, refused} {
						if n := lab.dns.queryCount(host); n != 0 {
							t.Errorf("the client itself looked up %s %d times, want 0", host, n)
						}
					}
				})
			}
		}
	}
}

// TestCommandsSideBySide runs three commands at once for one host. The decider is asked
// for each command, and its allow for one does not allow the others.
func TestCommandsSideBySide(t *testing.T) {
	t.Parallel()
	const n = 3
	var waiting sync.WaitGroup
	waiting.Add(n)
	h := runHost(t, func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
		waiting.Done()
		waiting.Wait()
		if req.Command == "curl 1" {
			return networkproxy.Allow(), nil
		}
		return networkproxy.Deny("not this command"), nil
	}, nil)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			s, err := h.OpenSession(t.Context(), networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "curl " + strconv.Itoa(i)}})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			cmd := exec.CommandContext(t.Context(), "curl", "-sSf", "https://contested.refused.example/hello")
			cmd.Env = s.Environ(clientEnv(t.TempDir()))
			out, err := cmd.Output()
			if got := err == nil && string(out) == helloBody("contested.refused.example"); got != (i == 1) {
				t.Errorf("command %d: reached the host: %t, want %t; %q, %v", i, got, i == 1, out, err)
			}
		})
	}
	wg.Wait()
}

// TestProxyThatIsOff checks that no client reaches a host with the environment of
// a proxy that is off, although all of them do without a proxy.
func TestProxyThatIsOff(t *testing.T) {
	t.Parallel()
	proxy, err := networkproxy.NewBuilder().Config(networkproxy.Config{}).Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := proxy.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const script = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1]).read().decode())"
	for _, client := range [][]string{{"curl", "-sSf"}, {"wget", "-q", "-O-", "--tries=1", "--ca-certificate=" + lab.ca.file}, {"python3", "-c", script}} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(client[0]+", "+scheme, func(t *testing.T) {
				t.Parallel()
				args := append(slices.Clone(client[1:]), scheme+"://direct.example/hello")
				direct := directCommand(t, client[0], args...)
				if out, err := direct.Output(); err != nil || string(out) != helloBody("direct.example") {
					t.Fatalf("without a proxy: got %q, %v", out, err)
				}
				cmd := exec.CommandContext(t.Context(), client[0], args...)
				cmd.Env = h.Environ(append(clientEnv(t.TempDir()), "NO_PROXY=*", "no_proxy=direct.example"))
				if out, err := cmd.Output(); err == nil || len(out) > 0 {
					t.Errorf("with a proxy that is off: got %q, %v; want an error", out, err)
				}
			})
		}
	}
}

// TestClosedSessionCutsCurl closes a session while a client reads a response.
func TestClosedSessionCutsCurl(t *testing.T) {
	t.Parallel()
	h := runHost(t, nil, nil)
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			s, err := h.OpenSession(t.Context(), networkproxy.SessionConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			name := lab.unique("session")
			hold := lab.origins.holds.named(name)
			cmd := exec.CommandContext(t.Context(), "curl", "-sSN", scheme+"://hold.session.example/hold/"+name)
			cmd.Env = s.Environ(clientEnv(t.TempDir()))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			first := make([]byte, len(holdFirst))
			if _, err := io.ReadFull(out, first); err != nil {
				t.Error(err)
			}
			s.Close()
			io.Copy(io.Discard, out)
			if err := cmd.Wait(); err == nil {
				t.Error("curl exited without an error")
			}
			waitClosed(t, "the request ends at the origin", hold.ended)
		})
	}
}

// TestSessionOnAUnixSocket runs a client in a network namespace without devices. The
// socket is its only connection to the outside.
func TestSessionOnAUnixSocket(t *testing.T) {
	t.Parallel()
	var decider refuseAll
	h := runHost(t, decider.decide, nil)
	path := filepath.Join(t.TempDir(), "s")
	s, err := h.OpenSession(t.Context(), networkproxy.SessionConfig{
		Attribution: networkproxy.Attribution{Command: "boxed"}, UnixSocket: path,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for host, want := range map[string]bool{"unix.session.example": true, "unix.refused.example": false} {
		cmd := exec.CommandContext(t.Context(), python, "testdata/unixfetch.py", path, "http://"+host+"/hello")
		cmd.Env = clientEnv(t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		got := harness.Run(t, cmd)
		if reached := got.Exit == 0 && got.Stdout == helloBody(host); reached != want {
			t.Errorf("%s: reached: %t, want %t; exit %d, %q, %s", host, reached, want, got.Exit, got.Stdout, got.Stderr)
		}
	}
	if hosts := decider.hosts("boxed"); len(hosts) != 1 || hosts[0] != "unix.refused.example" {
		t.Errorf("the decider was asked about %q, want only unix.refused.example", hosts)
	}
}

// TestRunCommand runs clients with "networkproxy run".
func TestRunCommand(t *testing.T) {
	t.Parallel()
	file := writeConfig(t, config{Allowed: []string{"allowed.example"}}.toml())
	run := func(t *testing.T, argv ...string) harness.Result {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), lab.program(), append([]string{"run", "-config", file, "--"}, argv...)...)
		cmd.Env = append(clientEnv(t.TempDir()), "GORACE=atexit_sleep_ms=10", "NO_PROXY=*")
		return harness.Run(t, cmd)
	}
	t.Run("allowed", func(t *testing.T) {
		t.Parallel()
		if got := run(t, "curl", "-sSf", "https://allowed.example/hello").MustSucceed(t); got.Stdout != helloBody("allowed.example") || got.Stderr != "" {
			t.Errorf("stdout %q, stderr %q", got.Stdout, got.Stderr)
		}
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		got := run(t, "sh", "-c", "for i in 1 2; do curl -sSf https://other.example/hello; done; curl -sSf http://127.0.0.1/; exit 7")
		want := "networkproxy: refused 3 requests from this command:\n" +
			"      2  other.example port 443  https_connect  not_allowed\n" +
			"      1  127.0.0.1 port 80  http  not_allowed_local\n"
		if got.Exit != 7 || !strings.Contains(got.Stderr, want) {
			t.Errorf("exit %d, stderr %s", got.Exit, got.Stderr)
		}
	})
	t.Run("git", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "clone")
		run(t, "git", "clone", "-q", "https://allowed.example/git/project.git", dir).MustSucceed(t)
		if _, err := os.Stat(filepath.Join(dir, "blob")); err != nil {
			t.Error(err)
		}
	})
}
