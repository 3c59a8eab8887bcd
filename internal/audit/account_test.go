// Tests of the account of a session and of its report.

package audit

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
)

// miss returns the refusal of a target that is not on the allowlist.
func miss(t *testing.T, hostport string) *Refusal {
	t.Helper()
	return &Refusal{
		Target: target(t, hostport), Protocol: policy.ProtocolHTTPSConnect, Method: "CONNECT",
		Verdict: policy.Verdict{Check: policy.CheckAllowlist, Reason: policy.ReasonNotAllowed, Source: policy.SourceBaselinePolicy},
	}
}

func parsePattern(t *testing.T, s string) domain.Pattern {
	t.Helper()
	p, err := domain.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestReport(t *testing.T) {
	t.Parallel()
	var a Account
	if got := a.Report(); got != "" {
		t.Errorf("an empty account: got %q", got)
	}
	a.Refuse(miss(t, "a.example:443"), nil)
	const one = "The network proxy refused 1 request of this command:\n" +
		"- a.example:443: the host is not on the allowlist.\n" +
		"  The user can add \"a.example\" to allowed_domains in [network_proxy.policy].\n"
	if got := a.Report(); got != one {
		t.Errorf("one refusal: got\n%swant\n%s", got, one)
	}

	// The same refusal under a later policy, with another method.
	again := miss(t, "a.example:443")
	again.Verdict.Generation, again.Method = 7, "GET"
	a.Refuse(again, nil)
	mode := policy.Verdict{Check: policy.CheckMode, Reason: policy.ReasonMethodNotAllowed, Source: policy.SourceModeGuard}
	for _, method := range []string{"POST", "PUT", "POST"} {
		a.Refuse(&Refusal{Target: target(t, "b.example:80"), Protocol: policy.ProtocolHTTP, Method: method, Verdict: mode}, nil)
	}
	asked := miss(t, "c.example:443")
	asked.Verdict = policy.Verdict{Ask: true, Reason: "first use", Source: policy.SourceDecider}
	a.Refuse(asked, nil)
	const want = "The network proxy refused 6 requests of this command:\n" +
		"- a.example:443: the host is not on the allowlist. (2 requests)\n" +
		"  The user can add \"a.example\" to allowed_domains in [network_proxy.policy].\n" +
		"- b.example:80: the proxy is in limited mode, which permits only reads (GET, HEAD, OPTIONS and git fetch), not POST. (2 requests)\n" +
		"  The user can set mode = \"full\".\n" +
		"- b.example:80: the proxy is in limited mode, which permits only reads (GET, HEAD, OPTIONS and git fetch), not PUT.\n" +
		"- c.example:443: it needs the user's approval (first use).\n" +
		"  Approve it in the application that runs this command, then try again.\n"
	if got := a.Report(); got != want {
		t.Errorf("several refusals: got\n%swant\n%s", got, want)
	}
}

// TestReportMergesEqualTexts checks that refusals with the same texts are one, and
// that reloads do not use up the places of an account.
func TestReportMergesEqualTexts(t *testing.T) {
	t.Parallel()
	var a Account
	for generation := range uint64(2 * maxRefusals) {
		r := miss(t, "a.example:443")
		r.Verdict.Generation = generation
		a.Refuse(r, nil)
	}
	for i := range 2 * maxRefusals {
		// Each policy has a denylist of its own, whose entry may be at another place.
		set := &policy.RuleSet{List: "denied_domains", Entries: []string{"b.example"}, Set: domain.Compile([]domain.Pattern{parsePattern(t, "b.example")})}
		set.Position = func(int) policy.Position { return policy.Position{Line: i} }
		p := &policy.Policy{Enabled: true, Mode: policy.ModeFull, Deny: policy.RuleSets{set}}
		r := miss(t, "b.example:443")
		r.Verdict, _ = p.Judge(&policy.Query{Protocol: r.Protocol, Target: r.Target}, "", nil)
		a.Refuse(r, nil)
	}
	if len(a.refusals) != 2 {
		t.Errorf("the account keeps %d refusals, want 2", len(a.refusals))
	}
	other := miss(t, "a.example:443")
	other.Verdict.Source = policy.SourceProxyState // differs, but no text says so
	a.Refuse(other, nil)
	if text := a.Report(); strings.Count(text, "\n- ") != 2 || !strings.Contains(text, fmt.Sprintf("(%d requests)", 2*maxRefusals+1)) {
		t.Errorf("got %q, want two items", text)
	}
}

// TestReportIsBounded checks the bounds of the text and of the memory, with more
// distinct refusals than both have room for.
func TestReportIsBounded(t *testing.T) {
	t.Parallel()
	var a Account
	const distinct, times = 3 * maxRefusals, 2
	for range times {
		for i := range distinct {
			a.Refuse(miss(t, fmt.Sprintf("host%d.%s.example:443", i, strings.Repeat("a", 60))), nil)
		}
	}
	if len(a.refusals) != maxRefusals || len(a.index) != maxRefusals {
		t.Errorf("the account keeps %d refusals, want %d", len(a.refusals), maxRefusals)
	}
	text := a.Report()
	if len(text) > MaxReport || len(text) < MaxReport/2 {
		t.Errorf("the report has %d bytes, want at most %d and more than half of them", len(text), MaxReport)
	}
	listed := strings.Count(text, " (2 requests)\n")
	if want := fmt.Sprintf("- Not listed here: %d requests more.\n", distinct*times-2*listed); listed == 0 || !strings.HasSuffix(text, want) {
		t.Errorf("the report lists %d refusals and ends with %q, want %q", listed, text[len(text)-60:], want)
	}
}

// TestReportHasNoLinesOfTheCommand checks that text from the command cannot look
// like a line of the report, and stays short.
func TestReportHasNoLinesOfTheCommand(t *testing.T) {
	t.Parallel()
	const injected = "\n- x\r\n\x1b[2J\u0085\u2028\u2029\u202e"
	var a Account
	socket := policy.Verdict{Check: policy.CheckUnixSocket, Reason: policy.ReasonNotAllowed, Source: policy.SourceBaselinePolicy}
	a.Refuse(&Refusal{UnixSocket: "/run/" + injected + strings.Repeat("s", 3000), Protocol: policy.ProtocolHTTP, Method: "GET", Verdict: socket}, nil)
	a.Refuse(&Refusal{
		Target: target(t, "a.example:443"), Protocol: policy.ProtocolHTTPSConnect,
		Verdict: policy.Verdict{Check: policy.CheckServerName, Reason: policy.ReasonSNIMismatch, ServerName: "b" + injected, Source: policy.SourceBaselinePolicy},
	}, nil)
	a.Refuse(&Refusal{
		Target: target(t, "a.example:80"), Protocol: policy.ProtocolHTTP, Method: "M" + injected,
		Verdict: policy.Verdict{Check: policy.CheckMode, Reason: policy.ReasonMethodNotAllowed, Source: policy.SourceModeGuard},
	}, nil)
	text := a.Report()
	if len(text) > 3*2*maxSentence || !utf8.ValidString(text) {
		t.Errorf("the report has %d bytes, or is not valid UTF-8", len(text))
	}
	items := 0
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "- "):
			items++
		case i > 0 && !strings.HasPrefix(line, "  "):
			t.Errorf("line %d is not part of an item: %q", i+1, line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
			t.Errorf("line %d has control characters: %q", i+1, line)
		}
	}
	if items != 3 {
		t.Errorf("got %d items, want 3:\n%s", items, text)
	}
}

