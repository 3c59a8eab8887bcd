// The types that describe decisions and fences to hosts, and the errors that hosts can
// test for. internal/policy decides.

package networkproxy

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
)

// Protocol is the protocol of a request to the proxy.
type Protocol = policy.Protocol

const (
	ProtocolHTTP         = policy.ProtocolHTTP         // forwarded HTTP, RFC 9112 section 3.2.2
	ProtocolHTTPSConnect = policy.ProtocolHTTPSConnect // HTTP CONNECT, RFC 9110 section 9.3.6
	ProtocolHTTPS        = policy.ProtocolHTTPS        // request inside TLS that the proxy opened, or with an https:// URL
	ProtocolSOCKS5TCP    = policy.ProtocolSOCKS5TCP    // SOCKS5 CONNECT, RFC 1928 section 4
	ProtocolSOCKS5UDP    = policy.ProtocolSOCKS5UDP    // datagram of a SOCKS5 UDP ASSOCIATE, RFC 1928 section 7
	ProtocolCapturedTCP  = policy.ProtocolCapturedTCP  // connection that a fence captured, and the HTTP requests on it
	ProtocolCapturedUDP  = policy.ProtocolCapturedUDP  // datagram that a fence captured
	ProtocolDNS          = policy.ProtocolDNS          // lookup inside a fence; the port is 0
)

// Reason is the reason of a refusal, in one word. It is empty if the request was
// allowed. A decider can give any reason, even one of those below: their meaning
// holds only if [Verdict.Source] is not [SourceDecider].
type Reason = policy.Reason

const (
	ReasonInvalidTarget    = policy.ReasonInvalidTarget    // the target is malformed; status 400
	ReasonProxyDisabled    = policy.ReasonProxyDisabled    // a reload disabled the proxy; status 503
	ReasonNotAllowed       = policy.ReasonNotAllowed       // no allowlist entry matches, and no decider allowed it
	ReasonNotAllowedLocal  = policy.ReasonNotAllowedLocal  // a local or private address, or the proxy itself
	ReasonDenied           = policy.ReasonDenied           // a denylist entry matches
	ReasonMethodNotAllowed = policy.ReasonMethodNotAllowed // the limited mode forbids it
	ReasonSNIMismatch      = policy.ReasonSNIMismatch      // the ClientHello in a tunnel has no server name, or one that is not allowed
	ReasonHostMismatch     = policy.ReasonHostMismatch     // a request names another host than its connection was opened for; status 421
	ReasonMITMRequired     = policy.ReasonMITMRequired     // the policy must see the requests of the connection, and cannot
	ReasonMITMHookDenied   = policy.ReasonMITMHookDenied   // no request rule of the host permits the request, or one denies it
	// ReasonCredentialNotAllowed means that a placeholder of a credential was where
	// it is not exchanged.
	ReasonCredentialNotAllowed = policy.ReasonCredentialNotAllowed

	ReasonPolicyDenied       = policy.ReasonPolicyDenied       // the decider denied and gave no reason
	ReasonDeciderFailed      = policy.ReasonDeciderFailed      // the decider returned an error or panicked
	ReasonDeciderTimeout     = policy.ReasonDeciderTimeout     // the decider did not answer in time
	ReasonDeciderBusy        = policy.ReasonDeciderBusy        // too many questions waited for the decider; status 503
	ReasonGrantRevoked       = policy.ReasonGrantRevoked       // the grant that allowed the request was revoked meanwhile
	ReasonTooManyConnections = policy.ReasonTooManyConnections // see Limits.Connections; status 503
	ReasonCanceled           = policy.ReasonCanceled           // the client, the session or the proxy ended before the decider answered
	ReasonSessionRequired    = policy.ReasonSessionRequired    // the request has no session token and needs one; status 407
	ReasonSessionUnknown     = policy.ReasonSessionUnknown     // the token belongs to no open session, or to another session; status 407

	// ReasonUpstreamCertificate means that the certificate of the origin server of an
	// opened connection is not valid. The status is 502.
	ReasonUpstreamCertificate = policy.ReasonUpstreamCertificate

	// ReasonClientCertificateRequired means that the origin server of an opened
	// connection asks for a client certificate. The status is 502.
	ReasonClientCertificateRequired = policy.ReasonClientCertificateRequired

	// ReasonCertificateDistrusted means that a client ended a connection that was to
	// be opened, probably because it does not trust the certificate of the proxy.
	ReasonCertificateDistrusted = policy.ReasonCertificateDistrusted

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

// DecisionKind is the decision about a request in one word.
type DecisionKind = policy.DecisionKind

const (
	DecisionAllow = policy.DecisionAllow
	DecisionDeny  = policy.DecisionDeny // final, as far as the proxy knows
	DecisionAsk   = policy.DecisionAsk  // of a decider that wants the user to be asked; a retry may succeed
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
	Path       string         `json:"path,omitempty"`        // of the URL, without the query; set if a request rule decided
	Client     netip.AddrPort `json:"client,omitzero"`
	Reason     Reason         `json:"reason"`
	Source     Source         `json:"source,omitempty"`
	Decision   DecisionKind   `json:"decision"`
	Rule       Rule           `json:"rule,omitzero"`
	Address    netip.Addr     `json:"address,omitzero"`      // the resolved address that decided
	ServerName string         `json:"server_name,omitempty"` // the name in the ClientHello that decided
	Generation uint64         `json:"generation"`            // of the policy that refused

	SessionID string            `json:"session,omitempty"` // empty on the shared listeners and for requests of the host
	Group     string            `json:"group,omitempty"`   // of the session; empty if it has none
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
		Path:       r.Path,
		Client:     r.Client,
		Reason:     v.Reason,
		Source:     v.Source,
		Decision:   v.Decision(),
		Rule:       publicRule(v.Rule()),
		Address:    v.Address,
		ServerName: v.ServerName,
		Generation: v.Generation,
		SessionID:  r.Session,
		Group:      r.Group,
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

// The errors that hosts can test for. Their texts have no package prefix, because
// errors of the configuration begin with file:line:column, and hosts add context
// of their own.
var (
	// ErrClosed is returned by the methods of Handle after Shutdown, Close or the
	// end of Run's context.
	ErrClosed = gate.ErrClosed

	// ErrAlreadyRun is returned by Run after the first call.
	ErrAlreadyRun = errors.New("this proxy was already run; build another")

	// ErrDisabled is returned by methods that open sessions or change the policy
	// if the proxy was started with enabled = false.
	ErrDisabled = errors.New("the proxy is disabled (network_proxy.enabled = false); enable it and start it again")

	// ErrCallbackRunning is returned by Shutdown and Close if a function of the
	// host, such as OnBlocked, the log handler, a PolicyDecider or a Resolver, does
	// not return after everything was cut. It is wrapped in an error that names
	// the function. The proxy has ended, and the goroutine of the function is left
	// behind.
	ErrCallbackRunning = errors.New("the proxy has ended, but a function of the host has not returned")

	// ErrReloading is returned by Reload while the function of ConfigSource runs
	// for another reload. That function also gets it if it calls Reload.
	ErrReloading = errors.New("a reload is under way: its configuration source has not returned; reload again when it has")

	// ErrNotSaved is in the error of Remember if the entry is in force until the
	// proxy ends, but was not saved.
	ErrNotSaved = errors.New("it was not saved")

	// ErrNoGrant is returned by Revoke if no grant has the ID: it never existed,
	// or it is used up, expired or revoked and has no open connections.
	ErrNoGrant = gate.ErrNoGrant

	// ErrNoQuestion is returned by Answer if no question with the ID waits: somebody
	// has answered it, or nobody waits for the answer any more.
	ErrNoQuestion = approval.ErrNoQuestion
)

// RefusedError is the error for a request of the host that the policy refuses,
// see [Handle.Transport].
type RefusedError struct {
	Host    string
	Port    uint16
	Verdict Verdict
}

// Error returns the target and the reason of the refusal.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("network proxy refused %s: %s",
		net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))), e.Verdict.Reason)
}

