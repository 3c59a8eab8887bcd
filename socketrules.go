// Which Unix sockets a request may have as its target: allow_unix_sockets, and the decision about one request.

package networkproxy

import (
	"path/filepath"
	"slices"
)

// socketPath is the path of a Unix socket that a client names, and the file
// that it led to at one moment. The zero value means no socket.
type socketPath struct {
	asked string
	real  string // without symbolic links; empty if nothing was found
}

// resolveSocket follows the symbolic links of path once, for every check and
// for the connection. A link that changes afterwards has no effect.
func resolveSocket(path string) socketPath {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = ""
	}
	return socketPath{asked: path, real: real}
}

func (s socketPath) isZero() bool { return s == socketPath{} }

// socketList is allow_unix_sockets. The zero value allows no socket.
type socketList struct {
	entries []string
	origin  func(i int) Position
}

func (l socketList) rule(i int) Rule {
	return Rule{List: lastKey(keyAllowUnixSockets), Pattern: l.entries[i], Position: l.origin(i)}
}

// rules returns every rule, in the order of the list.
func (l socketList) rules() []Rule {
	rules := []Rule{}
	for i := range l.entries {
		rules = append(rules, l.rule(i))
	}
	return rules
}

// match returns the entry that is the path that the client named, or that leads
// to the same file now. It resolves the entries each time, because services
// start and stop.
func (l socketList) match(s socketPath) (Rule, bool) {
	if i := slices.Index(l.entries, s.asked); i >= 0 {
		return l.rule(i), true
	}
	if s.real == "" {
		return Rule{}, false
	}
	for i, entry := range l.entries {
		if resolveSocket(entry).real == s.real {
			return l.rule(i), true
		}
	}
	return Rule{}, false
}

// judgeSocket applies the checks to a request whose target is a Unix socket.
// The decider is not asked, because it decides about hosts, and a socket can
// give more access than any host.
func (p *policy) judgeSocket(q *query, tr *trace) (v Verdict) {
	if p.self.containsSocket(q.socket) {
		p.refuse(&v, checkOwnListener, ReasonNotAllowedLocal, SourceBaselinePolicy, entry{}, tr)
		return v
	}
	tr.pass(checkOwnListener)
	rule, ok := p.sockets.match(q.socket)
	if !ok {
		p.refuse(&v, checkUnixSocket, ReasonNotAllowed, SourceBaselinePolicy, entry{}, tr)
		return v
	}
	tr.passRule(checkUnixSocket, rule)
	if by, ok := p.permits(q); !ok {
		v = p.modeRefusal(by)
		tr.add(Check{Name: checkMode, Rule: v.Rule})
		return v
	}
	tr.pass(checkMode)
	return Verdict{Allowed: true, Source: SourceBaselinePolicy, Rule: rule, Generation: p.generation}
}

// appendSubject appends the target of a request, for messages.
func (q *query) appendSubject(b []byte) []byte {
	if !q.socket.isZero() {
		return append(append(b, "the unix socket "...), q.socket.asked...)
	}
	return q.target.AppendTo(b)
}
