package networkproxy

import (
	"fmt"
	"strings"
	"time"

	"example.com/networkproxy/internal/policy"
)

// decision is the decider's answer to a question. The zero value denies.
type decision struct {
	Allow  bool
	Ask    bool // deny for now: the user wants to be asked
	Reason policy.Reason

	// These make an allow last and reach further than the requests that wait
	// for it.
	Times      int           // 0 if no number was set
	For        time.Duration // 0 if no time was set
	ForSession bool
	AnyPort    bool
	Subdomains bool
}

// String returns the decision in words, for logs and tests.
func (d decision) String() string {
	switch {
	case d.Ask:
		return fmt.Sprintf("ask(%s)", d.Reason)
	case !d.Allow:
		return fmt.Sprintf("deny(%s)", d.Reason)
	}
	var terms []string
	if d.Times > 0 {
		terms = append(terms, fmt.Sprintf("times %d", d.Times))
	}
	if d.For > 0 {
		terms = append(terms, fmt.Sprintf("for %v", d.For))
	}
	for _, term := range []struct {
		set  bool
		name string
	}{{d.ForSession, "for the session"}, {d.AnyPort, "any port"}, {d.Subdomains, "subdomains"}} {
		if term.set {
			terms = append(terms, term.name)
		}
	}
	if len(terms) == 0 {
		return "allow"
	}
	return "allow(" + strings.Join(terms, ", ") + ")"
}
