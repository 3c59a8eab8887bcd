// Tests of reports, outcomes and summaries of sessions, and of the list of
// sessions.

package networkproxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
)

func TestSessionReport(t *testing.T) {
	t.Parallel()
	l := start(t, allow("yes.example"), nil)
	l.origin("yes.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	s, other := l.command("npm test"), l.command("other")
	client := clientThrough(t, s.ProxyURL())
	if got := s.Report(); got != "" {
		t.Errorf("before the first request: got the report %q", got)
	}
	doRequest(t, client, "GET", "http://yes.example/", "")
	if got := s.Report(); got != "" || s.Outcome() != networkproxy.OutcomeNothingRefused {
		t.Errorf("after an allowed request: got the report %q and the outcome %s", got, s.Outcome())
	}
	for range 3 {
		doRequest(t, client, "GET", "http://no.example/", "")
	}
	doRequest(t, client, "POST", "http://10.0.0.1/", "")
	s.Close()
	const want = "The network proxy refused 4 requests of this command:\n" +
		"- no.example:80: the host is not on the allowlist. (3 requests)\n" +
		"  The user can add \"no.example\" to allowed_domains in [network_proxy.policy].\n" +
		"- 10.0.0.1:80: 10.0.0.1 is not a public address (Private-Use, RFC 1918).\n" +
		"  To make it reachable, the user can add exactly \"10.0.0.1\" to allowed_domains (wildcards do not cover local addresses), or set allow_local_binding = true.\n"
	if got := s.Report(); got != want {
		t.Errorf("got the report\n%swant\n%s", got, want)
	}
	if got := s.Outcome(); got != networkproxy.OutcomeRefusedByPolicy {
		t.Errorf("got the outcome %s", got)
	}
	if got := other.Report(); got != "" || other.Outcome() != networkproxy.OutcomeNothingRefused {
		t.Errorf("another session: got the report %q and the outcome %s", got, other.Outcome())
	}
}

// TestSessionReportCountsAll checks that the report counts refusals that the
// record has no place for.
func TestSessionReportCountsAll(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), func(b *networkproxy.Builder) { b.Limits(networkproxy.Limits{BlockedKept: 2}) })
	s := l.command("retry")
	client := clientThrough(t, s.ProxyURL())
	for range 5 {
		doRequest(t, client, "GET", "http://no.example/", "")
	}
	if got := s.Report(); len(s.Blocked()) != 2 || !strings.Contains(got, "(5 requests)") {
		t.Errorf("with %d refusals on record: got the report %q", len(s.Blocked()), got)
	}
}

