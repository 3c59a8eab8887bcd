// The targets that a lasting decision covers.

package approval

import (
	"iter"
	"strings"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostname"
)

// coverage describes a lasting decision: the targets that it covers, the owner that it
// is for, and its end.
type coverage struct {
	owner      *audit.Owner    // a session's, or that of a group
	Target     hostname.Target // that the decider was asked about
	anyPort    bool
	subdomains bool
	created    time.Time
	expires    time.Time // zero means with the owner
}

func newCoverage(req *Request, d Decision) coverage {
	host := req.Target.Host
	c := coverage{
		owner: d.owner(req.Owner), Target: req.Target, created: time.Now(),
		anyPort: d.anyPort, subdomains: d.subdomains && !host.IsIP() && !host.IsLocalhost(),
	}
	if d.duration > 0 {
		c.expires = c.created.Add(d.duration)
	}
	return c
}

// coverageKey is the index of lasting decisions: the owner and the host's text.
type coverageKey struct {
	owner *audit.Owner
	host  string
}

func (c *coverage) key() coverageKey { return coverageKey{c.owner, c.Target.Host.String()} }

// keysFor yields the keys of the decisions that may cover a target of owner, those
// for longer names first, and for each name those of the owner before those of its
// group.
func keysFor(owner *audit.Owner, host hostname.Host) iter.Seq[coverageKey] {
	return func(yield func(coverageKey) bool) {
		text, name := host.String(), host.Name()
		for more := true; more; text = name {
			if !yield(coverageKey{owner, text}) || owner.Group != nil && !yield(coverageKey{owner.Group, text}) {
				return
			}
			_, name, more = strings.Cut(name, ".")
		}
	}
}

// matches reports whether the decision covers target, whose host is that of the
// decision or a name below it.
func (c *coverage) matches(target hostname.Target) bool {
	return (c.anyPort || c.Target.Port == target.Port) && (c.subdomains || c.Target.Host == target.Host)
}

// covers reports whether the decision covers target.
func (c *coverage) covers(target hostname.Target) bool {
	within := target.Host == c.Target.Host || strings.HasSuffix(target.Host.Name(), "."+c.Target.Host.String())
	return within && c.matches(target)
}

// expired reports whether the decision's time has passed by the monotonic or the
// wall clock. The monotonic clock may stop while the machine sleeps, and the wall
// clock may be set back.
func (c *coverage) expired(now time.Time) bool {
	return !c.expires.IsZero() && (!now.Before(c.expires) || !now.Round(0).Before(c.expires.Round(0)))
}
