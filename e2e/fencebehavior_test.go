//go:build e2e && linux

// This file tests what a command in a fence meets: refusals, modes, lookups, datagrams,
// services of this machine and other fences.

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/e2e/harness"
)

// curlStatus are the arguments of curl that print the status after the body.
var curlStatus = []string{"curl", "-sS", "-w", "\n%{http_code}\n"}

// TestFencedRefusals tests the responses to refused requests.
func TestFencedRefusals(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		curl := func(flags []string, args ...string) fenced {
			return r.fence(t, flags, nil, append(curlStatus, args...)...)
		}
		got := curl([]string{"-allow", "allowed.example", "-log-level", "info"}, "http://other.example/hello")
		got.wantRefusal(t, "other.example:0 dns not_allowed 1")
		if !strings.Contains(got.Stderr, "msg=refused host=other.example port=0 protocol=dns") || strings.Contains(got.Stderr, "client=") {
			t.Errorf("a refused lookup: the log is %s, want a line without a client", got.Stderr)
		}
		got = curl([]string{"-allow", "other.example:9"}, "http://other.example/hello")
		got.wantRefusal(t, "other.example:80 captured_tcp not_allowed 1")
		if page := decodeJSON(t, strings.TrimSuffix(strings.TrimSpace(got.Stdout), "403")); page["host"] != "other.example" || page["reason"] != "not_allowed" || page["hint"] == "" {
			t.Errorf("plain HTTP: the page is %v", page)
		}
		got = curl([]string{"-allow", "other.example:9"}, "https://other.example/hello")
		got.wantRefusal(t, "other.example:443 captured_tcp not_allowed 1")
		if !strings.Contains(got.Stderr, "alert access denied") {
			t.Errorf("TLS: %s, want the alert access_denied", got.Stderr)
		}
		got = curl([]string{"-allow", "*.example", "-deny", "denied.example"}, "http://denied.example/hello")
		got.wantRefusal(t, "denied.example:0 dns denied 1")
		for host, reason := range map[string]string{"93.184.215.15": "not_allowed", "169.254.169.254": "not_allowed_local", "10.0.0.1": "not_allowed_local"} {
			got = curl([]string{"-allow", "*.example"}, "http://"+host+"/")
			got.wantRefusal(t, host+":80 captured_tcp "+reason+" 1")
		}
		got = curl([]string{"-allow", "*.example"}, "-g", "http://[2606:2800:21f::1]/")
		got.wantRefusal(t, "2606:2800:21f::1:80 captured_tcp not_allowed 1")
		got = curl([]string{"-allow", "inner.example"}, "http://inner.example/")
		got.wantRefusal(t, "inner.example:80 captured_tcp not_allowed_local 1")
		// The command cannot reach one host under the name of another.
		allowed := []string{"-allow", "allowed.example", "-allow", "dual.example"}
		got = curl(allowed, "--connect-to", "::dual.example:", "https://allowed.example/hello")
		got.wantRefusal(t, "dual.example:443 captured_tcp sni_mismatch 1")
		got = curl(allowed, "--connect-to", "::dual.example:", "http://allowed.example/hello")
		got.wantRefusal(t, "dual.example:80 captured_tcp host_mismatch 1")
		if !strings.HasSuffix(got.Stdout, "\n421\n") {
			t.Errorf("another Host: got %s, want the status 421", got.Stdout)
		}
	})
	checkTraps(t)
}

// TestFencedLimitedMode: the mode judges the requests of captured connections.
func TestFencedLimitedMode(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		config := writeConfig(t, config{Mode: "limited", Allowed: []string{"allowed.example"}}.toml())
		copied := filepath.Join(r.dir(t), "config.toml")
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, text, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			args    []string
			status  string
			refusal string
		}{
			{[]string{"http://allowed.example/hello"}, "200", ""},
			{[]string{"-d", "x", "http://allowed.example/hello"}, "403", "allowed.example:80 captured_tcp method_not_allowed 1"},
			{[]string{"https://allowed.example/hello"}, "000", "allowed.example:443 captured_tcp method_not_allowed 1"},
			{[]string{"--max-time", "20", "telnet://allowed.example:22"}, "000", "allowed.example:22 captured_tcp method_not_allowed 1"},
		} {
			got := r.fence(t, []string{"-config", copied}, nil, append(curlStatus, tt.args...)...)
			got.wantRefusal(t, tt.refusal)
			if !strings.HasSuffix(got.Stdout, "\n"+tt.status+"\n") {
				t.Errorf("%q: got %s, want the status %s", tt.args, got.Stdout, tt.status)
			}
		}
	})
}

