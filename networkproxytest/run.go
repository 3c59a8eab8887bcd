// Run: the promises, one after the other.

package networkproxytest

import (
	"context"
	"testing"

	"example.com/networkproxy"
)

// Start starts a proxy as the host does, but with the configuration c, which
// asks for ports that are free. It is called several times, and the proxies
// run one after the other. Run closes them; a handle that Start has closed
// itself is a failure. Start may fail the test.
//
// The host's own layers, managed limits and addresses must leave c what it
// is: a Start that adds to its allowlist tests something else. A decider, if
// Start sets one, must deny; RequireSession and AdminToken may be set; SOCKS5
// and UDP are tested where c's EnableSOCKS5 and EnableSOCKS5UDP are left on,
// and what names resolve to where Start sets a [Resolver].
type Start func(t testing.TB, c networkproxy.Config) *networkproxy.Handle

// Run puts the promises of SECURITY.md that can be seen from outside to the
// test, each in a sub-test of its name. It takes a few seconds and does not
// run in parallel with itself.
func Run(t *testing.T, start Start) {
	t.Helper()
	for _, p := range promises() {
		t.Run(p.name, func(t *testing.T) { p.check(t, start) })
	}
}

// promise is one thing that holds.
type promise struct {
	name  string
	check func(t testing.TB, start Start)
}

func promises() []promise {
	var list []promise
	for _, table := range TargetTables() {
		list = append(list, promise{table.Promise, table.check})
	}
	for _, table := range nameTables() {
		list = append(list, promise{table.Promise, table.checkNames})
	}
	return append(list,
		promise{"what is allowed arrives", allowedArrives},
		promise{"a relay of datagrams serves its client alone", relayServesItsClient},
		promise{"every request is judged by itself, and cut as it says", framings},
		promise{"the limited mode only reads", limitedOnlyReads},
		promise{"what is for the proxy stays with the proxy", proxyFieldsStay},
		promise{"a unix socket that is not listed is out of reach", unlistedSocketsAreRefused},
		promise{"a refusal is recorded for its session", refusalsAreAttributed},
		promise{"a session's end cuts what is its own", sessionEnds},
		promise{"a deny cuts what is open", denyCuts},
		promise{"the listeners are on loopback", onLoopback},
		promise{"a web page cannot drive the admin API", webPages},
		promise{"nothing is left after Close", nothingIsLeft},
	)
}

// testProxy is a proxy under test.
type testProxy struct {
	*networkproxy.Handle
	t       testing.TB
	session *networkproxy.Session
	paths   []path
	silent  map[string]bool // paths on which a datagram came to nothing that can be seen: one wait is enough
}

// startProxy starts a proxy for as long as the test runs.
func startProxy(t testing.TB, start Start, policy networkproxy.PolicyConfig, mode networkproxy.Mode) *testProxy {
	t.Helper()
	c := networkproxy.DefaultConfig()
	c.Enabled = true
	c.ProxyURL, c.AdminURL, c.SOCKSURL = "http://127.0.0.1:0", "http://127.0.0.1:0", "http://127.0.0.1:0"
	c.EnableSOCKS5, c.EnableSOCKS5UDP = true, true
	c.Mode = mode
	c.Policy = policy
	h := start(t, c)
	if h == nil || h.HTTPAddr() == "" {
		t.Fatal("Start has not started a proxy")
	}
	t.Cleanup(func() { h.Close() })
	r := &testProxy{Handle: h, t: t, session: openSession(t, h), silent: make(map[string]bool)}
	r.paths = pathsOf(t, h, r.session)
	return r
}

func openSession(t testing.TB, h *networkproxy.Handle) *networkproxy.Session {
	t.Helper()
	s, err := h.OpenSession(context.Background(), networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "networkproxytest"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
