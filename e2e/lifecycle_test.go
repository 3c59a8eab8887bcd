//go:build e2e && linux

// This file tests the process of the program: checks, signals, exit codes, and running
// requests at shutdown.

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

	"example.com/networkproxy/e2e/harness"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const preamble = "[network_proxy]\nenabled = true\n[network_proxy.policy]\n"
	for _, test := range []struct {
		name, text string
		valid      bool
		want       string // pattern of the output after the file's name
	}{
		{"good", preamble + "allowed_domains = [\"allowed.example\"]\n", true, ""},
		{"syntax", "[network_proxy]\nenabled = \n", false, `:2:\d+.*`},
		{"unknown key", preamble + "denied_domain = [\"a.example\"]\n", false, `:4:1\b.*denied_domain`},
		{"inexact case", "[network_proxy]\nEnabled = true\n", false, `:2:1\b.*Enabled`},
		{"wrong type", preamble + "allow_local_binding = \"yes\"\n", false, `:4:\d+.*allow_local_binding`},
		{"mode", "[network_proxy]\nmode = \"open\"\n", false, `:2:\d+.*mode`},
		{"URL as a pattern", preamble + "allowed_domains = [\n  \"ok.example\",\n  \"https://x.example/a\",\n]\n", false, `:6:3\b.*allowed_domains`},
		{"star in the denylist", preamble + "denied_domains = [\"*\"]\n", false, `:4:\d+.*denied_domains`},
		{"listener name", "[network_proxy]\nproxy_url = \"http://proxy.example:3128\"\n", false, `:2:\d+.*proxy_url`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := writeConfig(t, test.text)
			p := launch(t, "-check", "-config", file)
			code := p.ExitCode(t)
			if (code == 0) != test.valid {
				t.Errorf("exit code %d, valid file: %t", code, test.valid)
			}
			if want := regexp.QuoteMeta(file) + test.want; test.want != "" && !regexp.MustCompile(want).MatchString(p.Log.String()) {
				t.Errorf("the output does not match %s", want)
			}

			// An invalid file is also an error without -check.
			if !test.valid {
				run := launch(t, "-config", file)
				if code := run.ExitCode(t); code == 0 {
					t.Error("the program ran with an invalid file")
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
			if code := p.ExitCode(t); code <= 0 {
				t.Errorf("exit code %d, want an error", code)
			}
			if p.Log.String() == "" {
				t.Error("the program printed nothing")
			}
		})
	}
}

// TestPortInUse starts the program with each of its two ports in use.
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
			if code := p.ExitCode(t); code <= 0 {
				t.Errorf("exit code %d, want an error", code)
			}
			if log := p.Log.String(); !strings.Contains(log, taken) || !strings.Contains(log, "in use") {
				t.Errorf("the error lacks %s or \"in use\"", taken)
			}
			other, err := net.Listen("tcp", free)
			if err != nil {
				t.Fatalf("the other port was not released: %v", err)
			}
			other.Close()
		})
	}
}

// TestStartUpLines checks the output of the program at its start.
func TestStartUpLines(t *testing.T) {
	t.Parallel()
	t.Run("text", func(t *testing.T) {
		t.Parallel()
		p := start(t, config{})
		for _, addr := range []string{p.proxy, p.admin} {
			harness.Eventually(t, "a line names "+addr, func() bool { return strings.Contains(p.Log.String(), addr) })
		}
	})
	t.Run("json", func(t *testing.T) {
		t.Parallel()
		p := start(t, config{}, "-log-format", "json")
		fetchCurl(t, p, "http://other.example/")
		p.Finish(t)
		logged := 0
		for line := range strings.Lines(p.Log.String()) {
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
		harness.Eventually(t, "a line names the key that removes the limit to loopback", func() bool {
			return strings.Contains(p.Log.String(), "dangerously_allow_non_loopback_proxy")
		})
		p.connect(t)
		if conn, err := net.Dial("tcp", publicA.String()+port); err == nil {
			conn.Close()
			t.Error("the program listens on a non-loopback address")
		}
	})
}

// heldRequest is a request whose client has received the first half of the response.
type heldRequest struct {
	*hold
	cmd    *exec.Cmd
	cancel context.CancelFunc // kills the client
	stdout *bufio.Reader
}

// holdRequest starts a curl that has received the first half of a response. The test
// releases the second half.
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
		t.Fatalf("the first half is %q, %v; want %q", line, err, holdFirst)
	}
	return h
}

// TestDrain ends the program while requests run: they finish, no new one starts, and
// the exit code is 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(fmt.Sprint(sig, " ", scheme), func(t *testing.T) {
				t.Parallel()
				p := start(t, config{Allowed: []string{"allowed.example"}}, "-drain", timeout.String())
				held := holdRequest(t, p, scheme)
				p.Signal(t, sig)
				harness.Eventually(t, "new connections are refused", func() bool {
					conn, err := net.Dial("tcp", p.proxy)
					if err == nil {
						conn.Close()
					}
					return err != nil
				})
				close(held.release)
				rest, err := io.ReadAll(held.stdout)
				if err != nil || string(rest) != holdRest {
					t.Errorf("the second half is %q, %v; want %q", rest, err, holdRest)
				}
				if err := held.cmd.Wait(); err != nil {
					t.Errorf("curl: %v", err)
				}
				if code := p.ExitCode(t); code != 0 {
					t.Errorf("exit code %d, want 0", code)
				}
			})
		}
	}
}

// TestDrainIsBounded ends the program while a request runs that would never finish.
func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example"}}, "-drain", "200ms")
	held := holdRequest(t, p, "http")
	p.Signal(t, syscall.SIGTERM)
	waitClosed(t, "the program ends", p.Done())
	waitClosed(t, "the origin sees the end", held.ended)
}

// TestClientLeaves kills the client and checks that the request ends at the origin.
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

// TestHangupReloads changes the file and sends SIGHUP, first with a valid file and then
// with an invalid one.
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
	p.Signal(t, syscall.SIGHUP)
	harness.Eventually(t, "the new entry is in force", func() bool { return status() == http.StatusOK })

	p.rewrite(t, "[network_proxy]\nnonsense = 1\n")
	p.Signal(t, syscall.SIGHUP)
	harness.Eventually(t, "the log has the error", func() bool {
		return strings.Contains(p.Log.String(), p.configFile+":2:1") && strings.Contains(p.Log.String(), "nonsense")
	})
	if got := status(); got != http.StatusOK {
		t.Errorf("after an invalid file: status %d, want 200 under the last valid policy", got)
	}
	if code, body := p.call("POST", "/reload", ""); code == http.StatusOK || !strings.Contains(body, "nonsense") {
		t.Errorf("POST /reload with an invalid file: %d %s, want an error with the key", code, body)
	}
}
