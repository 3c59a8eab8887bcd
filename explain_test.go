// Tests of explanations, of learning an allowlist, and of the self-test.

package networkproxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

func TestExplainNamesTheRuleAndItsPlace(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, "policy.allowed_domains = [\n  \"*.example\",\n]\npolicy.denied_domains = [\"bad.example\", \"93.0.0.0/8\"]")
	l := startFile(t, nil, f.path)
	l.mapHost("good.example", 443, testnet.Echo(t).Addr())
	tests := []struct {
		url, method string
		resolve     bool
		allowed     bool
		reason      networkproxy.Reason
		pattern     string
		line        int
		last        string // the check that decided
	}{
		{"https://good.example/x?y", "", false, true, "", "*.example", 4, "mode"},
		{"https://bad.example", "", false, false, networkproxy.ReasonDenied, "bad.example", 6, "denylist"},
		{"https://good.example", "", true, false, networkproxy.ReasonDenied, "93.0.0.0/8", 6, "denied_address"},
		{"http://10.0.0.1/", "", false, false, networkproxy.ReasonNotAllowedLocal, "", 0, "local"},
		{"http://other.test/", "POST", false, false, networkproxy.ReasonNotAllowed, "", 0, "allowlist"},
		{"http://0x7f.1/", "", false, false, networkproxy.ReasonInvalidTarget, "", 0, "target"},
		{"socks5://good.example:22", "", false, true, "", "*.example", 4, "mode"},
		{"udp://bad.example:53", "", false, false, networkproxy.ReasonDenied, "bad.example", 6, "denylist"},
		{"good.example:443", "", false, true, "", "*.example", 4, "mode"},
		{"http://" + l.AdminAddr(), "", false, false, networkproxy.ReasonNotAllowedLocal, "", 0, "own_listener"},
	}
	for _, test := range tests {
		x, err := l.ExplainURL(context.Background(), test.url, test.method, test.resolve)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		last := x.Checks[len(x.Checks)-1]
		if x.Allowed != test.allowed || x.Reason != test.reason || x.Rule.Pattern != test.pattern ||
			x.Rule.Position.Line != test.line || last.Name != test.last || last.Passed != test.allowed {
			t.Errorf("%s: got %+v", test.url, x)
		}
		if x.Message == "" {
			t.Errorf("%s: the message is empty", test.url)
		}
		resolve := ""
		if test.resolve {
			resolve = "&resolve=1"
		}
		var wire networkproxy.Explanation
		got := l.admin("GET", "/explain?url="+url.QueryEscape(test.url)+"&method="+test.method+resolve, "")
		if err := json.Unmarshal([]byte(got.body), &wire); err != nil || wire.Allowed != x.Allowed || wire.Reason != x.Reason || wire.Rule != x.Rule {
			t.Errorf("/explain of %s: got %v %s", test.url, err, got.body)
		}
	}
	if got := l.dns.Queries(); !slices.Equal(got, []string{"good.example", "good.example"}) {
		t.Errorf("looked up %q, want only the two requests that ask for it", got)
	}
	if got := l.admin("GET", "/explain", ""); got.status != 400 {
		t.Errorf("/explain without a URL: got %d, want 400", got.status)
	}
	if got := l.admin("GET", "/explain?url=gopher://x/", ""); got.status != 400 {
		t.Errorf("/explain of gopher://x/: got %d, want 400", got.status)
	}
	if list := l.Blocked(); len(list) != 0 {
		t.Errorf("explanations are recorded as refusals: %v", list)
	}
}

func TestExplainDoesNotAskTheDecider(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			t.Error("an explanation called the decider")
			return networkproxy.Allow(), nil
		})
	})
	x, err := l.Explain(context.Background(), networkproxy.PolicyRequest{Host: "new.example", Port: 80})
	if err != nil || x.Allowed || !x.Decider {
		t.Errorf("got %+v, %v", x, err)
	}
	if err := l.SetMode(networkproxy.ModeLimited); err != nil {
		t.Fatal(err)
	}
	x, err = l.Explain(context.Background(), networkproxy.PolicyRequest{Host: "new.example", Port: 80, Method: "POST"})
	if err != nil || x.Decider || x.Reason != networkproxy.ReasonMethodNotAllowed {
		t.Errorf("a method that the mode forbids: got %+v, %v", x, err)
	}
	for _, protocol := range []networkproxy.Protocol{networkproxy.ProtocolCapturedTCP, networkproxy.ProtocolCapturedUDP} {
		x, err := l.Explain(context.Background(), networkproxy.PolicyRequest{Protocol: protocol, Host: "new.example", Port: 80})
		if err != nil || x.Allowed || x.Reason != networkproxy.ReasonMethodNotAllowed {
			t.Errorf("%s: got %+v, %v", protocol, x, err)
		}
	}
	if _, err := l.Explain(context.Background(), networkproxy.PolicyRequest{Protocol: "ftp", Host: "x.example", Port: 21}); err == nil {
		t.Error("an unknown protocol: got no error")
	}
}

