//go:build unix

// Tests that the kit fails for a command without a fence, and for broken proxies in
// fences. The command is a goroutine of the test.

package networkproxytest

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// unfenced starts commands without a fence that claim the given level.
func unfenced(level networkproxy.FenceLevel) *fences {
	return &fences{start: func(t testing.TB, _ *networkproxy.Session) (*agent, networkproxy.FenceLevel, error) {
		return startUnfenced(t), level, nil
	}}
}

func startUnfenced(t testing.TB) *agent {
	t.Helper()
	ours, file, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := unixConn(file)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serveRequests(theirs) }()
	a := &agent{socket: ours, end: func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}}
	if _, err := a.read(); err != nil {
		t.Fatal(err)
	}
	return a
}

// fenceFailures runs the check with a name and returns its failures.
func fenceFailures(t *testing.T, name string, start Start, fences *fences) []string {
	t.Helper()
	for _, p := range fencePromises() {
		if p.name == name {
			return failures(t, promise{name, func(t testing.TB, start Start) { p.check(t, start, fences) }}, start)
		}
	}
	t.Fatalf("there is no promise %q", name)
	return nil
}

func TestKitFailsWithoutFence(t *testing.T) {
	t.Parallel()
	plain := withConfig(func(_ *networkproxy.Config, b *networkproxy.Builder) { b.Resolver(Resolver{}) })
	for _, test := range []struct {
		promise string
		level   networkproxy.FenceLevel
		want    []string // of failures
	}{
		{"nothing is reached around the proxy", networkproxy.FenceCapture, []string{"reaches TCP at 127.0.0.1:", "reaches UDP at 127.0.0.1:", "reaches the Unix socket"}},
		{"nothing is reached around the proxy", networkproxy.FenceSealed, []string{"reaches TCP at 127.0.0.1:"}},
		{"closing a session closes its connections", networkproxy.FenceCapture, []string{"the captured connection after the end of the session"}},
	} {
		t.Run(test.promise+" at "+string(test.level), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && strings.HasPrefix(test.promise, "closing") {
				t.Skip("waits for the kit's time limit")
			}
			text := strings.Join(fenceFailures(t, test.promise, plain, unfenced(test.level)), "\n")
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("the failures are %q, want %q in them", text, want)
				}
			}
		})
	}
}

// TestKitFailsBrokenProxiesInFences checks that each path of a command shows a proxy that
// breaks a promise.
func TestKitFailsBrokenProxiesInFences(t *testing.T) {
	t.Parallel()
	denied := withConfig(func(c *networkproxy.Config, _ *networkproxy.Builder) { c.Policy.AllowedDomains = nil })
	observed := withConfig(func(c *networkproxy.Config, b *networkproxy.Builder) {
		c.Policy.AllowedDomains = []string{"*"}
		b.Resolver(emptyResolver{})
	})
	for promise, start := range map[string]Start{
		"an allowed request arrives":               denied,
		"an empty allowlist allows nothing":        observed,
		"a refusal is recorded for its session":    observed,
		"a name with a denied address is refused":  withoutDenial(),
		"closing a session closes its connections": denied,
	} {
		t.Run(promise, func(t *testing.T) {
			t.Parallel()
			if len(fenceFailures(t, promise, start, unfenced(networkproxy.FenceSealed))) == 0 {
				t.Error("the check passed for a proxy that breaks the promise")
			}
		})
	}
}

// withoutDenial returns a Start with the kit's names and without its denylist.
func withoutDenial() Start {
	return withConfig(func(c *networkproxy.Config, b *networkproxy.Builder) {
		if len(c.Policy.DeniedDomains) > 0 {
			c.Policy.DeniedDomains, c.Policy.AllowedDomains = nil, []string{"127.0.0.1", "public" + zone}
		}
		b.Resolver(Resolver{})
	})
}

// skipper records why a test was skipped.
type skipper struct {
	*recorder
	skipped string
}

func (s *skipper) Skipf(format string, args ...any) {
	s.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// TestKitDemandsFence checks that the kit never passes without a fence: it fails, or skips if
// the caller says so. It skips only for want of a fence.
func TestKitDemandsFence(t *testing.T) {
	t.Parallel()
	noFence := &networkproxy.FenceError{Problem: networkproxy.FenceProblem{Part: "namespaces", Error: "forbidden", Fix: "allow them"}}
	plain := withConfig(func(*networkproxy.Config, *networkproxy.Builder) {})
	for _, test := range []struct {
		name         string
		err          error
		skip         bool
		skips, fails bool
	}{
		{"no fence", noFence, false, false, true},
		{"no fence, and the caller skips", noFence, true, true, false},
		{"another error, and the caller skips", errors.New("another"), true, false, true},
		{"a fence", nil, true, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := &fences{start: func(testing.TB, *networkproxy.Session) (*agent, networkproxy.FenceLevel, error) {
				if test.err != nil {
					return nil, "", test.err
				}
				return startUnfenced(t), networkproxy.FenceCapture, nil
			}}
			var s *skipper
			failed := failures(t, promise{check: func(tb testing.TB, start Start) {
				s = &skipper{recorder: tb.(*recorder)}
				f.demand(s, start, test.skip)
			}}, plain)
			if skips := strings.Contains(s.skipped, "there can be no fence: "); skips != test.skips || (len(failed) > 0) != test.fails {
				t.Errorf("the kit says %q, skipped %q; want a failure: %t, a skip: %t", failed, s.skipped, test.fails, test.skips)
			}
		})
	}
}

func TestAgent(t *testing.T) {
	t.Parallel()
	a := startUnfenced(t)
	defer a.close()
	server := echo(t)
	for range 3 {
		c, err := a.dial("tcp", server.addr())
		if err != nil {
			t.Fatal(err)
		}
		if c.RemoteAddr().String() != server.addr() {
			t.Errorf("the connection leads to %v, want %s", c.RemoteAddr(), server.addr())
		}
		if err := echoes(c); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	if _, err := a.dial("tcp", testnet.ClosedPort(t).String()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a connection that nobody accepts: %v", err)
	}
	a.close()
	if _, err := a.dial("tcp", server.addr()); !errors.Is(err, errAgentGone) {
		t.Errorf("the command connects after its end: %v", err)
	}
}

// TestKitFailsWithoutCommand checks that the end of the command does not pass for refusals.
func TestKitFailsWithoutCommand(t *testing.T) {
	t.Parallel()
	f := &fences{start: func(t testing.TB, _ *networkproxy.Session) (*agent, networkproxy.FenceLevel, error) {
		a := startUnfenced(t)
		a.close()
		return a, networkproxy.FenceCapture, nil
	}}
	plain := withConfig(func(*networkproxy.Config, *networkproxy.Builder) {})
	for _, p := range fencePromises() {
		if strings.HasPrefix(p.name, "a name with") {
			continue // tested only with the kit's Resolver
		}
		if text := strings.Join(fenceFailures(t, p.name, plain, f), "\n"); !strings.Contains(text, errAgentGone.Error()) {
			t.Errorf("%s: the failures are %q, want %q in them", p.name, text, errAgentGone)
		}
	}
}

func TestExactly(t *testing.T) {
	t.Parallel()
	if got, want := exactly("TestA/b.c"), `^TestA$/^b\.c$`; got != want {
		t.Errorf("-test.run is %q, want %q", got, want)
	}
}
