// The vocabulary of decisions as hosts see it. internal/policy decides.

package networkproxy

import (
	"net/netip"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// Protocol names the way by which a request reached the proxy.
type Protocol = policy.Protocol

const (
	ProtocolHTTP         = policy.ProtocolHTTP         // forwarded HTTP, RFC 9112 section 3.2.2
	ProtocolHTTPSConnect = policy.ProtocolHTTPSConnect // HTTP CONNECT, RFC 9110 section 9.3.6
	ProtocolSOCKS5TCP    = policy.ProtocolSOCKS5TCP    // SOCKS5 CONNECT, RFC 1928 section 4
	ProtocolSOCKS5UDP    = policy.ProtocolSOCKS5UDP    // one datagram of a SOCKS5 UDP ASSOCIATE, RFC 1928 section 7
)

// Reason says in one word why a request was refused; the zero value means
// that it was not. A decider may give reasons of its own: compare
// [Verdict.Source] before reading a built-in meaning into one.
type Reason = policy.Reason

const (
	ReasonInvalidTarget      = policy.ReasonInvalidTarget      // the target is malformed; answered with 400
	ReasonProxyDisabled      = policy.ReasonProxyDisabled      // the proxy was turned off while running; answered with 503
	ReasonNotAllowed         = policy.ReasonNotAllowed         // no allowlist entry matches and no decider allowed it
	ReasonNotAllowedLocal    = policy.ReasonNotAllowedLocal    // a local or private address, or the proxy itself
	ReasonDenied             = policy.ReasonDenied             // a denylist entry matches
	ReasonMethodNotAllowed   = policy.ReasonMethodNotAllowed   // the limited mode forbids it
	ReasonSNIMismatch        = policy.ReasonSNIMismatch        // TLS in a tunnel asks for another name than was allowed, or for none
	ReasonPolicyDenied       = policy.ReasonPolicyDenied       // the decider denied and gave no reason
	ReasonDeciderFailed      = policy.ReasonDeciderFailed      // the decider returned an error or panicked
	ReasonDeciderTimeout     = policy.ReasonDeciderTimeout     // the decider did not answer in time
	ReasonDeciderBusy        = policy.ReasonDeciderBusy        // too many questions waited for the decider; answered with 503
	ReasonGrantRevoked       = policy.ReasonGrantRevoked       // the decider's approval was revoked while the request was under way
	ReasonTooManyConnections = policy.ReasonTooManyConnections // see Limits.Connections; answered with 503
	ReasonCanceled           = policy.ReasonCanceled           // the client, the session or the proxy went away before the decider answered
	ReasonSessionRequired    = policy.ReasonSessionRequired    // a shared listener, and no session's token; answered with 407
	ReasonSessionUnknown     = policy.ReasonSessionUnknown     // a token that is no open session's, or another session's; answered with 407

	// ReasonUpstreamNotAllowed is for what is open and goes through an
	// upstream proxy, when a reload turns allow_upstream_proxy off. A new
	// request goes directly.
	ReasonUpstreamNotAllowed = policy.ReasonUpstreamNotAllowed
)

// Source says which part of the policy decided.
type Source = policy.Source

const (
	SourceBaselinePolicy = policy.SourceBaselinePolicy // the lists and the local protection
	SourceModeGuard      = policy.SourceModeGuard      // the limited mode
	SourceDecider        = policy.SourceDecider        // the host's own PolicyDecider
	SourceProxyState     = policy.SourceProxyState     // the proxy is turned off, or has as many connections as it may
	SourceObserver       = policy.SourceObserver       // nobody: the proxy only observes, see Builder.Observe
	SourceSession        = policy.SourceSession        // who asks could not be established
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
}

func publicVerdict(v *policy.Verdict) Verdict {
	return Verdict{
		Allowed:    v.Allowed,
		Reason:     v.Reason,
		Source:     v.Source,
		Ask:        v.Ask,
		Rule:       publicRule(v.Rule()),
		Address:    v.Address,
		ServerName: v.ServerName,
		Generation: v.Generation,
	}
}

func publicRule(r policy.Rule) Rule {
	return Rule{List: r.List, Pattern: r.Pattern, Position: Position(r.Position)}
}

func publicRules(rules []policy.Rule) []Rule {
	public := make([]Rule, len(rules))
	for i, r := range rules {
		public[i] = publicRule(r)
	}
	return public
}

// Check is one step of a decision.
type Check struct {
	Name    string     `json:"check"`
	Passed  bool       `json:"passed"`
	Rule    Rule       `json:"rule,omitzero"`    // the entry that settled it, if one did
	Source  Source     `json:"source,omitempty"` // who settled it, if not a list
	Address netip.Addr `json:"address,omitzero"` // the address that settled it, if one did
}

func publicChecks(t policy.Trace) []Check {
	checks := make([]Check, len(t))
	for i, s := range t {
		checks[i] = Check{Name: s.Check.String(), Passed: s.Passed, Rule: publicRule(s.Rule), Source: s.Source, Address: s.Address}
	}
	return checks
}

// BlockedRequest is one refusal, as recorded.
type BlockedRequest struct {
	Time       time.Time      `json:"time"`
	Host       string         `json:"host"`
	Port       uint16         `json:"port"`
	Protocol   Protocol       `json:"protocol"`
	Method     string         `json:"method,omitempty"`
	UnixSocket string         `json:"unix_socket,omitempty"` // the path that was asked for in place of the host
	Client     netip.AddrPort `json:"client,omitzero"`
	Reason     Reason         `json:"reason"`
	Source     Source         `json:"source,omitempty"`
	Decision   string         `json:"decision"` // "deny", or "ask" when the user may lift it
	Rule       Rule           `json:"rule,omitzero"`
	Address    netip.Addr     `json:"address,omitzero"`      // the resolved address that decided
	ServerName string         `json:"server_name,omitempty"` // the name in the ClientHello that decided
	Command    string         `json:"command,omitempty"`
	Generation uint64         `json:"generation"` // of the policy that refused
}

func publicRefusal(r *audit.Refusal) BlockedRequest {
	v := &r.Verdict
	return BlockedRequest{
		Time:       r.Time,
		Host:       r.Host,
		Port:       r.Port,
		Protocol:   r.Protocol,
		Method:     r.Method,
		UnixSocket: r.UnixSocket,
		Client:     r.Client,
		Reason:     v.Reason,
		Source:     v.Source,
		Decision:   v.Decision(),
		Rule:       publicRule(v.Rule()),
		Address:    v.Address,
		ServerName: v.ServerName,
		Command:    r.Command,
		Generation: v.Generation,
	}
}

func publicRefusals(list []audit.Refusal) []BlockedRequest {
	public := make([]BlockedRequest, len(list)) // never nil: it is [] in JSON
	for i := range list {
		public[i] = publicRefusal(&list[i])
	}
	return public
}
