//go:build e2e && linux

// This file is git over ssh: a real sshd, reached by nothing but the
// environment of a session.

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
	"syscall"
	"testing"

	"example.com/networkproxy"
)

// sshServer is a real sshd, and what its client needs.
type sshServer struct{ dir string }

// startSSH starts one that takes one key. To ssh it is git.example.
func startSSH(t *testing.T, addr netip.AddrPort) *sshServer {
	t.Helper()
	s := &sshServer{dir: t.TempDir()}
	for _, name := range []string{"host", "user"} {
		finished(t, direct(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.file(name))).mustSucceed(t)
	}
	public, err := os.ReadFile(s.file("host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "known_hosts", "git.example "+string(public))
	s.write(t, "sshd_config", strings.Join([]string{
		"ListenAddress " + addr.String(),
		"HostKey " + s.file("host"),
		"AuthorizedKeysFile " + s.file("user.pub"),
		"PidFile none",
		"PermitRootLogin prohibit-password",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"UsePAM no",
		"StrictModes no", // the directory is one of the test's
		"",
	}, "\n"))

	// sshd wants an empty directory in /run, which is nobody else's to see.
	cmd := exec.Command("/bin/sh", "-c", "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f "+s.file("sshd_config"))
	output := new(logBuffer)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("output of sshd:\n%s", output)
		}
	})
	eventually(t, "sshd answers", func() bool {
		conn, err := net.Dial("tcp", addr.String())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return s
}

func (s *sshServer) file(name string) string { return filepath.Join(s.dir, name) }

func (s *sshServer) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// options are ssh's, with a ProxyCommand.
func (s *sshServer) options(proxyCommand string) []string {
	return []string{
		"-F", "none", "-i", s.file("user"), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
		"-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + s.file("known_hosts"),
		"-o", "ProxyCommand=" + proxyCommand,
	}
}

// TestGitOverSSH has git reach a repository through ssh, ssh through the
// connect command, and that through the session.
func TestGitOverSSH(t *testing.T) {
	t.Parallel()
	addr := netip.AddrPortFrom(publicA, uint16(lab.ports.Add(1)))
	server := startSSH(t, addr)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	var decider refuseAll
	h := runHost(t, decider.decide, nil)
	for _, shared := range []bool{false, true} {
		name := fmt.Sprintf("ssh-%t", shared)
		s, err := h.OpenSessionWith(context.Background(), networkproxy.SessionConfig{
			Attribution: networkproxy.Attribution{Command: name}, SharedPort: shared,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		fetch := func(host string) result {
			// ssh has its settings from a file, for GIT_SSH_COMMAND is the
			// session's to set. It looks for one in the home directory of
			// the user, whatever HOME says.
			config := filepath.Join(t.TempDir(), "ssh_config")
			text := fmt.Sprintf("IdentityFile %s\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nBatchMode yes\n", server.file("user"))
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
				fmt.Sprintf("ssh://%s@%s:%d%s", me.Username, host, addr.Port(), filepath.Join(lab.dir, "git", "project.git")), "main")
			cmd.Env = env
			return finished(t, cmd)
		}
		allowed, refused := name+".session.example", name+".refused.example"
		if got := fetch(allowed); got.exit != 0 || !strings.Contains(got.stdout, "refs/heads/main") {
			t.Errorf("allowed: exit %d, stdout %q, stderr %s", got.exit, got.stdout, got.stderr)
		}
		if got := fetch(refused); got.exit == 0 || !strings.Contains(got.stderr, "networkproxy") {
			t.Errorf("refused: exit %d, stdout %q, stderr %s", got.exit, got.stdout, got.stderr)
		}
		if hosts := decider.hosts(name); len(hosts) != 1 || hosts[0] != refused {
			t.Errorf("asked about %q", hosts)
		}
		for _, host := range []string{allowed, refused} {
			if n := lab.dns.asked(host); n != 0 {
				t.Errorf("%s was looked up %d times outside", host, n)
			}
		}
	}
}
