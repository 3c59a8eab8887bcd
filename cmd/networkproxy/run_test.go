// Tests of the run command, which runs this test binary as its command.

//go:build unix

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// childEnv, if set, makes this binary act as the command of run. Its first
// argument is then an action and the action's argument.
const childEnv = "NETWORKPROXY_TEST_CHILD"

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(childEnv); ok {
		os.Exit(child(os.Args[1]))
	}
	flag.Parse()
	if testing.Short() {
		flag.Set("test.parallel", "16") // most tests wait
	}
	os.Exit(m.Run())
}

// setChildEnv makes the commands that the test runs act as child. It sets the
// environment of this process, so the test cannot be parallel, but its subtests
// can.
func setChildEnv(t *testing.T) {
	t.Setenv(childEnv, "1")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
}

// child acts as the command and returns its exit status.
func child(action string) int {
	action, arg, _ := strings.Cut(action, " ")
	switch action {
	case "get": // print the status
		resp, err := http.Get(arg)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode)
	case "get-by-proxy": // Go's default transport would reach loopback directly
		proxy, err := url.Parse(os.Getenv("HTTP_PROXY"))
		if err != nil {
			return 1
		}
		resp, err := (&http.Transport{Proxy: http.ProxyURL(proxy)}).RoundTrip(httptest.NewRequest("GET", arg, nil))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode)
	case "env":
		fmt.Println(os.Getenv(arg))
	case "cat":
		io.Copy(os.Stdout, os.Stdin)
		fmt.Fprint(os.Stderr, "done")
	case "exit":
		var status int
		fmt.Sscan(arg, &status)
		return status
	case "kill": // itself
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "wait": // exit with the number of a signal, plus 20
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
		fmt.Println("ready")
		s := <-signals
		return int(s.(syscall.Signal)) + 20
	}
	return 0
}

