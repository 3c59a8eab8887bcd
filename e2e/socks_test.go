//go:build e2e && linux

// This file tests SOCKS5 with curl, Python and ssh, a DNS query over UDP, and the
// connect command as the ProxyCommand of ssh and git.

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// startSOCKS is start with a SOCKS5 listener. It also returns the listener's address.
func startSOCKS(t *testing.T, c config) (p *program, socks string) {
	t.Helper()
	c.Proxy, c.Admin, socks = lab.addr(), lab.addr(), lab.addr()
	switches := fmt.Sprintf("enable_socks5 = true\nenable_socks5_udp = true\nsocks_url = %q\n", "socks5h://"+socks)
	text := strings.Replace(c.toml(), "enabled = true\n", "enabled = true\n"+switches, 1)
	return startFile(t, writeConfig(t, text), c.Proxy, c.Admin, ""), socks
}

// curlSOCKS fetches a URL with curl through the given proxy.
func curlSOCKS(t *testing.T, proxy, url string) harness.Result {
	t.Helper()
	return harness.Run(t, directCommand(t, "curl", "-sS", "--max-time", "30", "--proxy", proxy, url))
}

func TestCurlThroughSOCKS(t *testing.T) {
	t.Parallel()
	p, socks := startSOCKS(t, config{Allowed: []string{"allowed.example", "v6.example", "denied.example"}, Denied: []string{"denied.example"}})
	for _, scheme := range []string{"http", "https"} {
		for _, host := range []string{"allowed.example", "v6.example"} {
			got := curlSOCKS(t, "socks5h://"+socks, scheme+"://"+host+"/hello").MustSucceed(t)
			if got.Stdout != helloBody(host) {
				t.Errorf("%s://%s with socks5h: %q, want its body", scheme, host, got.Stdout)
			}
		}
		for _, refused := range refusals {
			got := curlSOCKS(t, "socks5h://"+socks, scheme+"://"+refused.host+"/hello")
			// curl prints the reply in parentheses: 2, not allowed by ruleset.
			if got.Exit != 97 || !strings.Contains(got.Stderr, "(2)") {
				t.Errorf("%s://%s with socks5h: exit %d, %q; want reply 2", scheme, refused.host, got.Exit, got.Stderr)
			}
			if n := lab.dns.queryCount(refused.host); n != 0 {
				t.Errorf("the DNS server got %d queries for %s", n, refused.host)
			}
			if _, list := p.call("GET", "/blocked", ""); !strings.Contains(list, `"host": "`+strings.Trim(refused.host, "[]")+`"`) {
				t.Errorf("/blocked lacks %s: %s", refused.host, list)
			}
		}
		got := curlSOCKS(t, "socks5h://"+socks, scheme+"://allowed.example:9/")
		if got.Exit != 97 || !strings.Contains(got.Stderr, "(5)") {
			t.Errorf("a closed port: exit %d, %q; want reply 5", got.Exit, got.Stderr)
		}
	}
}

// TestCurlThroughSOCKSByAddress uses socks5:// instead of socks5h://. curl then looks up
// the name itself and sends the address. A policy of names does not allow addresses.
func TestCurlThroughSOCKSByAddress(t *testing.T) {
	t.Parallel()
	_, byName := startSOCKS(t, config{Allowed: []string{"allowed.example"}})
	if got := curlSOCKS(t, "socks5://"+byName, "http://allowed.example/hello"); got.Exit != 97 || !strings.Contains(got.Stderr, "(2)") {
		t.Errorf("under a policy of names: exit %d, %q; want reply 2", got.Exit, got.Stderr)
	}
	p, byAddr := startSOCKS(t, config{Allowed: []string{publicA.String(), public6.String()}})
	for _, host := range []string{"allowed.example", "v6.example", publicA.String()} {
		if got := curlSOCKS(t, "socks5://"+byAddr, "http://"+host+"/hello").MustSucceed(t); got.Stdout != helloBody(host) {
			t.Errorf("%s under a policy of addresses: %q, want its body", host, got.Stdout)
		}
	}
	// The server name in TLS is not on the allowlist.
	if got := curlSOCKS(t, "socks5://"+byAddr, "https://allowed.example/hello"); got.Exit != 35 || !strings.Contains(got.Stderr, "access denied") {
		t.Errorf("TLS under a policy of addresses: exit %d, %q; want access denied", got.Exit, got.Stderr)
	}
	for _, addr := range []netip.Addr{publicB, private, metadata, loopback4} {
		if got := curlSOCKS(t, "socks5://"+byAddr, "http://"+addr.String()+"/"); got.Exit != 97 || !strings.Contains(got.Stderr, "(2)") {
			t.Errorf("%v: exit %d, %q; want reply 2", addr, got.Exit, got.Stderr)
		}
	}
	if _, list := p.call("GET", "/blocked", ""); !strings.Contains(list, `"reason": "sni_mismatch"`) {
		t.Errorf("/blocked lacks the sni_mismatch: %s", list)
	}
}

