//go:build unix

package networkproxy_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/networkproxy"
)

// A file is replaced by something that is not a regular file: the proxy neither
// blocks nor puts it in force.
func TestReloadOfWhatIsNoFile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		put  func(path string) error
		want string
	}{
		{"a FIFO", func(path string) error { return syscall.Mkfifo(path, 0o600) }, "is a pipe"},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, "is a directory"},
		{"a device", func(path string) error { return os.Symlink("/dev/zero", path) }, "not a regular file"},
		{"nothing", func(path string) error { return nil }, "create the file"},
	} {
		for _, which := range []string{"configuration", "limits"} {
			t.Run(test.name+", "+which, func(t *testing.T) {
				t.Parallel()
				f := newConfigFile(t, `policy.allowed_domains = ["a.example"]`)
				limits := filepath.Join(t.TempDir(), "limits.toml")
				if err := os.WriteFile(limits, []byte("[network_proxy]\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				l := startFile(t, func(b *networkproxy.Builder) { b.Requirements(limits) }, f.path)
				path := map[string]string{"configuration": f.path, "limits": limits}[which]
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if err := test.put(path); err != nil {
					t.Fatal(err)
				}
				within(t, "Reload", func() {
					if err := l.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), test.want) {
						t.Errorf("Reload: %v", err)
					}
				})
				within(t, "DenyDomain", func() {
					if err := l.DenyDomain("b.example"); err != nil {
						t.Error(err)
					}
				})
				if got := l.reason("http://a.example/"); got != "" {
					t.Errorf("the last good configuration is not in force: %q", got)
				}
				within(t, "Close", func() { l.Close() })
			})
		}
	}
}

// A FIFO is read once, at the start. Reloads of the other file keep its content.
func TestReloadKeepsWhatAPipeHeld(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, `policy.allowed_domains = ["a.example"]`)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() {
		wrote <- os.WriteFile(fifo, []byte("[network_proxy.policy]\ndenied_domains = [\"bad.example\"]\n"), 0o600)
	}()
	l := startFile(t, nil, f.path, fifo)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	f.replace(`policy.allowed_domains = ["b.example"]`)
	within(t, "Reload", func() {
		if err := l.Reload(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for host, want := range map[string]networkproxy.Reason{"b.example": "", "bad.example": networkproxy.ReasonDenied} {
		if got := l.reason("http://" + host + "/"); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}
