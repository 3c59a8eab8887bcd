// The corpus in a fence: a command tries to get out, by the proxy and around it.

package networkproxytest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"example.com/networkproxy"
)

// FenceOptions are the options of [Fence]. The zero value demands
// [networkproxy.FenceCapture].
type FenceOptions struct {
	// Config is the configuration of the fences. Fence adds targets to Local.
	Config networkproxy.FenceConfig

	// SkipWithout skips the test, with the reason in its output, on a machine that
	// cannot have the fence. Otherwise the test fails there.
	SkipWithout bool
}

// Fence checks the promises for a command in a fence of a session: the targets of
// the corpus are refused, whether the command uses the proxies of the session or
// connects by itself; nothing is reached around the proxy; an allowed request
// arrives; refusals are recorded; and the end of the session is the end of the
// connections.
//
// The command is the program of the test. Fence starts it again with -test.run and
// the name of the test, and the call of Fence in it becomes the command. So make
// Fence the first call of its test, and let a TestMain start nothing of which there
// can be only one.
//
//	func TestOurFence(t *testing.T) {
//		networkproxytest.Fence(t, startOurProxy, networkproxytest.FenceOptions{})
//	}
//
// start is as in [Run].
func Fence(t *testing.T, start Start, o FenceOptions) {
	t.Helper()
	if os.Getenv(agentVariable) != "" {
		if err := serveAgent(); err != nil {
			t.Fatal(err)
		}
		return
	}
	fences := &fences{test: t.Name(), config: o.Config}
	fences.demand(t, start, o.SkipWithout)
	for _, p := range fencePromises() {
		t.Run(p.name, func(t *testing.T) {
			t.Helper()
			p.check(t, start, fences)
		})
	}
}

// fences starts fences.
type fences struct {
	test   string // the name of the test that calls Fence
	config networkproxy.FenceConfig

	// start starts the command of a session. nil starts it in a fence. The tests of
	// the kit start it without one.
	start func(t testing.TB, s *networkproxy.Session) (*agent, networkproxy.FenceLevel, error)
}

// fencePromise is a promise for commands in fences, and its check.
type fencePromise struct {
	name  string
	check func(t testing.TB, start Start, fences *fences)
}

func fencePromises() (list []fencePromise) {
	add := func(table TargetTable, resolved bool) {
		list = append(list, fencePromise{table.Promise, func(t testing.TB, start Start, fences *fences) {
			r := startProxy(t, start, table.Policy, networkproxy.ModeFull)
			if resolved && r.usesKitResolver() != nil {
				t.Log("not tested: the proxy does not use networkproxytest.Resolver")
				return
			}
			r.fence(fences).checkTargets(table)
		}})
	}
	for _, table := range TargetTables() {
		add(table, false)
	}
	for _, table := range nameTables() {
		add(table, true)
	}
	return append(list,
		fencePromise{"an allowed request arrives", checkFencedAllowed},
		fencePromise{"nothing is reached around the proxy", checkNothingAround},
		fencePromise{"a refusal is recorded for its session", checkFencedRecord},
		fencePromise{"closing a session closes its connections", checkFencedClose},
	)
}

// demand starts a fence. If there can be none, it ends the test.
func (f *fences) demand(t testing.TB, start Start, skip bool) {
	t.Helper()
	r := startProxy(t, start, networkproxy.PolicyConfig{}, networkproxy.ModeFull)
	defer r.Close()
	a, _, err := f.launch(t, r.session)
	refused := (*networkproxy.FenceError)(nil)
	switch {
	case err == nil:
		a.close()
	case skip && (errors.As(err, &refused) || errors.Is(err, errors.ErrUnsupported)):
		t.Skipf("skipped, because there can be no fence: %v", err)
	default:
		t.Fatalf("there can be no fence: %v", err)
	}
}

func (f *fences) launch(t testing.TB, s *networkproxy.Session, local ...string) (*agent, networkproxy.FenceLevel, error) {
	if f.start != nil {
		return f.start(t, s)
	}
	config := f.config
	config.Local = slices.Concat(config.Local, local)
	return launchAgent(s, f.test, config)
}

// fencedProxy is a proxy under test with a command in a fence of its session.
type fencedProxy struct {
	*testProxy
	agent    *agent
	captures bool // connections are captured; else they fail
	pool     netip.Prefix
}

// dnsPort is the port at which a fence answers, whatever the address.
const dnsPort = 53

// fence starts a command in a fence of the session. local are targets for its loopback
// addresses.
func (r *testProxy) fence(fences *fences, local ...string) *fencedProxy {
	r.t.Helper()
	a, level, err := fences.launch(r.t, r.session, local...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(a.close)
	pool := fences.config.Pool
	if !pool.IsValid() {
		pool = netip.MustParsePrefix("198.18.0.0/15") // the default of networkproxy.FenceConfig
	}
	return &fencedProxy{testProxy: r, agent: a, captures: level == networkproxy.FenceCapture, pool: pool}
}

// try makes the command connect. An error means that it cannot.
func (f *fencedProxy) try(network, addr string) (net.Conn, error) {
	f.t.Helper()
	c, err := f.agent.dial(network, addr)
	if errors.Is(err, errAgentGone) {
		f.t.Fatal(err)
	}
	return c, err
}

// nameOf looks a name up in the fence. An error means that it has no address.
func (f *fencedProxy) nameOf(name string) (netip.Addr, error) {
	f.t.Helper()
	addr, err := f.agent.lookup(name)
	if errors.Is(err, errAgentGone) {
		f.t.Fatal(err)
	}
	return addr, err
}

// dial connects the command to an address that must accept it.
func (f *fencedProxy) dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := f.agent.dial("tcp", addr)
	if err != nil {
		t.Fatalf("a command in a fence cannot connect to %s: %v", addr, err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(timeout))
	return c
}

// proxyPaths returns the paths by the proxies of the session.
func (f *fencedProxy) proxyPaths() []path {
	d := dialer(f.dial)
	paths := []path{
		{name: "HTTP in a fence", open: d.forwardVia(f.session.HTTPAddr())},
		{name: "CONNECT in a fence", open: d.connectVia(f.session.HTTPAddr())},
	}
	if f.session.SOCKSAddr() != "" {
		paths = append(paths, path{name: "SOCKS5 in a fence", open: d.socksVia(f.session.SOCKSAddr(), false)})
	}
	return paths
}