func TestSessionOutcome(t *testing.T) {
	t.Parallel()
	tests := []struct {
		host string
		want networkproxy.Outcome
	}{
		{"yes.example", networkproxy.OutcomeNothingRefused},
		{"deny.example", networkproxy.OutcomeRefusedByUser},
		{"timeout.example", networkproxy.OutcomeRefusedByUser}, // with a reason of the proxy
		{"ask.example", networkproxy.OutcomeRefusedByUser},
		{"error.example", networkproxy.OutcomeRefusedByPolicy},
		{"panic.example", networkproxy.OutcomeRefusedByPolicy},
		{"denied.example", networkproxy.OutcomeRefusedByPolicy},
	}
	c := networkproxy.DefaultConfig()
	c.Policy.DeniedDomains = []string{"denied.example"}
	l := start(t, c, func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			switch r.Host {
			case "yes.example":
				return networkproxy.Allow(), nil
			case "timeout.example":
				return networkproxy.Deny(string(networkproxy.ReasonDeciderTimeout)), nil
			case "ask.example":
				return networkproxy.Ask("first use"), nil
			case "error.example":
				return networkproxy.Decision{}, errors.New("the prompt is broken")
			case "panic.example":
				panic("the prompt is broken")
			}
			return networkproxy.Deny("no"), nil
		})
	})
	l.origin("yes.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	all := l.command("all")
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			s := l.command(tt.host)
			doRequest(t, clientThrough(t, s.ProxyURL()), "GET", "http://"+tt.host+"/", "")
			doRequest(t, clientThrough(t, all.ProxyURL()), "GET", "http://"+tt.host+"/", "")
			if got := s.Outcome(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	if got := all.Outcome(); got != networkproxy.OutcomeRefusedByUser {
		t.Errorf("a session with all of these requests: got %s", got)
	}
}

func TestSessionSummary(t *testing.T) {
	t.Parallel()
	l := start(t, allow("yes.example", "broken.example"), nil)
	l.origin("yes.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	l.dns.Set("broken.example") // has no address
	s := l.command("curl")
	if got := s.Summary(); got.Hosts == nil || len(got.Hosts) != 0 || got.Allowed+got.Refused+got.Failed != 0 {
		t.Errorf("before the first request: got %+v", got)
	}
	client := clientThrough(t, s.ProxyURL())
	doRequest(t, client, "GET", "http://yes.example/", "")
	doRequest(t, client, "POST", "http://yes.example/", "data")
	doRequest(t, client, "GET", "http://broken.example/", "")
	doRequest(t, client, "GET", "http://no.example/", "")
	doRequest(t, l.client(), "GET", "http://yes.example/", "") // of no session
	s.Close()
	eventually(t, "the requests have ended", func() bool { return s.Summary().Received == 10 })
	got := s.Summary()
	if got.Sent != 4 || got.Allowed != 2 || got.Failed != 1 || got.Refused != 1 || got.MoreHosts {
		t.Errorf("got %+v", got)
	}
	want := []networkproxy.HostSummary{{Host: "yes.example", Allowed: 2, Sent: 4, Received: 10}, {Host: "broken.example", Failed: 1}}
	if !slices.Equal(got.Hosts, want) {
		t.Errorf("got the hosts %+v, want %+v", got.Hosts, want)
	}
}

func TestHandleSessions(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	if got := l.Sessions(); len(got) != 0 {
		t.Errorf("got %d sessions before the first", len(got))
	}
	var want []*networkproxy.Session
	for range 12 { // "s10" and "s2" differ in length
		want = append(want, l.command("a command"))
	}
	if got := l.Sessions(); !slices.Equal(got, want) {
		t.Errorf("got %v, want the sessions in the order of opening", got)
	}
	want[3].Close()
	want = slices.Delete(want, 3, 4)
	if got := l.Sessions(); !slices.Equal(got, want) {
		t.Error("a closed session is listed, or an open one is not")
	}
	l.Close()
	if got := l.Sessions(); len(got) != 0 {
		t.Errorf("after Close: got %d sessions", len(got))
	}
}

func TestSessionExplain(t *testing.T) {
	t.Parallel()
	l := start(t, allow("yes.example"), nil)
	s := l.open(networkproxy.SessionConfig{
		AllowedDomains: []string{"own.example"},
		DeniedDomains:  []string{"bad.own.example"},
		Mode:           networkproxy.ModeLimited,
		Attribution:    networkproxy.Attribution{Command: "npm test"},
	})
	ctx := context.Background()
	for _, tt := range []struct {
		url, method     string
		session, handle bool
		reason          networkproxy.Reason
	}{
		{"http://yes.example/", "GET", true, true, ""},
		{"http://yes.example/", "POST", false, true, networkproxy.ReasonMethodNotAllowed},
		{"http://own.example/", "GET", true, false, ""},
		{"http://bad.own.example/", "GET", false, false, networkproxy.ReasonDenied},
		{"http://no.example/", "GET", false, false, networkproxy.ReasonNotAllowed},
	} {
		x, err := s.ExplainURL(ctx, tt.url, tt.method, false)
		if err != nil {
			t.Fatal(err)
		}
		if x.Allowed != tt.session || x.Reason != tt.reason || x.Request.Command != "npm test" || x.Request.SessionID != s.ID() {
			t.Errorf("%s %s in the session: got %+v", tt.method, tt.url, x)
		}
		if x, err = l.ExplainURL(ctx, tt.url, tt.method, false); err != nil || x.Allowed != tt.handle || x.Request.SessionID != "" {
			t.Errorf("%s %s without a session: got %+v, %v", tt.method, tt.url, x, err)
		}
		doRequest(t, clientThrough(t, s.ProxyURL()), tt.method, tt.url, "")
	}
	if x, err := s.Explain(ctx, networkproxy.PolicyRequest{Host: "own.example", Port: 80}); err != nil || !x.Allowed {
		t.Errorf("Explain: got %+v, %v", x, err)
	}
	decides := l.open(networkproxy.SessionConfig{
		Decider: func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			return networkproxy.Allow(), nil
		},
	})
	if x, err := decides.ExplainURL(ctx, "http://no.example/", "GET", false); err != nil || !x.Decider || x.Allowed {
		t.Errorf("with a decider of the session: got %+v, %v", x, err)
	}
	if x, err := l.ExplainURL(ctx, "http://no.example/", "GET", false); err != nil || x.Decider {
		t.Errorf("without it: got %+v, %v", x, err)
	}
	for _, b := range s.Blocked() { // the requests meet what was explained
		if b.Host == "own.example" || b.Host == "yes.example" && b.Method == "GET" {
			t.Errorf("refused although explained as allowed: %s", b)
		}
	}
}

// TestReportOfOneCommand checks that a report is about the last attribution of the
// session only, even if the refusal of an earlier request comes later.
func TestReportOfOneCommand(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			if r.Host == "slow.example" {
				close(asked)
				<-answer
			}
			return networkproxy.Deny("no"), nil
		})
	})
	s := l.command("first")
	client := clientThrough(t, s.ProxyURL())
	doRequest(t, client, "GET", "http://first.example/", "")
	slow := make(chan struct{})
	go func() {
		defer close(slow)
		if resp, err := client.Get("http://slow.example/"); err == nil {
			resp.Body.Close()
		}
	}()
	wait(t, asked, "the question")
	s.SetAttribution(networkproxy.Attribution{Command: "second"})
	if s.Report() != "" || s.Outcome() != networkproxy.OutcomeNothingRefused {
		t.Errorf("a new command: got the report %q and the outcome %s", s.Report(), s.Outcome())
	}
	close(answer)
	wait(t, slow, "the response to the earlier request")
	doRequest(t, client, "GET", "http://second.example/", "")
	const want = "The network proxy refused 1 request of this command:\n" +
		"- second.example:80: the application that runs this command refused it (no).\n" +
		"  To allow it always, the user can add \"second.example\" to allowed_domains.\n"
	if got := s.Report(); got != want {
		t.Errorf("got the report\n%swant\n%s", got, want)
	}
	if got := s.Summary().Refused; got != 3 {
		t.Errorf("the summary has %d refused requests, want 3", got)
	}
}
