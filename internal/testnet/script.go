// What a scripted name server says, shared by Resolver and DNS.

package testnet

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Answer is what a name server says to one query. Make one with Addrs, NXDomain, ServFail or Silence. The zero value is
// an answer without addresses: the name exists, but has no record of the type asked for.
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

// Addrs answers with the given addresses, in this order. It panics on text that is not an address.
func Addrs(addrs ...string) Answer {
	var a Answer
	for _, s := range addrs {
		a.addrs = append(a.addrs, netip.MustParseAddr(s))
	}
	return a
}

// NXDomain answers that there is no such name.
func NXDomain() Answer { return Answer{kind: answerNXDomain} }

// ServFail answers that the server could not find out, which is a temporary error.
func ServFail() Answer { return Answer{kind: answerServFail} }

// Silence never answers: the one who asks waits until its own time is up.
func Silence() Answer { return Answer{kind: answerSilence} }

// script maps names to successive answers, and keeps the queries.
type script struct {
	mu      sync.Mutex
	answers map[string][]Answer // by name, or by name and record type
	asked   map[string]int      // queries so far by name and record type
	queries []string
}

// Set gives name its successive answers; the last one repeats. It replaces what was set before and starts afresh. A name
// that was never set, or set to no answer, does not exist. Case and a trailing dot do not matter.
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

// setType is Set for the questions of one record type; Set, called before it, says what the others get.
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

// Queries returns the names asked for so far, in order, spelled as they were asked.
func (s *script) Queries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queries)
}

// nextAnswer records a query and returns its answer. Each record type runs through the answers on its own, so that the A and
// the AAAA query of one lookup get the same one.
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
