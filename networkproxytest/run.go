// Run and the list of promises.

package networkproxytest

import (
	"context"
	"testing"

	"example.com/networkproxy"
)

// Start starts a proxy like the host program does, but with the configuration c.
// The addresses in c have port 0. [Run] calls Start several times, one proxy after
// the other, and closes the handles. Start must not close a handle. It may fail
// the test.
//
// Layers, managed limits and addresses of the host must not change c. For example,
// with more entries in the allowlist the kit would test another policy. A decider,
// if any, must deny. RequireSession, AdminToken, NoAdmin and Embedded may be set.
// SOCKS5 and UDP are tested if Start leaves EnableSOCKS5 and EnableSOCKS5UDP on.
// The addresses of names are tested if Start sets the kit's [Resolver].
type Start func(t testing.TB, c networkproxy.Config) *networkproxy.Handle

// Run checks the promises of SECURITY.md that can be tested from outside. Each is
// one subtest. They do not run in parallel and take several seconds together. Under
// -short, Run sends each target via a quarter of the paths into the proxy, in turn.
func Run(t *testing.T, start Start) {
	t.Helper()
	for _, p := range promises() {
		t.Run(p.name, func(t *testing.T) { p.check(t, start) })
	}
}

// promise is one promise and its check.
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
		promise{"an allowed request arrives", checkAllowed},
		promise{"a UDP relay serves only its own client", checkUDPRelay},
		promise{"each request is judged separately and has one framing", checkFraming},
		promise{"the limited mode allows only GET, HEAD and OPTIONS", checkLimitedMode},
		promise{"header fields for the proxy are not forwarded", checkProxyFields},
		promise{"an unlisted Unix socket is refused", checkUnixSockets},
		promise{"a refusal is recorded for its session", checkAttribution},
		promise{"closing a session closes its tunnels", checkSessionClose},
		promise{"a new deny entry closes open tunnels", checkDeny},
		promise{"all listeners are on loopback", checkLoopback},
		promise{"a web page cannot use the admin API", checkWebPages},
		promise{"Close closes all tunnels and listeners", checkClose},
	)
}

// testProxy is a proxy under test.
type testProxy struct {
	*networkproxy.Handle
	t       testing.TB
	session *networkproxy.Session
	paths   []path
	silent  map[string]bool // UDP paths without a recorded refusal; a check waits for one only once
}

// startProxy starts a proxy and closes it at the end of the test.
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
		t.Fatal("Start did not start a proxy")
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
