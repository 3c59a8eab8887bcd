//go:build e2e && linux

// This file tests the fence of a session where the system forbids user namespaces.

package fence

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/fence"
)

// loopbackNames resolves all names to 127.0.0.1.
type loopbackNames struct{}

func (loopbackNames) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
}

// runSession is the stage of a host with a proxy: it starts a shell script in the fence of a
// session, with the port of an origin server in $PORT.
func runSession(args []string) error {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "origin of %s\n", strings.Split(r.Host, ":")[0])
	}))
	defer origin.Close()
	_, port, _ := net.SplitHostPort(origin.Listener.Addr().String())
	config := networkproxy.DefaultConfig()
	config.Enabled, config.AdminURL = true, "http://127.0.0.1:0"
	config.ProxyURL, config.SOCKSURL = "http://127.0.0.1:0", "http://127.0.0.1:0"
	config.Policy.AllowLocalBinding = true
	config.Policy.AllowedDomains = []string{"hello.test"}
	proxy, err := networkproxy.NewBuilder().Config(config).Resolver(loopbackNames{}).Build()
	if err != nil {
		return err
	}
	handle, err := proxy.Run(context.Background())
	if err != nil {
		return err
	}
	defer handle.Close()
	session, err := handle.OpenSession(context.Background(), networkproxy.SessionConfig{})
	if err != nil {
		return err
	}
	defer session.Close()
	f, err := session.Fence(context.Background(), networkproxy.FenceConfig{})
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command("sh", "-c", args[0])
	cmd.Env = append(session.Environ(os.Environ()), "PORT="+port)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	if err := f.Start(cmd); err != nil {
		return err
	}
	r := f.Report()
	fmt.Println(r.Level, r.Mechanism)
	err = errors.Join(cmd.Wait(), f.Close())
	fmt.Print(session.Report())
	return errors.Join(err, errors.New("exit"))
}

func TestSessionWithoutNamespaces(t *testing.T) {
	t.Parallel()
	cmd := containerCommand(t, fence.Config{}, `
		curl -sS --noproxy '*' http://hello.test:$PORT/
		curl -sS http://hello.test:$PORT/ # by the environment
		curl -sS --noproxy '*' http://evil.test/ 2>&1
		curl -sS --noproxy '*' http://198.51.100.1:8443/ | head -1
		python3 -c 'import socket; s = socket.create_connection(("198.51.100.1", 22)); print(s.recv(1))' 2>&1 | tail -1
	`)
	cmd.Env = append(cmd.Env, inContainerEnv+"=session")
	got := underFilter(t, cmd, false, containerRules()...)
	if n := strings.Count(got, "origin of hello.test\n"); n != 2 {
		t.Errorf("%d requests reached the origin, want 2", n)
	}
	for _, want := range []string{
		"capture notification\n",
		"curl: (6) Could not resolve host: evil.test",
		"198.51.100.1:8443",
		"ConnectionResetError",
		"198.51.100.1:22",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the host says %q, want %q", got, want)
		}
	}
}
