// Tests of groups, and of what a session brings to the decider.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// member opens a session in a group.
func (l *lab) member(group, command string) *networkproxy.Session {
	l.t.Helper()
	return l.open(networkproxy.SessionConfig{Group: group, Attribution: networkproxy.Attribution{Command: command}})
}

// statusIn sends a GET through a session and returns the status of the response.
func statusIn(t testing.TB, s *networkproxy.Session, url string) int {
	t.Helper()
	return doRequest(t, clientThrough(t, s.ProxyURL()), "GET", url, "").status
}

// counting is a decider that gives the same answer to every question.
type counting struct {
	answer networkproxy.Decision
	asked  atomic.Int64
	last   atomic.Pointer[networkproxy.PolicyRequest]
}

func (c *counting) decide(_ context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
	c.asked.Add(1)
	c.last.Store(&r)
	return c.answer, nil
}

func TestGroupRemembersAnAllow(t *testing.T) {
	t.Parallel()
	c := &counting{answer: networkproxy.Allow().ForGroup()}
	l := start(t, allow(), withDecider(c.decide))
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })

	first, parallel := l.member("talk", "one"), l.member("talk", "two")
	if first.Group() != "talk" {
		t.Errorf("got the group %q", first.Group())
	}
	for _, s := range []*networkproxy.Session{first, parallel} {
		if got := statusIn(t, s, "http://o.example/"); got != 200 {
			t.Errorf("got %d in the group", got)
		}
	}
	g := l.grantOf("o.example")
	if g.Group != "talk" || g.SessionID != first.ID() || g.Command != "one" || g.UsesLeft != -1 {
		t.Errorf("got the grant %+v", g)
	}
	if r := c.last.Load(); r.Group != "talk" || r.SessionID != first.ID() {
		t.Errorf("the decider got %+v", r)
	}
	first.Close()
	parallel.Close()
	later := l.member("talk", "three")
	if got := statusIn(t, later, "http://o.example/"); got != 200 || c.asked.Load() != 1 {
		t.Errorf("got %d in a later session, after %d questions", got, c.asked.Load())
	}

	other, alone := l.member("other", "four"), l.command("five")
	statusIn(t, other, "http://o.example/")
	statusIn(t, alone, "http://o.example/")
	l.get("http://o.example/")
	if c.asked.Load() != 4 {
		t.Errorf("%d questions, want one each for another group, a session without one, and the shared listeners", c.asked.Load())
	}

	tunnel := connectThrough(t, later.HTTPAddr(), "o.example:80", "")
	if err := l.Revoke(g.ID); err != nil {
		t.Fatal(err)
	}
	if !isCut(tunnel) {
		t.Error("a tunnel that the group's grant allowed outlives it")
	}
	if statusIn(t, later, "http://o.example/"); c.asked.Load() != 5 {
		t.Error("the decider is not asked again after Revoke")
	}
}

func TestCloseGroup(t *testing.T) {
	t.Parallel()
	c := &counting{answer: networkproxy.Allow().ForGroup().AnyPort()}
	l := start(t, allow(), withDecider(c.decide))
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	l.mapHost("o.example", 7, testnet.Echo(t).Addr())
	s, other := l.member("talk", "one"), l.member("other", "two")
	tunnel := connectThrough(t, s.HTTPAddr(), "o.example:7", "")
	kept := connectThrough(t, other.HTTPAddr(), "o.example:7", "")
	if err := l.CloseGroup("talk"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("a session of the group is open")
	}
	if !isCut(tunnel) {
		t.Error("a tunnel of the group is open")
	}
	if err := echoes(kept); err != nil {
		t.Errorf("another group: %v", err)
	}
	if g := l.Grants(); len(g) != 1 || g[0].Group != "other" {
		t.Errorf("got the grants %+v", g)
	}
	again := l.member("talk", "three")
	if got := statusIn(t, again, "http://o.example/"); got != 200 || c.asked.Load() != 3 {
		t.Errorf("got %d in a new group of the name, after %d questions; want another question", got, c.asked.Load())
	}
	for _, name := range []string{"never", "talk", "talk"} {
		if err := l.CloseGroup(name); err != nil {
			t.Errorf("CloseGroup(%q): %v", name, err)
		}
	}
	if err := l.CloseGroup(""); err == nil {
		t.Error("CloseGroup of no name succeeded")
	}
}

