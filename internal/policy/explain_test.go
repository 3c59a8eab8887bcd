package policy

import (
	"net/netip"
	"strings"
	"testing"

	"example.com/networkproxy/internal/hostname"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	denied := Entry{rules(t, "denied_domains", "*.example"), 0}
	sessionDenied := Entry{rules(t, SessionDenied, "*.example"), 0}
	builtin := func(c Check, r Reason) Verdict { return Verdict{Check: c, Reason: r, Source: SourceBaselinePolicy} }
	decider := func(r Reason) Verdict { return Verdict{Check: CheckAllowlist, Reason: r, Source: SourceDecider} }
	unanswered := func(r Reason) Verdict {
		return Verdict{Check: CheckAllowlist, Reason: r, OwnReason: true, Source: SourceDecider}
	}
	address := func(c Check, e Entry) Verdict {
		return Verdict{Check: c, Source: SourceBaselinePolicy, Address: netip.MustParseAddr("10.0.0.1"), Entry: e}
	}
	tests := []struct {
		name          string
		verdict       Verdict
		query         Query  // for a.example:443 if it has no target
		message, hint string // parts of the texts; an empty hint means that there must be none
	}{
		{"limit", builtin(CheckLimit, ReasonTooManyConnections), Query{}, "too many connections", "fewer connections"},
		{"session required", builtin(CheckSession, ReasonSessionRequired), Query{}, "this request has none", "proxy URL"},
		{"session unknown", builtin(CheckSession, ReasonSessionUnknown), Query{}, "does not belong to an open session", "until the session ends"},
		{"disabled", builtin(CheckEnabled, ReasonProxyDisabled), Query{}, "turned off", "enabled = true"},
		{"own listener", builtin(CheckOwnListener, ReasonNotAllowedLocal), Query{Target: target(t, "127.0.0.1:3128")}, "it is the proxy itself", ""},
		{"own listener behind a proxy", builtin(CheckOwnListener, ReasonNotAllowedLocal), Query{}, "listens on port 443", "NO_PROXY"},
		{"managed limits", builtin(CheckManaged, ReasonNotAllowed), Query{}, "managed limits", "administrator"},
		{"socket", builtin(CheckUnixSocket, ReasonNotAllowed), Query{Socket: Socket{Asked: "/run/s"}}, "the unix socket /run/s: no entry", `"/run/s"`},
		{"socket changed", Verdict{Check: CheckUnixSocket, Entry: denied}, Query{Socket: Socket{Asked: "/run/s"}}, "its path was changed", "another socket"},
		{"upstream", builtin(CheckUpstream, ReasonUpstreamNotAllowed), Query{}, "upstream proxy", "new requests go directly"},
		{"denylist", Verdict{Check: CheckDenylist, Reason: ReasonDenied, Entry: denied}, Query{}, "the denylist forbids it (*.example)", `"*.example"`},
		{"denylist of a session", Verdict{Check: CheckDenylist, Reason: ReasonDenied, Entry: sessionDenied}, Query{}, "the application that runs this command denies it (*.example)", ""},
		{"denied address", address(CheckDeniedAddress, denied), Query{}, "it resolves to 10.0.0.1, which the denylist forbids", `"*.example"`},
		{"local address", builtin(CheckLocal, ReasonNotAllowedLocal), Query{Target: target(t, "10.0.0.1:80")}, "10.0.0.1 is not a public address (Private-Use", "allow_local_binding"},
		{"localhost", builtin(CheckLocal, ReasonNotAllowedLocal), Query{Target: target(t, "localhost:80")}, "localhost is this machine", `"localhost"`},
		{"resolved address", address(CheckAddress, Entry{}), Query{}, "it resolves to 10.0.0.1, which is not public (Private-Use", "allow_local_binding"},
		{"no server name", builtin(CheckServerName, ReasonSNIMismatch), Query{}, "names no server", `sni_check = "off"`},
		{"other server name", Verdict{Check: CheckServerName, ServerName: "b.example"}, Query{}, `"b.example"`, `add "b.example"`},
		{"server name for an address", Verdict{Check: CheckServerName, ServerName: "b.example"}, Query{Target: target(t, "192.0.2.1:443")}, "only the address was allowed", "socks5h://"},
		{"unreadable hello", Verdict{Check: CheckServerName, Problem: "is too long"}, Query{}, "the hello is too long", `sni_check = "off"`},
		{"mode, method", builtin(CheckMode, ReasonMethodNotAllowed), Query{Protocol: ProtocolHTTP, Method: "POST"}, "not POST", `mode = "full"`},
		{"mode, upgrade", builtin(CheckMode, ReasonMethodNotAllowed), Query{Protocol: ProtocolHTTP, Method: "GET", Upgrade: true}, "not an upgrade", `mode = "full"`},
		{"mode, SOCKS", builtin(CheckMode, ReasonMethodNotAllowed), Query{Protocol: ProtocolSOCKS5UDP}, "not SOCKS", `mode = "full"`},
		{"mode of a session", Verdict{Check: CheckMode, SessionMode: ModeLimited}, Query{Method: "POST"}, "runs this command in limited mode", ""},
		{"allowlist", builtin(CheckAllowlist, ReasonNotAllowed), Query{}, "not on the allowlist", `add "a.example" to allowed_domains`},
		{"decider asks", Verdict{Ask: true, Reason: "new host", Source: SourceDecider}, Query{}, "needs the user's approval (new host)", "Approve it"},
		{"decider timeout", unanswered(ReasonDeciderTimeout), Query{}, "did not decide in time", "Try again"},
		{"decider busy", unanswered(ReasonDeciderBusy), Query{}, "too many questions", "fewer requests"},
		{"decider failed", unanswered(ReasonDeciderFailed), Query{}, "could not decide", "log"},
		{"canceled", unanswered(ReasonCanceled), Query{}, "ended before the application decided", "more time"},
		{"decider denies with a reason of the proxy", decider(ReasonDeciderTimeout), Query{}, "refused it (decider_timeout)", `"a.example"`},
		{"grant revoked", Revoked(7), Query{}, "its approval was revoked", "Approve it again"},
		{"decider denies", decider("work hours"), Query{}, "refused it (work hours)", `"a.example"`},
		{"decider denies with a reason of the denylist", decider(ReasonDenied), Query{}, "the application that runs this command refused it (denied)", `"a.example"`},
	}
	// A client must not learn from a message how to avoid the proxy.
	ways := []string{"--noproxy", "unset", "HTTP_PROXY", "HTTPS_PROXY", "bypass", "instead"}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q := test.query
			if q.Target.Host.IsZero() {
				q.Target = target(t, "a.example:443")
			}
			message, hint := test.verdict.Explain(&q)
			if subject := "networkproxy blocked " + string(q.AppendSubject(nil)) + ": "; !strings.HasPrefix(message, subject) {
				t.Errorf("message: got %q, want the beginning %q", message, subject)
			}
			if !strings.Contains(message, test.message) || !strings.HasSuffix(message, ".") {
				t.Errorf("message: got %q, want %q in it and a full stop", message, test.message)
			}
			if !strings.Contains(hint, test.hint) || (hint == "") != (test.hint == "") {
				t.Errorf("hint: got %q, want %q in it", hint, test.hint)
			}
			if strings.Contains(message+hint, "%!") {
				t.Errorf("a text is not formatted: %s %s", message, hint)
			}
			for _, way := range ways {
				if strings.Contains(message+hint, way) {
					t.Errorf("the texts suggest %q: %s %s", way, message, hint)
				}
			}
		})
	}
}