// publicError returns the RefusedError for a refusal in the chain of err, or err
// if it has none.
func publicError(err error) error {
	var refused *gate.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	return &RefusedError{Host: refused.Request.Target.Host.String(), Port: refused.Request.Target.Port, Verdict: publicVerdict(&refused.Verdict)}
}

// FenceLevel is the protection that a fence gives.
type FenceLevel string

const (
	// FenceCapture: the proxy is the only way out, and programs that do not support
	// proxies work as well, because their connections are captured. It is the default.
	FenceCapture FenceLevel = "capture"

	// FenceSealed: the proxy is the only way out, and programs have to use the
	// environment of [Session.Environ]. It is FenceCapture if the system supports that.
	FenceSealed FenceLevel = "sealed"

	// FenceBest: the best fence that the system supports, or none. Without a fence, the
	// level of the report is FenceNone, and its problems say why.
	FenceBest FenceLevel = "best"

	// FenceNone is the level of a report when there is no fence.
	FenceNone FenceLevel = "none"
)

// FenceReport says what a fence enforces.
type FenceReport struct {
	Level FenceLevel `json:"level"`

	// Mechanism is "namespaces", or "notification" where the system forbids user
	// namespaces. With the latter, the fence carries TCP and lookups alone, and the command
	// cannot run servers or connect to Unix sockets that it makes itself.
	Mechanism string `json:"mechanism,omitempty"`

	UDP      bool           `json:"udp"`                // datagrams are captured
	IPv6     bool           `json:"ipv6"`               // there are IPv6 addresses inside
	AllPorts bool           `json:"all_ports"`          // every TCP port is captured; if false, connections to some ports are refused without a record
	Enforced FenceEnforced  `json:"enforced"`           // the ways out that are closed
	Problems []FenceProblem `json:"problems,omitempty"` // the parts that are missing
}

// FenceEnforced lists the ways out that a fence closes.
type FenceEnforced struct {
	TCP          bool `json:"tcp"`
	UDP          bool `json:"udp"`
	ICMP         bool `json:"icmp"`
	IPv6         bool `json:"ipv6"`
	UnixPath     bool `json:"unix_path"`     // Unix sockets with a path
	UnixAbstract bool `json:"unix_abstract"` // abstract Unix sockets
	VSock        bool `json:"vsock"`         // sockets between a virtual machine and its host
	IOUring      bool `json:"io_uring"`      // system calls that no filter sees
	Ptrace       bool `json:"ptrace"`        // memory and descriptors of other processes
	Signals      bool `json:"signals"`       // signals to other processes, which are no way out
}

// FenceProblem is a part of a fence that the system does not support or permit.
type FenceProblem struct {
	Part  string `json:"part"`  // such as "user namespace"
	Error string `json:"error"` // the error of the system
	Fix   string `json:"fix"`   // what to do
}