func TestSessionWithItsOwnDecider(t *testing.T) {
	t.Parallel()
	own := &counting{answer: networkproxy.Allow()}
	l := start(t, allow(), nil)
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	asks := l.open(networkproxy.SessionConfig{Group: "talk", Decider: own.decide})
	if got := statusIn(t, asks, "http://o.example/"); got != 200 || own.asked.Load() != 1 {
		t.Errorf("got %d after %d questions to the session's decider", got, own.asked.Load())
	}
	for s, want := range map[*networkproxy.Session]bool{asks: true, l.command("without"): false} {
		x, err := s.Explain(t.Context(), networkproxy.PolicyRequest{Host: "new.example", Port: 80})
		if err != nil || x.Decider != want {
			t.Errorf("Explain in the session %s: the decider decides: %t, %v; want %t", s.ID(), x.Decider, err, want)
		}
	}
	refused := l.member("talk", "without")
	if got := statusIn(t, refused, "http://o.example/"); got != 403 || own.asked.Load() != 1 {
		t.Errorf("got %d in a session without a decider, after %d questions", got, own.asked.Load())
	}
}

func TestDeciderGetsTheValuesOfTheSession(t *testing.T) {
	t.Parallel()
	type key struct{}
	got := make(chan context.Context, 1)
	l := start(t, allow(), withDecider(func(ctx context.Context, _ request) (decision, error) {
		derived, cancel := context.WithCancel(ctx)
		defer cancel()
		got <- derived
		<-derived.Done()
		return networkproxy.Deny("no"), nil
	}))
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "trace 7"))
	defer cancel()
	for _, end := range []struct {
		name  string
		end   func(*networkproxy.Session)
		cause string
	}{
		{"Close", func(s *networkproxy.Session) { s.Close() }, "the session is closed"},
		{"CloseGroup", func(*networkproxy.Session) { l.CloseGroup("talk") }, "the group of the session is closed"},
		{"the end of its context", func(*networkproxy.Session) { cancel() }, context.Canceled.Error()},
	} {
		s, err := l.OpenSession(ctx, networkproxy.SessionConfig{Group: map[bool]string{true: "talk"}[end.name == "CloseGroup"]})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := clientThrough(t, s.ProxyURL()).Get("http://o.example/")
			ended <- err
		}()
		asked := wait(t, got, "the question")
		if v := asked.Value(key{}); v != "trace 7" {
			t.Errorf("%s: the decider's context has the value %v", end.name, v)
		}
		if _, limited := asked.Deadline(); !limited || asked.Err() != nil {
			t.Errorf("%s: the decider's context has no deadline, or the error %v", end.name, asked.Err())
		}
		end.end(s)
		wait(t, asked.Done(), "the end of the decider's context")
		if cause := context.Cause(asked); cause == nil || cause.Error() != end.cause {
			t.Errorf("%s: the decider's context ended with %v", end.name, cause)
		}
		wait(t, ended, "the end of the request")
	}
}

func TestSetAttribution(t *testing.T) {
	t.Parallel()
	c := &counting{answer: networkproxy.Deny("no")}
	l := start(t, allow(), withDecider(c.decide))
	s := l.command("one")
	statusIn(t, s, "http://o.example/")
	labels := map[string]string{"step": "2"}
	s.SetAttribution(networkproxy.Attribution{Command: "two", ExecPolicyHint: "safe", Labels: labels})
	labels["step"] = "3"
	statusIn(t, s, "http://o.example/") // identical but for the command
	if r := c.last.Load(); c.asked.Load() != 2 || r.Command != "two" || r.ExecPolicyHint != "safe" || r.Labels["step"] != "2" || r.SessionID != s.ID() {
		t.Errorf("after %d questions, the decider got %+v", c.asked.Load(), r)
	}
	s.SetAttribution(networkproxy.Attribution{Command: "two", ExecPolicyHint: "safe", Labels: map[string]string{"step": "2"}})
	statusIn(t, s, "http://o.example/")
	if c.asked.Load() != 2 {
		t.Error("asked again although the attribution is the same")
	}
	if b := s.Blocked(); len(b) != 3 || b[0].Command != "one" || b[1].Command != "two" || b[1].Labels["step"] != "2" {
		t.Errorf("got the records %+v", b)
	}

	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { s.SetAttribution(networkproxy.Attribution{Command: "raced"}) })
		all.Go(func() { statusIn(t, s, "http://o.example/") })
	}
	all.Wait()
}