// TestFencedDecider tests that the decider is asked once about a connection, and that
// the connection waits for its answer.
func TestFencedDecider(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []networkproxy.PolicyRequest
	h := runHost(t, func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
		mu.Lock()
		asked = append(asked, req)
		mu.Unlock()
		if strings.HasPrefix(req.Host, "yes.") {
			return networkproxy.Allow(), nil
		}
		return networkproxy.Deny("the suite says no"), nil
	}, nil)
	for _, tt := range []struct {
		url, want string
		port      uint16
	}{
		{"https://yes.refused.example/hello", "hello from yes.refused.example", 443},
		{"http://yes.refused.example:8000/hello", "hello from yes.refused.example:8000", 8000},
		{"http://no.refused.example/hello", "the suite says no", 80},
	} {
		s, err := h.OpenSession(t.Context(), networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: tt.url}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.Fence(t.Context(), networkproxy.FenceConfig{})
		if err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		cmd := directCommand(t, "curl", "-sS", tt.url)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := f.Start(cmd); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if !strings.Contains(stdout.String(), tt.want) {
			t.Errorf("%s: got %s%s, want %q", tt.url, &stdout, &stderr, tt.want)
		}
		mu.Lock()
		if len(asked) != 1 || !strings.Contains(tt.url, asked[0].Host) || asked[0].Port != tt.port || asked[0].Command != tt.url || asked[0].Protocol != networkproxy.ProtocolCapturedTCP {
			t.Errorf("%s: the decider was asked %+v, want one question with the host, the port and the command", tt.url, asked)
		}
		asked = nil
		mu.Unlock()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFencedLookups tests the responses to lookups, from the server that was asked.
func TestFencedLookups(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		query := func(env []string, queries ...string) []string {
			t.Helper()
			var args []string
			for _, q := range queries {
				args = append(args, strings.Fields(q)...)
			}
			got := r.fence(t, []string{"-allow", "allowed.example"}, env, append([]string{python, "dnsquery.py"}, args...)...)
			if got.Exit != 0 {
				t.Fatalf("exit %d: %s", got.Exit, got.Stderr)
			}
			return strings.Split(strings.TrimSpace(got.Stdout), "\n")
		}
		const pool4, pool6 = `198\.1[89]\.\d+\.\d+`, `fd00:6e70::[0-9a-f:]+`
		want := []struct{ query, response string }{
			{"192.0.2.53 allowed.example A", "0 " + pool4 + ` - 192\.0\.2\.53`},
			{"8.8.8.8 ALLOWED.example AAAA", "0 " + pool6 + ` - 8\.8\.8\.8`},
			{"2001:db8::53 allowed.example A", "0 " + pool4 + " - 2001:db8::53"},
			{"127.0.0.1 allowed.example HTTPS", `0 - - 127\.0\.0\.1`},
			{"1.1.1.1 allowed.example TXT", `0 - - 1\.1\.1\.1`},
			{"1.1.1.1 allowed.example MX", `0 - - 1\.1\.1\.1`},
			{"1.1.1.1 allowed.example SRV", `0 - - 1\.1\.1\.1`},
			{"1.1.1.1 other.example A", `3 - 15:15:not_allowed 1\.1\.1\.1`},
			{"1.1.1.1 secret.leak.other.example TXT", `3 - 15:15:not_allowed 1\.1\.1\.1`},
			{"1.1.1.1 localhost A", `0 127\.0\.0\.1 - 1\.1\.1\.1`},
			{"1.1.1.1 deep.localhost AAAA", `0 ::1 - 1\.1\.1\.1`},
			{"1.1.1.1 1.0.0.127.in-addr.arpa PTR", `3 - - 1\.1\.1\.1`},
		}
		var queries []string
		for _, w := range want {
			queries = append(queries, w.query)
		}
		for _, env := range [][]string{nil, {"TCP=1"}} {
			got := query(env, queries...)
			for i, w := range want {
				if !regexp.MustCompile("^" + w.response + "$").MatchString(got[i]) {
					t.Errorf("%s %q: got %q, want %q", w.query, env, got[i], w.response)
				}
			}
		}
		addr := netip.MustParseAddr(strings.Fields(query(nil, want[0].query)[0])[1]).As4()
		reverse := fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa", addr[3], addr[2], addr[1], addr[0])
		if got := query(nil, want[0].query, "9.9.9.9 "+reverse+" PTR"); got[1] != "0 allowed.example - 9.9.9.9" {
			t.Errorf("PTR of %v: %q", addr, got[1])
		}
	})
	if n := lab.dns.queryCount("secret.leak.other.example"); n != 0 {
		t.Errorf("%d queries left the fence", n)
	}
}

