// The account of requests: counters, record of refusals, log and observer.

package gate

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// Allowed accounts for a request that reached its target.
func (g *Gate) Allowed(req *Request) {
	g.Counters.Allow(req.Protocol)
	req.Principal.Account.Allow(req.Target)
	g.publishAllowed(req)
}

// AllowedAtEnd is Allowed for a request that has a connection and may end at once. Its
// event is published by the next call of Opened or Ended.
func (g *Gate) AllowedAtEnd(req *Request) {
	g.Counters.Allow(req.Protocol)
	req.Principal.Account.Allow(req.Target)
	g.allowedAtEnd(req)
}

// Ended accounts for the bytes of a request that had a connection to its target,
// once, when it has ended: sent to the target, and received from it.
func (g *Gate) Ended(req *Request, sent, received int64) {
	req.Principal.Traffic.Add(sent, received)
	req.Principal.Account.Transfer(req.Target, sent, received)
	g.publishEnd(req, sent, received)
}

// Refused accounts for a refused request: it counts, records and logs the refusal,
// and passes it to OnBlocked.
func (g *Gate) Refused(req *Request, v policy.Verdict) {
	g.Counters.Refuse(req.Protocol, &v)
	if v.Check == policy.CheckLocal || v.Check == policy.CheckAddress {
		g.Observations.AddLocal(req.Target, v.Address)
	}
	attribution := req.Attribution()
	r := audit.Refusal{
		Time:       time.Now(),
		Target:     req.Target,
		Protocol:   req.Protocol,
		Method:     req.Method,
		Upgrade:    req.Upgrade,
		UnixSocket: req.Socket.Asked,
		Client:     req.Client,
		Session:    req.Principal.ID,
		Group:      req.Principal.GroupName(),
		Command:    attribution.Command,
		Labels:     attribution.Labels,
		Verdict:    v,
	}
	if v.Check == policy.CheckHooks {
		r.Path = req.path()
	}
	g.Blocked.Add(&req.Principal.Owner, &r)
	req.Principal.Account.Refuse(&r, attribution)
	if req.Principal.Blocked != nil {
		req.Principal.Blocked.Add(&req.Principal.Owner, &r)
	}
	g.publishRefused(req, &r)
	g.logRefusal(req, &r)
	if g.observer != nil {
		g.notify(r)
	}
}

// logRefusal calls the slog handler directly. slog.Logger would capture the
// caller's PC, which doubles the cost.
func (g *Gate) logRefusal(req *Request, r *audit.Refusal) {
	handler := req.logger(g.Log).Handler()
	if !handler.Enabled(context.Background(), slog.LevelInfo) || !g.LogLimiter.Allow(&req.Principal.Owner) {
		return
	}
	record := slog.NewRecord(r.Time, slog.LevelInfo, "refused", 0)
	attrs := [9]slog.Attr{
		slog.String("host", r.Target.Host.String()), slog.Uint64("port", uint64(r.Target.Port)), slog.String("protocol", string(r.Protocol)),
		slog.String("method", r.Method), slog.String("reason", string(r.Verdict.Reason)), slog.String("source", string(r.Verdict.Source)),
	}
	n := 6
	client := ""
	if r.Client.IsValid() { // a lookup has none
		client = r.Client.String()
	}
	for _, a := range [...]slog.Attr{slog.String("client", client), slog.String("rule", r.Verdict.Pattern()), slog.String("session", req.Principal.ID)} {
		if a.Value.String() != "" {
			attrs[n] = a
			n++
		}
	}
	record.AddAttrs(attrs[:n]...)
	handler.Handle(context.Background(), record) // slog.Logger ignores the error as well
}

// Malformed accounts for a request without a valid target. Such requests are counted
// and logged but not recorded. from is the principal of the listener.
func (g *Gate) Malformed(from *Principal, client netip.AddrPort, protocol policy.Protocol, err error) {
	g.Counters.Add(audit.Refused, protocol, policy.ReasonInvalidTarget)
	g.publishMalformed(from, client, protocol, err)
	if g.LogLimiter.Allow(&from.Owner) {
		g.Log.Warn("malformed request", "protocol", string(protocol), "client", client, "error", g.ErrorText(err))
	}
}

// Failed accounts for an allowed request that did not reach its target.
func (g *Gate) Failed(req *Request, err error) { g.FailedWithReason(req, FailureReason(err), err) }

// FailedWithReason is Failed with the given reason instead of that of the error.
func (g *Gate) FailedWithReason(req *Request, reason policy.Reason, err error) {
	g.Counters.Fail(req.Protocol, reason)
	req.Principal.Account.Fail(req.Target)
	g.publishFailed(req, reason, err)
	if g.LogLimiter.Allow(&req.Principal.Owner) {
		req.logger(g.Log).Info("failed", "host", req.Target.Host.String(), "port", req.Target.Port,
			"protocol", string(req.Protocol), "method", req.Method, "client", req.Client, "error", g.ErrorText(err))
	}
}

// RefusedError is the error for a request that the policy refused.
type RefusedError struct {
	Request *Request
	Verdict policy.Verdict
}

// NewRefusedError returns the error for a refused request.
func NewRefusedError(req *Request, v policy.Verdict) *RefusedError {
	return &RefusedError{req, v}
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s refused: %s", e.Request.Target, e.Verdict.Reason)
}
