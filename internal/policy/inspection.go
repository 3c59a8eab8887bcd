package policy

import (
	"strings"

	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/httprule"
)

// Inspection says which TLS connections the proxy opens, and what the requests in
// them may do. Its fields must not change while a policy in force has it.
type Inspection struct {
	Domains RuleSets // mitm_domains: hosts that are opened in every mode
	Exempt  RuleSets // mitm_exempt_domains: hosts that are never opened

	// Forbidden means that nothing may be opened, because managed limits have turned
	// TLS inspection off. What must be seen is then refused.
	Forbidden bool

	Hooks *RuleSet      // mitm_hooks, as refusals show them; nil if there are none
	Rules *httprule.Set // the same, compiled

	Edits map[int]*credential.Edit // what rules change in requests, by their number; nil if nothing

	Credentials *credential.Set // nil if no placeholders are exchanged
}

// JudgeUse applies the checks of what a request does at its target: the mode, TLS
// inspection, and the request rules. ok reports whether all permit the request. If
// not, v is the refusal. If they do, v has only Open and Content.
func (p *Policy) JudgeUse(q *Query, tr *Trace) (v Verdict, ok bool) {
	if v, ok = p.JudgeMode(q, tr); !ok || p.Inspection == nil {
		return v, ok
	}
	if !q.IsHTTP() {
		return p.judgeOpening(q, tr)
	}
	ruled, ok := p.judgeRules(q, tr)
	if ok && ruled.Content == httprule.ContentAny {
		ruled.Content = v.Content
	}
	return ruled, ok
}

// JudgeInnerMethod judges the method of a request inside an opened tunnel: CONNECT would
// be a tunnel in the tunnel, and a response to TRACE would repeat fields that the proxy
// adds. Some servers ignore the case of TRACE.
func (p *Policy) JudgeInnerMethod(method string) (v Verdict, ok bool) {
	if method != "CONNECT" && !strings.EqualFold(method, "TRACE") {
		return Verdict{}, true
	}
	return p.refuse(CheckInspection, ReasonMethodNotAllowed, SourceBaselinePolicy, Entry{}, nil), false
}

// JudgeMode applies the mode in force and the session's mode.
func (p *Policy) JudgeMode(q *Query, tr *Trace) (v Verdict, ok bool) {
	ofSession := Mode("")
	content, permitted := p.permits(p.Mode, q)
	if m := q.Overlay.modeOf(); permitted && m != "" {
		bySession, ok := p.permits(m, q)
		if permitted = ok; !ok {
			ofSession = m
		}
		if content == httprule.ContentAny { // otherwise the mode of the proxy requires more
			content = bySession
		}
	}
	if permitted {
		tr.Pass(CheckMode)
		return Verdict{Content: content}, true
	}
	v = Verdict{Check: CheckMode, Reason: ReasonMethodNotAllowed, Source: SourceModeGuard, SessionMode: ofSession, Generation: p.Generation}
	if p.Inspection != nil && q.CanOpen && !p.Inspection.Forbidden { // the target is exempt
		v.Reason, v.Entry = ReasonMITMRequired, p.Inspection.Exempt.match(q.Target)
	}
	if q.HTTP != nil {
		v.Problem = httprule.Write(q.HTTP)
	}
	if tr != nil {
		tr.Add(Step{Check: CheckMode, Rule: v.Rule()})
	}
	return v, false
}

// permits reports whether a mode permits a request, and what its content must be.
// Limited is for reading: RFC 9110's safe methods except TRACE, whose response
// echoes the request, and the requests with which git and Git LFS read. A tunnel is
// permitted if its requests will be seen.
func (p *Policy) permits(m Mode, q *Query) (httprule.Content, bool) {
	switch {
	case m != ModeLimited:
		return httprule.ContentAny, true
	case q.Upgrade:
		return httprule.ContentAny, false
	case !q.IsHTTP():
		return httprule.ContentAny, p.Inspection != nil && q.CanOpen && !p.Inspection.Forbidden && !p.Inspection.Exempt.match(q.Target).Found()
	case q.HTTP != nil:
		return httprule.ReadOnly(q.HTTP)
	}
	switch q.Method {
	case "GET", "HEAD", "OPTIONS":
		return httprule.ContentAny, true
	}
	return httprule.ContentAny, false
}