// TestFencedDatagrams tests datagrams with and without -fence-udp.
func TestFencedDatagrams(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp", netip.AddrPortFrom(publicA, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo([]byte("pong to "+string(b[:n])), from)
		}
	}()
	_, port, err := net.SplitHostPort(server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("users", func(t *testing.T) {
		forEachResident(t, func(t *testing.T, r resident) {
			send := func(wait string, flags ...string) fenced {
				return r.fence(t, flags, nil, python, "datagram.py", "allowed.example", port, wait)
			}
			if got := send("20", "-fence-udp", "-allow", "allowed.example"); got.Stdout != "pong to ping\n" || got.summary.Allowed != 1 || !got.summary.Fence.UDP {
				t.Errorf("with -fence-udp: %q, %s, summary %+v", got.Stdout, got.Stderr, got.summary)
			}
			if got := send("20", "-allow", "allowed.example"); !strings.Contains(got.Stderr, "ConnectionRefusedError") {
				t.Errorf("without -fence-udp: %q, %s; want ConnectionRefusedError", got.Stdout, got.Stderr)
			}
			got := send("1", "-fence-udp", "-allow", "allowed.example:9")
			got.wantRefusal(t, "allowed.example:"+port+" captured_udp not_allowed 1")
			if strings.Contains(got.Stdout, "pong") {
				t.Error("a refused datagram reached its target")
			}
		})
	})
}

// TestFencedServices tests services inside the fence, and those of this machine.
func TestFencedServices(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		dir := r.dir(t)
		script := fmt.Sprintf(`cd %s && echo inside >page && %s -m http.server -b 127.0.0.1 8080 >/dev/null 2>&1 & server=$!
			curl -sS --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080/page http://localhost:8080/page; kill $server`, dir, python)
		got := r.fence(t, []string{"-allow", "allowed.example"}, nil, "sh", "-c", script)
		if got.Stdout != "inside\ninside\n" || len(got.summary.Refusals) != 0 || got.summary.Allowed != 0 {
			t.Errorf("a server inside: %q, %s, summary %+v", got.Stdout, got.Stderr, got.summary)
		}
		// The same with the proxy variables, which clients heed.
		withVariables := harness.Run(t, r.command(t, lab.program(), "run", "-fence", "-allow", "allowed.example", "--", "sh", "-c", script+"; curl -sS http://allowed.example/hello"))
		if withVariables.Stdout != "inside\ninside\n"+helloBody("allowed.example") || strings.Contains(withVariables.Stderr, "networkproxy: refused") {
			t.Errorf("a server inside, with the proxy variables: %q, %s", withVariables.Stdout, withVariables.Stderr)
		}
		_, port, err := net.SplitHostPort(localServer)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{localServer, "localhost:" + port} {
			got = r.fence(t, []string{"-fence-local", target, "-allow", target}, nil, "curl", "-sS", "http://127.0.0.1:"+port+"/hello", "http://localhost:"+port+"/hello", "-g", "http://[::1]:"+port+"/hello")
			// The service gets the Host field of the target, whatever address the client used.
			if want := strings.Repeat(helloBody(target), 3); got.Stdout != want || got.summary.Allowed != 3 {
				t.Errorf("%s by flag and policy: %q, %s, summary %+v", target, got.Stdout, got.Stderr, got.summary)
			}
			got = r.fence(t, []string{"-fence-local", target, "-allow", "allowed.example"}, nil, append(curlStatus, "http://localhost:"+port+"/hello")...)
			got.wantRefusal(t, target+" captured_tcp not_allowed_local 1")
			if strings.Contains(got.Stdout, "hello from") {
				t.Errorf("%s by flag only: reached", target)
			}
			got = r.fence(t, []string{"-allow", target}, nil, "curl", "-sS", "http://localhost:"+port+"/hello")
			if got.Exit != 7 || len(got.summary.Refusals) != 0 { // curl: failed to connect
				t.Errorf("%s by policy only: exit %d, %q, %s, summary %+v", target, got.Exit, got.Stdout, got.Stderr, got.summary)
			}
		}
	})
	checkTraps(t)
}

