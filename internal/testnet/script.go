// Scripted answers, shared by Resolver and DNS.

package testnet

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Answer is a name server's answer to one query. Create one with Addrs, NXDomain, ServFail or Silence. The zero value has
// no addresses: the name exists, but has no record of the requested type.
type Answer struct {
	kind  answerKind
	addrs []netip.Addr
}

type answerKind uint8

const (
	answerAddrs answerKind = iota
	answerNXDomain
	answerServFail
	answerSilence
)

// Addrs returns an answer with the given addresses in this order. It panics if one is invalid.
func Addrs(addrs ...string) Answer {
	var a Answer
	for _, s := range addrs {
		a.addrs = append(a.addrs, netip.MustParseAddr(s))
	}
	return a
}

// NXDomain returns the answer for a name that does not exist.
func NXDomain() Answer { return Answer{kind: answerNXDomain} }

// ServFail returns the answer for a failure of the server. Clients treat it as a temporary error.
func ServFail() Answer { return Answer{kind: answerServFail} }

// Silence returns an Answer that stands for no reply. The client waits until its own timeout.
func Silence() Answer { return Answer{kind: answerSilence} }

// script maps names to successive answers and records the queries.
type script struct {
	mu      sync.Mutex
	answers map[string][]Answer // by name, or by name and record type
	asked   map[string]int      // queries so far by name and record type
	queries []string
}

// Set sets the successive answers for name. The last one repeats. Set replaces earlier answers and starts again with the
// first. A name without answers does not exist. Case and a trailing dot are ignored.
func (s *script) Set(name string, answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = fold(name)
	for key := range s.answers {
		if set, _, _ := strings.Cut(key, " "); set == name {
			delete(s.answers, key)
		}
	}
	s.put(name, answers)
	for key := range s.asked {
		if asked, _, _ := strings.Cut(key, " "); asked == name {
			delete(s.asked, key)
		}
	}
}

// setType is Set for one record type. Call Set first, for all other types.
func (s *script) setType(name, recordType string, answers []Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fold(name) + " " + recordType
	s.put(key, answers)
	delete(s.asked, key)
}

func (s *script) put(key string, answers []Answer) {
	if s.answers == nil {
		s.answers = make(map[string][]Answer)
	}
	s.answers[key] = slices.Clone(answers)
}

// Queries returns the queried names so far, in order and unchanged.
func (s *script) Queries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queries)
}

// nextAnswer records a query and returns its answer. It counts queries by record type, so that the A and the AAAA query of
// one lookup get the same answer.
func (s *script) nextAnswer(name, recordType string) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries = append(s.queries, name)
	key := fold(name) + " " + recordType
	answers, ofType := s.answers[key]
	if !ofType {
		answers = s.answers[fold(name)]
	}
	if len(answers) == 0 {
		return NXDomain()
	}
	if s.asked == nil {
		s.asked = make(map[string]int)
	}
	i := min(s.asked[key], len(answers)-1)
	s.asked[key]++
	return answers[i]
}

func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
