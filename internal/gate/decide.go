// Decisions: the policy, the grants and the decider.

package gate

import (
	"context"
	"errors"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/policy"
)

// Ruling is the verdict on a request, and the grant that let it in.
type Ruling struct {
	policy.Verdict
	Grant *approval.Grant // nil if none did
}

// Decide applies every check that can be made before the name is looked up.
// Where only the allowlist stands in the way, it looks for a grant and asks
// the decider. What an allowlist lets through takes no lock.
func (g *Gate) Decide(ctx context.Context, req *Request) Ruling {
	req.Overlay = req.Principal.Overlay // of whichever listener made the request
	for {
		p := g.Policy()
		req.policy = p
		v, miss := p.Judge(&req.Query, g.StandingApproval(), nil)
		if !miss || g.Asker.Decider == nil {
			return Ruling{Verdict: v}
		}
		if v, ok := p.JudgeMode(&req.Query, nil); !ok {
			return Ruling{Verdict: v} // whatever the decider says, so it is not asked
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

// granted returns the ruling on a request that a grant covers. A deny or a mode
// that arrived while the decider thought wins.
func (g *Gate) granted(req *Request, grant *approval.Grant) Ruling {
	v, _ := g.Policy().Judge(&req.Query, policy.SourceDecider, nil)
	if v.Source != policy.SourceDecider {
		return Ruling{Verdict: v}
	}
	g.ClientLog.Debug("let through by a grant", "grant", grant.ID, "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.Client)
	return Ruling{v, grant}
}

// refusedBy is the verdict where the decider refused or gave no answer.
func refusedBy(a approval.Answer, generation uint64) policy.Verdict {
	v := policy.Verdict{Reason: a.Decision.Reason, Source: policy.SourceDecider, Ask: a.Decision.Ask, Generation: generation, Check: policy.CheckAllowlist}
	switch {
	case errors.Is(a.Err, approval.ErrTimeout):
		v.Reason, v.Ask = policy.ReasonDeciderTimeout, false
	case errors.Is(a.Err, approval.ErrCanceled):
		v.Reason, v.Ask = policy.ReasonCanceled, false
	case errors.Is(a.Err, approval.ErrBusy):
		v.Reason, v.Ask, v.Check = policy.ReasonDeciderBusy, false, policy.CheckLimit
	case a.Err != nil:
		v.Reason, v.Ask = policy.ReasonDeciderFailed, false
	}
	if v.Reason == "" {
		v.Reason = policy.ReasonPolicyDenied
	}
	return v
}

// StandingApproval is who lets allowlist misses pass without being asked.
func (g *Gate) StandingApproval() policy.Source {
	if g.Observations == nil {
		return ""
	}
	return policy.SourceObserver
}

// NeedsDecider reports whether decide would put a request to the decider, and so may
// take its time. It decides nothing.
func (g *Gate) NeedsDecider(req *Request) bool {
	req.Overlay = req.Principal.Overlay
	p := g.Policy()
	if _, miss := p.Judge(&req.Query, g.StandingApproval(), nil); !miss || g.Asker.Decider == nil {
		return false
	}
	_, permitted := p.JudgeMode(&req.Query, nil)
	return permitted
}
