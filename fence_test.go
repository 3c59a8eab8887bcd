// Tests of fences that need no namespaces. The end-to-end suite starts commands in
// fences.

package networkproxy_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
)

func TestFenceConfigIsChecked(t *testing.T) {
	t.Parallel()
	l := start(t, allow("web.example"), nil)
	s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var many []string
	for port := range 17 {
		many = append(many, netip.AddrPortFrom(netip.IPv6Loopback(), uint16(1000+port)).String())
	}
	for _, tt := range []struct {
		name   string
		config networkproxy.FenceConfig
		want   string // empty: no error
	}{
		{"zero", networkproxy.FenceConfig{}, ""},
		{"level", networkproxy.FenceConfig{Accept: "bogus"}, `unknown level "bogus"; use capture, sealed or best`},
		{"no level to ask for", networkproxy.FenceConfig{Accept: networkproxy.FenceNone}, `unknown level "none"`},
		{"pool", networkproxy.FenceConfig{Pool: netip.MustParsePrefix("fd00::/64")}, "must be an IPv4 prefix"},
		{"local target", networkproxy.FenceConfig{Local: []string{"localhost"}}, `local target "localhost": `},
		{"local target of lookups", networkproxy.FenceConfig{Local: []string{"localhost:53"}}, "port 53 is that of lookups"},
		{"local targets with one port", networkproxy.FenceConfig{Local: []string{"localhost:1000", "127.0.0.1:1000"}}, "port 1000 is used twice"},
		{"local targets", networkproxy.FenceConfig{Local: many[:16]}, ""},
		{"many local targets", networkproxy.FenceConfig{Local: many}, "there are more than 16"},
		{"relative path", networkproxy.FenceConfig{UnixSockets: []string{"run/socket"}}, `"run/socket" is not absolute`},
	} {
		f, err := s.Fence(t.Context(), tt.config)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			} else if r := f.Report(); r.Level != networkproxy.FenceNone {
				t.Errorf("%s: the report before Start has the level %s, want none", tt.name, r.Level)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Fence(ctx, networkproxy.FenceConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: got %v", err)
	}
}

// TestEnvironmentOfFences: the loopback addresses in a fence need no proxy.
func TestEnvironmentOfFences(t *testing.T) {
	t.Parallel()
	l := start(t, allow("web.example"), nil)
	s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for level, noProxy := range map[networkproxy.FenceLevel]string{
		networkproxy.FenceCapture: "NO_PROXY=localhost,127.0.0.1,::1",
		networkproxy.FenceSealed:  "NO_PROXY=localhost,127.0.0.1,::1",
		networkproxy.FenceBest:    "NO_PROXY=", // there may be no fence
	} {
		f, err := s.Fence(t.Context(), networkproxy.FenceConfig{Accept: level})
		if err != nil {
			t.Fatal(err)
		}
		env := f.Environ([]string{"NO_PROXY=*", "A=b"})
		for _, want := range []string{noProxy, "HTTPS_PROXY=" + s.ProxyURL(), "A=b"} {
			if !slices.Contains(env, want) {
				t.Errorf("%s: no %s in %q", level, want, env)
			}
		}
	}
}

func TestFenceErrorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for want, problem := range map[string]networkproxy.FenceProblem{
		"no fence: namespaces: not permitted; permit them": {Part: "namespaces", Error: "not permitted", Fix: "permit them"},
		"no fence: namespaces: not permitted":              {Part: "namespaces", Error: "not permitted"},
	} {
		if got := (&networkproxy.FenceError{Problem: problem}).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// /health has the number of open fences by level.
func TestHealthCountsFences(t *testing.T) {
	t.Parallel()
	l := start(t, allow("web.example"), nil)
	s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	counts := func() map[networkproxy.FenceLevel]int {
		return decode[struct {
			Fences map[networkproxy.FenceLevel]int
		}](t, l.adminRaw(t, "GET", "/health", "")).Fences
	}
	want := make(map[networkproxy.FenceLevel]int)
	for range 2 {
		f, err := s.Fence(t.Context(), networkproxy.FenceConfig{Accept: networkproxy.FenceBest})
		if err != nil {
			t.Fatal(err)
		}
		if got := counts(); !maps.Equal(got, want) {
			t.Errorf("before Start, there are the fences %v, want %v", got, want)
		}
		cmd := exec.Command(self, "-test.run=^$")
		if err := f.Start(cmd); err != nil {
			t.Fatal(err)
		}
		level := f.Report().Level // depends on the machine
		want[level]++
		if got := counts(); !maps.Equal(got, want) {
			t.Errorf("after Start, there are the fences %v, want %v", got, want)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		f.Close()
		delete(want, level)
	}
	if got := counts(); len(got) != 0 {
		t.Errorf("after Close, there are the fences %v", got)
	}
}
