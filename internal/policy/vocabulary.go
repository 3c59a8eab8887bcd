package policy

// Protocol names how a request reached the proxy.
type Protocol string

const (
	ProtocolHTTP         Protocol = "http"
	ProtocolHTTPSConnect Protocol = "https_connect"
	ProtocolHTTPS        Protocol = "https" // a request inside TLS that the proxy opened
	ProtocolSOCKS5TCP    Protocol = "socks5_tcp"
	ProtocolSOCKS5UDP    Protocol = "socks5_udp"
	ProtocolCapturedTCP  Protocol = "captured_tcp" // a connection that a fence captured, and the HTTP requests on it
	ProtocolCapturedUDP  Protocol = "captured_udp" // a datagram that a fence captured
	ProtocolDNS          Protocol = "dns"          // a lookup inside a fence
)

// IsUDP reports whether requests of the protocol are sent as datagrams.
func (p Protocol) IsUDP() bool { return p == ProtocolSOCKS5UDP || p == ProtocolCapturedUDP }

// IsTunnel reports whether requests of the protocol are streams of bytes. Captured
// connections are, until HTTP is found in them.
func (p Protocol) IsTunnel() bool {
	return p == ProtocolHTTPSConnect || p == ProtocolSOCKS5TCP || p == ProtocolCapturedTCP
}

// Mode restricts what allowed requests may do.
type Mode string

const (
	ModeFull    Mode = "full"
	ModeLimited Mode = "limited"
)

// Reason says in one word why a request was refused or failed. The zero value
// means neither.
type Reason string

// The reasons of refusals. The package networkproxy documents each.
const (
	ReasonInvalidTarget             Reason = "invalid_target"
	ReasonProxyDisabled             Reason = "proxy_disabled"
	ReasonNotAllowed                Reason = "not_allowed"
	ReasonNotAllowedLocal           Reason = "not_allowed_local"
	ReasonDenied                    Reason = "denied"
	ReasonMethodNotAllowed          Reason = "method_not_allowed"
	ReasonSNIMismatch               Reason = "sni_mismatch"
	ReasonHostMismatch              Reason = "host_mismatch"
	ReasonMITMRequired              Reason = "mitm_required"
	ReasonMITMHookDenied            Reason = "mitm_hook_denied"
	ReasonCredentialNotAllowed      Reason = "credential_not_allowed"
	ReasonUpstreamCertificate       Reason = "upstream_certificate"
	ReasonClientCertificateRequired Reason = "client_certificate_required"
	ReasonCertificateDistrusted     Reason = "certificate_distrusted"
	ReasonPolicyDenied              Reason = "policy_denied"
	ReasonDeciderFailed             Reason = "decider_failed"
	ReasonDeciderTimeout            Reason = "decider_timeout"
	ReasonDeciderBusy               Reason = "decider_busy"
	ReasonGrantRevoked              Reason = "grant_revoked"
	ReasonTooManyConnections        Reason = "too_many_connections"
	ReasonCanceled                  Reason = "canceled"
	ReasonSessionRequired           Reason = "session_required"
	ReasonSessionUnknown            Reason = "session_unknown"
	ReasonUpstreamNotAllowed        Reason = "upstream_not_allowed"
)

// The reasons of failures: the policy allowed the request, but its target
// could not be reached.
const (
	ReasonDNSFailure     Reason = "dns_failure"
	ReasonConnectFailure Reason = "connect_failure"
	ReasonProxyFailure   Reason = "upstream_proxy_failure" // the upstream proxy could not be used
	ReasonUpstreamError  Reason = "upstream_error"
	ReasonInvalidContent Reason = "invalid_content" // the client's body is cut short or not framed as it says
	ReasonTimeout        Reason = "timeout"
)

// Source says which part of the policy decided.
type Source string

const (
	SourceBaselinePolicy Source = "baseline_policy"
	SourceModeGuard      Source = "mode_guard"
	SourceDecider        Source = "decider"
	SourceProxyState     Source = "proxy_state"
	SourceObserver       Source = "observer"
	SourceSession        Source = "session"
)

// DecisionKind is the decision about a request in one word.
type DecisionKind string

const (
	DecisionAllow DecisionKind = "allow"
	DecisionDeny  DecisionKind = "deny"
	DecisionAsk   DecisionKind = "ask" // refused until the user approves
)

// Check names one step of a decision.
type Check uint8

// The checks, in the order in which they are made.
const (
	CheckNone          Check = iota
	CheckTarget              // the target is well-formed
	CheckLimit               // no limit is reached
	CheckSession             // the session is known, unless the listener determines it
	CheckEnabled             // the proxy is on
	CheckOwnListener         // the target is not the proxy itself
	CheckDenylist            // no denylist entry matches
	CheckUnixSocket          // the path is in allow_unix_sockets; replaces the checks of hosts
	CheckLocal               // not a local literal, or explicitly allowed, or allowed by the decider with ask_local
	CheckAllowlist           // an allowlist entry matches, or the decider allows
	CheckManaged             // made on an allowlist miss: the managed allowed_domains let a decider allow the host
	CheckMode                // the mode permits the method and the protocol
	CheckInspection          // TLS is opened where the policy must see requests
	CheckHooks               // a request rule of the target permits the request
	CheckResolve             // the name has addresses
	CheckAddress             // every address is public
	CheckDeniedAddress       // no address is on the denylist
	CheckServerName          // TLS in a tunnel asks for the target; made when TLS begins
	CheckCredential          // no placeholder of a credential is where it is not exchanged
	CheckContent             // the beginning of the body is what its kind must be
	CheckCertificate         // the certificate of the origin server is valid, and the client trusts the proxy's
	CheckUpstream            // upstream proxies are allowed, for open connections through one
)

var checkNames = [...]string{
	CheckNone: "", CheckTarget: "target", CheckLimit: "limit", CheckSession: "session", CheckEnabled: "enabled",
	CheckOwnListener: "own_listener", CheckDenylist: "denylist", CheckUnixSocket: "unix_socket", CheckLocal: "local",
	CheckAllowlist: "allowlist", CheckManaged: "managed_limits", CheckMode: "mode", CheckInspection: "inspection", CheckHooks: "mitm_hooks",
	CheckResolve: "resolve",
	CheckAddress: "address", CheckDeniedAddress: "denied_address", CheckServerName: "server_name",
	CheckCredential: "credential", CheckContent: "content", CheckCertificate: "certificate", CheckUpstream: "upstream",
}

// String returns the name of the check, as explanations and /explain show it.
func (c Check) String() string { return checkNames[c] }
