package policy

import (
	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/ipclass"
)

// Bounds are the allowed_domains of the managed limits. Nothing outside them
// can be allowed: not by a session, not by a decider, not at run time. A nil
// *Bounds has no bounds.
type Bounds struct {
	all      domain.Index // every entry
	explicit domain.Index // those without a wildcard
	hosts    *domain.Set
}

// NewBounds returns the bounds that consist of the given patterns. No pattern
// at all means that nothing may be allowed.
func NewBounds(patterns []domain.Pattern) *Bounds {
	b := &Bounds{hosts: domain.Compile(patterns)}
	for _, p := range patterns {
		b.all.Add(p)
		if p.Explicit() {
			b.explicit.Add(p)
		}
	}
	return b
}

// Contain reports whether one of the entries contains the pattern p. An entry
// with a wildcard opens no local host, so it contains no pattern that does.
func (b *Bounds) Contain(p domain.Pattern) bool {
	if b == nil {
		return true
	}
	if opensLocal(p) {
		return b.explicit.Covers(p)
	}
	return b.all.Covers(p)
}

// admit reports whether a decider or the observer may allow a target.
func (b *Bounds) admit(t hostname.Target) bool {
	if b == nil {
		return true
	}
	if isLocal(t.Host) {
		_, ok := b.hosts.MatchExplicit(t)
		return ok
	}
	_, ok := b.hosts.Match(t)
	return ok
}

// opensLocal reports whether an allowed pattern may let a local host be
// reached. Blocks of addresses always count, because they are not examined.
func opensLocal(p domain.Pattern) bool {
	switch p.Kind() {
	case domain.Addr:
		return !ipclass.Of(p.Prefix().Addr()).Public()
	case domain.CIDR:
		return true
	case domain.Exact:
		t, err := hostname.ParseTargetDefault(p.String(), 80)
		return err != nil || t.Host.IsLocalhost()
	}
	return false
}
