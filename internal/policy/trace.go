package policy

import "net/netip"

// Step is the result of one check.
type Step struct {
	Check   Check
	Passed  bool
	Rule    Rule       // the entry that decided, if one did
	Source  Source     // the source that decided, if not a list
	Address netip.Addr // the address that decided, if one did
}

// Trace collects the steps of a decision while it is made. A nil *Trace
// collects nothing and costs nothing.
type Trace []Step

// Add appends a step.
func (t *Trace) Add(s Step) {
	if t != nil {
		*t = append(*t, s)
	}
}

// Pass appends a check that passed.
func (t *Trace) Pass(c Check) { t.Add(Step{Check: c, Passed: true}) }

func (t *Trace) passBy(c Check, s Source) { t.Add(Step{Check: c, Passed: true, Source: s}) }

// passMatch makes a Rule of e only if there is a trace.
func (t *Trace) passMatch(c Check, e Entry) {
	if t != nil {
		t.Add(Step{Check: c, Passed: true, Rule: e.Rule()})
	}
}
