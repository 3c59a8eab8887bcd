// Tests of the program in-process: its output, exit statuses and serving.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy/internal/testnet"
)

// waitTimeout bounds every wait. Only a failing test waits that long.
const waitTimeout = 20 * time.Second

// output is a buffer that can be read while it is written.
type output struct{ testnet.Buffer }

// await waits until the output matches pattern and returns the last group, or the
// whole match if there is none.
func (o *output) await(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found string
	until(t, func() bool {
		m := re.FindStringSubmatch(o.String())
		if m != nil {
			found = m[len(m)-1]
		}
		return m != nil
	}, func() string { return fmt.Sprintf("no match for %q in\n%s", pattern, o) })
	return found
}

// until waits until done returns true. After waitTimeout, the test fails with the text
// of problem.
func until(t *testing.T, done func() bool, problem func() string) {
	t.Helper()
	if !testnet.Poll(waitTimeout, done) {
		t.Fatal(problem())
	}
}

// process is one run of the program.
type process struct {
	stdout, stderr output
	hangup         chan os.Signal
	stop           context.CancelFunc // as SIGINT does
	exited         chan int
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{hangup: make(chan os.Signal), stop: cancel, exited: make(chan int, 1)}
	go func() {
		run := program{stdout: &p.stdout, stderr: &p.stderr, hangup: p.hangup}
		p.exited <- run.main(ctx, args)
	}()
	t.Cleanup(cancel)
	return p
}

func (p *process) status(t *testing.T) int {
	t.Helper()
	select {
	case status := <-p.exited:
		return status
	case <-time.After(waitTimeout):
		t.Fatalf("the program does not end:\n%s", &p.stderr)
		return -1
	}
}

// configText writes a configuration to a new file and returns its path. Without a
// [network_proxy] table, text is preceded by one that is enabled on free ports.
func configText(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	writeConfig(t, path, text)
	return path
}

