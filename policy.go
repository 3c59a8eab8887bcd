// The one decision function: the order of checks that every request gets,
// whatever protocol and listener it came in by, and the verdict it ends in.

package networkproxy

import (
	"net/netip"
	"strings"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/ipclass"
)

// Protocol names the way by which a request reached the proxy.
type Protocol string

const (
	ProtocolHTTP         Protocol = "http"          // forwarded HTTP, RFC 9112 section 3.2.2
	ProtocolHTTPSConnect Protocol = "https_connect" // HTTP CONNECT, RFC 9110 section 9.3.6
	ProtocolSOCKS5TCP    Protocol = "socks5_tcp"    // SOCKS5 CONNECT, RFC 1928 section 4
	ProtocolSOCKS5UDP    Protocol = "socks5_udp"    // one datagram of a SOCKS5 UDP ASSOCIATE, RFC 1928 section 7
)

// Reason says in one word why a request was refused; the zero value means
// that it was not. A decider may give reasons of its own: compare
// [Verdict.Source] before reading a built-in meaning into one.
type Reason string

const (
	ReasonInvalidTarget      Reason = "invalid_target"       // the target is malformed; answered with 400
	ReasonProxyDisabled      Reason = "proxy_disabled"       // the proxy was turned off while running; answered with 503
	ReasonNotAllowed         Reason = "not_allowed"          // no allowlist entry matches and no decider allowed it
	ReasonNotAllowedLocal    Reason = "not_allowed_local"    // a local or private address, or the proxy itself
	ReasonDenied             Reason = "denied"               // a denylist entry matches
	ReasonMethodNotAllowed   Reason = "method_not_allowed"   // the limited mode forbids it
	ReasonSNIMismatch        Reason = "sni_mismatch"         // TLS in a tunnel asks for another name than was allowed, or for none
	ReasonPolicyDenied       Reason = "policy_denied"        // the decider denied and gave no reason
	ReasonDeciderFailed      Reason = "decider_failed"       // the decider returned an error or panicked
	ReasonDeciderTimeout     Reason = "decider_timeout"      // the decider did not answer in time
	ReasonDeciderBusy        Reason = "decider_busy"         // too many questions waited for the decider; answered with 503
	ReasonGrantRevoked       Reason = "grant_revoked"        // the decider's approval was revoked while the request was under way
	ReasonTooManyConnections Reason = "too_many_connections" // see Limits.Connections; answered with 503
	ReasonCanceled           Reason = "canceled"             // the client, the session or the proxy went away before the decider answered
	ReasonSessionRequired    Reason = "session_required"     // a shared listener, and no session's token; answered with 407
	ReasonSessionUnknown     Reason = "session_unknown"      // a token that is no open session's, or another session's; answered with 407

	// ReasonUpstreamNotAllowed is for what is open and goes through an
	// upstream proxy, when a reload turns allow_upstream_proxy off. A new
	// request goes directly.
	ReasonUpstreamNotAllowed Reason = "upstream_not_allowed"
)

// Source says which part of the policy decided.
type Source string

const (
	SourceBaselinePolicy Source = "baseline_policy" // the lists and the local protection
	SourceModeGuard      Source = "mode_guard"      // the limited mode
	SourceDecider        Source = "decider"         // the host's own PolicyDecider
	SourceProxyState     Source = "proxy_state"     // the proxy is turned off, or has as many connections as it may
	SourceObserver       Source = "observer"        // nobody: the proxy only observes, see Builder.Observe
	SourceSession        Source = "session"         // who asks could not be established
)

// Rule is the configured entry that decided a request. The zero value means
// that no entry did.
type Rule struct {
	List     string   `json:"list,omitempty"`    // the configuration key it stands under: "allowed_domains", "denied_domains"
	Pattern  string   `json:"pattern,omitempty"` // the entry as written
	Position Position `json:"origin,omitzero"`   // where it stands; zero when it was set from Go
}

// Verdict is what the policy says of one request. The zero value refuses.
// It is a plain value: copies are independent.
type Verdict struct {
	Allowed    bool
	Reason     Reason     // why not; empty when allowed
	Source     Source     // who decided
	Ask        bool       // refused for now: the decider wants the user asked
	Rule       Rule       // the entry that decided, if one did
	Address    netip.Addr // the resolved address that decided, if one did
	ServerName string     // the name in the ClientHello that decided, if one did
	Generation uint64     // the generation of the policy that was applied; it grows with every change

	check      string // the check that refused
	unreadable string // why the ClientHello that decided cannot be read: "the hello …"
	grant      *grant // that let it through, where the decider did
}