// TestFencesAreSeparate runs two fences at once: neither can use the addresses of the
// other, and each has its own records.
func TestFencesAreSeparate(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		dir := r.dir(t)
		type side struct{ own, other string }
		var wait sync.WaitGroup
		results := make([]fenced, 2)
		for i, s := range []side{{"allowed.example", "dual.example"}, {"dual.example", "allowed.example"}} {
			// Each side looks its name up, and then tries the address that the other one got.
			script := fmt.Sprintf(`curl -sS http://%[1]s/hello
				getent ahostsv4 %[1]s | sed -n '1s/ .*//p' >%[2]s/%[1]s.part && mv %[2]s/%[1]s.part %[2]s/%[1]s
				while ! [ -s %[2]s/%[3]s ]; do sleep 0.1; done
				curl -sS -H 'Host: %[3]s' "http://$(cat %[2]s/%[3]s)/hello"; curl -sS http://unlisted-%[1]s/`, s.own, dir, s.other)
			wait.Go(func() {
				results[i] = r.fence(t, []string{"-allow", "allowed.example", "-allow", "dual.example"}, nil, "sh", "-c", script)
			})
		}
		wait.Wait()
		for i, own := range []string{"allowed.example", "dual.example"} {
			got := results[i]
			if got.Stdout != "hello from "+own+"\n" || got.summary.Allowed != 1 {
				t.Errorf("%s: got %q, %s, summary %+v; want its own host only", own, got.Stdout, got.Stderr, got.summary)
			}
			got.wantRefusal(t, "unlisted-"+own+":0 dns not_allowed 1")
		}
	})
}

// TestFencedCommandOutlivesTheHost kills the program: its command has no network then.
func TestFencedCommandOutlivesTheHost(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		dir := r.dir(t)
		script := fmt.Sprintf(`cd %s; curl -sS http://dual.example/hello >before; echo >ready
			while ! [ -e go ]; do sleep 0.1; done
			for url in http://dual.example/ http://93.184.215.14/hello http://[2606:2800:21f::1]/hello; do curl -g -sS -m 10 $url && echo reached $url; done >after 2>&1
			mv after done`, dir)
		cmd := r.fencedCommand(t, filepath.Join(dir, "summary.json"), []string{"-allow", "dual.example"}, nil, "sh", "-c", script)
		cmd.SysProcAttr.Setpgid = true
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		exists := func(name string) func() bool {
			return func() bool {
				_, err := os.Stat(filepath.Join(dir, name))
				return err == nil
			}
		}
		harness.Eventually(t, "the command runs", exists("ready"))
		cmd.Process.Kill()
		cmd.Wait()
		if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "the command has tried to connect", exists("done"))
		before, _ := os.ReadFile(filepath.Join(dir, "before"))
		after, err := os.ReadFile(filepath.Join(dir, "done"))
		if err != nil {
			t.Fatal(err)
		}
		if string(before) != "hello from dual.example\n" || strings.Contains(string(after), "reached") || strings.Contains(string(after), "hello") {
			t.Errorf("before the end of the host: %q; after it: %s", before, after)
		}
	})
}

