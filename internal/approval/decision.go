package approval

import (
	"fmt"
	"strings"
	"time"

	"example.com/networkproxy/internal/policy"
)

// Decision is the decider's answer to a question. The zero value denies. The root
// package's Decision documents the methods in full.
type Decision struct {
	Allow  bool
	Ask    bool // deny for now: the user will be asked
	Reason policy.Reason

	// These make an allow cover more than the waiting requests. They are zero
	// if Allow is false.
	times      int           // 0 means not set
	duration   time.Duration // 0 means not set
	session    bool
	anyPort    bool
	subdomains bool
}

// Allow returns a decision that allows the waiting requests.
func Allow() Decision { return Decision{Allow: true} }

// Deny returns a decision that refuses.
func Deny(reason string) Decision { return Decision{Reason: policy.CleanReason(reason)} }

// Ask returns a decision that refuses for now, because the user will be asked.
func Ask(reason string) Decision { return Decision{Ask: true, Reason: policy.CleanReason(reason)} }

// Times makes an allow cover n requests. Less than 1 denies.
func (d Decision) Times(n int) Decision {
	if d.Allow && n < 1 {
		return Deny("")
	}
	if d.Allow {
		d.times = n
	}
	return d
}

// For makes an allow last for a duration. Zero and less deny.
func (d Decision) For(duration time.Duration) Decision {
	if d.Allow && duration <= 0 {
		return Deny("")
	}
	if d.Allow {
		d.duration = duration
	}
	return d
}

// ForSession makes an allow last as long as its owner.
func (d Decision) ForSession() Decision {
	d.session = d.Allow
	return d
}

// AnyPort makes an allow cover every port of the host.
func (d Decision) AnyPort() Decision {
	d.anyPort = d.Allow
	return d
}

// Subdomains makes an allow cover the names below the host.
func (d Decision) Subdomains() Decision {
	d.subdomains = d.Allow
	return d
}

// String returns the decision as text for logs and tests.
func (d Decision) String() string {
	switch {
	case d.Ask:
		return fmt.Sprintf("ask(%s)", d.Reason)
	case !d.Allow:
		return fmt.Sprintf("deny(%s)", d.Reason)
	}
	var terms []string
	if d.times > 0 {
		terms = append(terms, fmt.Sprintf("times %d", d.times))
	}
	if d.duration > 0 {
		terms = append(terms, fmt.Sprintf("for %v", d.duration))
	}
	for _, term := range []struct {
		set  bool
		name string
	}{{d.session, "for the session"}, {d.anyPort, "any port"}, {d.subdomains, "subdomains"}} {
		if term.set {
			terms = append(terms, term.name)
		}
	}
	if len(terms) == 0 {
		return "allow"
	}
	return "allow(" + strings.Join(terms, ", ") + ")"
}
