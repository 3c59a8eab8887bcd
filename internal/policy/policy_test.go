package policy

import (
	"net/netip"
	"testing"
)

// TestJudge makes requests to which several checks apply. The earliest decides.
func TestJudge(t *testing.T) {
	t.Parallel()
	base := Policy{
		Generation: 7,
		Enabled:    true,
		Mode:       ModeFull,
		Allow: RuleSets{
			rules(t, "allowed_domains", "listed.example", "both.example", "*.wild.example", "10.0.0.0/8", "localhost", "127.0.0.1"),
			rules(t, "added_domains", "added.example"),
		},
		Deny: RuleSets{rules(t, "denied_domains", "both.example", "denied.example", "10.9.0.0/16", "192.168.0.0/16", "port.wild.example:80")},
		Self: listening("127.0.0.1:3128"),
	}
	base.Self.ViaProxy = func(q *Query) bool { return q.Target.Host.Name() != "direct.example" }
	off := func(p *Policy) { p.Enabled = false }
	limited := func(p *Policy) { p.Mode = ModeLimited }
	local := func(p *Policy) { p.AllowLocal = true }
	upstream := func(p *Policy) { p.Upstream = true }
	bounded := func(entries ...string) func(*Policy) {
		return func(p *Policy) { p.Bounds = NewBounds(patterns(t, entries...)) }
	}
	ask := func(p *Policy) { p.AskLocal = true }
	askLimited := func(p *Policy) { ask(p); limited(p) }
	askBounded := func(p *Policy) { ask(p); bounded("*", "127.0.0.3")(p) }
	askWild := func(p *Policy) { ask(p); p.Allow = RuleSets{rules(t, "allowed_domains", "*")} }
	askDenied := func(p *Policy) { ask(p); p.Deny = RuleSets{rules(t, "denied_domains", "127.0.0.2")} }
	const (
		allowedBy  = "allowed_domains "
		deniedBy   = "denied_domains "
		preLocal   = "enabled own_listener denylist "
		preAllowed = preLocal + "local "
	)
	denied := func(entry string) outcome {
		return outcome{check: CheckDenylist, reason: ReasonDenied, source: SourceBaselinePolicy, rule: deniedBy + entry}
	}
	allowed := func(entry string) outcome {
		return outcome{allowed: true, source: SourceBaselinePolicy, rule: entry}
	}
	disabled := outcome{check: CheckEnabled, reason: ReasonProxyDisabled, source: SourceProxyState}
	self := outcome{check: CheckOwnListener, reason: ReasonNotAllowedLocal, source: SourceBaselinePolicy}
	isLocal := outcome{check: CheckLocal, reason: ReasonNotAllowedLocal, source: SourceBaselinePolicy}
	missed := outcome{check: CheckAllowlist, reason: ReasonNotAllowed, source: SourceBaselinePolicy}
	unmanaged := outcome{check: CheckManaged, reason: ReasonNotAllowed, source: SourceBaselinePolicy}
	unmanagedLocal := outcome{check: CheckManaged, reason: ReasonNotAllowedLocal, source: SourceBaselinePolicy}
	forbidden := outcome{check: CheckMode, reason: ReasonMethodNotAllowed, source: SourceModeGuard}
	tests := []struct {
		name     string
		change   func(*Policy)
		method   string // GET if empty; CONNECT, tcp and udp select another protocol
		target   string
		approval Source
		want     outcome
		miss     bool
		trace    string
	}{
		{"listed host", nil, "", "listed.example:80", "", allowed(allowedBy + "listed.example"), false, preAllowed + "allowlist=listed.example mode"},
		{"host below a wildcard", nil, "", "a.wild.example:80", "", allowed(allowedBy + "*.wild.example"), false, preAllowed + "allowlist=*.wild.example mode"},
		{"entry added at run time", nil, "", "added.example:80", "", allowed("added_domains added.example"), false, preAllowed + "allowlist=added.example mode"},
		{"unlisted host", nil, "", "other.example:80", "", missed, true, preAllowed + "!allowlist"},
		{"parent of a wildcard", nil, "", "wild.example:80", "", missed, true, preAllowed + "!allowlist"},

		{"disabled before own listener", off, "", "127.0.0.1:3128", "", disabled, false, "!enabled"},
		{"disabled before allowlist", off, "", "listed.example:80", "", disabled, false, "!enabled"},
		{"disabled despite approval", off, "", "other.example:80", SourceDecider, disabled, false, "!enabled"},
		{"SOCKS off, TCP", func(p *Policy) { p.SOCKSOff = true }, "tcp", "listed.example:80", "", disabled, false, "!enabled"},
		{"SOCKS off, UDP", func(p *Policy) { p.SOCKSOff = true }, "udp", "listed.example:80", "", disabled, false, "!enabled"},
		{"SOCKS off, HTTP", func(p *Policy) { p.SOCKSOff = true }, "", "listed.example:80", "", allowed(allowedBy + "listed.example"), false, preAllowed + "allowlist=listed.example mode"},
		{"UDP off, UDP", func(p *Policy) { p.SOCKSUDPOff = true }, "udp", "listed.example:80", "", disabled, false, "!enabled"},
		{"UDP off, TCP", func(p *Policy) { p.SOCKSUDPOff = true }, "tcp", "listed.example:80", "", allowed(allowedBy + "listed.example"), false, preAllowed + "allowlist=listed.example mode"},

		{"own listener before allowlist", nil, "", "127.0.0.1:3128", "", self, false, "enabled !own_listener"},
		{"own listener on localhost", nil, "", "localhost:3128", "", self, false, "enabled !own_listener"},
		{"own listener despite allow_local_binding", local, "", "127.0.0.1:3128", "", self, false, "enabled !own_listener"},
		{"own listener despite approval", nil, "", "127.0.0.1:3128", SourceDecider, self, false, "enabled !own_listener"},
		{"name that a proxy may resolve to this machine", upstream, "", "listed.example:3128", "", self, false, "enabled !own_listener"},
		{"such a name without upstream proxies", nil, "", "listed.example:3128", "", allowed(allowedBy + "listed.example"), false, preAllowed + "allowlist=listed.example mode"},
		{"name exempt from the upstream proxy", upstream, "", "direct.example:3128", "", missed, true, preAllowed + "!allowlist"},
		{"another port behind a proxy", upstream, "", "listed.example:80", "", allowed(allowedBy + "listed.example"), false, preAllowed + "allowlist=listed.example mode"},

		{"denylist before allowlist", nil, "", "both.example:80", "", denied("both.example"), false, "enabled own_listener !denylist=both.example"},
		{"denylist before a miss", nil, "", "denied.example:80", "", denied("denied.example"), false, "enabled own_listener !denylist=denied.example"},
		{"denylist despite approval", nil, "", "denied.example:80", SourceDecider, denied("denied.example"), false, "enabled own_listener !denylist=denied.example"},
		{"denylist before mode", limited, "CONNECT", "both.example:80", "", denied("both.example"), false, "enabled own_listener !denylist=both.example"},
		{"denylist before local", nil, "", "192.168.0.1:80", "", denied("192.168.0.0/16"), false, "enabled own_listener !denylist=192.168.0.0/16"},
		{"denylist in an allowed block", nil, "", "10.9.0.1:80", "", denied("10.9.0.0/16"), false, "enabled own_listener !denylist=10.9.0.0/16"},
		{"denied IPv4 embedded by NAT64", nil, "", "[64:ff9b::c0a8:1]:80", "", denied("192.168.0.0/16"), false, "enabled own_listener !denylist=192.168.0.0/16"},
		{"denied port", nil, "", "port.wild.example:80", "", denied("port.wild.example:80"), false, "enabled own_listener !denylist=port.wild.example:80"},
		{"another port than the denied one", nil, "", "port.wild.example:81", "", allowed(allowedBy + "*.wild.example"), false, preAllowed + "allowlist=*.wild.example mode"},

		{"local before a miss", nil, "", "172.16.0.1:80", "", isLocal, false, preLocal + "!local"},
		{"local despite approval", nil, "", "172.16.0.1:80", SourceDecider, isLocal, false, preLocal + "!local"},
		{"local before mode", limited, "CONNECT", "172.16.0.1:80", "", isLocal, false, preLocal + "!local"},
		{"local before managed bounds", bounded(), "", "172.16.0.1:80", "", isLocal, false, preLocal + "!local"},
		{"local and unlisted, with allow_local_binding", local, "", "172.16.0.1:80", "", missed, true, preAllowed + "!allowlist"},
		{"local in an allowed block", nil, "", "10.0.0.1:80", "", allowed(allowedBy + "10.0.0.0/8"), false, preLocal + "local=10.0.0.0/8 allowlist=10.0.0.0/8 mode"},
		{"localhost allowed by name", nil, "", "localhost:80", "", allowed(allowedBy + "localhost"), false, preLocal + "local=localhost allowlist=localhost mode"},
		{"local and allowed by a wildcard only", func(p *Policy) { p.Allow = RuleSets{rules(t, "allowed_domains", "*")} }, "", "172.16.0.1:80", "", isLocal, false, preLocal + "!local"},

		{"ask_local, 127.0.0.0/8", ask, "", "127.0.0.2:80", "", isLocal, true, preLocal + "!local"},
		{"ask_local, ::1", ask, "", "[::1]:80", "", isLocal, true, preLocal + "!local"},
		{"ask_local, IPv4-mapped", ask, "", "[::ffff:127.0.0.2]:80", "", isLocal, true, preLocal + "!local"},
		{"ask_local, a name below localhost", ask, "", "a.localhost:80", "", isLocal, true, preLocal + "!local"},
		{"ask_local, unspecified", ask, "", "0.0.0.0:80", "", isLocal, false, preLocal + "!local"},
		{"ask_local, unspecified IPv6", ask, "", "[::]:80", SourceDecider, isLocal, false, preLocal + "!local"},
		{"ask_local, embedded", ask, "", "[64:ff9b::127.0.0.2]:80", SourceDecider, isLocal, false, preLocal + "!local"},
		{"ask_local, private", ask, "", "172.16.0.1:80", SourceDecider, isLocal, false, preLocal + "!local"},
		{"ask_local, metadata service", ask, "", "169.254.169.254:80", SourceDecider, isLocal, false, preLocal + "!local"},
		{"ask_local, listed", ask, "", "localhost:80", "", allowed(allowedBy + "localhost"), false, preLocal + "local=localhost allowlist=localhost mode"},
		{"ask_local, own listener", ask, "", "127.0.0.2:3128", SourceDecider, self, false, "enabled !own_listener"},
		{"ask_local, denied", askDenied, "", "127.0.0.2:80", SourceDecider, denied("127.0.0.2"), false, "enabled own_listener !denylist=127.0.0.2"},
		{"ask_local, a wildcard", askWild, "", "127.0.0.2:80", "", isLocal, true, preLocal + "!local"},
		{"ask_local, approved despite a wildcard", askWild, "", "127.0.0.2:80", SourceDecider, outcome{allowed: true, source: SourceDecider}, false, preLocal + "local=decider mode"},
		{"ask_local, approved", ask, "", "127.0.0.2:80", SourceDecider, outcome{allowed: true, source: SourceDecider}, false, preLocal + "local=decider mode"},
		{"ask_local, approved in limited mode", askLimited, "POST", "127.0.0.2:80", SourceDecider, forbidden, false, preLocal + "local=decider !mode"},
		{"ask_local, observed", ask, "", "127.0.0.2:80", SourceObserver, isLocal, true, preLocal + "!local"},
		{"ask_local, outside managed bounds", askBounded, "", "127.0.0.2:80", "", unmanagedLocal, false, preLocal + "!managed_limits"},
		{"ask_local, approved outside managed bounds", askBounded, "", "127.0.0.2:80", SourceDecider, unmanagedLocal, false, preLocal + "!managed_limits"},
		{"ask_local, within managed bounds", askBounded, "", "127.0.0.3:80", "", isLocal, true, preLocal + "!local"},
		{"ask_local off, approved", nil, "", "127.0.0.2:80", SourceDecider, isLocal, false, preLocal + "!local"},
		{"ask_local with allow_local_binding", func(p *Policy) { ask(p); local(p) }, "", "127.0.0.2:80", "", missed, true, preAllowed + "!allowlist"},

		{"listed, outside managed bounds", bounded(), "", "listed.example:80", "", allowed(allowedBy + "listed.example"), false, preAllowed + "allowlist=listed.example mode"},
		{"unlisted, outside managed bounds", bounded("*.corp.example"), "", "other.example:80", "", unmanaged, false, preAllowed + "!managed_limits"},
		{"approved, outside managed bounds", bounded("*.corp.example"), "", "other.example:80", SourceDecider, unmanaged, false, preAllowed + "!managed_limits"},
		{"observed, outside managed bounds", bounded("*.corp.example"), "", "other.example:80", SourceObserver, unmanaged, false, preAllowed + "!managed_limits"},
		{"unlisted, within managed bounds", bounded("*.corp.example"), "", "a.corp.example:80", "", missed, true, preAllowed + "!allowlist"},
		{"approved, within managed bounds", bounded("*.corp.example"), "", "a.corp.example:80", SourceDecider, outcome{allowed: true, source: SourceDecider}, false, preAllowed + "allowlist=decider mode"},
		{"managed bounds before mode", func(p *Policy) { bounded()(p); limited(p) }, "CONNECT", "other.example:80", "", unmanaged, false, preAllowed + "!managed_limits"},

		{"approved by the decider", nil, "", "other.example:80", SourceDecider, outcome{allowed: true, source: SourceDecider}, false, preAllowed + "allowlist=decider mode"},
		{"let pass by the observer", nil, "", "other.example:80", SourceObserver, outcome{allowed: true, source: SourceObserver}, false, preAllowed + "allowlist=observer mode"},
		{"listed host needs no approval", nil, "", "listed.example:80", SourceDecider, allowed(allowedBy + "listed.example"), false, preAllowed + "allowlist=listed.example mode"},

		{"a miss before mode", limited, "CONNECT", "other.example:80", "", missed, true, preAllowed + "!allowlist"},
		{"mode, POST", limited, "POST", "listed.example:80", "", forbidden, false, preAllowed + "allowlist=listed.example !mode"},
		{"mode despite approval", limited, "POST", "other.example:80", SourceDecider, forbidden, false, preAllowed + "allowlist=decider !mode"},
		{"mode, GET", limited, "", "listed.example:80", "", allowed(allowedBy + "listed.example"), false, preAllowed + "allowlist=listed.example mode"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := base
			if test.change != nil {
				test.change(&p)
			}
			q := get(t, test.target)
			switch test.method {
			case "":
			case "CONNECT":
				q.Protocol, q.Method = ProtocolHTTPSConnect, "CONNECT"
			case "tcp":
				q.Protocol, q.Method = ProtocolSOCKS5TCP, ""
			case "udp":
				q.Protocol, q.Method = ProtocolSOCKS5UDP, ""
			default:
				q.Method = test.method
			}
			var tr Trace
			v, miss := p.Judge(q, test.approval, &tr)
			if got := outcomeOf(&v); got != test.want || miss != test.miss {
				t.Errorf("got %+v, miss %t; want %+v, miss %t", got, miss, test.want, test.miss)
			}
			if got := steps(tr); got != test.trace {
				t.Errorf("trace:\n got %s\nwant %s", got, test.trace)
			}
			if v.Generation != p.Generation {
				t.Errorf("generation: got %d, want %d", v.Generation, p.Generation)
			}
			if untraced, missUntraced := p.Judge(q, test.approval, nil); untraced != v || missUntraced != miss {
				t.Errorf("without a trace: got %+v, miss %t; want the same as with one", untraced, missUntraced)
			}
		})
	}
}