func TestObserveLetsMissesPassAndSuggests(t *testing.T) {
	t.Parallel()
	config := allow("listed.example")
	config.Policy.DeniedDomains = []string{"denied.example"}
	l := start(t, config, func(b *networkproxy.Builder) { b.Observe() })
	hello := func(http.ResponseWriter, *http.Request) {}
	for host, port := range map[string]uint16{"listed.example": 80, "new.example": 80, "odd.example": 8080, "inner.example": 80} {
		l.origin(host, port, hello)
	}
	l.dns.Set("inner.example", testnet.Addrs("10.0.0.1"))

	want := map[string]int{
		"http://listed.example/": 200, "http://new.example/": 200, "http://odd.example:8080/": 200,
		"http://denied.example/": 403, "http://127.0.0.1/": 403, "http://127.0.0.1:3000/": 403, "http://inner.example/": 403,
		"http://LOCALHOST.:8080/": 403, "http://[fd00::1]/": 403, "http://" + l.AdminAddr() + "/": 403,
	}
	for target, status := range want {
		if got := l.get(target); got.status != status {
			t.Errorf("%s: got %d, want %d (%s)", target, got.status, status, got.body)
		}
	}
	if got, want := l.Suggest(), []string{"listed.example", "new.example", "odd.example:8080"}; !slices.Equal(got, want) {
		t.Errorf("suggested allowlist: got %q, want %q", got, want)
	}
	inner := netip.MustParseAddr("10.0.0.1")
	if got, want := l.SuggestLocal(), []networkproxy.LocalTarget{{Entry: "127.0.0.1:80"}, {Entry: "127.0.0.1:3000"}, {Entry: "[fd00::1]:80"},
		{Entry: "inner.example:80", Address: inner}, {Entry: "localhost:8080"}}; !slices.Equal(got, want) {
		t.Errorf("local targets: got %v, want %v", got, want)
	}
	for _, test := range []struct{ what, text string }{
		{"/health", l.admin("GET", "/health", "").body},
		{"the log", l.log.String()},
		{"warnings", strings.Join(l.Warnings(), "\n")},
	} {
		if !strings.Contains(test.text, "OBSERVING") {
			t.Errorf("%s does not report that the proxy observes: %s", test.what, test.text)
		}
	}

	// With the suggested allowlist, the same requests pass.
	enforcing := start(t, allow(l.Suggest()...), nil)
	for target, status := range want {
		if x := enforcing.reason(target); (x == "") != (status == 200) && target != "http://inner.example/" {
			t.Errorf("with the suggested allowlist, %s: got the reason %q", target, x)
		}
	}
	const text = `[network_proxy.policy]
allowed_domains = [
  "listed.example",
  "new.example",
  "odd.example:8080",
  # Refused, because they are local. Remove the # from a line to allow that target.
  # "127.0.0.1:80",
  # "127.0.0.1:3000",
  # "[fd00::1]:80",
  # "localhost:8080",
  # Refused, because the names resolve to local addresses. These lines need allow_local_binding = true as well.
  # "inner.example:80", # 10.0.0.1
]
`
	if got := l.admin("GET", "/suggest", ""); got.status != 200 || !strings.HasSuffix(got.body, "\n"+text) || got.body != l.SuggestTOML() {
		t.Errorf("/suggest: got %d %s", got.status, got.body)
	}
	// The text is valid TOML, also without its #s.
	for _, test := range []struct {
		name, text string
		open       bool
	}{{"as suggested", text, false}, {"opened", strings.ReplaceAll(text, "  # \"", "  \""), true}} {
		opened := startFile(t, nil, newConfigFile(t, test.text).path)
		for _, target := range []string{"http://127.0.0.1:3000/", "http://localhost:8080/", "http://[fd00::1]/"} {
			if got := opened.reason(target); (got == "") != test.open {
				t.Errorf("%s, %s: got the reason %q", test.name, target, got)
			}
		}
	}
	if got, toml := enforcing.SuggestLocal(), enforcing.SuggestTOML(); got != nil || toml != "" {
		t.Errorf("suggested without observing: %v, %q", got, toml)
	}
	if got := enforcing.admin("GET", "/suggest", ""); got.status != 409 {
		t.Errorf("/suggest without observing: got %d", got.status)
	}
}

func TestSelfTest(t *testing.T) {
	t.Parallel()
	l := start(t, allow("*"), nil)
	if err := l.SetMode(networkproxy.ModeFull); err != nil {
		t.Fatal(err)
	}
	results, err := start(t, allow("some.example"), nil).SelfTest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	promises := make(map[string]bool)
	for _, r := range results {
		promises[r.Promise] = true
		if !r.OK || r.Note != "" {
			t.Errorf("self-test: got %+v", r)
		}
	}
	if len(promises) != 5 {
		t.Errorf("the self-test checked %d promises: %v", len(promises), promises)
	}

	// Through every listener, and through a session if one is required.
	for _, require := range []bool{false, true} {
		l := start(t, withSOCKS(allow("some.example")), func(b *networkproxy.Builder) {
			if require {
				b.RequireSession()
			}
		})
		results, err := l.SelfTest(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		by := make(map[networkproxy.Protocol]int)
		for _, r := range results {
			by[r.Protocol]++
			if !r.OK || r.Note != "" {
				t.Errorf("RequireSession %t: got %+v", require, r)
			}
		}
		if n := by[networkproxy.ProtocolSOCKS5TCP]; n == 0 || n != by[networkproxy.ProtocolHTTP] || n != by[networkproxy.ProtocolHTTPSConnect] {
			t.Errorf("RequireSession %t: got the number of results by protocol %v", require, by)
		}
	}

	// A configuration that waives a promise is reported, and the other promises
	// are still checked.
	open := allow("*", "127.0.0.1")
	open.Policy.AllowLocalBinding = true
	l = start(t, open, nil)
	results, err = l.SelfTest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		waived := strings.HasPrefix(r.Promise, "what no list") || strings.HasPrefix(r.Promise, "local networks")
		if !r.OK || (r.Note != "") != waived {
			t.Errorf("self-test: got %+v", r)
		}
	}
	if got := l.admin("GET", "/patterns", "").body; strings.Contains(got, "selftest") {
		t.Errorf("rules after the self-test: %s", got)
	}
	l.Close()
	if _, err := l.SelfTest(context.Background()); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("after Close: got the error %v", err)
	}
}
