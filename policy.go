// The types that describe decisions to hosts. internal/policy decides.

package networkproxy

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// Protocol is the protocol of a request to the proxy.
type Protocol = policy.Protocol

const (
	ProtocolHTTP         = policy.ProtocolHTTP         // forwarded HTTP, RFC 9112 section 3.2.2
	ProtocolHTTPSConnect = policy.ProtocolHTTPSConnect // HTTP CONNECT, RFC 9110 section 9.3.6
	ProtocolSOCKS5TCP    = policy.ProtocolSOCKS5TCP    // SOCKS5 CONNECT, RFC 1928 section 4
	ProtocolSOCKS5UDP    = policy.ProtocolSOCKS5UDP    // datagram of a SOCKS5 UDP ASSOCIATE, RFC 1928 section 7
)

// Reason is the reason of a refusal, in one word. It is empty if the request was
// allowed. A decider can give any reason, even one of those below: their meaning
// holds only if [Verdict.Source] is not [SourceDecider].
type Reason = policy.Reason

const (
	ReasonInvalidTarget      = policy.ReasonInvalidTarget      // the target is malformed; status 400
	ReasonProxyDisabled      = policy.ReasonProxyDisabled      // a reload disabled the proxy; status 503
	ReasonNotAllowed         = policy.ReasonNotAllowed         // no allowlist entry matches, and no decider allowed it
	ReasonNotAllowedLocal    = policy.ReasonNotAllowedLocal    // a local or private address, or the proxy itself
	ReasonDenied             = policy.ReasonDenied             // a denylist entry matches
	ReasonMethodNotAllowed   = policy.ReasonMethodNotAllowed   // the limited mode forbids it
	ReasonSNIMismatch        = policy.ReasonSNIMismatch        // the ClientHello in a tunnel has no server name, or one that is not allowed
	ReasonPolicyDenied       = policy.ReasonPolicyDenied       // the decider denied and gave no reason
	ReasonDeciderFailed      = policy.ReasonDeciderFailed      // the decider returned an error or panicked
	ReasonDeciderTimeout     = policy.ReasonDeciderTimeout     // the decider did not answer in time
	ReasonDeciderBusy        = policy.ReasonDeciderBusy        // too many questions waited for the decider; status 503
	ReasonGrantRevoked       = policy.ReasonGrantRevoked       // the grant that allowed the request was revoked meanwhile
	ReasonTooManyConnections = policy.ReasonTooManyConnections // see Limits.Connections; status 503
	ReasonCanceled           = policy.ReasonCanceled           // the client, the session or the proxy ended before the decider answered
	ReasonSessionRequired    = policy.ReasonSessionRequired    // the request has no session token and needs one; status 407
	ReasonSessionUnknown     = policy.ReasonSessionUnknown     // the token is that of no open session, or of another session; status 407

	// ReasonUpstreamNotAllowed is the reason for cutting open connections through
	// an upstream proxy when a reload disables allow_upstream_proxy. New requests
	// go directly.
	ReasonUpstreamNotAllowed = policy.ReasonUpstreamNotAllowed
)

// Source is the part of the policy that decided.
type Source = policy.Source

const (
	SourceBaselinePolicy = policy.SourceBaselinePolicy // the lists and the local protection
	SourceModeGuard      = policy.SourceModeGuard      // the limited mode
	SourceDecider        = policy.SourceDecider        // the PolicyDecider of the host
	SourceProxyState     = policy.SourceProxyState     // the proxy is disabled, or has too many connections
	SourceObserver       = policy.SourceObserver       // the proxy is observing, see Builder.Observe
	SourceSession        = policy.SourceSession        // the session of the request is not known
)

// Rule is the entry of a list that decided about a request. The zero value means
// that no entry decided.
type Rule struct {
	List     string   `json:"list,omitempty"`    // the key of the list: "allowed_domains" or "denied_domains"
	Pattern  string   `json:"pattern,omitempty"` // the entry as written
	Position Position `json:"origin,omitzero"`   // of the entry in a file; zero if it was set from Go
}

