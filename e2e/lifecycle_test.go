//go:build e2e && linux

// This file is the program as a process: its checks, its signals, its exit
// codes, and what it does to requests under way.

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const head = "[network_proxy]\nenabled = true\n[network_proxy.policy]\n"
	for _, test := range []struct {
		name, text string
		exit       bool   // whether the file is good
		want       string // pattern of what the program says after the file's name
	}{
		{"good", head + "allowed_domains = [\"allowed.example\"]\n", true, ""},
		{"syntax", "[network_proxy]\nenabled = \n", false, `:2:\d+.*`},
		{"unknown key", head + "denied_domain = [\"a.example\"]\n", false, `:4:1\b.*denied_domain`},
		{"inexact case", "[network_proxy]\nEnabled = true\n", false, `:2:1\b.*Enabled`},
		{"wrong type", head + "allow_local_binding = \"yes\"\n", false, `:4:\d+.*allow_local_binding`},
		{"mode", "[network_proxy]\nmode = \"open\"\n", false, `:2:\d+.*mode`},
		{"URL as a pattern", head + "allowed_domains = [\n  \"ok.example\",\n  \"https://x.example/a\",\n]\n", false, `:6:3\b.*allowed_domains`},
		{"star in the denylist", head + "denied_domains = [\"*\"]\n", false, `:4:\d+.*denied_domains`},
		{"listener name", "[network_proxy]\nproxy_url = \"http://proxy.example:3128\"\n", false, `:2:\d+.*proxy_url`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := writeConfig(t, test.text)
			p := launch(t, "-check", "-config", file)
			code := p.exitCode(t)
			if (code == 0) != test.exit {
				t.Errorf("exit code %d; a good file is %t", code, test.exit)
			}
			if want := regexp.QuoteMeta(file) + test.want; test.want != "" && !regexp.MustCompile(want).MatchString(p.log.String()) {
				t.Errorf("no match of %s", want)
			}

			// Without -check a bad file is no less an error.
			if !test.exit {
				run := launch(t, "-config", file)
				if code := run.exitCode(t); code == 0 {
					t.Error("it ran with a bad file")
				}
			}
		})
	}
}

func TestBadCommandLine(t *testing.T) {
	t.Parallel()
	good := writeConfig(t, config{Proxy: lab.addr(), Admin: lab.addr()}.toml())
	for _, args := range [][]string{
		{"-config", filepath.Join(t.TempDir(), "absent.toml")},
		{"-config", good, "-nonsense"},
		{"-config", good, "-log-format", "xml"},
		{"-config", good, "-log-level", "loud"},
		{"-config", good, "-admin-token-file", filepath.Join(t.TempDir(), "absent")},
		{"-config", good, "and", "more"},
	} {
		t.Run(strings.Join(args[2:], " "), func(t *testing.T) {
			t.Parallel()
			p := launch(t, args...)
			if code := p.exitCode(t); code <= 0 {
				t.Errorf("exit code %d, want an error", code)
			}
			if p.log.String() == "" {
				t.Error("the program printed nothing")
			}
		})
	}
}

// TestPortInUse takes each of the two ports in turn.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"proxy", "admin"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			c := config{Proxy: lab.addr(), Admin: lab.addr()}
			taken, free := c.Proxy, c.Admin
			if which == "admin" {
				taken, free = free, taken
			}
			ln, err := net.Listen("tcp", taken)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()

			p := launch(t, "-config", writeConfig(t, c.toml()))
			if code := p.exitCode(t); code <= 0 {
				t.Errorf("exit code %d, want an error", code)
			}
			if log := p.log.String(); !strings.Contains(log, taken) || !strings.Contains(log, "in use") {
				t.Errorf("the error names neither %s nor the cause", taken)
			}
			other, err := net.Listen("tcp", free)
			if err != nil {
				t.Fatalf("the other port is not free: %v", err)
			}
			other.Close()
		})
	}
}

