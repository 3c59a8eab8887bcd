package policy

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Socket is the path of a unix socket as the client names it, and the path that
// it resolved to. The zero value is no socket.
type Socket struct {
	Asked string
	Real  string // without symbolic links; empty if there is no such file
}

// ResolveSocket follows the symbolic links of a path. Call it once for each
// request and use the result for every check and for the connection. A link that
// changes afterwards then has no effect.
func ResolveSocket(path string) Socket {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = ""
	}
	return Socket{Asked: path, Real: real}
}

// IsZero reports whether s is no socket.
func (s Socket) IsZero() bool { return s == Socket{} }

// AllowsSockets reports whether any unix socket is allowed.
func (p *Policy) AllowsSockets() bool { return p.Sockets != nil && len(p.Sockets.Entries) > 0 }

// matchSocket returns the entry of allow_unix_sockets that is the path of s, or
// that resolves to the same file. It resolves the entries each time, because
// services create and remove their sockets.
func (p *Policy) matchSocket(s Socket) Entry {
	if p.Sockets == nil {
		return Entry{}
	}
	if i := slices.Index(p.Sockets.Entries, s.Asked); i >= 0 {
		return Entry{p.Sockets, i}
	}
	if s.Real == "" {
		return Entry{}
	}
	for i, entry := range p.Sockets.Entries {
		if ResolveSocket(entry).Real == s.Real {
			return Entry{p.Sockets, i}
		}
	}
	return Entry{}
}

// judgeSocket applies the checks to a request whose target is a unix socket.
// A decider is never asked, because deciders judge hosts, and access to a socket
// can be more dangerous than access to any host.
func (p *Policy) judgeSocket(q *Query, tr *Trace) Verdict {
	if p.Self.containsSocket(q.Socket) {
		return p.refuse(CheckOwnListener, ReasonNotAllowedLocal, SourceBaselinePolicy, Entry{}, tr)
	}
	tr.Pass(CheckOwnListener)
	allowed := p.matchSocket(q.Socket)
	if !allowed.Found() {
		return p.refuse(CheckUnixSocket, ReasonNotAllowed, SourceBaselinePolicy, Entry{}, tr)
	}
	tr.passMatch(CheckUnixSocket, allowed)
	if v, ok := p.JudgeMode(q, tr); !ok {
		return v
	}
	return Verdict{Allowed: true, Source: SourceBaselinePolicy, Entry: allowed, Generation: p.Generation}
}

// SocketPathProblem returns why p cannot be the path of an allowed unix socket,
// or "". Paths are compared as text, so a path must be in its clean form. better
// is that form if p is not clean.
func SocketPathProblem(p string) (problem, better string) {
	switch {
	case strings.ContainsRune(p, 0):
		return "a path cannot hold a NUL byte", ""
	case strings.HasPrefix(p, "~"):
		return "~ is not expanded here: write the absolute path", ""
	case !path.IsAbs(p):
		return `not an absolute path: start it with "/"`, ""
	case path.Clean(p) != p:
		return "not a clean path", path.Clean(p)
	case p == "/":
		return "names a directory: write the path of the socket", ""
	}
	return "", ""
}