// query is what the checks look at.
type query struct {
	protocol Protocol
	target   hostname.Target
	method   string // HTTP method, in the client's case; empty for SOCKS
	upgrade  bool   // an HTTP request that asks to switch protocols

	socket  socketPath // where x-unix-socket names the target, and target is a Host field only
	overlay *overlay   // the rules of the session that asks; nil: none
}

// ruleSet is one compiled list. Its rules keep the text and the place of
// their entries.
type ruleSet struct {
	key     string // its configuration key
	list    string // the last part of it
	set     *domain.Set
	entries []string
	origin  func(i int) Position
}

func (s *ruleSet) rule(i int) Rule {
	return Rule{List: s.list, Pattern: s.entries[i], Position: s.origin(i)}
}

// ruleSets are several lists that count as one: the configuration's, and what
// was added to it at run time.
type ruleSets []*ruleSet

// entry is one entry of a list: that which matched. The zero value is none. It
// becomes a Rule, which is many times larger, where there is one.
type entry struct {
	of *ruleSet
	i  int
}

func (e entry) found() bool { return e.of != nil }

// rule is that of the entry; zero where there is none.
func (e entry) rule() Rule {
	if e.of == nil {
		return Rule{}
	}
	return e.of.rule(e.i)
}

func (l ruleSets) match(t hostname.Target) entry {
	for _, s := range l {
		if i, ok := s.set.Match(t); ok {
			return entry{s, i}
		}
	}
	return entry{}
}

// matchExplicit is match over the entries without a wildcard.
func (l ruleSets) matchExplicit(t hostname.Target) entry {
	for _, s := range l {
		if i, ok := s.set.MatchExplicit(t); ok {
			return entry{s, i}
		}
	}
	return entry{}
}

// matchAddr is match over the address and CIDR entries, for an address that
// is dialed. An IPv6 address that carries an IPv4 address is a second
// spelling of the same place, and matches what that one does.
func (l ruleSets) matchAddr(a netip.Addr, port uint16) entry {
	for _, a := range [...]netip.Addr{a, ipclass.EmbeddedIPv4(a)} {
		for _, s := range l {
			if i, ok := s.set.MatchAddr(a, port); ok {
				return entry{s, i}
			}
		}
	}
	return entry{}
}

// rules lists every rule, in the order of the lists.
func (l ruleSets) rules() []Rule {
	rules := []Rule{}
	for _, s := range l {
		for i := range s.entries {
			rules = append(rules, s.rule(i))
		}
	}
	return rules
}

// policy is the compiled, immutable snapshot of one configuration. It is
// replaced whole, never changed.
type policy struct {
	generation uint64
	enabled    bool
	mode       Mode
	checkSNI   bool // sni_check
	allowLocal bool // allow_local_binding
	allow      ruleSets
	deny       ruleSets
	self       *selfListeners
	upstream   bool // allow_upstream_proxy
	sockets    socketList
	limits     *requirements // what an overlay and a decider may not exceed
	socksOff   bool          // the managed limits turn SOCKS5 off, whether or not a listener is open
	udpOff     bool          // the same for its datagrams
}

// judge applies the checks that need nobody else: no decider, no resolver.
// miss reports that only the allowlist stood in the way and that a decider
// may be asked; approval says who has let such a request through: the decider,
// or nobody yet (empty). A trace, when not nil, is told of every check in order.
func (p *policy) judge(q *query, approval Source, tr *trace) (v Verdict, miss bool) {
	miss = p.judgeInto(&v, q, approval, tr)
	return v, miss
}