// TestGroupGrantWithinASessionsRules checks that a group's grant overrides neither
// the rules of a session nor the local protection nor a later deny.
func TestGroupGrantWithinASessionsRules(t *testing.T) {
	t.Parallel()
	c := &counting{answer: networkproxy.Allow().ForGroup().AnyPort().Subdomains()}
	l := start(t, allow(), withDecider(c.decide))
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	l.origin("www.o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	l.mapHost("o.example", 7, testnet.Echo(t).Addr())
	l.dns.Set("inside.o.example", testnet.Addrs("10.0.0.1"))
	plain := l.member("talk", "plain")
	statusIn(t, plain, "http://o.example/") // makes the grant
	denies := l.open(networkproxy.SessionConfig{Group: "talk", DeniedDomains: []string{"o.example"}})
	limited := l.open(networkproxy.SessionConfig{Group: "talk", Mode: networkproxy.ModeLimited})
	for _, test := range []struct {
		name        string
		session     *networkproxy.Session
		method, url string
		want        networkproxy.Reason // empty: allowed
	}{
		{"the grant", plain, "POST", "http://www.o.example/", ""},
		{"a denied domain of the session", denies, "GET", "http://o.example/", networkproxy.ReasonDenied},
		{"another host of that session", denies, "GET", "http://www.o.example/", ""},
		{"a mode of the session", limited, "POST", "http://o.example/", networkproxy.ReasonMethodNotAllowed},
		{"a method within that mode", limited, "GET", "http://o.example/", ""},
		{"a local address", plain, "GET", "http://inside.o.example/", networkproxy.ReasonNotAllowedLocal},
	} {
		a := doRequest(t, clientThrough(t, test.session.ProxyURL()), test.method, test.url, "")
		switch b := test.session.Blocked(); {
		case test.want == "" && a.status != 200:
			t.Errorf("%s: got %v", test.name, a)
		case test.want != "" && (a.status != 403 || len(b) == 0 || b[len(b)-1].Reason != test.want || b[len(b)-1].Group != "talk"):
			t.Errorf("%s: got %v, records %+v; want %s", test.name, a, b, test.want)
		}
	}
	tunnel := connectThrough(t, plain.HTTPAddr(), "o.example:7", "")
	if err := l.DenyDomain("o.example"); err != nil {
		t.Fatal(err)
	}
	if !isCut(tunnel) {
		t.Error("a tunnel that the group's grant allowed is open although its host is denied")
	}
	if c.asked.Load() != 1 {
		t.Errorf("%d questions, want 1", c.asked.Load())
	}
}

// TestAllowlistOverridesAGroupsDenial checks that the lists decide before a
// remembered denial.
func TestAllowlistOverridesAGroupsDenial(t *testing.T) {
	t.Parallel()
	c := &counting{answer: networkproxy.Deny("no").ForGroup().AnyPort().Subdomains()}
	l := start(t, allow(), withDecider(c.decide))
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	first, second := l.member("talk", "one"), l.member("talk", "two")
	for _, s := range []*networkproxy.Session{first, second} {
		if got := statusIn(t, s, "http://o.example/"); got != 403 {
			t.Errorf("got %d, want the denial", got)
		}
	}
	own := l.open(networkproxy.SessionConfig{Group: "talk", AllowedDomains: []string{"o.example"}})
	if got := statusIn(t, own, "http://o.example/"); got != 200 {
		t.Errorf("got %d in a session that allows the host", got)
	}
	if err := l.AllowDomain("o.example"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*networkproxy.Session{first, second} {
		if got := statusIn(t, s, "http://o.example/"); got != 200 {
			t.Errorf("got %d after the host was allowed", got)
		}
	}
	l.RemoveDomain("o.example")
	if got := statusIn(t, second, "http://o.example/"); got != 403 || c.asked.Load() != 1 {
		t.Errorf("got %d without the entry, after %d questions; want the denial of before", got, c.asked.Load())
	}
}

func TestCloseGroupWhileQuestionsWait(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	l := start(t, allow(), withDecider(func(ctx context.Context, _ request) (decision, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return networkproxy.Allow().ForGroup(), nil // too late
	}))
	var waiting sync.WaitGroup
	for i, s := range []*networkproxy.Session{l.member("talk", "one"), l.member("talk", "two"), l.open(networkproxy.SessionConfig{Group: "talk", SharedPort: true})} {
		waiting.Go(func() {
			if resp, err := clientThrough(t, s.ProxyURL()).Get(fmt.Sprintf("http://h%d.example/", i/2)); err == nil {
				resp.Body.Close()
				if resp.StatusCode == 200 {
					t.Error("allowed after CloseGroup")
				}
			}
		})
	}
	wait(t, asked, "a question of two sessions")
	wait(t, asked, "a question of one session")
	within(t, "CloseGroup", func() { l.CloseGroup("talk") })
	within(t, "the requests", waiting.Wait)
	if g := l.Grants(); len(g) != 0 || networkproxy.Groups(l.Handle) != 0 {
		t.Errorf("%d groups are left, and the grants %+v", networkproxy.Groups(l.Handle), g)
	}
	eventually(t, "the refusals are recorded", func() bool { return len(l.Blocked()) >= 2 }) // the third client may have come late
	for _, b := range l.Blocked() {
		if b.Reason != networkproxy.ReasonCanceled || b.Group != "talk" {
			t.Errorf("got the record %+v", b)
		}
	}
}

// TestCloseGroupAgainstOpenSession opens sessions in a group while it is closed.
// Every one of them ends, or belongs to the next group of the name.
func TestCloseGroupAgainstOpenSession(t *testing.T) {
	t.Parallel()
	c := &counting{answer: networkproxy.Allow().ForGroup()}
	l := start(t, allow(), withDecider(c.decide))
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	var mu sync.Mutex
	var opened []*networkproxy.Session
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range scaled(200) {
				s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{Group: "talk", SharedPort: true})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				opened = append(opened, s)
				mu.Unlock()
				if i%5 != 0 {
					continue
				}
				if resp, err := clientThrough(t, s.ProxyURL()).Get("http://o.example/"); err == nil {
					resp.Body.Close()
				}
			}
		})
		all.Go(func() {
			for range scaled(200) {
				mu.Lock()
				before := opened
				mu.Unlock()
				if err := l.CloseGroup("talk"); err != nil {
					t.Error(err)
				}
				for _, s := range before {
					select {
					case <-s.Done():
					default:
						t.Error("a session that was open before CloseGroup is open after it")
						return
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Wait()
	}()
	waitReturned(t, done, "one of the calls")
	l.CloseGroup("talk")
	for _, s := range opened {
		select {
		case <-s.Done():
		default:
			t.Fatal("a session is open after the last CloseGroup")
		}
	}
	if g := l.Grants(); len(g) != 0 || networkproxy.Groups(l.Handle) != 0 {
		t.Errorf("%d groups are left, and the grants %+v", networkproxy.Groups(l.Handle), g)
	}
}

// TestGroupsLeaveNothing checks that a group costs something only while it has
// sessions or something is remembered for it.
func TestGroupsLeaveNothing(t *testing.T) {
	t.Parallel()
	answer := networkproxy.Allow()
	l := start(t, allow(), withDecider(func(context.Context, request) (decision, error) { return answer, nil }))
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	n := scaled(1000)
	use := func(name string) {
		s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{Group: name, SharedPort: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if got := statusIn(t, s, "http://o.example/"); got == 200 != strings.HasPrefix(answer.String(), "allow") {
			t.Fatalf("%s: got %d", answer, got)
		}
	}
	for _, a := range []networkproxy.Decision{networkproxy.Allow(), networkproxy.Ask("wait"), networkproxy.Deny("no").For(0), networkproxy.Allow().ForGroup().For(1)} {
		answer = a
		for i := range scaled(50) {
			use(fmt.Sprintf("brief %d", i))
		}
		if got := networkproxy.Groups(l.Handle); got != 0 {
			t.Errorf("%s: %d groups are left of those whose sessions have ended", a, got)
		}
	}

	answer = networkproxy.Allow().ForGroup()
	for i := range n {
		use(fmt.Sprintf("kept %d", i))
	}
	if got := networkproxy.Groups(l.Handle); got != n || len(l.Grants()) != n {
		t.Errorf("%d groups are kept with %d grants, want %d", got, len(l.Grants()), n)
	}
	for _, g := range l.Grants() {
		if err := l.Revoke(g.ID); err != nil {
			t.Fatal(err)
		}
	}
	answer = networkproxy.Allow()
	for i := range n { // the groups without grants go as others come
		s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{Group: fmt.Sprintf("later %d", i), SharedPort: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if got := networkproxy.Groups(l.Handle); got > n+n/2 {
		t.Errorf("%d groups, of which %d are in use", got, n)
	}
	for i := range n {
		l.CloseGroup(fmt.Sprintf("later %d", i))
		l.CloseGroup(fmt.Sprintf("kept %d", i))
	}
	if got := networkproxy.Groups(l.Handle); got != 0 || len(l.Grants()) != 0 {
		t.Errorf("%d groups and %d grants are left", got, len(l.Grants()))
	}
}

// TestGroupsOfTwoProxies checks that equal names in two proxies are two groups.
func TestGroupsOfTwoProxies(t *testing.T) {
	t.Parallel()
	var labs [2]*lab
	var sessions [2]*networkproxy.Session
	for i := range labs {
		c := &counting{answer: networkproxy.Allow().ForGroup()}
		labs[i] = start(t, allow(), withDecider(c.decide))
		labs[i].origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
		sessions[i] = labs[i].member("talk", "one")
		if got := statusIn(t, sessions[i], "http://o.example/"); got != 200 || c.asked.Load() != 1 {
			t.Errorf("proxy %d: got %d after %d questions", i, got, c.asked.Load())
		}
	}
	labs[0].CloseGroup("talk")
	if got := statusIn(t, sessions[1], "http://o.example/"); got != 200 || len(labs[1].Grants()) != 1 || len(labs[0].Grants()) != 0 {
		t.Errorf("got %d in the other proxy", got)
	}
	labs[1].Close()
	if len(labs[1].Grants()) != 0 {
		t.Errorf("grants of a group after the end of the proxy: %+v", labs[1].Grants())
	}
	if _, err := labs[1].OpenSession(t.Context(), networkproxy.SessionConfig{Group: "talk"}); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("OpenSession after the end: %v", err)
	}
	if n := networkproxy.Groups(labs[1].Handle); n != 0 {
		t.Errorf("%d groups after the end", n)
	}
}

// TestFailedSessionLeavesItsGroup checks that a session that cannot be opened does
// not keep its group, nor CloseGroup.
func TestFailedSessionLeavesItsGroup(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	if _, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{Group: "talk", UnixSocket: "/nonexistent/socket"}); err == nil {
		t.Fatal("the session was opened")
	}
	if n := networkproxy.Groups(l.Handle); n != 0 {
		t.Errorf("%d groups are left", n)
	}
	within(t, "CloseGroup", func() { l.CloseGroup("talk") })
}

// TestAttributionOfARequestThatWaits checks that a refusal has the attribution that
// the decider was asked about, and that the next command gets no answer to it.
func TestAttributionOfARequestThatWaits(t *testing.T) {
	t.Parallel()
	asked, answers := make(chan string, 2), make(chan decision)
	l := start(t, allow(), withDecider(func(_ context.Context, r request) (decision, error) {
		asked <- r.Command
		return <-answers, nil
	}))
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	s := l.command("one")
	get := func() <-chan int {
		status := make(chan int, 1)
		go func() { status <- statusIn(t, s, "http://o.example/") }()
		return status
	}
	first := get()
	if got := wait(t, asked, "the first question"); got != "one" {
		t.Errorf("asked about %q", got)
	}
	s.SetAttribution(networkproxy.Attribution{Command: "two"})
	second := get()
	if got := wait(t, asked, "another question"); got != "two" {
		t.Errorf("asked about %q", got)
	}
	answers <- networkproxy.Deny("no")
	answers <- networkproxy.Deny("no")
	wait(t, first, "the first response")
	wait(t, second, "the second response")
	commands := make(map[string]int)
	for _, b := range s.Blocked() {
		commands[b.Command]++
	}
	if commands["one"] != 1 || commands["two"] != 1 {
		t.Errorf("got the commands %v in the records", commands)
	}
}

// TestSettledQuestion checks that an answer that lasts ends another prompt of the
// conversation, and that the events say so.
func TestSettledQuestion(t *testing.T) {
	t.Parallel()
	answer := make(chan decision)
	asked, withdrawn := make(chan string, 2), make(chan string, 1)
	events := make(chan networkproxy.Event, 100)
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.OnEvent(func(e networkproxy.Event) { events <- e })
		b.PolicyDecider(func(ctx context.Context, r request) (decision, error) {
			asked <- r.Command
			if r.Command == "one" {
				return <-answer, nil
			}
			<-ctx.Done()
			withdrawn <- r.Command
			return decision{}, ctx.Err()
		})
	})
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	statuses := make(chan int, 2)
	for command, method := range map[string]string{"one": "GET", "two": "POST"} {
		s := l.member("talk", command)
		go func() {
			statuses <- doRequest(t, clientThrough(t, s.ProxyURL()), method, "http://o.example/", "").status
		}()
	}
	wait(t, asked, "a question")
	wait(t, asked, "another question")
	answer <- networkproxy.Allow().ForGroup()
	wait(t, withdrawn, "the end of the other question")
	for range 2 {
		if got := wait(t, statuses, "the response"); got != 200 {
			t.Errorf("got %d", got)
		}
	}
	answers := make(map[string]string)
	for len(answers) < 2 {
		if e := wait(t, events, "an event"); e.Kind == networkproxy.EventAnswered {
			answers[e.Command] = e.Message + e.Error
		}
	}
	if answers["one"] != "allow(for the group)" || !strings.Contains(answers["two"], "another question covers it") {
		t.Errorf("the events of the answers say %q", answers)
	}
}
