// Tests of the run command, which runs this test binary as its command.

//go:build unix

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

// childEnv, if set, makes this binary act as the command of run. Its first
// argument is then an action and the action's argument.
const childEnv = "NETWORKPROXY_TEST_CHILD"

// mainEnv, if set, makes this binary act as the program.
const mainEnv = "NETWORKPROXY_TEST_MAIN"

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(mainEnv); ok {
		os.Unsetenv(mainEnv) // for the program's command
		main()
	}
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

// proxyTransport returns a transport that uses HTTP_PROXY. Go's default transport
// would reach loopback directly.
func proxyTransport() *http.Transport {
	return &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(os.Getenv("HTTP_PROXY")) }}
}

// getByProxy makes a request through HTTP_PROXY and prints the status. It returns
// an exit status.
func getByProxy(target string) int {
	resp, err := proxyTransport().RoundTrip(httptest.NewRequest("GET", target, nil))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)
	return 0
}

// awaitCue waits for a line on standard input.
func awaitCue() { os.Stdin.Read(make([]byte, 1)) }

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
	case "get-by-proxy":
		return getByProxy(arg)
	case "request": // with a method, and print the status or the error
		method, target, _ := strings.Cut(arg, " ")
		resp, err := proxyTransport().RoundTrip(httptest.NewRequest(method, target, nil))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode, resp.Header.Get("X-Proxy-Error"))
	case "get-twice":
		return getByProxy(arg) + getByProxy(arg)
	case "get-and-fail":
		getByProxy(arg)
		return 3
	case "get-and-die":
		getByProxy(arg)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "get-and-wait": // for a signal, which ends the process
		getByProxy(arg)
		fmt.Println("ready")
		select {}
	case "get-each": // one after another
		status := 0
		for _, target := range strings.Fields(arg) {
			status |= getByProxy(target)
		}
		return status
	case "get-at-once":
		var all sync.WaitGroup
		for _, target := range strings.Fields(arg) {
			all.Go(func() { getByProxy(target) })
		}
		all.Wait()
	case "get-on-cue": // which is a line on standard input
		fmt.Println("ready")
		awaitCue()
		return getByProxy(arg)
	case "get-each-on-cue":
		fmt.Println("ready")
		awaitCue()
		return child("get-each " + arg)
	case "get-and-leave": // leave at a cue, then make a request for the second URL
		first, second, _ := strings.Cut(arg, " ")
		conn, err := net.Dial("tcp", strings.TrimPrefix(os.Getenv("HTTP_PROXY"), "http://"))
		if err != nil {
			return 1
		}
		fmt.Fprintf(conn, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", first)
		awaitCue()
		conn.Close()
		return getByProxy(second)
	case "get-until-interrupted":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt)
		got := make(chan int, 1)
		go func() {
			resp, err := proxyTransport().RoundTrip(httptest.NewRequest("GET", arg, nil))
			if err != nil {
				got <- 0
				return
			}
			resp.Body.Close()
			got <- resp.StatusCode
		}()
		<-signals
		fmt.Printf("interrupted, got %d\n", <-got)
		return 9
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
// the suggested allowlist, however the command ends.
func TestRunObserves(t *testing.T) {
	setChildEnv(t)
	origin := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(origin.Close)
	target := strings.TrimPrefix(origin.URL, "http://")
	suggested := "[network_proxy.policy]\nallowed_domains = [\n  \"" + target + "\",\n]\n"
	const local = "[network_proxy.policy]\nallowed_domains = [\n  # Refused, because they are local. Remove the # from a line to allow that target.\n" +
		"  # \"localhost:3000\",\n]\n"
	const nothing = "networkproxy: nothing to suggest: the command reached no host through the proxy\n"
	for _, test := range []struct {
		name, child, flag string
		status            int
		want              string
	}{
		{"something", "get-by-proxy " + origin.URL, "", 0, suggested},
		{"something, quiet", "get-by-proxy " + origin.URL, "-quiet", 0, suggested},
		{"something, warnings are not logged", "get-by-proxy " + origin.URL, "-log-level=error", 0, suggested},
		{"the command fails", "get-and-fail " + origin.URL, "", 3, suggested},
		{"the command is killed", "get-and-die " + origin.URL, "", 128 + 9, suggested},
		{"local", "get-by-proxy http://localhost:3000/", "", 0, local},
		{"local, and the command fails", "get-and-fail http://localhost:3000/", "-quiet", 3, local},
		{"nothing", "exit 0", "", 0, nothing},
		{"nothing, and the command fails", "exit 9", "", 9, nothing},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			args := []string{"run", "-config", configFile(t, true, `"127.0.0.1"`), "-observe"}
			if test.flag != "" {
				args = append(args, test.flag)
			}
			var stdout, stderr testnet.Buffer
			p := program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
			if got := p.main(t.Context(), append(args, "--", os.Args[0], test.child)); got != test.status {
				t.Errorf("exit status %d, want %d: %s", got, test.status, &stderr)
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

// TestRunObservesUntilASignal checks that run -observe prints its suggestion after
// a signal to the program, which goes to the command.
func TestRunObservesUntilASignal(t *testing.T) {
	guard := make(chan os.Signal, 1)
	signal.Notify(guard, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(guard)
	setChildEnv(t)
	origin := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(origin.Close)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			r, w := io.Pipe()
			defer r.Close()
			ctx, cancel := context.WithCancel(context.Background()) // as main does at SIGTERM
			defer cancel()
			var stderr output
			p := program{stdin: strings.NewReader(""), stdout: w, stderr: &stderr}
			status := make(chan int, 1)
			go func() {
				status <- p.main(ctx, []string{"run", "-config", configFile(t, true, `"127.0.0.1"`), "-observe", "--", os.Args[0], "get-and-wait " + origin.URL})
			}()
			ready := make([]byte, len("404\nready\n"))
			if _, err := io.ReadFull(r, ready); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := syscall.Kill(os.Getpid(), s); err != nil {
				t.Fatal(err)
			}
			if got := <-status; got != 128+int(s) {
				t.Errorf("exit status %d, want %d", got, 128+int(s))
			}
			if want := "  \"" + strings.TrimPrefix(origin.URL, "http://") + "\",\n]\n"; !strings.HasSuffix(stderr.String(), want) {
				t.Errorf("standard error:\n%s\nwant at its end:\n%s", &stderr, want)
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
			var stdout, stderr testnet.Buffer
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
			var stdout, stderr testnet.Buffer
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
