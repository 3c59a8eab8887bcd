// PolicyDecider, the requests that it is asked about, and its decisions.
// internal/approval asks the decider and remembers its decisions.

package networkproxy

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"example.com/networkproxy/internal/approval"
)

// PolicyRequest describes a request to a decider. Its host is canonical:
// a lower-case A-label name without a trailing dot, or an IP address. Only target
// and method come from the client; it cannot choose the other fields.
type PolicyRequest struct {
	Protocol Protocol       `json:"protocol"`
	Host     string         `json:"host"`
	Port     uint16         `json:"port"`
	Method   string         `json:"method,omitempty"` // HTTP method; "CONNECT" for a tunnel; empty for SOCKS
	Client   netip.AddrPort `json:"client,omitzero"`  // address of the client; for identical requests, of the first

	// SessionID is the [Session.ID] of the request's session. It is empty on the
	// shared listeners and for requests of the host itself.
	SessionID string `json:"session,omitempty"`

	// The attribution of the request; empty on the shared listeners.
	Command        string            `json:"command,omitempty"`
	ExecPolicyHint string            `json:"exec_policy_hint,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
}

// PolicyDecider decides about a request that no allowlist entry matches and no
// grant covers. It is not asked about other requests, so it cannot override the
// denylist, the protection of local networks or the mode.
//
// It is called from many goroutines at once. Identical requests that wait
// together share one call and its answer. Requests are identical if their
// PolicyRequests differ in nothing but the port of Client.
//
// ctx ends when the last of the waiting clients has gone, at the deadline (see
// [Builder.DeciderTimeout]), when the session is closed, or when the proxy stops.
// The decider must return then, and a later answer is ignored. A decider that
// does not return delays neither requests nor the end of the proxy, but it keeps
// its goroutine and counts as a question (see [Limits.Questions]).
//
// An error, a panic or a missed deadline refuses the waiting requests only.
// A Deny also refuses identical requests in the next two seconds, unless the
// policy changes, so that clients that retry at once do not cause a prompt each.
// An Ask is not remembered, so that an approval by the user applies to the next
// try.
type PolicyDecider func(ctx context.Context, req PolicyRequest) (Decision, error)

// Decision is the answer of a decider. The zero value denies. Its methods return
// changed copies.
//
// An Allow becomes a [Grant]. Without further calls, it allows the requests that
// wait for this answer, and no others. Times, For and ForSession make the grant
// last. AnyPort and Subdomains make a lasting grant cover more than the host and
// port of the request. A grant covers all protocols and methods, but only
// requests of the same session; the shared listeners count as one session. The
// denylist, the protection of local networks and the mode override grants, even
// if they change later.
//
// The methods have no effect on a Deny or an Ask.
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
// below 1, the decision becomes a Deny.
func (d Decision) Times(n int) Decision { return Decision{d.d.Times(n)} }

// For allows requests for a time that begins with the answer. With Times, the
// grant ends as soon as either is used up. Tunnels that are open then stay
// open. If duration is not positive, the decision becomes a Deny.
func (d Decision) For(duration time.Duration) Decision { return Decision{d.d.For(duration)} }

// ForSession allows requests until their session is closed or, on the shared
// listeners, until the proxy ends. Every grant ends then at the latest, so
// ForSession has no effect together with Times or For.
func (d Decision) ForSession() Decision { return Decision{d.d.ForSession()} }

// AnyPort makes the grant cover all ports of the host.
func (d Decision) AnyPort() Decision { return Decision{d.d.AnyPort()} }

// Subdomains makes the grant cover the host and all names below it, on the port
// of the request, or with AnyPort on all ports. It has no effect on an IP
// address. It does not know public suffixes: names below "co.uk" or "github.io"
// belong to different owners.
func (d Decision) Subdomains() Decision { return Decision{d.d.Subdomains()} }

// String returns the decision in words, for logs and tests.
func (d Decision) String() string { return d.d.String() }

// ask returns f as a function that the gate can call, or nil if f is nil.
func (f PolicyDecider) ask() func(context.Context, *approval.Request) (approval.Decision, error) {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, r *approval.Request) (approval.Decision, error) {
		d, err := f(ctx, publicRequest(r))
		return d.d, err
	}
}

func publicRequest(r *approval.Request) PolicyRequest {
	a := &r.Owner.Attribution
	return PolicyRequest{
		Protocol:       r.Protocol,
		Host:           r.Target.Host.String(),
		Port:           r.Target.Port,
		Method:         r.Method,
		Client:         r.Client,
		SessionID:      r.Owner.ID,
		Command:        a.Command,
		ExecPolicyHint: a.ExecPolicyHint,
		Labels:         maps.Clone(a.Labels),
	}
}
