// The entries of the two lists: what internal/domain takes for a pattern, less
// what makes no sense, or is dangerous, in that list.

package networkproxy

import (
	"errors"

	"example.com/networkproxy/internal/domain"
)

// patterns parses the list under one of the two pattern keys and reports the
// entries that are no patterns. Those leave a zero Pattern in their place,
// which matches nothing.
func (s *sourcedConfig) patterns(key string, errs *errorList) []domain.Pattern {
	list, parse := s.Config.Policy.AllowedDomains, parseAllowed
	if key == keyDeniedDomains {
		list, parse = s.Config.Policy.DeniedDomains, parseDenied
	}
	patterns := make([]domain.Pattern, len(list))
	for i, text := range list {
		p, err := parse(text)
		if err != nil {
			// The error's own text repeats the entry.
			var problem string
			var perr *domain.Error
			if errors.As(err, &perr) {
				problem = perr.Problem
			}
			errs.add(s.itemError(key, i, text, problem, err))
			continue
		}
		patterns[i] = p
	}
	return patterns
}

// parseAllowed parses an allowlist entry. A block of addresses opens local ones
// too, which nobody who writes a whole address family means.
func parseAllowed(text string) (domain.Pattern, error) {
	p, err := domain.Parse(text)
	if err == nil && p.Kind() == domain.CIDR && p.Prefix().Bits() == 0 {
		err = &domain.Error{Text: text, Problem: "this would open every local address as well: write * for everything public, or the blocks that are meant"}
	}
	return p, err
}

// parseDenied parses a denylist entry, which cannot be everything: that is
// the default, and writing it would hide that nothing is allowed.
func parseDenied(text string) (domain.Pattern, error) {
	p, err := domain.Parse(text)
	if err == nil && p.Kind() == domain.Any {
		err = &domain.Error{Text: text, Problem: "what allowed_domains does not name is refused already: remove this entry"}
	}
	return p, err
}