// TestStartUpLines reads what the program says before it serves.
func TestStartUpLines(t *testing.T) {
	t.Parallel()
	t.Run("text", func(t *testing.T) {
		t.Parallel()
		p := start(t, config{})
		for _, addr := range []string{p.proxy, p.admin} {
			eventually(t, "a line names "+addr, func() bool { return strings.Contains(p.log.String(), addr) })
		}
	})
	t.Run("json", func(t *testing.T) {
		t.Parallel()
		p := start(t, config{}, "-log-format", "json")
		fetchCurl(t, p, "http://other.example/")
		p.finish(t)
		logged := 0
		for line := range strings.Lines(p.log.String()) {
			// What the program tells its user is no part of the log.
			if strings.HasPrefix(line, "networkproxy: ") {
				continue
			}
			if logged++; !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %s", line)
			}
		}
		if logged == 0 {
			t.Error("the refusal was not logged")
		}
	})
	t.Run("clamped", func(t *testing.T) {
		t.Parallel()
		port := strings.TrimPrefix(lab.addr(), "127.0.0.1")
		c := config{Proxy: "0.0.0.0" + port, Admin: lab.addr()}
		p := startFile(t, writeConfig(t, c.toml()), "127.0.0.1"+port, c.Admin, "")
		if !strings.Contains(p.log.String(), "dangerously_allow_non_loopback_proxy") {
			t.Error("no line names the key that would lift the clamp")
		}
		p.connect(t)
		if conn, err := net.Dial("tcp", publicA.String()+port); err == nil {
			conn.Close()
			t.Error("it listens beyond loopback")
		}
	})
}

// heldRequest is a request of which the client has seen the first half.
type heldRequest struct {
	*hold
	cmd    *exec.Cmd
	cancel context.CancelFunc // kills the client
	stdout *bufio.Reader
}

// holdRequest has curl fetch a response that stays half sent until the test
// releases it.
func holdRequest(t *testing.T, p *program, scheme string) *heldRequest {
	t.Helper()
	name := lab.unique("hold")
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	h := &heldRequest{hold: lab.origins.holds.named(name), cancel: cancel}
	h.cmd = p.command(ctx, "curl", "-sSN", scheme+"://allowed.example/hold/"+name)
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.stdout = bufio.NewReader(stdout)
	if line, err := h.stdout.ReadString('\n'); err != nil || line != holdFirst {
		t.Fatalf("the first half is %q, %v", line, err)
	}
	return h
}

// TestDrain ends the program while requests are under way: they finish, no new
// one begins, and the exit code is 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(fmt.Sprint(sig, " ", scheme), func(t *testing.T) {
				t.Parallel()
				p := start(t, config{Allowed: []string{"allowed.example"}}, "-drain", timeout.String())
				held := holdRequest(t, p, scheme)
				p.signal(t, sig)
				eventually(t, "new connections are refused", func() bool {
					conn, err := net.Dial("tcp", p.proxy)
					if err == nil {
						conn.Close()
					}
					return err != nil
				})
				close(held.release)
				rest, err := io.ReadAll(held.stdout)
				if err != nil || string(rest) != holdRest {
					t.Errorf("the second half is %q, %v", rest, err)
				}
				if err := held.cmd.Wait(); err != nil {
					t.Errorf("curl: %v", err)
				}
				if code := p.exitCode(t); code != 0 {
					t.Errorf("exit code %d, want 0", code)
				}
			})
		}
	}
}

// TestDrainIsBounded ends the program while a request is under way that would
// never finish.
func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example"}}, "-drain", "200ms")
	held := holdRequest(t, p, "http")
	p.signal(t, syscall.SIGTERM)
	waitClosed(t, "the program ends", p.done)
	waitClosed(t, "the origin sees the end", held.ended)
}

// TestClientLeaves kills the client: the origin must not go on for nobody.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example"}})
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			held := holdRequest(t, p, scheme)
			held.cancel()
			waitClosed(t, "the origin sees the end", held.ended)
		})
	}
}

// TestHangupReloads changes the file and sends SIGHUP; then breaks it.
func TestHangupReloads(t *testing.T) {
	t.Parallel()
	c := config{Proxy: lab.addr(), Admin: lab.addr(), Allowed: []string{"allowed.example"}}
	p := start(t, c)
	status := func() int { return fetchCurl(t, p, "http://reload.example/hello").status }
	if got := status(); got != http.StatusForbidden {
		t.Fatalf("before: status %d, want 403", got)
	}
	c.Allowed = append(c.Allowed, "reload.example")
	p.rewrite(t, c.toml())
	p.signal(t, syscall.SIGHUP)
	eventually(t, "the new entry is in force", func() bool { return status() == http.StatusOK })

	p.rewrite(t, "[network_proxy]\nnonsense = 1\n")
	p.signal(t, syscall.SIGHUP)
	eventually(t, "the log tells what is wrong", func() bool {
		return strings.Contains(p.log.String(), p.configFile+":2:1") && strings.Contains(p.log.String(), "nonsense")
	})
	if got := status(); got != http.StatusOK {
		t.Errorf("after a broken file: status %d, want 200: the last good policy stays", got)
	}
	if code, body := p.call("POST", "/reload", ""); code == http.StatusOK || !strings.Contains(body, "nonsense") {
		t.Errorf("POST /reload of a broken file: %d %s", code, body)
	}
}