func TestMode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                   string
		protocol               Protocol
		method                 string
		upgrade, limitedAllows bool
	}{
		{"GET", ProtocolHTTP, "GET", false, true},
		{"HEAD", ProtocolHTTP, "HEAD", false, true},
		{"OPTIONS", ProtocolHTTP, "OPTIONS", false, true},
		{"POST", ProtocolHTTP, "POST", false, false},
		{"TRACE", ProtocolHTTP, "TRACE", false, false},
		{"lower case", ProtocolHTTP, "get", false, false},
		{"upgrade", ProtocolHTTP, "GET", true, false},
		{"CONNECT", ProtocolHTTPSConnect, "CONNECT", false, false},
		{"GET in a tunnel", ProtocolHTTPSConnect, "GET", false, false},
		{"SOCKS5", ProtocolSOCKS5TCP, "", false, false},
		{"SOCKS5 UDP", ProtocolSOCKS5UDP, "", false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q := &Query{Protocol: test.protocol, Method: test.method, Upgrade: test.upgrade}
			for mode, want := range map[Mode]bool{ModeFull: true, ModeLimited: test.limitedAllows} {
				p := Policy{Enabled: true, Mode: mode}
				if v, ok := p.JudgeMode(q, nil); ok != want || !ok && v.Reason != ReasonMethodNotAllowed {
					t.Errorf("JudgeMode in %s mode: got %t and the reason %q, want %t", mode, ok, v.Reason, want)
				}
				if v := p.JudgeProtocol(q); v.Allowed != want {
					t.Errorf("JudgeProtocol in %s mode: got %t, want %t", mode, v.Allowed, want)
				}
			}
			off := Policy{Mode: ModeFull}
			if v := off.JudgeProtocol(q); v.Allowed || v.Reason != ReasonProxyDisabled {
				t.Errorf("JudgeProtocol of a disabled proxy: got %+v", outcomeOf(&v))
			}
		})
	}
}