// Every check that can refuse has an explanation of its own.
func TestExplainEveryCheck(t *testing.T) {
	t.Parallel()
	q := get(t, "a.example:443")
	seen := make(map[string]Check)
	for i := range checkNames {
		switch c := Check(i); c {
		case CheckNone, CheckTarget, CheckResolve: // no verdict has these
		default:
			v := Verdict{Check: c, Source: SourceBaselinePolicy, Entry: Entry{rules(t, "denied_domains", "a.example"), 0}, Address: netip.MustParseAddr("10.0.0.1")}
			if c == CheckOwnListener {
				v.Address = netip.Addr{}
			}
			message, _ := v.Explain(q)
			if other, ok := seen[message]; ok {
				t.Errorf("%s and %s have the same message %q", c, other, message)
			}
			seen[message] = c
		}
	}
}

// The verdict of a refusal does not escape to the heap with its text.
func TestExplainDoesNotAllocate(t *testing.T) {
	target, err := hostname.ParseTarget("other.example:443")
	if err != nil {
		t.Fatal(err)
	}
	q := &Query{Protocol: ProtocolHTTPSConnect, Target: target}
	b := make([]byte, 0, 1024)
	var text []byte // as a response keeps it
	explain := func() {
		v := Verdict{Check: CheckAllowlist, Reason: ReasonNotAllowed, Source: SourceBaselinePolicy}
		text, _ = v.AppendExplanation(b, q)
	}
	if n := testing.AllocsPerRun(100, explain); n != 0 {
		t.Errorf("%v allocations to explain a refusal, want none", n)
	}
	if len(text) == 0 {
		t.Error("no text")
	}
}