// judgeInto is judge for who has a place for the verdict, a zero one: to hand it
// up by copies takes a third of the time of a decision.
func (p *policy) judgeInto(v *Verdict, q *query, approval Source, tr *trace) (miss bool) {
	if !p.serves(q.protocol) {
		p.refuse(v, checkEnabled, ReasonProxyDisabled, SourceProxyState, entry{}, tr)
		return false
	}
	tr.pass(checkEnabled)

	if !q.socket.isZero() {
		*v = p.judgeSocket(q, tr)
		return false
	}

	if p.self.contains(q.target, q.protocol) || p.upstream && p.self.mayContainBehindProxy(p, q) {
		p.refuse(v, checkOwnListener, ReasonNotAllowedLocal, SourceBaselinePolicy, entry{}, tr)
		return false
	}
	tr.pass(checkOwnListener)

	if denied := p.denies(q); denied.found() {
		p.refuse(v, checkDenylist, ReasonDenied, SourceBaselinePolicy, denied, tr)
		return false
	}
	tr.pass(checkDenylist)

	extra := q.overlay.allowed(p.limits)
	if !p.allowLocal && isLocal(q.target.Host) {
		opened := p.allow.matchExplicit(q.target)
		if !opened.found() {
			opened = extra.matchExplicit(q.target)
		}
		if !opened.found() {
			p.refuse(v, checkLocal, ReasonNotAllowedLocal, SourceBaselinePolicy, entry{}, tr)
			return false
		}
		tr.passEntry(checkLocal, opened)
	} else {
		tr.pass(checkLocal)
	}

	allowed := p.allow.match(q.target)
	if !allowed.found() {
		allowed = extra.match(q.target)
	}
	source := SourceBaselinePolicy
	switch {
	case allowed.found():
		tr.passEntry(checkAllowlist, allowed)
	case !p.limits.admits(q.target):
		p.refuse(v, checkManaged, ReasonNotAllowed, SourceBaselinePolicy, entry{}, tr)
		return false
	case approval != "":
		tr.passBy(checkAllowlist, approval)
		source = approval
	default:
		p.refuse(v, checkAllowlist, ReasonNotAllowed, SourceBaselinePolicy, entry{}, tr)
		return true
	}

	if by, ok := p.permits(q); !ok {
		*v = p.modeRefusal(by)
		tr.add(Check{Name: checkMode, Rule: v.Rule})
		return false
	}
	tr.pass(checkMode)
	v.Allowed, v.Source, v.Generation = true, source, p.generation
	if allowed.found() {
		v.Rule = allowed.rule()
	}
	return false
}

// serves reports whether the proxy is on, and the managed limits have not
// turned a protocol off.
func (p *policy) serves(protocol Protocol) bool {
	switch {
	case !p.enabled:
		return false
	case p.socksOff:
		return protocol != ProtocolSOCKS5TCP && protocol != ProtocolSOCKS5UDP
	case p.udpOff:
		return protocol != ProtocolSOCKS5UDP
	}
	return true
}

// refuse makes v the verdict of a check that refuses, by an entry or, where that
// is none, without one.
func (p *policy) refuse(v *Verdict, check string, r Reason, s Source, by entry, tr *trace) {
	v.Reason, v.Source, v.Generation, v.check = r, s, p.generation, check
	if by.found() {
		v.Rule = by.rule()
	}
	if tr != nil {
		tr.add(Check{Name: check, Rule: v.Rule})
	}
}

// modeRefusal is the verdict on what a mode forbids, whoever allows it: that of
// a session, or, where that is empty, the one in force.
func (p *policy) modeRefusal(ofSession Mode) Verdict {
	v := Verdict{Reason: ReasonMethodNotAllowed, Source: SourceModeGuard, Generation: p.generation, check: checkMode}
	if ofSession != "" {
		v.Rule = Rule{List: sessionMode, Pattern: string(ofSession)}
	}
	return v
}

// judgeProtocol applies the checks that concern no target, to a request whose
// targets come later: UDP ASSOCIATE (RFC 1928 section 7). Each target gets a
// judgement of its own.
func (p *policy) judgeProtocol(q *query) Verdict {
	if !p.serves(q.protocol) {
		return Verdict{Reason: ReasonProxyDisabled, Source: SourceProxyState, Generation: p.generation, check: checkEnabled}
	}
	if by, ok := p.permits(q); !ok {
		return p.modeRefusal(by)
	}
	return Verdict{Allowed: true, Source: SourceBaselinePolicy, Generation: p.generation}
}