// Verdict is the decision of the policy about one request. The zero value
// refuses. Copies are independent.
type Verdict struct {
	Allowed    bool
	Reason     Reason     // of the refusal; empty if allowed
	Source     Source     // the part of the policy that decided
	Ask        bool       // the decider wants the user to be asked
	Rule       Rule       // the entry that decided; zero if none did
	Address    netip.Addr // the resolved address that decided; zero if none did
	ServerName string     // the name in the ClientHello that decided; empty if none did
	Generation uint64     // of the policy that was applied; each change increases it
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
	Rule    Rule       `json:"rule,omitzero"`    // the entry that decided; zero if none did
	Source  Source     `json:"source,omitempty"` // the part that decided, if it was not a list
	Address netip.Addr `json:"address,omitzero"` // the address that decided; zero if none did
}

func publicChecks(t policy.Trace) []Check {
	checks := make([]Check, len(t))
	for i, s := range t {
		checks[i] = Check{Name: s.Check.String(), Passed: s.Passed, Rule: publicRule(s.Rule), Source: s.Source, Address: s.Address}
	}
	return checks
}

// BlockedRequest is the record of a refusal. It has no header values, query
// strings or credentials.
type BlockedRequest struct {
	Time       time.Time      `json:"time"`
	Host       string         `json:"host"`
	Port       uint16         `json:"port"`
	Protocol   Protocol       `json:"protocol"`
	Method     string         `json:"method,omitempty"`
	UnixSocket string         `json:"unix_socket,omitempty"` // the requested path; empty if the target is a host
	Client     netip.AddrPort `json:"client,omitzero"`
	Reason     Reason         `json:"reason"`
	Source     Source         `json:"source,omitempty"`
	Decision   string         `json:"decision"` // "deny", or "ask" if the decider wants the user to be asked
	Rule       Rule           `json:"rule,omitzero"`
	Address    netip.Addr     `json:"address,omitzero"`      // the resolved address that decided
	ServerName string         `json:"server_name,omitempty"` // the name in the ClientHello that decided
	Generation uint64         `json:"generation"`            // of the policy that refused

	SessionID string            `json:"session,omitempty"` // empty on the shared listeners and for requests of the host
	Command   string            `json:"command,omitempty"` // of the attribution, like Labels
	Labels    map[string]string `json:"labels,omitempty"`

	// Message says what was refused and why. Hint says what the user could change,
	// and is empty if there is nothing. An HTTP client gets the same texts.
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// String returns the refusal on one line, without the hint.
func (b BlockedRequest) String() string {
	var line strings.Builder
	if b.Message != "" {
		line.WriteString(policy.CleanText(b.Message, len(b.Message)))
	} else {
		fmt.Fprintf(&line, "networkproxy blocked %s.", net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
	}
	fmt.Fprintf(&line, " (%s", b.Protocol)
	if b.Method != "" {
		fmt.Fprintf(&line, " %s", b.Method)
	}
	fmt.Fprintf(&line, ", %s: %s", b.Decision, b.Reason)
	if b.SessionID != "" {
		fmt.Fprintf(&line, ", session %s", b.SessionID)
	}
	if b.Command != "" {
		fmt.Fprintf(&line, ", command %q", b.Command)
	}
	line.WriteByte(')')
	return line.String()
}

func publicRefusal(r *audit.Refusal) BlockedRequest {
	v := &r.Verdict
	message, hint := r.Explain()
	return BlockedRequest{
		Time:       r.Time,
		Host:       r.Target.Host.String(),
		Port:       r.Target.Port,
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
		Generation: v.Generation,
		SessionID:  r.Session,
		Command:    r.Command,
		Labels:     maps.Clone(r.Labels),
		Message:    message,
		Hint:       hint,
	}
}

func publicRefusals(list []audit.Refusal) []BlockedRequest {
	public := make([]BlockedRequest, len(list)) // never nil: it is [] in JSON
	for i := range list {
		public[i] = publicRefusal(&list[i])
	}
	return public
}