// TestCurlAllProxy sets ALL_PROXY as docs/socks-and-ssh.md describes.
func TestCurlAllProxy(t *testing.T) {
	t.Parallel()
	_, socks := startSOCKS(t, config{Allowed: []string{"allowed.example"}})
	cmd := directCommand(t, "curl", "-sS", "http://allowed.example/hello")
	cmd.Env = append(cmd.Env, "ALL_PROXY=socks5h://"+socks)
	if got := harness.Run(t, cmd).MustSucceed(t); got.Stdout != helloBody("allowed.example") {
		t.Errorf("curl printed %q, want the body of allowed.example", got.Stdout)
	}
}

// pysocks runs testdata/pysocks.py with Debian's PySocks.
func pysocks(t *testing.T, socks string, args ...string) map[string]any {
	t.Helper()
	_, port, err := net.SplitHostPort(socks)
	if err != nil {
		t.Fatal(err)
	}
	return decodeJSON(t, harness.Run(t, directCommand(t, python, append([]string{"testdata/pysocks.py", port}, args...)...)).MustSucceed(t).Stdout)
}

func TestPySocks(t *testing.T) {
	t.Parallel()
	_, socks := startSOCKS(t, config{Allowed: []string{"allowed.example", publicA.String()}})
	for _, host := range []string{"allowed.example", publicA.String()} {
		if got := pysocks(t, socks, "tcp", host, "80"); got["body"] != helloBody(host) {
			t.Errorf("%s: %v", host, got)
		}
	}
	for _, host := range []string{"other.example", publicB.String(), loopback4.String(), "localhost"} {
		got := pysocks(t, socks, "tcp", host, "80")
		if text, _ := got["refused"].(string); !strings.Contains(text, "0x02: Connection not allowed by ruleset") {
			t.Errorf("%s: %v", host, got)
		}
	}
	if n := lab.dns.queryCount("other.example"); n != 0 {
		t.Errorf("the DNS server got %d queries for other.example", n)
	}
}

// TestDNSThroughSOCKS queries the suite's DNS server through UDP ASSOCIATE. The server
// is on loopback and needs an explicit allowlist entry.
func TestDNSThroughSOCKS(t *testing.T) {
	t.Parallel()
	_, socks := startSOCKS(t, config{Allowed: []string{"127.0.0.1:53", "localhost:53"}})
	for _, host := range []string{"127.0.0.1", "localhost"} {
		got := pysocks(t, socks, "dns", host, "53", "direct.example")
		if got["id_matches"] != true || got["address"] != publicA.String() || got["sender"] != "127.0.0.1:53" {
			t.Errorf("%s: %v", host, got)
		}
	}

	p, socks := startSOCKS(t, config{Allowed: []string{"*"}})
	const name = "never.asked.example"
	if got := pysocks(t, socks, "dns", "127.0.0.1", "53", name); got["timeout"] != true {
		t.Errorf("a loopback server without an explicit entry: %v, want a timeout", got)
	}
	if n := lab.dns.queryCount(name); n != 0 {
		t.Errorf("the DNS server got %d queries for %s", n, name)
	}
	_, list := p.call("GET", "/blocked", "")
	for _, want := range []string{`"protocol": "socks5_udp"`, `"reason": "not_allowed_local"`, `"port": 53`} {
		if !strings.Contains(list, want) {
			t.Errorf("/blocked lacks %s: %s", want, list)
		}
	}
	if _, health := p.call("GET", "/health", ""); decodeJSON(t, health)["refused"] != 1.0 {
		t.Errorf("/health does not count one refused flow: %s", health)
	}
}

