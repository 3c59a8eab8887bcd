package policy

import (
	"maps"
	"net/netip"
	"slices"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/ipclass"
)

// Policy is the compiled snapshot of one configuration. A change of the
// configuration makes another Policy; the fields of one in force must not be
// changed.
type Policy struct {
	Generation  uint64 // grows with every change
	Enabled     bool
	Mode        Mode
	CheckSNI    bool     // sni_check = "enforce"
	AllowLocal  bool     // allow_local_binding
	AskLocal    bool     // ask_local
	Upstream    bool     // allow_upstream_proxy
	Allow       RuleSets // allowed_domains
	Deny        RuleSets // denied_domains
	Sockets     *RuleSet // allow_unix_sockets; nil allows none
	Bounds      *Bounds  // of the managed limits; nil if there are none
	SOCKSOff    bool     // the managed limits turn SOCKS5 off, even if a listener is open
	SOCKSUDPOff bool     // the managed limits turn UDP over SOCKS5 off

	Inspection *Inspection // TLS inspection; nil if it is off

	Self *SelfListeners // the proxy's own listeners; nil if there are none
}

// Query is the part of a request that the checks look at.
type Query struct {
	Protocol Protocol
	Target   hostname.Target
	Method   string // HTTP method as the client wrote it; empty for SOCKS
	Upgrade  bool   // an HTTP request that asks to switch protocols

	// HTTP is the request that request rules are applied to. It is nil for
	// tunnels and datagrams, and for a request whose content does not matter.
	HTTP *httprule.Request

	// CanOpen means that TLS in the tunnel can be opened, if the policy asks for
	// it. A tunnel that is relayed without being opened must not have it.
	CanOpen bool

	Socket  Socket   // the target if x-unix-socket names one; Target then holds the Host field
	Overlay *Overlay // the rules of the session; nil if it adds none
}

// IsHTTP reports whether the query is about an HTTP request that the proxy reads,
// and not about a tunnel or a datagram.
func (q *Query) IsHTTP() bool {
	switch q.Protocol {
	case ProtocolHTTP, ProtocolHTTPS:
		return true
	case ProtocolCapturedTCP:
		return q.Method != ""
	}
	return false
}

// Judge applies the checks that need neither a decider nor a resolver.
// approval is the source that let an allowlist miss pass: the decider, the
// observer, or empty if none has yet. miss is true if no entry allows the request
// and nothing else refuses it, so that a decider may be asked. If tr is not nil,
// Judge adds every check to it, in order.
//
// Judge is the only decision function. It judges every request, whatever its
// protocol, and judges open ones again at every change of the policy.
func (p *Policy) Judge(q *Query, approval Source, tr *Trace) (v Verdict, miss bool) {
	if !p.serves(q.Protocol) {
		return p.refuse(CheckEnabled, ReasonProxyDisabled, SourceProxyState, Entry{}, tr), false
	}
	tr.Pass(CheckEnabled)

	if !q.Socket.IsZero() {
		return p.judgeSocket(q, tr), false
	}

	if p.Self.contains(q.Target, q.Protocol) || p.Upstream && p.Self.mayContainBehindProxy(q) {
		return p.refuse(CheckOwnListener, ReasonNotAllowedLocal, SourceBaselinePolicy, Entry{}, tr), false
	}
	tr.Pass(CheckOwnListener)

	if denied := p.denies(q); denied.Found() {
		return p.refuse(CheckDenylist, ReasonDenied, SourceBaselinePolicy, denied, tr), false
	}
	tr.Pass(CheckDenylist)

	extra := q.Overlay.allowed(p.Bounds)
	if !p.AllowLocal && isLocal(q.Target.Host) {
		opened := p.Allow.matchExplicit(q.Target)
		if !opened.Found() {
			opened = extra.matchExplicit(q.Target)
		}
		if !opened.Found() {
			return p.judgeUnlistedLocal(q, approval, tr)
		}
		tr.passMatch(CheckLocal, opened)
	} else {
		tr.Pass(CheckLocal)
	}

	allowed := p.Allow.match(q.Target)
	if !allowed.Found() {
		allowed = extra.match(q.Target)
	}
	source := SourceBaselinePolicy
	switch {
	case allowed.Found():
		tr.passMatch(CheckAllowlist, allowed)
	case !p.Bounds.admit(q.Target):
		return p.refuse(CheckManaged, ReasonNotAllowed, SourceBaselinePolicy, Entry{}, tr), false
	case approval != "":
		tr.passBy(CheckAllowlist, approval)
		source = approval
	default:
		return p.refuse(CheckAllowlist, ReasonNotAllowed, SourceBaselinePolicy, Entry{}, tr), true
	}

	v, ok := p.JudgeUse(q, tr)
	if ok {
		v.Allowed, v.Source, v.Entry, v.Generation = true, source, allowed, p.Generation
	}
	return v, false
}