// judgeAddrs applies the checks on what a target resolved to. It is given
// every address of the answer at once: one bad address refuses them all,
// since whoever answers the lookup also chooses the order.
// v is the verdict that let the target pass so far.
func (p *policy) judgeAddrs(q *query, v Verdict, addrs []netip.Addr, tr *trace) Verdict {
	refuse := func(check string, r Reason, a netip.Addr, rule Rule) Verdict {
		tr.add(Check{Name: check, Rule: rule, Address: a})
		return Verdict{Reason: r, Source: SourceBaselinePolicy, Rule: rule, Address: a, Generation: p.generation, check: check}
	}
	// A local literal or localhost got this far because it is explicitly
	// allowed; a name never makes a local address reachable.
	name := !isLocal(q.target.Host)
	for _, a := range addrs {
		if p.self.containsAddr(a, q.target.Port, q.protocol) {
			return refuse(checkOwnListener, ReasonNotAllowedLocal, a, Rule{})
		}
		if name && !p.allowLocal && !ipclass.Of(a).Public() {
			return refuse(checkAddress, ReasonNotAllowedLocal, a, Rule{})
		}
	}
	tr.pass(checkAddress)
	for _, a := range addrs {
		if denied := p.deniesAddr(q, a); denied.found() {
			return refuse(checkDeniedAddress, ReasonDenied, a, denied.rule())
		}
	}
	tr.pass(checkDeniedAddress)
	return v
}

// denies finds the entry that forbids a target: of the denylist, or of the
// session's own. An address is looked for as what it is and as what it holds.
func (p *policy) denies(q *query) entry {
	denied := p.deny.match(q.target)
	if !denied.found() {
		denied = q.overlay.denied().match(q.target)
	}
	if !denied.found() {
		if holds := ipclass.EmbeddedIPv4(q.target.Host.Addr()); holds.IsValid() {
			denied = p.deniesAddr(q, holds)
		}
	}
	return denied
}

// deniesAddr is denies for an address that a target resolved to.
func (p *policy) deniesAddr(q *query, a netip.Addr) entry {
	if denied := p.deny.matchAddr(a, q.target.Port); denied.found() {
		return denied
	}
	return q.overlay.denied().matchAddr(a, q.target.Port)
}

// permits reports whether the mode in force and that of the session let such a
// request through, and which mode of a session does not.
func (p *policy) permits(q *query) (ofSession Mode, ok bool) {
	if !p.mode.permits(q) {
		return "", false
	}
	return q.overlay.permits(q)
}

// judgeUpstream applies the switch for upstream proxies to a connection that
// goes through one. v is the verdict that let it pass so far.
func (p *policy) judgeUpstream(v Verdict) Verdict {
	if p.upstream {
		return v
	}
	return Verdict{Reason: ReasonUpstreamNotAllowed, Source: SourceBaselinePolicy, Generation: p.generation, check: checkUpstream}
}

// isLocal reports whether a host names this machine or a network that is not
// public, by itself and before any lookup.
func isLocal(h hostname.Host) bool {
	if h.IsIP() {
		return !ipclass.Of(h.Addr()).Public()
	}
	return h.IsLocalhost()
}

// permits reports whether the mode lets such a request through at all.
// Limited is for reading: RFC 9110's safe methods but TRACE, whose answer
// echoes the request, and nothing that opens a tunnel.
func (m Mode) permits(q *query) bool {
	if m != ModeLimited {
		return true
	}
	if q.protocol != ProtocolHTTP || q.upgrade {
		return false
	}
	switch q.method {
	case "GET", "HEAD", "OPTIONS":
		return true
	}
	return false
}

// errorToken is the value of the x-proxy-error header: a fixed vocabulary
// that programs may switch on. A decider's own words never map to a built-in
// value, whatever they are.
func (v Verdict) errorToken() string {
	if v.Source != SourceDecider {
		switch v.Reason {
		case ReasonNotAllowed, ReasonNotAllowedLocal:
			return "blocked-by-allowlist"
		case ReasonDenied:
			return "blocked-by-denylist"
		case ReasonMethodNotAllowed:
			return "blocked-by-method-policy"
		}
	}
	return "blocked-by-policy"
}

// decision is how a refusal is told apart from one that a user may still
// lift: "ask" or "deny"; "allow" when there is nothing to tell.
func (v Verdict) decision() string {
	switch {
	case v.Allowed:
		return "allow"
	case v.Ask:
		return "ask"
	}
	return "deny"
}

// cleanReason bounds a decider's free words and keeps control bytes out of
// logs, headers and terminals.
func cleanReason(s string) Reason { return Reason(cleanText(s, 200)) }

// cleanText is a text without control bytes, cut to a number of bytes.
func cleanText(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return strings.TrimSpace(s)
}