func TestJudgeAddrs(t *testing.T) {
	t.Parallel()
	base := Policy{
		Generation: 7,
		Enabled:    true,
		Deny:       RuleSets{rules(t, "denied_domains", "93.184.0.0/16", "10.9.0.0/16", "[2001:4860::]/32")},
		Self:       listening("127.0.0.1:3128"),
	}
	local := func(p *Policy) { p.AllowLocal = true }
	passes := outcome{allowed: true, source: SourceObserver}
	self := outcome{check: CheckOwnListener, reason: ReasonNotAllowedLocal, source: SourceBaselinePolicy}
	private := outcome{check: CheckAddress, reason: ReasonNotAllowedLocal, source: SourceBaselinePolicy}
	denied := func(entry string) outcome {
		return outcome{check: CheckDeniedAddress, reason: ReasonDenied, source: SourceBaselinePolicy, rule: "denied_domains " + entry}
	}
	const passed = "address denied_address"
	tests := []struct {
		name, target string
		change       func(*Policy)
		addrs        []netip.Addr
		want         outcome
		trace        string
	}{
		{"public addresses", "a.example:80", nil, addrs("1.1.1.1", "2606:4700::1"), passes, passed},
		{"private address", "a.example:80", nil, addrs("10.0.0.1"), private, "!address@10.0.0.1"},
		{"loopback", "a.example:80", nil, addrs("::1"), private, "!address@::1"},
		{"mapped", "a.example:80", nil, addrs("::ffff:10.0.0.1"), private, "!address@::ffff:10.0.0.1"},
		{"metadata service", "a.example:80", nil, addrs("169.254.169.254"), private, "!address@169.254.169.254"},
		{"bad address last", "a.example:80", nil, addrs("1.1.1.1", "8.8.8.8", "10.0.0.1"), private, "!address@10.0.0.1"},
		{"bad address first", "a.example:80", nil, addrs("10.0.0.1", "1.1.1.1"), private, "!address@10.0.0.1"},
		{"private IPv4 embedded by 6to4", "a.example:80", nil, addrs("2002:a00:1::"), private, "!address@2002:a00:1::"},
		{"private address with allow_local_binding", "a.example:80", local, addrs("10.0.0.1"), passes, passed},
		{"allowed literal", "10.0.0.1:80", nil, addrs("10.0.0.1"), passes, passed},
		{"localhost", "localhost:80", nil, addrs("127.0.0.1", "::1"), passes, passed},
		{"own listener by a name", "a.example:3128", local, addrs("1.1.1.1", "127.0.0.1"), self, "!own_listener@127.0.0.1"},
		{"own listener, unspecified", "a.example:3128", local, addrs("0.0.0.0"), self, "!own_listener@0.0.0.0"},
		{"own listener, embedded", "a.example:3128", local, addrs("64:ff9b::7f00:1"), self, "!own_listener@64:ff9b::7f00:1"},
		{"own listener by localhost", "localhost:3128", nil, addrs("127.0.0.1"), self, "!own_listener@127.0.0.1"},
		{"another port on loopback", "a.example:3129", local, addrs("127.0.0.1"), passes, passed},
		{"denied block", "a.example:80", nil, addrs("1.1.1.1", "93.184.216.34"), denied("93.184.0.0/16"), "address !denied_address=93.184.0.0/16@93.184.216.34"},
		{"denied IPv6 block", "a.example:80", nil, addrs("2001:4860::8888"), denied("[2001:4860::]/32"), "address !denied_address=[2001:4860::]/32@2001:4860::8888"},
		{"denied block, mapped", "a.example:80", nil, addrs("::ffff:93.184.216.34"), denied("93.184.0.0/16"), "address !denied_address=93.184.0.0/16@::ffff:93.184.216.34"},
		{"denied block, NAT64", "a.example:80", nil, addrs("64:ff9b::5db8:d822"), denied("93.184.0.0/16"), "address !denied_address=93.184.0.0/16@64:ff9b::5db8:d822"},
		{"denied block with allow_local_binding", "a.example:80", local, addrs("10.9.0.1"), denied("10.9.0.0/16"), "address !denied_address=10.9.0.0/16@10.9.0.1"},
		{"not public before denied", "a.example:80", nil, addrs("93.184.216.34", "10.0.0.1"), private, "!address@10.0.0.1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := base
			if test.change != nil {
				test.change(&p)
			}
			soFar := Verdict{Allowed: true, Source: SourceObserver, Generation: 6}
			var tr Trace
			v := p.JudgeAddrs(get(t, test.target), soFar, test.addrs, &tr)
			if got := outcomeOf(&v); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if got := steps(tr); got != test.trace {
				t.Errorf("trace:\n got %s\nwant %s", got, test.trace)
			}
			if v.Allowed && v != soFar || !v.Allowed && v.Generation != p.Generation {
				t.Errorf("got the verdict %+v", v)
			}
		})
	}
}

