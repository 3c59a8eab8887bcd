// The host's own say: the decider, what it is told, what it answers, and how
// it is asked so that whatever it does harms only the request in question.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"
)

// PolicyRequest is what a decider is told of a request. It is canonical: the
// host is a lower-case A-label name without a trailing dot, or an IP address.
// Nothing in it was claimed by the peer but the target and the method.
type PolicyRequest struct {
	Protocol Protocol       `json:"protocol"`
	Host     string         `json:"host"`
	Port     uint16         `json:"port"`
	Method   string         `json:"method,omitempty"` // HTTP method; "CONNECT" for a tunnel; empty for SOCKS
	Client   netip.AddrPort `json:"client,omitzero"`  // the peer's address

	// Command and ExecPolicyHint are those of the session that the request
	// came in by; empty on the shared listeners.
	Command        string            `json:"command,omitempty"`
	ExecPolicyHint string            `json:"exec_policy_hint,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
}

// PolicyDecider decides about one request that no allowlist entry matches.
// It is asked about nothing else: it can override neither the denylist, nor
// the protection of local networks, nor the mode.
//
// It is called from many goroutines at once. ctx ends at the deadline (see
// [Builder.DeciderTimeout]), when the client goes away, and when the proxy
// shuts down; a decider must return then. An error, a panic and a missed
// deadline deny, and concern that request alone.
type PolicyDecider func(ctx context.Context, req PolicyRequest) (Decision, error)

// Decision is a decider's answer. The zero value denies.
type Decision struct {
	allow  bool
	ask    bool
	reason Reason
}

// Allow lets the request through.
func Allow() Decision { return Decision{allow: true} }

// Deny refuses the request. The reason reaches the client, the log and the
// record of refusals, cleaned of control characters and cut at 200 bytes; an
// empty one becomes "policy_denied".
func Deny(reason string) Decision { return Decision{reason: cleanReason(reason)} }

// Ask refuses the request for now and marks the refusal as one that the user
// may lift, so that the host can prompt and the client can try again.
func Ask(reason string) Decision { return Decision{ask: true, reason: cleanReason(reason)} }

// String is for logs and tests.
func (d Decision) String() string {
	switch {
	case d.allow:
		return "allow"
	case d.ask:
		return fmt.Sprintf("ask(%s)", d.reason)
	}
	return fmt.Sprintf("deny(%s)", d.reason)
}

// defaultDeciderTimeout leaves a person time to read a prompt and is still
// shorter than the time-outs of common clients.
const defaultDeciderTimeout = 60 * time.Second

var (
	errDeciderTimeout  = errors.New("the decider did not answer in time")
	errDeciderCanceled = errors.New("the request ended before the decider answered")
)

// ask puts one request to the decider and waits for the answer, the deadline
// or the end of ctx. The call runs on a goroutine of its own, so that a
// decider that ignores its context holds up nobody but itself; the end
// of the proxy waits for that goroutine, though not for ever.
func (e *enforcer) ask(ctx context.Context, req PolicyRequest) (Decision, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.deciderTimeout, errDeciderTimeout)
	defer cancel()

	type answer struct {
		decision Decision
		err      error
	}
	answered := make(chan answer, 1)
	e.deciding.Go(func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a = answer{err: fmt.Errorf("the decider panicked: %v", p)}
				e.log.Error("decider panicked", "panic", p, "host", req.Host, "stack", string(debug.Stack()))
			}
			answered <- a
		}()
		a.decision, a.err = e.decider(ctx, req)
	})

	select {
	case a := <-answered:
		if a.err != nil && ctx.Err() != nil {
			return Decision{}, deciderContextError(ctx)
		}
		return a.decision, a.err
	case <-ctx.Done():
		return Decision{}, deciderContextError(ctx)
	}
}

func deciderContextError(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errDeciderTimeout) {
		return errDeciderTimeout
	}
	return fmt.Errorf("%w: %w", errDeciderCanceled, context.Cause(ctx))
}