// JudgeName judges a host without a port, for a lookup: the verdict allows if the
// policy allows the host on some port, and miss reports that a decider may be asked
// on some port. It is Judge for each port that a list names and for one that none
// does, for the kind of request that every mode permits.
func (p *Policy) JudgeName(host hostname.Host, o *Overlay, approval Source) (v Verdict, miss bool) {
	var refused Verdict
	for i, port := range p.NamedPorts(o) {
		q := Query{Protocol: ProtocolCapturedTCP, Target: hostname.Target{Host: host, Port: port}, Method: "GET", Overlay: o}
		v, m := p.Judge(&q, approval, nil)
		if v.Allowed {
			return v, false
		}
		if i == 0 {
			refused = v
		}
		miss = miss || m
	}
	return refused, miss
}

// NamedPorts returns a port that no list names, and then every port that one does.
func (p *Policy) NamedPorts(o *Overlay) []uint16 {
	named := make(map[uint16]bool)
	for _, l := range [...]RuleSets{p.Allow, p.Deny, o.allowed(p.Bounds), o.denied()} {
		for _, s := range l {
			for _, port := range s.Set.Ports() {
				named[port] = true
			}
		}
	}
	if p.Bounds != nil {
		for _, port := range p.Bounds.hosts.Ports() {
			named[port] = true
		}
	}
	other := uint16(443)
	for named[other] {
		other++
	}
	return append([]uint16{other}, slices.Collect(maps.Keys(named))...)
}

// judgeUnlistedLocal is the rest of Judge for a local target that no entry allows
// explicitly. With ask_local, the decider may let a loopback target pass. The
// observer may not, and an entry with a wildcard does not count.
func (p *Policy) judgeUnlistedLocal(q *Query, approval Source, tr *Trace) (v Verdict, miss bool) {
	if p.AskLocal && IsLoopback(q.Target.Host) {
		if !p.Bounds.admit(q.Target) {
			return p.refuse(CheckManaged, ReasonNotAllowedLocal, SourceBaselinePolicy, Entry{}, tr), false
		}
		if approval == SourceDecider {
			tr.passBy(CheckLocal, approval)
			v, ok := p.JudgeUse(q, tr)
			if ok {
				v.Allowed, v.Source, v.Generation = true, approval, p.Generation
			}
			return v, false
		}
		miss = true
	}
	return p.refuse(CheckLocal, ReasonNotAllowedLocal, SourceBaselinePolicy, Entry{}, tr), miss
}

// serves reports whether the proxy is on and the managed limits do not turn
// the protocol off.
func (p *Policy) serves(protocol Protocol) bool {
	switch {
	case !p.Enabled:
		return false
	case p.SOCKSOff:
		return protocol != ProtocolSOCKS5TCP && protocol != ProtocolSOCKS5UDP
	case p.SOCKSUDPOff:
		return protocol != ProtocolSOCKS5UDP
	}
	return true
}

// refuse returns the verdict of a check that refuses. by is the entry that
// decided, if one did.
func (p *Policy) refuse(check Check, r Reason, s Source, by Entry, tr *Trace) Verdict {
	if tr != nil {
		tr.Add(Step{Check: check, Rule: by.Rule()})
	}
	return Verdict{Check: check, Reason: r, Source: s, Entry: by, Generation: p.Generation}
}