func writeConfig(t *testing.T, path, text string) {
	t.Helper()
	if !strings.Contains(text, "[network_proxy]") {
		text = "[network_proxy]\nenabled = true\nproxy_url = \"http://127.0.0.1:0\"\nadmin_url = \"http://127.0.0.1:0\"\n" + text
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// get requests target, through the proxy at addr unless that is empty.
func get(t *testing.T, addr, target, token string) (int, string) {
	t.Helper()
	return request(t, "GET", addr, target, "", token)
}

// post sends a body to target, without a proxy.
func post(t *testing.T, target, body, token string) (int, string) {
	t.Helper()
	return request(t, "POST", "", target, body, token)
}

func request(t *testing.T, method, addr, target, body, token string) (int, string) {
	t.Helper()
	tr := &http.Transport{}
	if addr != "" {
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: addr})
	}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Transport: tr, Timeout: waitTimeout}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestCheckFlag(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       []string // on stderr, after the path if it begins with ":"; nil for a valid file
	}{
		{"fine", "mode = \"limited\"\n[network_proxy.policy]\nallowed_domains = [\"*.example.com\"]\n", nil},
		{"not enabled", "[network_proxy]\n", nil},
		{"other tables", "[other]\nx = 1\n[network_proxy]\n[another.one]\n", nil},
		{"not TOML", "mode = \n", []string{":5:"}},
		{"an unknown key", "modes = \"full\"\n", []string{":5:1:", "network_proxy.modes", "mode"}},
		{"a key in capitals", "Mode = \"full\"\n", []string{":5:1:", "mode"}},
		{"an unknown key of the policy", "[network_proxy.policy]\ndenied_domain = []\n", []string{":6:1:", "denied_domain", "denied_domains"}},
		{"a wrong type", "mode = 7\n", []string{":5:8:", "mode"}},
		{"a bad mode", "mode = \"open\"\n", []string{":5:8:", `"full" or "limited"`}},
		{"a URL for a pattern", "[network_proxy.policy]\nallowed_domains = [\"ok.example\",\n \"https://x.example/y\"]\n",
			[]string{":7:2:", "allowed_domains[1]", "https://x.example/y", `write "x.example"`}},
		{"a star in the denylist", "[network_proxy.policy]\ndenied_domains = [\"*\"]\n", []string{":6:19:", "denied_domains[0]"}},
		{"two mistakes", "mode = \"open\"\n[network_proxy.policy]\nallowed_domains = [\"*.\"]\n", []string{":5:8:", ":7:20:"}},
		{"rules", "mitm = true\n[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\naccess = \"git-fetch\"\n", nil},
		{"a mistake in a rule", "mitm = true\n[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\nmethods = [\"get\"]\npath_prefixes = [\"/\"]\n",
			[]string{":8:12:", "mitm_hooks[0].methods[0]", `write "GET"`}},
		{"rules without mitm", "[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\naccess = \"git-fetch\"\n", []string{":5:17:", "set mitm = true"}},
		{"a rule for an exempt host", "mitm = true\nmitm_exempt_domains = [\"**.example\"]\n[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\naccess = \"git-fetch\"\n",
			[]string{":8:8:", "mitm_exempt_domains has", ":6:24"}},
		{"a certificate authority without files", "mitm = true\nmitm_ca_cert = \"/does-not-exist/ca.pem\"\nmitm_ca_key = \"/does-not-exist/key.pem\"\n", []string{":6:16:", "no such file"}},
		{"a name to listen on", "[network_proxy]\nproxy_url = \"http://proxy.example:3128\"\n", []string{":2:13:", "proxy_url"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := configText(t, tt.text)
			p := start(t, "-config", path, "-check")
			status := p.status(t)
			if tt.want == nil {
				if status != 0 || p.stdout.String() != path+": ok\n" || p.stderr.String() != "" {
					t.Errorf("exit %d, %q, %q", status, &p.stdout, &p.stderr)
				}
				return
			}
			if status != 1 || p.stdout.String() != "" {
				t.Errorf("exit %d, %q", status, &p.stdout)
			}
			for _, part := range tt.want {
				if strings.HasPrefix(part, ":") {
					part = path + part
				}
				if !strings.Contains(p.stderr.String(), part) {
					t.Errorf("no %q in stderr:\n%s", part, &p.stderr)
				}
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	path := configText(t, "")
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 2, "or write a file with networkproxy init (networkproxy -h for help)"},
		{[]string{"serve"}, 2, "-config is missing"},
		{[]string{"-config"}, 2, "flag needs an argument"},
		{[]string{"-cofnig", path}, 2, "-cofnig"},
		{[]string{"-config", path, "extra"}, 2, `unexpected argument "extra"`},
		{[]string{"-config", path, "-log-level", "loud"}, 2, "debug, info, warn or error"},
		{[]string{"-config", path, "-log-format", "xml"}, 2, "text or json"},
		{[]string{"-config", path, "-drain", "soon"}, 2, "invalid value \"soon\" for flag -drain: use a time such as 5s"},
		{[]string{"-config", path, "-drain", "-5s"}, 2, "-drain: use a time"},
		{[]string{"-config", path, "-limit", "conections=5"}, 2, "the limits are connections, "},
		{[]string{"-config", path, "-limit", "tunnel_idle=5"}, 2, "not a time"},
		{[]string{"-config", path, "-limit", "blocked_kept"}, 2, "not a number"},
		{[]string{"-config", path + ".none"}, 1, "config.toml.none"},
		{[]string{"-config", path, "-admin-token-file", path + ".none"}, 1, "-admin-token-file"},
		{[]string{"-config", path, "-admin-token-file", os.DevNull}, 1, "AdminToken"},
		{[]string{"-config", path, "-http", "proxy.example:1"}, 1, "proxy.example"},
		{[]string{"check", "-config", path}, 2, "no target"},
		{[]string{"check", "-config", path, "a.example:1", "-json"}, 2, `"-json" is not a target: flags come before the targets (networkproxy check -h for help)`},
		{[]string{"-h"}, 0, "commands:"},
		{[]string{"--help"}, 0, "commands:"},
		{[]string{"help"}, 0, "commands:"},
		{[]string{"help", "help"}, 0, "usage: networkproxy help [COMMAND]\n"},
		{[]string{"help", "run"}, 0, "-quiet"},
		{[]string{"help", "rnu"}, 2, "unknown command \"rnu\", did you mean run? (networkproxy -h for help)"},
		{[]string{"help", "run", "x"}, 2, `unexpected argument "x"`},
		{[]string{"serve", "-h"}, 0, "-drain"},
		{[]string{"-config", path, "-h"}, 0, "-drain"},
		{[]string{"check", "-h"}, 0, "exit status"},
		{[]string{"connect", "--help"}, 0, "-proxy"},
		{[]string{"version"}, 0, "networkproxy "},
		{[]string{"-version"}, 0, runtime.Version()},
		{[]string{"--version"}, 0, runtime.GOOS + "/" + runtime.GOARCH},
		{[]string{"version", "x"}, 2, `unexpected argument "x" (networkproxy version -h for help)`},
		{[]string{"chekc", path}, 2, `unknown command "chekc", did you mean check? (networkproxy -h for help)`},
		{[]string{"frobnicate"}, 2, `unknown command "frobnicate" (networkproxy -h for help)`},
		{[]string{""}, 2, `unknown command ""`},
		{[]string{"-cofnig", path}, 2, "unknown flag -cofnig, did you mean -config? (networkproxy serve -h for help)"},
		{[]string{"--observ"}, 2, "unknown flag -observ, did you mean -observe?"},
		{[]string{"run", "-drain", "3s", "true"}, 2, "unknown flag -drain of run: it is a flag of serve (networkproxy run -h for help)"},
		{[]string{"check", "-nonsense\nmore"}, 2, "unknown flag -nonsense more (networkproxy check -h for help)"},
		{[]string{"-config", path, "run", "true"}, 2, "the command comes first, as in networkproxy run"},
	} {
		p := start(t, tt.args...)
		status := p.status(t)
		want, other := &p.stdout, &p.stderr
		if tt.status != 0 {
			want, other = other, want
			if n := strings.Count(p.stderr.String(), "\n"); n != 1 {
				t.Errorf("%q: %d lines on standard error, want one", tt.args, n)
			}
		}
		if status != tt.status || !strings.Contains(want.String(), tt.want) || other.String() != "" {
			t.Errorf("%q: exit %d, want %d and %q:\n%s%s", tt.args, status, tt.status, tt.want, &p.stdout, &p.stderr)
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for _, flag := range []string{"-http", "-admin"} {
		p := start(t, "-config", configText(t, ""), flag, addr)
		if status := p.status(t); status != 1 || !strings.Contains(p.stderr.String(), "networkproxy: cannot listen on "+addr+": ") {
			t.Errorf("exit %d:\n%s", status, &p.stderr)
		}
		if strings.Contains(p.stderr.String(), "HTTP proxy on") {
			t.Errorf("prints a listen address:\n%s", &p.stderr)
		}
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	head := fmt.Sprintf("[network_proxy]\nenabled = true\nproxy_url = \"http://%s:0\"\nadmin_url = \"http://127.0.0.1:0\"\n", testnet.UnusedLoopback())
	path := configText(t, head+"[network_proxy.policy]\nallowed_domains = [\"127.0.0.1\"]\n")
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
	go server.Serve(origin)
	defer server.Close()
	target := "http://" + origin.Addr().String() + "/"

	p := start(t, "-config", path)
	proxy := p.stderr.await(t, `(?m)^networkproxy: HTTP proxy on http://(\S+)   mode full$`)
	admin := p.stderr.await(t, `(?m)^networkproxy: admin API  on http://(\S+)$`)
	p.stderr.await(t, `(?m)^networkproxy: to use it: export .*HTTPS_PROXY=http://`+regexp.QuoteMeta(proxy))
	if status, body := get(t, proxy, target, ""); status != 200 || body != "hello" {
		t.Errorf("allowed: %d %q", status, body)
	}
	if status, _ := get(t, proxy, "http://other.example/", ""); status != 403 {
		t.Errorf("refused: %d", status)
	}
	if status, body := get(t, "", "http://"+admin+"/blocked", ""); status != 200 || !strings.Contains(body, "other.example") {
		t.Errorf("admin API: %d %q", status, body)
	}

	// SIGHUP reloads. A configuration that cannot be loaded changes nothing.
	writeConfig(t, path, head+"[network_proxy.policy]\nallowed_domains = [\"https://x.example\"]\n")
	p.hangup <- syscall.SIGHUP
	p.stderr.await(t, `(?m)^networkproxy: reload failed, the last good configuration stays in force: `+regexp.QuoteMeta(path)+`:6:20: `)
	if status, _ := get(t, proxy, target, ""); status != 200 {
		t.Errorf("after a failed reload: %d", status)
	}
	writeConfig(t, path, head+"[network_proxy.policy]\nallowed_domains = []\n")
	p.hangup <- syscall.SIGHUP
	p.hangup <- syscall.SIGHUP // received after the first reload has ended
	if status, _ := get(t, proxy, target, ""); status != 403 {
		t.Errorf("after a reload: %d", status)
	}

	p.stop()
	if status := p.status(t); status != 0 {
		t.Errorf("exit %d", status)
	}
	p.stderr.await(t, "networkproxy: stopping")
	if _, err := net.Dial("tcp", proxy); err == nil {
		t.Error("the port is still bound")
	}
	if p.stdout.String() != "" {
		t.Errorf("stdout: %q", &p.stdout)
	}
}

// TestDrain stops the program while a tunnel is open. The tunnel is cut only if it
// does not end within the drain time.
func TestDrain(t *testing.T) {
	t.Parallel()
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	for _, tt := range []struct {
		drain string
		cut   bool
	}{{"10ms", true}, {"20s", false}} {
		p := start(t, "-config", configText(t, "[network_proxy.policy]\nallowed_domains = [\"127.0.0.1\"]\n"), "-drain", tt.drain)
		proxy := p.stderr.await(t, `HTTP proxy on http://(\S+)`)
		client, err := net.Dial("tcp", proxy)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		client.SetDeadline(time.Now().Add(waitTimeout))
		io.WriteString(client, "CONNECT "+origin.Addr().String()+" HTTP/1.1\r\nHost: x\r\n\r\n")
		target, err := origin.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		status := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(client, status); err != nil || string(status) != "HTTP/1.1 200" {
			t.Fatalf("read %q, %v", status, err)
		}
		p.stop()
		p.stderr.await(t, "stopping")
		if !tt.cut { // the tunnel ends in time
			target.Close()
			client.Close()
		}
		if status := p.status(t); status != 0 {
			t.Errorf("exit %d", status)
		}
		if cut := strings.Contains(p.stderr.String(), "networkproxy: cut the requests"); cut != tt.cut {
			t.Errorf("drain %s: cut %t\n%s", tt.drain, cut, &p.stderr)
		}
	}
}

func TestNotEnabled(t *testing.T) {
	t.Parallel()
	p := start(t, "-config", configText(t, "[network_proxy]\n"))
	if status := p.status(t); status != 0 || !strings.Contains(p.stderr.String(), "enabled is false") {
		t.Errorf("exit %d:\n%s", status, &p.stderr)
	}
}

// TestClampWarning checks that the warning about a listener that was moved to
// loopback names the key that allows the address.
func TestClampWarning(t *testing.T) {
	t.Parallel()
	p := start(t, "-config", configText(t, ""), "-admin", "0.0.0.0:0")
	p.stderr.await(t, `admin API  on http://(127\.0\.0\.1:\d+)\n`)
	p.stderr.await(t, `(?m)^networkproxy: warning: .*dangerously_allow_non_loopback_admin`)
	p.stop()
	p.status(t)
}

// TestWarningsPrintedOnce checks that a warning is not both logged and printed.
func TestWarningsPrintedOnce(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := start(t, "-config", configText(t, "enable_socks5_udp = true\n"), "-admin", "0.0.0.0:0", "-http", "0.0.0.0:0", "-observe", "-log-format", format)
			p.stderr.await(t, `(?m)^networkproxy: to use it|OBSERVING`)
			p.stop()
			p.status(t)
			for _, text := range []string{"OBSERVING", "dangerously_allow_non_loopback_admin", "dangerously_allow_non_loopback_proxy", "enable_socks5_udp ("} {
				if n := strings.Count(p.stderr.String(), text); n != 1 {
					t.Errorf("%s is printed %d times:\n%s", text, n, &p.stderr)
				}
			}
		})
	}
	t.Run("not enabled", func(t *testing.T) {
		t.Parallel()
		p := start(t, "-config", configText(t, "[network_proxy]\n"))
		p.status(t)
		if text := p.stderr.String(); !strings.Contains(text, "enabled is false") || strings.Contains(text, "level=WARN") {
			t.Errorf("not printed exactly once:\n%s", text)
		}
	})
}

// TestHeldLog checks that records of printed texts are dropped, and no others.
func TestHeldLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var held heldLog
	log := slog.New(held.handler(slog.NewTextHandler(&out, nil))).With("a", 1)
	log.Warn("before")
	held.hold()
	log.Info("no warning")
	log.Warn("printed")
	log.WithGroup("g").Warn("not printed", "b", 2)
	log.Error("it failed", "error", errors.New("because of this"))
	log.Error("it failed", "error", errors.New("because of that"))
	held.release("as printed", "failed: because of this")
	log.Warn("printed", "after", true)
	var got []string
	for line := range strings.Lines(out.String()) {
		_, line, _ = strings.Cut(line, "msg=")
		got = append(got, strings.TrimSpace(line))
	}
	want := []string{"before a=1", `"no warning" a=1`, `"not printed" a=1 g.b=2`, `"it failed" a=1 error="because of that"`, "printed a=1 after=true"}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

func TestAdminTokenFile(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-some-length"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "-config", configText(t, ""), "-admin-token-file", file)
	admin := "http://" + p.stderr.await(t, `admin API  on http://(\S+)`) + "/health"
	if status, _ := get(t, "", admin, ""); status != 401 {
		t.Errorf("without the token: %d", status)
	}
	if status, _ := get(t, "", admin, token); status != 200 {
		t.Errorf("with the token: %d", status)
	}
	p.stop()
	p.status(t)
	if strings.Contains(p.stderr.String(), token) {
		t.Errorf("the token is printed:\n%s", &p.stderr)
	}
}

func TestLimitFlag(t *testing.T) {
	t.Parallel()
	p := start(t, "-config", configText(t, ""), "-limit", "blocked_kept=2", "-limit", "blocked_kept=1")
	proxy := p.stderr.await(t, `HTTP proxy on http://(\S+)`)
	for range 2 {
		get(t, proxy, "http://no.example/", "")
	}
	admin := "http://" + p.stderr.await(t, `admin API  on http://(\S+)`)
	if _, body := get(t, "", admin+"/blocked", ""); !strings.Contains(body, `"total": 2`) || !strings.Contains(body, `"limit": 1`) {
		t.Error(body)
	}
	p.stop()
	p.status(t)
}

// TestAdminSocket checks that a unix socket is announced as unix://.
func TestAdminSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "np") // a short path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p := start(t, "-config", configText(t, ""), "-admin", "unix://"+dir+"/a.sock")
	if path := p.stderr.await(t, `admin API  on unix://(\S+)`); path != dir+"/a.sock" {
		t.Error(path)
	}
	p.stop()
	p.status(t)
}