func TestJudgeUpstream(t *testing.T) {
	t.Parallel()
	allowed := Verdict{Allowed: true, Source: SourceDecider, Generation: 6}
	p := Policy{Generation: 7, Upstream: true}
	if v := p.JudgeUpstream(allowed); v != allowed {
		t.Errorf("upstream proxies allowed: got %+v, want the verdict so far", v)
	}
	p.Upstream = false
	v := p.JudgeUpstream(allowed)
	want := outcome{check: CheckUpstream, reason: ReasonUpstreamNotAllowed, source: SourceBaselinePolicy}
	if got := outcomeOf(&v); got != want || v.Generation != 7 {
		t.Errorf("upstream proxies not allowed: got %+v of generation %d, want %+v of generation 7", got, v.Generation, want)
	}
}

// TestAllocations checks that a decision allocates no memory.
func TestAllocations(t *testing.T) {
	p := benchPolicy(t)
	for _, target := range []string{"listed.example:443", "a.wild.example:443", "denied.example:443", "other.example:443", "10.0.0.1:80"} {
		t.Run(target, func(t *testing.T) {
			q := get(t, target)
			if n := testing.AllocsPerRun(100, func() { p.Judge(q, "", nil) }); n != 0 {
				t.Errorf("Judge: got %v allocations, want 0", n)
			}
			list := addrs("1.1.1.1", "2606:4700::1")
			if n := testing.AllocsPerRun(100, func() { p.JudgeAddrs(q, Verdict{Allowed: true}, list, nil) }); n != 0 {
				t.Errorf("JudgeAddrs: got %v allocations, want 0", n)
			}
		})
	}
}