// JudgeProtocol applies the checks that need no target. It judges UDP ASSOCIATE
// (RFC 1928 section 7), which names no target. Each datagram's target is judged
// by Judge later.
func (p *Policy) JudgeProtocol(q *Query) Verdict {
	if !p.serves(q.Protocol) {
		return p.refuse(CheckEnabled, ReasonProxyDisabled, SourceProxyState, Entry{}, nil)
	}
	if v, ok := p.JudgeMode(q, nil); !ok {
		return v
	}
	return Verdict{Allowed: true, Source: SourceBaselinePolicy, Generation: p.Generation}
}

// JudgeAddrs applies the checks of resolved addresses. v is the verdict that
// allowed the target, and the result if all addresses pass. addrs must be all
// addresses of the target. One bad address refuses them all, because the
// resolver also chooses their order.
func (p *Policy) JudgeAddrs(q *Query, v Verdict, addrs []netip.Addr, tr *Trace) Verdict {
	refuse := func(check Check, r Reason, a netip.Addr, by Entry) Verdict {
		if tr != nil {
			tr.Add(Step{Check: check, Rule: by.Rule(), Address: a})
		}
		return Verdict{Check: check, Reason: r, Source: SourceBaselinePolicy, Entry: by, Address: a, Generation: p.Generation}
	}
	// A local literal and localhost get here only if an entry allows them
	// explicitly, or the decider does with ask_local. A name never makes a local
	// address reachable, not even if the decider allowed the name: whoever answers
	// the lookup chooses the address, and may change it after the answer of the
	// decider (DNS rebinding).
	name := !isLocal(q.Target.Host)
	for _, a := range addrs {
		if p.Self.ContainsAddr(a, q.Target.Port, q.Protocol) {
			return refuse(CheckOwnListener, ReasonNotAllowedLocal, a, Entry{})
		}
		if name && !p.AllowLocal && !ipclass.Of(a).Public() {
			return refuse(CheckAddress, ReasonNotAllowedLocal, a, Entry{})
		}
	}
	tr.Pass(CheckAddress)
	for _, a := range addrs {
		if denied := p.deniesAddr(q, a); denied.Found() {
			return refuse(CheckDeniedAddress, ReasonDenied, a, denied)
		}
	}
	tr.Pass(CheckDeniedAddress)
	return v
}

// denies returns the entry that denies a target: of the denylist or of the
// session. An address that embeds an IPv4 address is denied as both.
func (p *Policy) denies(q *Query) Entry {
	denied := p.Deny.match(q.Target)
	if !denied.Found() {
		denied = q.Overlay.denied().match(q.Target)
	}
	if !denied.Found() {
		if embedded := ipclass.EmbeddedIPv4(q.Target.Host.Addr()); embedded.IsValid() {
			denied = p.deniesAddr(q, embedded)
		}
	}
	return denied
}

// deniesAddr is denies for a resolved address.
func (p *Policy) deniesAddr(q *Query, a netip.Addr) Entry {
	if denied := p.Deny.matchAddr(a, q.Target.Port); denied.Found() {
		return denied
	}
	return q.Overlay.denied().matchAddr(a, q.Target.Port)
}

// JudgeUpstream applies allow_upstream_proxy to an open connection that goes
// through an upstream proxy. v is the verdict that allowed it, and the result if
// upstream proxies are still allowed.
func (p *Policy) JudgeUpstream(v Verdict) Verdict {
	if p.Upstream {
		return v
	}
	return p.refuse(CheckUpstream, ReasonUpstreamNotAllowed, SourceBaselinePolicy, Entry{}, nil)
}

// IsLoopback reports whether a host is this machine by its text, before any
// lookup: an address of 127.0.0.0/8, ::1, localhost, or a name below localhost.
// Unspecified addresses and addresses that embed a loopback address are local but
// not loopback.
func IsLoopback(h hostname.Host) bool {
	if h.IsIP() {
		return h.Addr().IsLoopback()
	}
	return h.IsLocalhost()
}

// isLocal reports whether a host is on this machine or in a network that is
// not public, before any lookup.
func isLocal(h hostname.Host) bool {
	if h.IsIP() {
		return !ipclass.Of(h.Addr()).Public()
	}
	return h.IsLocalhost()
}
