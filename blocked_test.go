// Tests of the attribution and the texts in records of refusals.

package networkproxy_test

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"example.com/networkproxy"
)

// TestBlockedRequestIsComplete checks that the record, OnBlocked and GET /blocked
// have the session, the labels, and the texts of the response.
func TestBlockedRequestIsComplete(t *testing.T) {
	t.Parallel()
	calls := make(chan networkproxy.BlockedRequest, 10)
	asked := make(chan networkproxy.PolicyRequest, 10)
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.OnBlocked(func(r networkproxy.BlockedRequest) { calls <- r })
		b.PolicyDecider(func(_ context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			asked <- r
			r.Labels["task"] = "changed by the decider"
			return networkproxy.Ask("first use"), nil
		})
	})
	labels := map[string]string{"task": "7"}
	s := l.open(networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "npm\ntest", Labels: labels}})
	labels["task"] = "changed by the host"
	a := doRequest(t, clientThrough(t, s.ProxyURL()), "POST", "http://new.example:8080/?token=1", "")
	var response struct{ Message, Hint string }
	if err := json.Unmarshal([]byte(a.body), &response); err != nil || response.Message == "" || response.Hint == "" {
		t.Fatalf("got %v, %v", a, err)
	}
	want := map[string]string{"task": "7"}
	if r := wait(t, asked, "the question"); r.SessionID != s.ID() || r.Command != "npm\ntest" {
		t.Errorf("the decider got %+v", r)
	}
	var admin struct{ Blocked []networkproxy.BlockedRequest }
	if err := json.Unmarshal([]byte(l.adminRaw(t, "GET", "/blocked", "").body), &admin); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]networkproxy.BlockedRequest{
		"Handle.Blocked": l.Blocked(), "Session.Blocked": s.Blocked(), "GET /blocked": admin.Blocked,
		"OnBlocked": {wait(t, calls, "the call of OnBlocked")},
	} {
		if len(list) != 1 {
			t.Fatalf("%s: got %d records, want 1", name, len(list))
		}
		b := list[0]
		if b.SessionID != s.ID() || !maps.Equal(b.Labels, want) || b.Message != response.Message || b.Hint != response.Hint {
			t.Errorf("%s: got session %q, labels %v, message %q, hint %q; want %q, %v, %q, %q", name,
				b.SessionID, b.Labels, b.Message, b.Hint, s.ID(), want, response.Message, response.Hint)
		}
		line := `networkproxy blocked new.example:8080: it needs the user's approval (first use). (http POST, ask: first use, session ` + s.ID() + `, command "npm\ntest")`
		if got := b.String(); got != line {
			t.Errorf("%s: got the line %q, want %q", name, got, line)
		}
	}
	l.Blocked()[0].Labels["task"] = "changed by the host"
	if got := s.Blocked()[0].Labels; !maps.Equal(got, want) {
		t.Errorf("after a change of a copy: got the labels %v", got)
	}

	// The shared listeners have neither session nor labels.
	w := l.dialHTTP(t)
	w.request("CONNECT", "10.0.0.1:443")
	w.readHeader("CONNECT")
	b := wait(t, calls, "the call of OnBlocked")
	if text, err := json.Marshal(b); err != nil || strings.Contains(string(text), `"session"`) || strings.Contains(string(text), `"labels"`) {
		t.Errorf("got %s, %v; want no session and no labels", text, err)
	}
	if got := (networkproxy.BlockedRequest{Host: "::1", Port: 80, Protocol: "http", Decision: "deny", Reason: "denied"}).String(); got != "networkproxy blocked [::1]:80. (http, deny: denied)" {
		t.Errorf("a record without a message: got %q", got)
	}
}
