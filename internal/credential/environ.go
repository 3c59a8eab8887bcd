package credential

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Environ returns the environment of a command of the session: env with placeholders in
// the variables of the providers. No secret of a provider remains in it. secrets are
// further variables to remove, because they hold secrets of sources. If exchanged is
// false, nothing exchanges placeholders, and the variables are removed.
//
// Each error says why a variable is missing, and contains no secret.
func (s *Session) Environ(ctx context.Context, env []string, providers *Set, secrets []string, exchanged bool) ([]string, []error) {
	var problems []error
	fail := func(p *Provider, variable string, err error) {
		problems = append(problems, fmt.Errorf("the command gets no %s of the credential %q: %w", variable, p.name, err))
	}
	placeholders := make(map[string]string)
	removed := slices.Clone(secrets)
	for _, p := range providers.All() {
		for _, variable := range p.env {
			removed = append(removed, variable)
			secret, set := lookup(env, variable)
			own := p.source == nil
			switch {
			case !exchanged:
				if set || !own {
					fail(p, variable, errors.New("credential_broker is false"))
				}
				continue
			case !own:
				var err error
				if secret, err = p.Secret(ctx); err != nil {
					fail(p, variable, err)
					continue
				}
			case !set:
				continue
			}
			text, err := s.Placeholder(p, variable, secret, own)
			if err != nil {
				fail(p, variable, err)
				continue
			}
			placeholders[variable] = text
		}
	}
	if len(removed) == 0 {
		return env, problems
	}
	kept := slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(removed, name)
	})
	for _, p := range providers.All() {
		for _, variable := range p.env {
			if text, ok := placeholders[variable]; ok {
				kept = append(kept, variable+"="+text)
			}
		}
	}
	return kept, problems
}

// lookup returns the value of a variable; the last entry counts.
func lookup(env []string, name string) (string, bool) {
	for _, entry := range slices.Backward(env) {
		if n, value, ok := strings.Cut(entry, "="); ok && n == name {
			return value, true
		}
	}
	return "", false
}