func TestLogFormat(t *testing.T) {
	t.Parallel()
	p := start(t, "-config", configText(t, ""), "-log-format", "json", "-log-level", "debug")
	proxy := p.stderr.await(t, `"msg":"serving","http_proxy":"http://([^"]+)"`)
	get(t, proxy, "http://other.example/", "")
	line := p.stderr.await(t, `(?m)^(\{.*"msg":"refused".*\})$`)
	var entry map[string]any
	if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["host"] != "other.example" {
		t.Errorf("%s: %v", line, err)
	}
	p.stop()
	p.status(t)
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	path := configText(t, "[network_proxy.policy]\nallowed_domains = [\"*.allowed.example\"]\n")
	for _, tt := range []struct {
		target string
		status int
		want   []string
	}{
		{"https://x.allowed.example/", 0, []string{"allowed", "*.allowed.example", path + ":6:20"}},
		{"http://other.example/", 3, []string{"refused (not_allowed)"}},
		{"127.0.0.1:80", 3, []string{"refused (not_allowed_local)"}},
		{"2130706433:80", 3, []string{"refused (invalid_target)"}},
	} {
		p := start(t, "check", "-config", path, tt.target)
		if status := p.status(t); status != tt.status {
			t.Errorf("%s: exit %d, want %d\n%s", tt.target, status, tt.status, &p.stderr)
		}
		for _, part := range tt.want {
			if !strings.Contains(p.stdout.String(), part) {
				t.Errorf("%s: no %q in\n%s", tt.target, part, &p.stdout)
			}
		}
		if strings.Contains(p.stdout.String(), " \n") {
			t.Errorf("%s: a line ends with a space:\n%s", tt.target, &p.stdout)
		}
	}
}

func TestSelftestCommand(t *testing.T) {
	t.Parallel()
	p := start(t, "selftest", "-config", configText(t, ""))
	if status := p.status(t); status != 0 || !strings.Contains(p.stdout.String(), "checks passed") || strings.Contains(p.stdout.String(), "FAIL") {
		t.Errorf("exit %d:\n%s%s", status, &p.stdout, &p.stderr)
	}
}
