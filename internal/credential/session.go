package credential

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// keyLength is the number of bytes at the end of a placeholder that identify it.
const keyLength = 16

// Registry has the placeholders of all sessions. The zero value has none. Safe for
// concurrent use.
type Registry struct {
	count atomic.Int64 // of entries

	mu    sync.RWMutex
	byKey map[[keyLength]byte][]*entry
	tails [pairKinds]uint32 // the number of placeholders, by pairOf their last bytes
}

// entry is one placeholder.
type entry struct {
	text     string
	provider string
	variable string
	session  *Session
	secret   atomic.Pointer[string] // that the placeholder stands for, if no source of the provider gives it
	search   atomic.Pointer[search] // for the secret of the last request
}

// mask returns the mask of the secret that the placeholder stands for now.
func (e *entry) mask(secret string) Mask {
	s := e.search.Load()
	if s == nil || s.secret != secret {
		s = newSearch(secret)
		e.search.Store(s)
	}
	return Mask{secret, mask(secret, e.text), s}
}

// Empty reports whether there are no placeholders.
func (r *Registry) Empty() bool { return r == nil || r.count.Load() == 0 }

// find returns the first placeholder in a text, or nil.
func (r *Registry) find(s string) *entry {
	if len(s) < minPlaceholder {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for end := minPlaceholder; end <= len(s); end++ {
		if r.tails[pairOf(s[end-2], s[end-1])] == 0 {
			continue // takes a tenth of the time of the map
		}
		for _, e := range r.byKey[[keyLength]byte([]byte(s[end-keyLength:end]))] {
			if strings.HasSuffix(s[:end], e.text) {
				return e
			}
		}
	}
	return nil
}

func keyOf(text string) [keyLength]byte { return [keyLength]byte([]byte(text[len(text)-keyLength:])) }

func tailOf(text string) int { return pairOf(text[len(text)-2], text[len(text)-1]) }

func (r *Registry) add(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKey == nil {
		r.byKey = make(map[[keyLength]byte][]*entry)
	}
	r.byKey[keyOf(e.text)] = append(r.byKey[keyOf(e.text)], e)
	r.tails[tailOf(e.text)]++
	r.count.Add(1)
}

func (r *Registry) remove(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := keyOf(e.text)
	left := slices.DeleteFunc(r.byKey[key], func(other *entry) bool { return other == e })
	if len(left) == 0 {
		delete(r.byKey, key)
	} else {
		r.byKey[key] = left
	}
	r.tails[tailOf(e.text)]--
	r.count.Add(-1)
}

// Session has the placeholders of one command. Use [Registry.Open]. Safe for concurrent
// use. A nil Session has none.
type Session struct {
	registry *Registry

	mu      sync.Mutex
	entries []*entry
	closed  bool
}

// Open returns a session without placeholders.
func (r *Registry) Open() *Session { return &Session{registry: r} }

// Placeholder returns the placeholder for a variable, and makes one if there is none. It
// looks like secret. It is registered before Placeholder returns. own means that it stands
// for this secret, and otherwise for that of the provider's source at the time of a
// request. The error is about the secret and does not contain it.
func (s *Session) Placeholder(p *Provider, variable, secret string, own bool) (string, error) {
	if err := Check(secret); err != nil {
		return "", fmt.Errorf("the value for %s %w", variable, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", fmt.Errorf("the session is closed")
	}
	for _, e := range s.entries {
		if e.provider == p.name && e.variable == variable {
			e.setSecret(secret, own)
			return e.text, nil
		}
	}
	e := &entry{text: newPlaceholder(secret), provider: p.name, variable: variable, session: s}
	e.setSecret(secret, own)
	s.entries = append(s.entries, e)
	s.registry.add(e)
	return e.text, nil
}

func (e *entry) setSecret(secret string, own bool) {
	if own {
		e.secret.Store(&secret)
	} else {
		e.secret.Store(nil)
	}
}

// Close makes the placeholders worthless.
func (s *Session) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, e := range s.entries {
		s.registry.remove(e)
		e.secret.Store(nil)
		e.search.Store(nil)
	}
	s.entries = nil
}

// bound appends to list the placeholders whose providers are bound to the target of a
// request.
func (s *Session) bound(list []*entry, set *Set, r *Request) []*entry {
	if s == nil || set == nil {
		return list
	}
	providers := set.byTarget[r.Target]
	if len(providers) == 0 {
		return list
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if slices.Contains(providers, e.provider) {
			list = append(list, e)
		}
	}
	return list
}

// String, GoString, Format, LogValue and MarshalJSON show no secret.

func (s *Session) String() string { return "credentials of a session" }

// GoString returns String.
func (s *Session) GoString() string { return s.String() }

// Format writes String for every verb.
func (s *Session) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue returns String.
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON returns String as a JSON string.
func (s *Session) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// Format writes no secret.
func (r *Registry) Format(f fmt.State, _ rune) { io.WriteString(f, "registry of placeholders") }

// Format writes no secret.
func (e *entry) Format(f fmt.State, _ rune) { io.WriteString(f, "placeholder") }