// TestSOCKSOff checks that SOCKS5 is off by default.
func TestSOCKSOff(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"*"}})
	if strings.Contains(p.Log.String(), "SOCKS5") {
		t.Errorf("the log mentions SOCKS5: %s", p.Log)
	}
	if conn, err := net.Dial("tcp", "127.0.0.1:8081"); err == nil {
		conn.Close()
		t.Error("the program listens on the default port of SOCKS5")
	}
}

// TestSSH connects ssh and git to a real sshd through the connect command.
func TestSSH(t *testing.T) {
	t.Parallel()
	server := startSSH(t)
	target := net.JoinHostPort("direct.example", strconv.Itoa(server.port))
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	options := []string{
		"-F", "none", "-i", server.key, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
	}
	ssh := func(t *testing.T, env []string, proxyCommand, stdin string, command ...string) harness.Result {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		args := append(slices.Clone(options), "-o", "ProxyCommand="+proxyCommand, "-p", strconv.Itoa(server.port), me.Username+"@direct.example")
		cmd := exec.CommandContext(ctx, "ssh", append(args, command...)...)
		cmd.Env = append(clientEnv(t.TempDir()), env...)
		cmd.Stdin = strings.NewReader(stdin)
		return harness.Run(t, cmd)
	}
	git := func(t *testing.T, proxyCommand string) harness.Result {
		t.Helper()
		remote := "ssh://" + me.Username + "@" + target + filepath.Join(lab.dir, "git", "project.git")
		cmd := directCommand(t, "git", "clone", "-q", remote, filepath.Join(t.TempDir(), "clone"))
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND=ssh "+strings.Join(options, " ")+" -o 'ProxyCommand="+proxyCommand+"'")
		return harness.Run(t, cmd)
	}

	allowing, socksAllowing := startSOCKS(t, config{Allowed: []string{target}})
	refusing, socksRefusing := startSOCKS(t, config{Allowed: []string{"allowed.example"}})
	helper := lab.program() + " connect "
	for _, route := range []struct{ name, allowing, refusing, says string }{
		{"HTTP", "http://" + allowing.proxy, "http://" + refusing.proxy, "networkproxy blocked " + target + ": the host is not on the allowlist."},
		{"SOCKS5", "socks5h://" + socksAllowing, "socks5h://" + socksRefusing, "the proxy's policy refused the target"},
	} {
		t.Run(route.name, func(t *testing.T) {
			t.Parallel()
			input := strings.Repeat("over and over ", 100_000)
			if got := ssh(t, nil, helper+"-proxy "+route.allowing+" %h:%p", input, "cat").MustSucceed(t); got.Stdout != input {
				t.Errorf("cat returned %d bytes, want %d", len(got.Stdout), len(input))
			}
			if got := ssh(t, nil, helper+"-proxy "+route.refusing+" %h:%p", "", "true"); got.Exit != 255 || !strings.Contains(got.Stderr, route.says) {
				t.Errorf("refused: exit %d, %q; want %q", got.Exit, got.Stderr, route.says)
			}
		})
		t.Run("git via "+route.name, func(t *testing.T) {
			t.Parallel()
			git(t, helper+"-proxy "+route.allowing+" %h %p").MustSucceed(t)
			if got := git(t, helper+"-proxy "+route.refusing+" %h %p"); got.Exit == 0 || !strings.Contains(got.Stderr, route.says) {
				t.Errorf("refused: exit %d, %q; want %q", got.Exit, got.Stderr, route.says)
			}
		})
		t.Run("ALL_PROXY for "+route.name, func(t *testing.T) {
			t.Parallel()
			if got := ssh(t, []string{"ALL_PROXY=" + route.allowing}, helper+"%h:%p", "", "echo", "hello").MustSucceed(t); got.Stdout != "hello\n" {
				t.Errorf("echo printed %q, want hello", got.Stdout)
			}
		})
	}
	t.Cleanup(func() {
		if _, list := refusing.call("GET", "/blocked", ""); !strings.Contains(list, "direct.example") {
			t.Errorf("/blocked lacks direct.example: %s", list)
		}
	})
}
