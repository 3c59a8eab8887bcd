// Decisions: the policy, the grants and the decider.

package gate

import (
	"context"
	"errors"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/policy"
)

// Ruling is the verdict on a request with the grant that allowed it.
type Ruling struct {
	policy.Verdict
	Grant *approval.Grant // nil if no grant was needed
}

// Decide applies every check that needs no lookup of the name. If only the
// allowlist refuses the request, Decide looks for a grant and asks the decider,
// which may take long. An allowlisted request takes no lock.
func (g *Gate) Decide(ctx context.Context, req *Request) Ruling {
	req.attribution = req.Principal.Attribution()
	for {
		req.Overlay = req.Principal.Overlay.Load() // a session's rules apply on every listener
		p := g.Policy()
		req.policy = p
		v, miss := p.Judge(&req.Query, g.StandingApproval(), nil)
		if !miss || g.DeciderOf(req.Principal) == nil {
			return Ruling{Verdict: v}
		}
		if v, ok := p.JudgeUse(&req.Query, nil); !ok {
			return Ruling{Verdict: v} // the decider cannot change that, so it is not asked
		}
		a, again := g.Asker.Ask(ctx, req.ApprovalRequest(), p.Generation)
		switch {
		case again:
		case a.Grant != nil:
			return g.granted(req, a.Grant)
		default:
			return Ruling{Verdict: refusedBy(a, p.Generation)}
		}
	}
}

// granted returns the ruling on a request that a grant covers. It judges the request
// again, because a policy change during the call of the decider takes precedence.
func (g *Gate) granted(req *Request, grant *approval.Grant) Ruling {
	v, _ := g.Policy().Judge(&req.Query, policy.SourceDecider, nil)
	if v.Source != policy.SourceDecider {
		return Ruling{Verdict: v}
	}
	g.ClientLog.Debug("allowed by a grant", "grant", grant.ID, "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.Client)
	return Ruling{v, grant}
}

// refusedBy returns the refusal for a decider that refused or gave no answer.
func refusedBy(a approval.Answer, generation uint64) policy.Verdict {
	v := policy.Verdict{Source: policy.SourceDecider, Generation: generation, Check: policy.CheckAllowlist, OwnReason: a.Err != nil}
	switch {
	case errors.Is(a.Err, approval.ErrTimeout):
		v.Reason = policy.ReasonDeciderTimeout
	case errors.Is(a.Err, approval.ErrCanceled):
		v.Reason = policy.ReasonCanceled
	case errors.Is(a.Err, approval.ErrBusy):
		v.Reason, v.Check = policy.ReasonDeciderBusy, policy.CheckLimit
	case a.Err != nil:
		v.Reason = policy.ReasonDeciderFailed
	default:
		v.Reason, v.Ask = a.Decision.Reason, a.Decision.Ask
	}
	if v.Reason == "" {
		v.Reason = policy.ReasonPolicyDenied
	}
	return v
}

// DeciderOf returns the decider that is asked about the requests of a principal: its
// own, or else that of the proxy. It is nil if there is none.
func (g *Gate) DeciderOf(p *Principal) approval.Decider { return g.Asker.DeciderOr(p.Decider) }

// StandingApproval returns the source that allows all allowlist misses, or an empty
// one if there is none.
func (g *Gate) StandingApproval() policy.Source {
	if g.Observations == nil {
		return ""
	}
	return policy.SourceObserver
}

// NeedsDecider reports whether Decide would look for a grant or ask the decider, and
// so may take long. It decides nothing.
func (g *Gate) NeedsDecider(req *Request) bool {
	req.Overlay = req.Principal.Overlay.Load()
	p := g.Policy()
	if _, miss := p.Judge(&req.Query, g.StandingApproval(), nil); !miss || g.DeciderOf(req.Principal) == nil {
		return false
	}
	_, permitted := p.JudgeUse(&req.Query, nil)
	return permitted
}