// TestFencedExit: the exit status is that of a command without a fence.
func TestFencedExit(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		for script, want := range map[string]int{"exit 7": 7, "kill -9 $$": 128 + 9, "true": 0} {
			if got := r.fence(t, []string{"-allow", "x.example"}, nil, "sh", "-c", script); got.Exit != want {
				t.Errorf("%s: exit %d, want %d\n%s", script, got.Exit, want, got.Stderr)
			}
		}
		cmd := r.command(t, lab.program(), "run", "-fence", "-allow", "x.example", "--", "/no/such/program")
		if got := harness.Run(t, cmd); got.Exit != 127 || !strings.Contains(got.Stderr, "no such file") {
			t.Errorf("a command that does not exist: exit %d, %s; want 127", got.Exit, got.Stderr)
		}
		// The command gets the signals of the program.
		dir := r.dir(t)
		cmd = r.fencedCommand(t, filepath.Join(dir, "summary.json"), []string{"-allow", "x.example"}, nil,
			"sh", "-c", `trap 'echo caught; exit 5' TERM; echo >`+dir+`/ready; while :; do sleep 0.1; done`)
		cmd.SysProcAttr.Setsid = true // without a terminal
		var stdout bytes.Buffer
		cmd.Stdout = &stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "the command runs", func() bool {
			_, err := os.Stat(filepath.Join(dir, "ready"))
			return err == nil
		})
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 5 || stdout.String() != "caught\n" {
			t.Errorf("SIGTERM: exit %d, output %q; want 5 and caught", code, &stdout)
		}
	})
}

// onTerminal runs a script on a terminal and returns its output. replies are pairs of a
// text and the input that follows it.
func (r resident) onTerminal(t *testing.T, script string, replies ...string) string {
	t.Helper()
	cmd := r.command(t, python, append([]string{"terminal.py", script}, replies...)...)
	stop := time.AfterFunc(2*timeout, func() { cmd.Process.Kill() })
	defer stop.Stop()
	return harness.Run(t, cmd).Stdout
}

// TestFencedTerminal: a command in a fence has the terminal, its job control and Ctrl-C.
func TestFencedTerminal(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		run := lab.program() + " run -fence -quiet -allow x.example -- "
		output := r.onTerminal(t, "trap : INT; "+run+`bash -ic 'tty >/dev/null && echo has-tty; sleep 1000 & jobs; kill %1; wait; read line; echo "read:$line"'
			`+run+`sh -c 'trap "echo interrupted; exit 9" INT; echo waiting; while :; do sleep 0.1; done'
			echo status:$?`, "Running", "line\n", "waiting", "\x03")
		for _, want := range []string{"has-tty", "Running", "read:line", "interrupted", "status:9"} {
			if !strings.Contains(output, want) {
				t.Errorf("no %q in %s", want, output)
			}
		}
	})
}

// TestFencedQuestions: run -ask asks once about each target of captured connections, and
// the connection waits for the answer.
func TestFencedQuestions(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		output := r.onTerminal(t, lab.program()+" run -fence -ask -- env -i CURL_CA_BUNDLE="+lab.ca.file+
			" curl -sS http://allowed.example/hello http://allowed.example/hello https://dual.example/hello http://other.example:8000/hello",
			"or [n]o?", "r\n", "or [n]o?", "o\n", "or [n]o?", "n\n")
		for want, count := range map[string]int{
			"reach allowed.example port 80 (captured_tcp)": 1, "reach dual.example port 443 (captured_tcp)": 1, "reach other.example port 8000 (captured_tcp)": 1,
			"hello from allowed.example": 2, "hello from dual.example": 1, "hello from other.example": 0, `"reason":"the user said no"`: 1,
			"1  other.example port 8000  captured_tcp": 1,
		} {
			if got := strings.Count(output, want); got != count {
				t.Errorf("%q is there %d times, want %d, in\n%s", want, got, count, output)
			}
		}
	})
}

// noNamespaces runs a script in a user namespace that permits no other.
func (r resident) noNamespaces(t *testing.T, script string, env ...string) harness.Result {
	t.Helper()
	cmd := r.command(t, "unshare", "--user", "--map-root-user", "sh", "-c", "echo 0 >/proc/sys/user/max_user_namespaces && "+script)
	cmd.Env = append(cmd.Env, env...)
	return harness.Run(t, cmd)
}

