// PolicyDecider, the requests that it is asked about, and its decisions.
// internal/approval asks the decider and remembers its decisions.

package networkproxy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// Attribution names the command that requests are made for, in the host's words.
// All fields are optional. The zero value names none.
type Attribution struct {
	Command        string            // the command line
	ExecPolicyHint string            // the verdict of the host's execution policy on the command
	Labels         map[string]string // anything else; copied
}

// internal returns a copy for the internal packages.
func (a Attribution) internal() *audit.Attribution {
	return audit.NewAttribution(a.Command, a.ExecPolicyHint, a.Labels)
}

// PolicyRequest describes a request to a decider. Its host is canonical:
// a lower-case A-label name without a trailing dot, or an IP address. The
// client chooses Protocol, Host, Port and Method. It cannot choose the other
// fields.
type PolicyRequest struct {
	Protocol Protocol       `json:"protocol"`
	Host     string         `json:"host"`
	Port     uint16         `json:"port"`
	Method   string         `json:"method,omitempty"` // HTTP method; "CONNECT" for a tunnel; empty for SOCKS
	Client   netip.AddrPort `json:"client,omitzero"`  // address of the client; for identical requests, of the first

	// Path is the path of the URL, without the query and cut to 200 bytes, if
	// Protocol is [ProtocolHTTPS]. It is for people: an answer covers the host.
	Path string `json:"path,omitempty"`

	// Local is true for a loopback target: an address of 127.0.0.0/8, ::1,
	// localhost, or a name below localhost. A decider is asked about these only
	// with ask_local or allow_local_binding, and should tell the user that the
	// command wants to reach a service on this machine.
	Local bool `json:"local,omitempty"`

	// SessionID is the [Session.ID] of the request's session. It is empty on the
	// shared listeners and for requests of the host itself.
	SessionID string `json:"session,omitempty"`

	// Group is the [SessionConfig.Group] of the session; empty if it has none.
	Group string `json:"group,omitempty"`

	// The attribution of the request; empty on the shared listeners.
	Command        string            `json:"command,omitempty"`
	ExecPolicyHint string            `json:"exec_policy_hint,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
}

// PolicyDecider decides about a request that no allowlist entry matches and no
// grant covers. It is not asked about other requests, so it cannot override the
// denylist, the protection of local networks or the mode. [PolicyConfig.AskLocal]
// lets it decide about loopback targets as well.
//
// It is called from many goroutines at once. Identical requests that wait
// together share one call and its answer. Requests are identical if their
// PolicyRequests differ in nothing but Path, the port of Client and, for sessions
// of one group, in SessionID and Command. The decider gets those of the first
// request. A session with a decider of its own shares no call with others.
//
// ctx has the values of the context that the session was opened with. It ends when
// the last of the waiting clients has gone, at the deadline (see
// [Builder.DeciderTimeout]), when another answer covers the question (see
// [Decision]), when the session is closed, or when the proxy stops. In a group, it
// ends with the group instead of the session. The decider must return then, and
// a later answer is ignored. A decider that does not return delays neither requests
// nor the end of the proxy, but it keeps its goroutine and counts as a question (see
// [Limits.Questions]).
//
// An error, a panic or a missed deadline refuses the waiting requests only. An Ask
// is not remembered, so that an approval by the user applies to the next try.
type PolicyDecider func(ctx context.Context, req PolicyRequest) (Decision, error)

// Decision is the answer of a decider. The zero value denies. Its methods return
// changed copies.
//
// An Allow becomes a [Grant]. Without further calls, it allows the requests that
// wait for this answer, and no others. A Deny refuses them, and identical requests
// in the next two seconds unless the policy changes, so that immediate retries cause
// no further prompts.
//
// Times, For, ForSession and ForGroup make a decision last. It then covers the
// host and port of the request, with all protocols and methods. AnyPort and
// Subdomains make it cover more. The lists of the policy, the protection of local
// networks and the mode override all decisions, even if they change later: an
// allowlist entry that is added after a lasting Deny allows its host. A lasting
// Deny overrides every grant.
//
// A decision that lasts belongs to the session that the decider was asked about
// ([PolicyRequest.SessionID]), or with ForGroup to its group. If identical requests
// of several sessions of a group wait for the answer, it decides about all of them,
// but an Allow or Deny for a session is remembered only for that one, and Times
// counts the requests of all. The shared listeners count as one session.
//
// It also answers other questions that wait, if it covers their requests and belongs
// to the same session or group: their contexts end. An Allow with Times answers none
// of them.
//
// The methods have no effect on an Ask.
type Decision struct{ d approval.Decision }

// Allow allows the requests that wait for the answer.
func Allow() Decision { return Decision{approval.Allow()} }

// Deny refuses the request. The client, the log and the record of refusals get
// the reason, without control characters and cut at 200 bytes. An empty reason
// becomes "policy_denied".
func Deny(reason string) Decision { return Decision{approval.Deny(reason)} }

// Ask refuses the request and marks it as a question for the user. The host can
// then prompt the user, and the client can try again. The reason is treated as
// in Deny.
func Ask(reason string) Decision { return Decision{approval.Ask(reason)} }

// Times allows n requests, the waiting ones first. The decider is asked again
// about the rest. A request counts whether or not it reaches its target. A tunnel
// is one request, and so is each request on a kept-alive connection. If n is
// below 1, the decision becomes a plain Deny. Times has no effect on a Deny.
func (d Decision) Times(n int) Decision { return Decision{d.d.Times(n)} }

// For makes the decision last for a time that begins with the answer. With Times,
// a grant ends as soon as either is used up. Tunnels that are open then stay
// open. If duration is not positive, an Allow becomes a plain Deny, and a Deny is
// not remembered at all.
func (d Decision) For(duration time.Duration) Decision { return Decision{d.d.For(duration)} }

// ForSession makes the decision last until the session is closed or, on the shared
// listeners, until the proxy ends. A decision with Times or For also ends then at the
// latest, so ForSession has no effect on it.
func (d Decision) ForSession() Decision { return Decision{d.d.ForSession()} }

// ForGroup makes the decision apply to all sessions of the session's group (see
// [SessionConfig.Group]), also to those that are opened later. It lasts until
// [Handle.CloseGroup] or the end of the proxy, or as long as For and Times say. A
// session's denied domains and mode, and the protection of local networks, override
// it. Without a group, it is ForSession.
func (d Decision) ForGroup() Decision { return Decision{d.d.ForGroup()} }

// AnyPort makes a decision that lasts cover all ports of the host.
func (d Decision) AnyPort() Decision { return Decision{d.d.AnyPort()} }

// Subdomains makes a decision that lasts cover the host and all names below it, on
// the port of the request, or with AnyPort on all ports. It has no effect on an IP
// address, or on localhost and the names below it. It does not know public
// suffixes: names below "co.uk" or "github.io" belong to different owners.
func (d Decision) Subdomains() Decision { return Decision{d.d.Subdomains()} }

// String returns the decision in words, for logs and tests.
func (d Decision) String() string { return d.d.String() }

// ask returns f as a function that the gate can call, or nil if f is nil.
func (f PolicyDecider) ask() approval.Decider {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, r *approval.Request) (approval.Decision, error) {
		d, err := f(ctx, publicRequest(r))
		return d.d, err
	}
}

func publicRequest(r *approval.Request) PolicyRequest {
	a := r.Attribution
	return PolicyRequest{
		Protocol:       r.Protocol,
		Host:           r.Target.Host.String(),
		Port:           r.Target.Port,
		Method:         r.Method,
		Path:           r.Path,
		Client:         r.Client,
		Local:          policy.IsLoopback(r.Target.Host),
		SessionID:      r.Owner.ID,
		Group:          r.Owner.GroupName(),
		Command:        a.Command,
		ExecPolicyHint: a.ExecPolicyHint,
		Labels:         maps.Clone(a.Labels),
	}
}

// Question is a question of [Builder.AskOnPage] that waits for an answer.
type Question struct {
	ID      uint64        `json:"id"` // unique in this proxy; later questions have higher ones
	Request PolicyRequest `json:"request"`
	Asked   time.Time     `json:"asked"`
	Expires time.Time     `json:"expires,omitzero"` // zero: no limit, see [Builder.DeciderTimeout]
}

func publicQuestion(q approval.Waiting) Question {
	return Question{ID: q.ID, Request: publicRequest(q.Request), Asked: q.Asked, Expires: q.Expires}
}

// Secret is a secret of a [CredentialProvider]. It prints as "secret".
type Secret struct {
	Value string

	// Until is how long the proxy may keep the value. The zero value means that the
	// function is asked for each request.
	Until time.Time
}

// String returns "secret", as GoString, Format and MarshalJSON do.
func (Secret) String() string { return "secret" }

// GoString returns String.
func (s Secret) GoString() string { return s.String() }

// Format writes String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// MarshalJSON returns String as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"secret"`), nil }
