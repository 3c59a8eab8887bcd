// Tests of events about rules and malformed requests, and of the text of events.

package networkproxy_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/networkproxy"
)

// Each change of the rules at run time has one event, and a change that failed has none.
func TestRuleEvents(t *testing.T) {
	t.Parallel()
	var got events
	l := start(t, allow("web.example"), func(b *networkproxy.Builder) {
		b.OnEvent(got.add).LearnedFile(filepath.Join(t.TempDir(), "learned.toml"))
	})
	s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{Group: "talk", Attribution: networkproxy.Attribution{Command: "agent"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, change := range []struct {
		do   func() error
		want string // without the generation; empty if it fails
	}{
		{func() error { return l.AllowDomain("a.example:443") }, "rule a.example:443 (allow, allowed until the proxy ends)"},
		{func() error { return l.DenyDomain("b.example") }, "rule b.example (deny, denied until the proxy ends)"},
		{func() error { return l.RemoveDomain("b.example") }, "rule b.example (no longer allowed or denied at run time)"},
		{func() error { return l.RemoveDomain("b.example") }, ""},
		{func() error { return l.AllowDomain("**") }, ""},
		{func() error {
			return l.Remember(t.Context(), networkproxy.Amendment{Action: networkproxy.AmendAllow, Pattern: "c.example"})
		}, "rule c.example (allow, allowed for good)"},
		{func() error {
			return l.Remember(t.Context(), networkproxy.Amendment{Action: networkproxy.AmendDeny, Pattern: "d.example"})
		}, "rule d.example (deny, denied for good)"},
		{func() error { return l.Forget(t.Context(), "d.example") }, "rule d.example (forgotten)"},
		{func() error { return s.Allow("e.example") }, `rule e.example (allow, session s1, group "talk", command "agent", allowed for the session)`},
		{func() error { return l.AllowGroup("talk", "f.example") }, `rule f.example (allow, allowed for the group "talk")`},
	} {
		before := got.count(networkproxy.EventRule)
		err := change.do()
		if (err == nil) != (change.want != "") {
			t.Errorf("change %d returns %v", i, err)
		}
		if change.want == "" {
			continue
		}
		got.wait(t, before+1, networkproxy.EventRule)
		list := slices.DeleteFunc(got.all(), func(e networkproxy.Event) bool { return e.Kind != networkproxy.EventRule })
		last := list[len(list)-1]
		if len(list) != before+1 || last.String() != change.want || last.Generation == 0 {
			t.Errorf("change %d has %d events, the last %q of generation %d, want one: %q", i, len(list)-before, last, last.Generation, change.want)
		}
	}
}

// A malformed request on the listener of a session is one of the session.
func TestMalformedRequestsHaveTheirSession(t *testing.T) {
	t.Parallel()
	var all, own events
	l := start(t, withSOCKS(allow("web.example")), func(b *networkproxy.Builder) { b.OnEvent(all.add) })
	s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{OnEvent: own.add})
	if err != nil {
		t.Fatal(err)
	}
	for i, request := range []struct{ addr, text string }{
		{s.HTTPAddr(), "GET http://a..example/ HTTP/1.1\r\nHost: a..example\r\n\r\n"},
		{s.HTTPAddr(), "GET / HTTP/1.1\r\nno field\r\n\r\n"},
		{s.SOCKSAddr(), "GET / HTTP/1.1\r\n\r\n"},
	} {
		conn, err := net.Dial("tcp", request.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, request.text)
		io.Copy(io.Discard, conn)
		conn.Close()
		own.wait(t, i+1, networkproxy.EventRefused)
		all.wait(t, i+1, networkproxy.EventRefused)
	}
	for _, e := range all.all() {
		if e.Kind == networkproxy.EventRefused && (e.SessionID != s.ID() || e.Reason != "invalid_target" || e.Error == "") {
			t.Errorf("the event of a malformed request is %v, want one of the session %s", e, s.ID())
		}
	}
}

func TestEventString(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		event networkproxy.Event
		want  string
	}{
		{networkproxy.Event{}, ""},
		{networkproxy.Event{Kind: networkproxy.EventReload}, "reload"},
		{networkproxy.Event{Kind: networkproxy.EventMode, Mode: networkproxy.ModeLimited}, "mode (mode limited)"},
		{networkproxy.Event{Kind: networkproxy.EventDropped, Dropped: 7}, "dropped (7 events)"},
		{networkproxy.Event{Kind: networkproxy.EventClosed, Protocol: "https_connect", Host: "2001:db8::1", Port: 443, Sent: 1, Received: 2, Duration: time.Second},
			"closed https_connect [2001:db8::1]:443 (1 bytes sent, 2 received, 1s)"},
		{networkproxy.Event{Kind: networkproxy.EventRefused, Protocol: "http", Method: "GET", Host: "a.example", Port: 80, Decision: "deny", Reason: "denied",
			SessionID: "s1", Command: "x\ny", Client: netip.MustParseAddrPort("127.0.0.1:1"), Message: "no\x1b[2J\u202eway"},
			`refused http GET a.example:80 (deny, denied, session s1, command "x\ny", no[2Jway)`},
		{networkproxy.Event{Kind: networkproxy.EventAllowed, Protocol: "http", Method: "GET", UnixSocket: "/run/x\t", Grant: 3}, "allowed http GET /run/x (grant 3)"},
		{networkproxy.Event{Kind: networkproxy.EventGranted, Host: "*.example", Grant: 3, Error: "e"}, "granted *.example (grant 3, error: e)"},
	} {
		if got := test.event.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		if got := fmt.Sprint(test.event); got != test.want {
			t.Errorf("fmt prints %q, want %q", got, test.want)
		}
	}
}
