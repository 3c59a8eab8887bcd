//go:build e2e && linux

// This file tests git over ssh to a real sshd, configured only by a session's
// environment.

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/e2e/harness"
	"example.com/networkproxy/internal/testnet"
)

// sshServer is an sshd at publicA that accepts one key.
type sshServer struct {
	port int
	key  string // file of the private key
}

func startSSH(t *testing.T) *sshServer {
	t.Helper()
	dir := t.TempDir()
	s := &sshServer{port: int(lab.ports.Add(1)), key: filepath.Join(dir, "key")}
	for _, file := range []string{s.key, filepath.Join(dir, "host")} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	config := filepath.Join(dir, "sshd_config")
	text := fmt.Sprintf("ListenAddress %s:%d\nHostKey %s\nAuthorizedKeysFile %s.pub\nStrictModes no\nPidFile none\nPermitRootLogin yes\nUsePAM no\nLogLevel ERROR\n",
		publicA, s.port, filepath.Join(dir, "host"), s.key)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd drops privileges in it
		t.Fatal(err)
	}
	sshd, err := exec.LookPath("/usr/sbin/sshd") // sshd requires an absolute path
	if err != nil {
		t.Fatal(err)
	}
	log := new(testnet.Buffer)
	cmd := exec.Command(sshd, "-D", "-e", "-f", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("output of sshd:\n%s", log)
		}
	})
	harness.Eventually(t, "sshd accepts connections", func() bool {
		conn, err := net.Dial("tcp", netip.AddrPortFrom(publicA, uint16(s.port)).String())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return s
}

// TestGitOverSSH runs git over ssh. ssh uses the connect command, which connects
// through the session.
func TestGitOverSSH(t *testing.T) {
	t.Parallel()
	server := startSSH(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	var decider refuseAll
	h := runHost(t, decider.decide, nil)
	for _, shared := range []bool{false, true} {
		name := fmt.Sprintf("ssh-%t", shared)
		s, err := h.OpenSession(context.Background(), networkproxy.SessionConfig{
			Attribution: networkproxy.Attribution{Command: name}, SharedPort: shared,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		fetch := func(host string) harness.Result {
			// ssh gets its options from a file, because the session sets
			// GIT_SSH_COMMAND. The file is given with -F, because ssh
			// ignores HOME and looks in the user's home directory.
			config := filepath.Join(t.TempDir(), "ssh_config")
			text := fmt.Sprintf("IdentityFile %s\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nBatchMode yes\n", server.key)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			env := s.Environ(append(clientEnv(t.TempDir()), "GIT_SSH_COMMAND=ssh -o ProxyCommand=none", "GORACE=atexit_sleep_ms=10"))
			for i, entry := range env {
				if rest, ok := strings.CutPrefix(entry, "GIT_SSH_COMMAND=ssh "); ok {
					env[i] = "GIT_SSH_COMMAND=ssh -F " + config + " " + rest
				}
			}
			cmd := exec.CommandContext(t.Context(), "git", "ls-remote",
				fmt.Sprintf("ssh://%s@%s:%d%s", me.Username, host, server.port, filepath.Join(lab.dir, "git", "project.git")), "main")
			cmd.Env = env
			return harness.Run(t, cmd)
		}
		allowed, refused := name+".session.example", name+".refused.example"
		if got := fetch(allowed); got.Exit != 0 || !strings.Contains(got.Stdout, "refs/heads/main") {
			t.Errorf("allowed: exit %d, stdout %q, stderr %s; want refs/heads/main", got.Exit, got.Stdout, got.Stderr)
		}
		if got := fetch(refused); got.Exit == 0 || !strings.Contains(got.Stderr, "networkproxy") {
			t.Errorf("refused: exit %d, stdout %q, stderr %s; want an error of networkproxy", got.Exit, got.Stdout, got.Stderr)
		}
		if hosts := decider.hosts(name); len(hosts) != 1 || hosts[0] != refused {
			t.Errorf("the decider was asked about %q, want only %s", hosts, refused)
		}
		for _, host := range []string{allowed, refused} {
			if n := lab.dns.queryCount(host); n != 0 {
				t.Errorf("the client itself looked up %s %d times, want 0", host, n)
			}
		}
	}
}