// judgeOpening decides whether a tunnel is opened, and refuses one that must be and
// cannot. It also refuses datagrams to a target whose requests must be seen, because
// they may be of HTTP/3. A target with request rules that is exempt is refused as well:
// no configuration has both, but managed limits can add a rule at run time.
func (p *Policy) judgeOpening(q *Query, tr *Trace) (v Verdict, ok bool) {
	in := p.Inspection
	limited := p.Mode == ModeLimited || q.Overlay.modeOf() == ModeLimited
	by, ruled := in.ruleFor(q)
	exempt := in.Exempt.match(q.Target).Found()
	switch {
	case !limited && !ruled, exempt && !in.hasHooks(q):
		tr.Pass(CheckInspection)
		return Verdict{}, true
	case in.Forbidden || exempt:
		v = p.refuse(CheckInspection, ReasonMITMRequired, SourceBaselinePolicy, by, tr)
		v.Problem = problemLimits
		return v, false
	case !q.CanOpen:
		return p.refuse(CheckInspection, ReasonMITMRequired, SourceBaselinePolicy, by, tr), false
	}
	tr.passMatch(CheckInspection, by)
	return Verdict{Open: true}, true
}

// problemLimits is the problem with a target that must be seen and that the managed
// limits keep the proxy from seeing.
const problemLimits = "the configuration does not obey the managed limits"

// hasHooks reports whether the target of q has request rules.
func (in *Inspection) hasHooks(q *Query) bool { return in.Rules.For(q.Target) != nil }

// ruleFor returns the entry of mitm_domains or mitm_hooks that makes the proxy open
// the target of q.
func (in *Inspection) ruleFor(q *Query) (by Entry, found bool) {
	if rules := in.Rules.For(q.Target); rules != nil {
		return Entry{in.Hooks, rules.First()}, true
	}
	if by = in.Domains.match(q.Target); by.Found() {
		return by, true
	}
	return by, in.Credentials.Bound(q.Target)
}

// judgeRules applies the request rules of the target. They bind its host and port,
// whatever carries the request.
func (p *Policy) judgeRules(q *Query, tr *Trace) (v Verdict, ok bool) {
	rules := p.Inspection.Rules.For(q.Target)
	if rules == nil || q.HTTP == nil {
		return Verdict{}, true
	}
	result := rules.Judge(q.HTTP)
	switch {
	case result.Problem != "":
		v = p.refuse(CheckHooks, ReasonInvalidTarget, SourceBaselinePolicy, Entry{}, tr)
		v.Problem = result.Problem
		return v, false
	case !result.Allowed:
		if unmatched := result.Rule < 0; unmatched {
			v = p.refuse(CheckHooks, ReasonMITMHookDenied, SourceBaselinePolicy, p.Inspection.hook(rules.First()), tr)
			v.Unmatched = true
			return v, false
		}
		return p.refuse(CheckHooks, ReasonMITMHookDenied, SourceBaselinePolicy, p.Inspection.hook(result.Rule), tr), false
	}
	tr.passMatch(CheckHooks, p.Inspection.hook(result.Rule))
	return Verdict{Content: result.Content}, true
}

// hook returns the entry of a rule; i is -1 for none.
func (in *Inspection) hook(i int) Entry {
	if i < 0 {
		return Entry{}
	}
	return Entry{in.Hooks, i}
}

// JudgeContent returns the refusal of an allowed request whose content is not what
// v, its verdict, requires. problem says what is wrong with it.
func (p *Policy) JudgeContent(q *Query, v Verdict, problem string) Verdict {
	refused := Verdict{Check: CheckContent, Reason: ReasonMITMHookDenied, Source: SourceBaselinePolicy, Problem: problem, Generation: p.Generation}
	if p.Mode == ModeLimited || q.Overlay.modeOf() == ModeLimited {
		refused.Reason, refused.Source = ReasonMethodNotAllowed, SourceModeGuard
	}
	return refused
}
