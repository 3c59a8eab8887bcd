package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJudgeSocket(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	for _, name := range []string{"service", "other", "self"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"to-service": "service", "to-other": "other", "entry": "service", "to-self": "self"} {
		if err := os.Symlink(filepath.Join(dir, to), filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	entries := func(names ...string) *RuleSet {
		s := rules(t, "allow_unix_sockets")
		for _, name := range names {
			s.Entries = append(s.Entries, filepath.Join(dir, name))
		}
		return s
	}
	missed := outcome{check: CheckUnixSocket, reason: ReasonNotAllowed, source: SourceBaselinePolicy}
	allowed := func(name string) outcome {
		return outcome{allowed: true, source: SourceBaselinePolicy, rule: "allow_unix_sockets " + filepath.Join(dir, name)}
	}
	tests := []struct {
		name, socket, method string
		sockets              *RuleSet
		want                 outcome
	}{
		{"listed path", "service", "GET", entries("service"), allowed("service")},
		{"link to a listed path", "to-service", "GET", entries("service"), allowed("service")},
		{"link to another path", "to-other", "GET", entries("service"), missed},
		{"listed link", "entry", "GET", entries("entry"), allowed("entry")},
		{"target of a listed link", "service", "GET", entries("entry"), allowed("entry")},
		{"listed, but not there", "none", "GET", entries("none"), allowed("none")},
		{"not listed and not there", "none", "GET", entries("gone"), missed},
		{"no list", "service", "GET", nil, missed},
		{"own socket", "self", "GET", entries("self"), outcome{check: CheckOwnListener, reason: ReasonNotAllowedLocal, source: SourceBaselinePolicy}},
		{"link to the own socket", "to-self", "GET", entries("to-self"), outcome{check: CheckOwnListener, reason: ReasonNotAllowedLocal, source: SourceBaselinePolicy}},
		{"mode", "service", "POST", entries("service"), outcome{check: CheckMode, reason: ReasonMethodNotAllowed, source: SourceModeGuard}},
		{"miss before mode", "other", "POST", entries("service"), missed},
	}
	self := new(SelfListeners)
	self.addPath(filepath.Join(dir, "self"))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// Lists of hosts do not apply to a socket, and nobody can approve one.
			p := allowing(t, "*")
			p.Mode, p.Sockets, p.Self = ModeLimited, test.sockets, self
			p.Deny = RuleSets{rules(t, "denied_domains", "denied.example")}
			q := get(t, "denied.example:80")
			q.Method, q.Socket = test.method, ResolveSocket(filepath.Join(dir, test.socket))
			v, miss := p.Judge(q, SourceDecider, nil)
			if got := outcomeOf(&v); got != test.want || miss {
				t.Errorf("got %+v, miss %t; want %+v", got, miss, test.want)
			}
		})
	}
}

func TestAllowsSockets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		sockets *RuleSet
		want    bool
	}{
		{"no list", nil, false},
		{"empty list", &RuleSet{}, false},
		{"one entry", &RuleSet{Entries: []string{"/run/s"}}, true},
	} {
		if got := (&Policy{Sockets: test.sockets}).AllowsSockets(); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
	}
}

func TestSocketPathProblem(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, path      string
		problem, better string // problem is part of the text
	}{
		{"absolute path", "/run/docker.sock", "", ""},
		{"space", "/run/a b", "", ""},
		{"two slashes", "/run//s", "not a clean path", "/run/s"},
		{"parent directory", "/run/../s", "not a clean path", "/s"},
		{"current directory", "/run/./s", "not a clean path", "/run/s"},
		{"slash at the end", "/run/s/", "not a clean path", "/run/s"},
		{"relative path", "run/s", "not an absolute path", ""},
		{"empty", "", "not an absolute path", ""},
		{"home directory", "~/s", "~ is not expanded", ""},
		{"root directory", "/", "names a directory", ""},
		{"NUL byte", "/run/s\x00", "NUL byte", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			problem, better := SocketPathProblem(test.path)
			if !strings.Contains(problem, test.problem) || (problem == "") != (test.problem == "") || better != test.better {
				t.Errorf("%q: got the problem %q and the better path %q; want %q and %q", test.path, problem, better, test.problem, test.better)
			}
		})
	}
}