func TestAccountSummary(t *testing.T) {
	t.Parallel()
	var a Account
	a.Allow(hostname.Target{}) // a Unix socket
	for i := range MaxHosts + 5 {
		a.Allow(target(t, fmt.Sprintf("host%d.example:443", i)))
	}
	a.Allow(target(t, "host1.example:80"))
	a.Fail(target(t, "host1.example:443"))
	a.Transfer(target(t, "host1.example:80"), 3, 5)
	a.Transfer(target(t, "host1.example:443"), 10, -1)
	a.Transfer(hostname.Target{}, 1, 1)
	a.Refuse(miss(t, "refused.example:443"), nil)
	a.Begin(new(Attribution)) // begins a new report, not a new summary
	if a.Report() != "" {
		t.Errorf("a new report has the text %q", a.Report())
	}
	s := a.Summary()
	if want := [Outcomes]uint64{Allowed: MaxHosts + 7, Refused: 1, Failed: 1}; s.Requests != want {
		t.Errorf("got the requests %v, want %v", s.Requests, want)
	}
	if len(s.Hosts) != MaxHosts || !s.MoreHosts {
		t.Fatalf("got %d hosts, more: %t; want %d, true", len(s.Hosts), s.MoreHosts, MaxHosts)
	}
	if want := (HostSummary{Host: "host1.example", Allowed: 2, Failed: 1, Sent: 13, Received: 5}); s.Hosts[1] != want {
		t.Errorf("got %+v, want %+v", s.Hosts[1], want)
	}
	if slices.ContainsFunc(s.Hosts, func(h HostSummary) bool { return h.Host == "refused.example" || h.Host == "" }) {
		t.Error("the summary lists the host of a refused request, or an empty one")
	}
}

// TestAccountAtOnce counts from many goroutines, each with a new host of its own.
func TestAccountAtOnce(t *testing.T) {
	t.Parallel()
	const goroutines, requests = 8, 500
	var a Account
	var wg sync.WaitGroup
	for i := range goroutines {
		own, shared := target(t, fmt.Sprintf("host%d.example:443", i)), target(t, "shared.example:443")
		refusal := miss(t, "refused.example:443")
		wg.Go(func() {
			for range requests {
				a.Allow(own)
				a.Allow(shared)
				a.Refuse(refusal, nil)
				a.Report()
				a.Summary()
			}
		})
	}
	wg.Wait()
	s := a.Summary()
	if len(s.Hosts) != goroutines+1 || s.Requests[Allowed] != 2*goroutines*requests {
		t.Errorf("got %d hosts and %d requests, want %d and %d", len(s.Hosts), s.Requests[Allowed], goroutines+1, 2*goroutines*requests)
	}
	for _, h := range s.Hosts {
		want := uint64(requests)
		if h.Host == "shared.example" {
			want *= goroutines
		}
		if h.Allowed != want {
			t.Errorf("%s: got %d requests, want %d", h.Host, h.Allowed, want)
		}
	}
	if want := fmt.Sprintf("(%d requests)", goroutines*requests); !strings.Contains(a.Report(), want) {
		t.Errorf("got %q, want %q in it", a.Report(), want)
	}
}

// TestAccountAllocates checks that counting a request to a known host, or for no
// account, does not allocate.
func TestAccountAllocates(t *testing.T) {
	var none *Account
	a, to := new(Account), target(t, "a.example:443")
	a.Allow(to)
	if n := testing.AllocsPerRun(100, func() { a.Allow(to); none.Allow(to); a.Transfer(to, 1, 1); none.Transfer(to, 1, 1) }); n != 0 {
		t.Errorf("counting a request allocates %v times, want 0", n)
	}
}