// TestWithoutFence: where there can be no fence, the command is not started, or not
// without a warning.
func TestWithoutFence(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		run := lab.program() + " run -allow x.example -json-file summary.json "
		for _, level := range []string{"-fence", "-fence=capture", "-fence=sealed"} {
			dir := r.dir(t)
			got := r.noNamespaces(t, "cd "+dir+" && "+run+level+" -- touch started")
			if lines := strings.Split(strings.TrimSpace(got.Stderr), "\n"); got.Exit != 126 || len(lines) < 2 || len(lines) > 4 ||
				!strings.Contains(got.Stderr, "no fence, and so the command was not started: namespaces: ") || !strings.Contains(got.Stderr, "max_user_namespaces") {
				t.Errorf("%s: exit %d, want 126 and two to four lines with the reason and the fix:\n%s", level, got.Exit, got.Stderr)
			}
			if _, err := os.Stat(filepath.Join(dir, "started")); err == nil {
				t.Errorf("%s: the command was started", level)
			}
		}
		dir := r.dir(t)
		got := r.noNamespaces(t, "cd "+dir+" && "+run+"-fence=best -- touch started")
		if _, err := os.Stat(filepath.Join(dir, "started")); err != nil || got.Exit != 0 || !strings.Contains(got.Stderr, "warning: THERE IS NO FENCE: ") {
			t.Errorf("-fence=best: %v, exit %d, want 0 and a warning:\n%s", err, got.Exit, got.Stderr)
		}
		text, err := os.ReadFile(filepath.Join(dir, "summary.json"))
		if err != nil {
			t.Fatal(err)
		}
		var summary fencedSummary
		if err := json.Unmarshal(text, &summary); err != nil || summary.Fence == nil || summary.Fence.Level != networkproxy.FenceNone || len(summary.Fence.Problems) == 0 {
			t.Errorf("-fence=best: %v, the summary is %s, want the level none and its reason", err, text)
		}
		got = r.noNamespaces(t, lab.program()+" fence-check -json")
		var report networkproxy.FenceReport
		if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil || got.Exit != 1 || report.Level != networkproxy.FenceNone || len(report.Problems) == 0 {
			t.Errorf("fence-check: %v, exit %d, want 1 and a report:\n%s%s", err, got.Exit, got.Stdout, got.Stderr)
		}
		got = r.noNamespaces(t, lab.program()+" selftest -fence -allow x.example")
		if got.Exit != 1 || !strings.Contains(got.Stdout, "FAIL  a fence has no other way out") {
			t.Errorf("selftest: exit %d, want 1 and a row that fails:\n%s%s", got.Exit, got.Stdout, got.Stderr)
		}
	})
}

// TestFenceCheck tests the probe and the self-test where there is a fence.
func TestFenceCheck(t *testing.T) {
	t.Parallel()
	forEachResident(t, func(t *testing.T, r resident) {
		for _, level := range []string{"capture", "sealed"} {
			got := harness.Run(t, r.command(t, lab.program(), "fence-check", "-json", "-level", level))
			var report networkproxy.FenceReport
			if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil || got.Exit != 0 || report.Level != networkproxy.FenceCapture {
				t.Errorf("fence-check -level %s: %v, exit %d, %s%s", level, err, got.Exit, got.Stdout, got.Stderr)
			}
		}
		got := harness.Run(t, r.command(t, lab.program(), "selftest", "-fence", "-allow", "allowed.example"))
		if got.Exit != 0 || !strings.Contains(got.Stdout, "captured_tcp") {
			t.Errorf("selftest -fence: exit %d\n%s%s", got.Exit, got.Stdout, got.Stderr)
		}
	})
}

// TestFenceEndsWithItsSession: a command that still runs has no network after Close.
func TestFenceEndsWithItsSession(t *testing.T) {
	t.Parallel()
	var decider refuseAll
	h := runHost(t, decider.decide, nil)
	s, err := h.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Fence(t.Context(), networkproxy.FenceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	hold := lab.origins.holds.named(lab.unique("fence"))
	defer close(hold.release)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `curl -sS "$0"; read line; curl -sS -m 10 "$0"; curl -sS -m 10 http://93.184.215.14/hello`, "http://end.session.example/hello")
	cmd.Env = clientEnv(t.TempDir())
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(cmd); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := output.Read(b)
	if err != nil || string(b[:n]) != "hello from end.session.example\n" {
		t.Fatalf("before the end of the session: %q, %v", b[:n], err)
	}
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the session ended after %v", took)
	}
	input.Write([]byte("\n"))
	if n, err := output.Read(b); n != 0 {
		t.Errorf("after the end of the session: %q, %v; want nothing", b[:n], err)
	}
	cmd.Wait()
}