// configFile writes a configuration with an allowlist and returns its path.
func configFile(t *testing.T, enabled bool, allowed string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.toml")
	text := fmt.Sprintf("[network_proxy]\nenabled = %t\n[network_proxy.policy]\nallowed_domains = [%s]\n", enabled, allowed)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRunObserves checks that run -observe prints its warning once and ends with
// the suggested allowlist.
func TestRunObserves(t *testing.T) {
	setChildEnv(t)
	origin := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(origin.Close)
	target := strings.TrimPrefix(origin.URL, "http://")
	for _, test := range []struct{ name, child, flag, want string }{
		{"something", "get-by-proxy " + origin.URL, "", "networkproxy: this allowlist covers the observed requests. Review it before use: a command that was tricked may have reached hosts it should not:\n" +
			"[network_proxy.policy]\nallowed_domains = [\n  \"" + target + "\",\n]\n"},
		{"something, quiet", "get-by-proxy " + origin.URL, "-quiet", "  \"" + target + "\",\n]\n"},
		{"something, warnings are not logged", "get-by-proxy " + origin.URL, "-log-level=error", "  \"" + target + "\",\n]\n"},
		{"nothing", "exit 0", "", "networkproxy: nothing to suggest: the command reached no host through the proxy\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			args := []string{"run", "-config", configFile(t, true, `"127.0.0.1"`), "-observe"}
			if test.flag != "" {
				args = append(args, test.flag)
			}
			var stdout, stderr bytes.Buffer
			p := program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
			if got := p.main(t.Context(), append(args, "--", os.Args[0], test.child)); got != 0 {
				t.Errorf("exit status %d: %s", got, &stderr)
			}
			if n := strings.Count(stderr.String(), "OBSERVING"); n != 1 {
				t.Errorf("the warning is printed %d times:\n%s", n, &stderr)
			}
			if !strings.HasSuffix(stderr.String(), test.want) {
				t.Errorf("standard error:\n%s\nwant at its end:\n%s", &stderr, test.want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	setChildEnv(t)
	t.Setenv("NO_PROXY", "*")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	config := configFile(t, true, "")
	self := os.Args[0]
	for _, test := range []struct {
		name   string
		args   []string
		stdin  string
		want   int
		stdout string // all of it
		stderr string // part of it; empty means no output
	}{
		{"status 0", []string{"-config", config, "--", self, "exit 0"}, "", 0, "", ""},
		{"status 9", []string{"-config", config, "--", self, "exit 9", "-not", "-ours"}, "", 9, "", ""},
		{"without --", []string{"-config", config, self, "exit 9", "-x"}, "", 9, "", ""},
		{"killed", []string{"-config", config, "--", self, "kill"}, "", 128 + 9, "", ""},
		{"streams", []string{"-config", config, "--", self, "cat"}, "in and out", 0, "in and out", "done"},
		{"environment", []string{"-config", config, "--", self, "env NO_PROXY"}, "", 0, "\n", ""},
		{"helper", []string{"-config", config, "--", self, "env GIT_SSH_COMMAND"}, "", 0,
			"ssh -o 'ProxyCommand=" + self + " connect %h %p' -o ControlMaster=no -o ControlPath=none\n", ""},
		{"refused", []string{"-config", config, "--", self, "get http://refused.example/?secret"}, "", 0, "403\n",
			"networkproxy: refused one request from this command:\n      1  refused.example port 80  http  not_allowed\n"},
		{"refused, quiet", []string{"-config", config, "-quiet", "--", self, "get http://refused.example/"}, "", 0, "403\n", ""},
		{"no such command", []string{"-config", config, "--", "no-such-command-here"}, "", 127, "", "no-such-command-here"},
		{"no command file", []string{"-config", config, "--", "/no/such/file"}, "", 127, "", "/no/such/file"},
		{"not executable", []string{"-config", config, "--", config}, "", 126, "", config},
		{"no command", []string{"-config", config}, "", exitUsage, "", "no command to run"},
		{"no configuration", []string{"--", self}, "", exitUsage, "", "-config is missing"},
		{"disabled", []string{"-config", configFile(t, false, ""), "--", self, "exit 0"}, "", exitError, "", "enabled = false"},
		{"broken", []string{"-config", configFile(t, true, `"*."`), "--", self, "exit 0"}, "", exitError, "", "config.toml:4:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			p := program{stdin: strings.NewReader(test.stdin), stdout: &stdout, stderr: &stderr}
			if got := p.main(t.Context(), append([]string{"run"}, test.args...)); got != test.want {
				t.Errorf("exit status %d, want %d", got, test.want)
			}
			if stdout.String() != test.stdout {
				t.Errorf("standard output %q, want %q", &stdout, test.stdout)
			}
			if got := stderr.String(); !strings.Contains(got, test.stderr) || test.stderr == "" && got != "" {
				t.Errorf("standard error %q, want %q in it", got, test.stderr)
			}
			if strings.Contains(stderr.String(), "secret") {
				t.Error("stderr contains the query string")
			}
		})
	}
}

// TestRunAllows runs a child through the proxy with flags alone, without a file.
func TestRunAllows(t *testing.T) {
	setChildEnv(t)
	origin := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(origin.Close)
	target := strings.TrimPrefix(origin.URL, "http://")
	for _, test := range []struct{ name, url, flag, pattern, stdout, stderr string }{
		{"allowed", origin.URL, "-allow", target, "404\n", ""},
		{"refused", "http://refused.example/", "-allow", target, "403\n", "refused.example port 80  http  not_allowed"},
		{"denied", origin.URL, "-deny", target, "403\n", "denied (" + target + ")"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			p := program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
			status := p.main(t.Context(), []string{"run", "-allow", target, test.flag, test.pattern, "--", os.Args[0], "get-by-proxy " + test.url})
			if status != 0 || stdout.String() != test.stdout {
				t.Errorf("exit status %d, output %q, want %q", status, &stdout, test.stdout)
			}
			if got := stderr.String(); !strings.Contains(got, test.stderr) || test.stderr == "" && got != "" {
				t.Errorf("standard error %q, want %q in it", got, test.stderr)
			}
		})
	}
}

func TestRunForwardsSignals(t *testing.T) {
	// Without this, a signal that the program does not handle would end the test.
	guard := make(chan os.Signal, 1)
	signal.Notify(guard, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(guard)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			setChildEnv(t)
			r, w := io.Pipe()
			defer r.Close()
			p := program{stdin: strings.NewReader(""), stdout: w, stderr: t.Output()}
			status := make(chan int, 1)
			go func() {
				status <- p.main(context.Background(), []string{"run", "-config", configFile(t, true, ""), "--", os.Args[0], "wait"})
			}()
			ready := make([]byte, len("ready\n"))
			if _, err := io.ReadFull(r, ready); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(os.Getpid(), s); err != nil {
				t.Fatal(err)
			}
			if got := <-status; got != int(s)+20 {
				t.Errorf("exit status %d, want %d", got, int(s)+20)
			}
		})
	}
}

func TestRunAfterSignal(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	setChildEnv(t)
	var stdout bytes.Buffer
	p := program{stdin: strings.NewReader(""), stdout: &stdout, stderr: t.Output()}
	if got := p.main(ctx, []string{"run", "-config", configFile(t, true, ""), "--", os.Args[0], "env PATH"}); got != exitError || stdout.Len() > 0 {
		t.Errorf("exit status %d, output %q", got, &stdout)
	}
}
