// The host's own say: the decider, what it is told, and what it answers. How
// it is asked is in asking.go; what becomes of an allow is in grants.go.

package networkproxy

import (
	"context"
	"net/netip"
	"time"

	"example.com/networkproxy/internal/approval"
)

// PolicyRequest is what a decider is told of a request. It is canonical: the
// host is a lower-case A-label name without a trailing dot, or an IP address.
// Nothing in it was claimed by the peer but the target and the method.
type PolicyRequest struct {
	Protocol Protocol       `json:"protocol"`
	Host     string         `json:"host"`
	Port     uint16         `json:"port"`
	Method   string         `json:"method,omitempty"` // HTTP method; "CONNECT" for a tunnel; empty for SOCKS
	Client   netip.AddrPort `json:"client,omitzero"`  // the peer's address; its port is that of the first who waits for the answer

	// Command and ExecPolicyHint are those of the session that the request
	// came in by; empty on the shared listeners.
	Command        string            `json:"command,omitempty"`
	ExecPolicyHint string            `json:"exec_policy_hint,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
}

// PolicyDecider decides about one request that no allowlist entry matches and
// no earlier grant covers. It is asked about nothing else: it can override
// neither the denylist, nor the protection of local networks, nor the mode.
//
// It is called from many goroutines at once, but once for identical requests
// that wait together: those that differ in nothing it is told but the port of
// Client, which is that of the first. Its answer is theirs. ctx ends when the
// last of their clients has gone, at the deadline (see
// [Builder.DeciderTimeout]), when their session is closed, and when the proxy
// shuts down; a decider must return then. What it answers later counts for
// nothing. One that does not return holds up no request and no shutdown; it
// keeps its goroutine, and its place among the questions that may be open at
// a time (see [Limits.Questions]).
//
// An error, a panic and a missed deadline deny, and concern the waiting
// requests alone. A Deny also stands for identical requests of the next two
// seconds, unless the policy changes: clients that try again at once are not
// worth a prompt each. An Ask is not kept, so that an approval counts from
// the client's very next try.
type PolicyDecider func(ctx context.Context, req PolicyRequest) (Decision, error)

// Decision is a decider's answer. The zero value denies. It is a plain value;
// its methods return changed copies.
//
// An Allow becomes a [Grant]. By itself it covers exactly the host and port
// that were asked about, this once: the requests that wait for this very
// answer. Times, For and ForSession make it last, Host and Subdomains make
// what lasts broader. It covers every protocol and method, and only requests
// of the session that the question came from; the listeners that belong to no
// session share theirs. A grant is never more than the decider's word: the
// denylist, the protection of local networks and the mode come before it,
// also when they change later.
//
// On a Deny and an Ask these methods have no effect.
type Decision struct{ d approval.Decision }

// Allow lets the waiting requests through, and nothing after them.
func Allow() Decision { return Decision{approval.Allow()} }

// Deny refuses the request. The reason reaches the client, the log and the
// record of refusals, cleaned of control characters and cut at 200 bytes; an
// empty one becomes "policy_denied".
func Deny(reason string) Decision { return Decision{approval.Deny(reason)} }

// Ask refuses the request for now and marks the refusal as one that the user
// may lift, so that the host can prompt and the client can try again.
func Ask(reason string) Decision { return Decision{approval.Ask(reason)} }

// Times lets n requests through, the waiting ones first; those that remain
// are asked about again. It counts decisions: a request that passes uses one
// up whether or not it reaches its target, a tunnel is one, and so is each
// request of a connection that is kept alive. n below 1 leaves nothing to let
// through: the decision becomes a Deny.
func (d Decision) Times(n int) Decision { return Decision{d.d.Times(n)} }

// For lets requests through for a time that begins with the answer; with
// Times, until either is used up. Its end stops new requests and leaves open
// tunnels alone. A duration that is not positive is over already: the
// decision becomes a Deny.
func (d Decision) For(duration time.Duration) Decision { return Decision{d.d.For(duration)} }

// ForSession lets requests through until their session is closed, or, where
// they came by the shared listeners, until the proxy ends. Every grant ends
// then at the latest: with Times or For it adds nothing.
func (d Decision) ForSession() Decision { return Decision{d.d.ForSession()} }

// AnyPort covers every port of the host.
func (d Decision) AnyPort() Decision { return Decision{d.d.AnyPort()} }

// Subdomains covers the host and every name below it, on the port that was
// asked about or, with Host, on all. An IP address has nothing below it. The
// host is taken at its word: below a name under which anybody can register,
// such as "co.uk" or "github.io", are strangers.
func (d Decision) Subdomains() Decision { return Decision{d.d.Subdomains()} }

// String returns the decision in words, for logs and tests.
func (d Decision) String() string { return d.d.String() }

// ask returns the decider as the gate calls it, nil if there is none.
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
		Command:        a.Command,
		ExecPolicyHint: a.ExecPolicyHint,
		Labels:         a.Labels,
	}
}