// benchPolicy returns a policy that uses every kind of rule.
func benchPolicy(t testing.TB) *Policy {
	p := allowing(t, "listed.example", "*.wild.example", "10.0.0.0/8")
	p.Deny = RuleSets{rules(t, "denied_domains", "denied.example", "192.168.0.0/16")}
	p.Bounds = NewBounds(patterns(t, "*.example"))
	p.Self = listening("127.0.0.1:3128")
	return p
}

func BenchmarkJudge(b *testing.B) {
	p := benchPolicy(b)
	for _, target := range []string{"listed.example:443", "a.wild.example:443", "denied.example:443", "other.example:443"} {
		b.Run(target, func(b *testing.B) {
			q := get(b, target)
			b.ReportAllocs()
			for b.Loop() {
				p.Judge(q, "", nil)
			}
		})
	}
}

func TestJudgeName(t *testing.T) {
	t.Parallel()
	p := allowing(t, "web.test", "db.test:5432", "**.tree.test", "https.test:443")
	p.Deny = RuleSets{rules(t, "denied_domains", "bad.tree.test", "half.tree.test:443", "gone.test")}
	for name, want := range map[string]struct{ allowed, miss bool }{
		"web.test":       {true, false},
		"db.test":        {true, false},
		"https.test":     {true, false},
		"a.tree.test":    {true, false},
		"half.tree.test": {true, false}, // denied on one port only
		"bad.tree.test":  {false, false},
		"gone.test":      {false, false},
		"other.test":     {false, true},
		"10.0.0.1":       {false, false},
	} {
		v, miss := p.JudgeName(target(t, name).Host, nil, "")
		if v.Allowed != want.allowed || miss != want.miss {
			t.Errorf("%s: allowed %t, miss %t; want %t, %t", name, v.Allowed, miss, want.allowed, want.miss)
		}
	}
	p.Mode = ModeLimited
	if v, _ := p.JudgeName(target(t, "web.test").Host, nil, ""); !v.Allowed {
		t.Errorf("in limited mode, the name is refused: %s", v.Reason)
	}
	o := NewOverlay(nil, rules(t, SessionDenied, "web.test"), "")
	if v, miss := p.JudgeName(target(t, "web.test").Host, o, ""); v.Allowed || miss {
		t.Errorf("a name that the session denies has the verdict %+v, miss %t", v, miss)
	}
}
