//go:build e2e

// Tests of a sandbox profile on a Mac: go test -tags=e2e ./internal/fence.

package fence

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// attemptsVariable holds the attempts of the test program that runs with a profile: NETWORK
// ADDRESS on each line.
const attemptsVariable = "FENCE_TEST_ATTEMPTS"

// TestMain makes the test program try its attempts if it runs with a profile.
func TestMain(m *testing.M) {
	attempts, inside := os.LookupEnv(attemptsVariable)
	if !inside {
		os.Exit(m.Run())
	}
	for attempt := range strings.Lines(attempts) {
		network, addr, _ := strings.Cut(strings.TrimSpace(attempt), " ")
		fmt.Printf("%s %s: %s\n", network, addr, try(network, addr))
	}
}

func try(network, addr string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if network == "name" {
		if _, err := net.DefaultResolver.LookupHost(ctx, addr); err != nil {
			return "refused"
		}
		return "reached"
	}
	if network == "server" { // a server of the command
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return "refused"
		}
		l.Close()
		return "reached"
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return "refused"
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		return "refused"
	}
	return "reached"
}

func TestProfileOnMac(t *testing.T) {
	proxy, other := listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "127.0.0.1:0")
	dir, err := os.MkdirTemp("/tmp", "fence")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listed, secret := filepath.Join(dir, `a "listed" (one)`), filepath.Join(dir, "secret")
	listen(t, "unix", listed)
	listen(t, "unix", secret)
	want := strings.Join([]string{
		"tcp " + proxy + ": reached",
		"unix " + listed + ": reached",
		"server 127.0.0.1:0: reached",
		"server [::]:0: reached",
		"tcp " + other + ": refused",
		"tcp 93.184.216.34:443: refused",
		"tcp [2606:4700::1111]:443: refused",
		"udp 8.8.8.8:53: refused",
		"udp " + other + ": refused",
		"unix " + secret + ": refused",
		"unix /var/run/mDNSResponder: refused",
		"name example.com: refused",
	}, "\n") + "\n"
	var attempts strings.Builder
	for line := range strings.Lines(want) {
		attempts.WriteString(line[:strings.LastIndex(line, ": ")] + "\n")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), attemptsVariable+"="+attempts.String())
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	config := Config{Profile: true, Proxies: []netip.AddrPort{netip.MustParseAddrPort(proxy)}, UnixSockets: []string{listed}}
	room, err := Start(cmd, config)
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if out.String() != want {
		t.Errorf("with a profile:\n%swant:\n%s", out.String(), want)
	}
}

func listen(t *testing.T, network, addr string) string {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l.Addr().String()
}

// Capture cannot be had, and the error says what can.
func TestCaptureOnMac(t *testing.T) {
	cmd := exec.Command("/usr/bin/true")
	_, err := Start(cmd, Config{})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "sealed") || cmd.Process != nil {
		t.Errorf("Start returns %v", err)
	}
}

func TestProbeOnMac(t *testing.T) {
	if r, err := Probe(t.Context(), Config{}); err != nil || !r.Profile {
		t.Errorf("Probe returns %+v, %v", r, err)
	}
}
