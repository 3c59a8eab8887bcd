// Tests of questions that are answered by the admin API, and of the page's login.

package networkproxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// asking is a proxy that asks on the page, and the token of its admin API.
type asking struct {
	*lab
	token string
}

func startAsking(t testing.TB, change func(*networkproxy.Builder)) *asking {
	t.Helper()
	a := &asking{lab: start(t, allow(), func(b *networkproxy.Builder) {
		b.AskOnPage()
		if change != nil {
			change(b)
		}
	})}
	for _, host := range []string{"a.example", "b.example"} {
		a.origin(host, 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	}
	address, code, ok := strings.Cut(a.PageURL(), "/#code=")
	if !ok || address != "http://"+a.AdminAddr() {
		t.Fatalf("PageURL: %q", a.PageURL())
	}
	login := a.admin("POST", "/login", fmt.Sprintf(`{"code": %q}`, code))
	var body struct{ Token string }
	if err := json.Unmarshal([]byte(login.body), &body); err != nil || len(body.Token) < 16 {
		t.Fatalf("login: %d %s", login.status, login.body)
	}
	a.token = "Authorization: Bearer " + body.Token
	if again := a.admin("POST", "/login", fmt.Sprintf(`{"code": %q}`, code)); again.status != 403 {
		t.Errorf("the code was used twice: %d %s", again.status, again.body)
	}
	return a
}

type question struct {
	ID      uint64
	Request networkproxy.PolicyRequest
	Asked   time.Time
	Expires time.Time
	Answers []string
}

// wait waits until n questions are open, and returns them.
func (a *asking) wait(n int) (list []question) {
	a.t.Helper()
	eventually(a.t, fmt.Sprintf("%d questions", n), func() bool {
		list = decode[struct{ Questions []question }](a.t, a.adminRaw(a.t, "GET", "/questions", "", a.token)).Questions
		return len(list) == n
	})
	return list
}

func (a *asking) answer(id uint64, word string) rawResponse {
	a.t.Helper()
	return a.adminRaw(a.t, "POST", "/questions/answer", fmt.Sprintf(`{"id": %d, "answer": %q}`, id, word), a.token)
}

// request makes a request by a client and returns a channel with the status of the
// response.
func (a *asking) request(c *http.Client, url string) <-chan int {
	result := make(chan int, 1)
	go func() {
		resp, err := c.Get(url)
		if err != nil {
			a.t.Error(err)
			result <- 0
			return
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		result <- resp.StatusCode
	}()
	return result
}

func (a *asking) sessionClient(s *networkproxy.Session) *http.Client {
	return clientThrough(a.t, s.ProxyURL())
}

// TestAnswers checks what each answer does to the request that waits, to the next one to
// the same host, and to one of another session.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		word                string
		status              int
		asksAgain, asksElse bool
	}{
		{"once", 200, true, true},
		{"command", 200, false, true},
		{"group", 200, false, false},
		{"always", 200, false, false},
		{"no", 403, false, false}, // identical requests of the group are refused for two seconds
	} {
		t.Run(test.word, func(t *testing.T) {
			t.Parallel()
			learned := filepath.Join(t.TempDir(), "learned.toml")
			a := startAsking(t, func(b *networkproxy.Builder) { b.LearnedFile(learned) })
			one, two := a.member("talk", "curl one"), a.member("talk", "curl two")
			clientOne, clientTwo := a.sessionClient(one), a.sessionClient(two)

			waiting := a.request(clientOne, "http://a.example/")
			q := a.wait(1)[0]
			if strings.Join(q.Answers, " ") != "once command group always no" || q.Request.Host != "a.example" || q.Request.Command != "curl one" ||
				q.Request.SessionID != one.ID() || q.Request.Group != "talk" || q.Expires.Sub(q.Asked).Round(time.Second) != time.Minute {
				t.Errorf("%+v", q)
			}
			if r := a.answer(q.ID, test.word); r.StatusCode != 200 {
				t.Errorf("%s: %s", r.Status, r.body)
			}
			if status := <-waiting; status != test.status {
				t.Errorf("the request got %d, want %d", status, test.status)
			}
			if r := a.answer(q.ID, "once"); r.StatusCode != 404 || !strings.Contains(r.body, "does not wait") {
				t.Errorf("a second answer: %s: %s", r.Status, r.body)
			}
			a.next(clientOne, test.asksAgain, test.status)
			want := test.status
			if test.asksElse {
				want = 403 // a new question, which next answers
			}
			a.next(clientTwo, test.asksElse, want)
		})
	}
}

// next makes a request that is answered by a question if asks is set, with "no" if the
// status is to be 403.
func (a *asking) next(c *http.Client, asks bool, want int) {
	a.t.Helper()
	waiting := a.request(c, "http://a.example/")
	if asks {
		word := "once"
		if want == 403 {
			word = "no"
		}
		a.answer(a.wait(1)[0].ID, word)
	}
	if status := <-waiting; status != want {
		a.t.Errorf("the next request got %d, want %d", status, want)
	}
}

// TestAnswersOfTheSharedListeners checks the answers that do not need a session.
func TestAnswersOfTheSharedListeners(t *testing.T) {
	t.Parallel()
	a := startAsking(t, nil)
	waiting := a.request(a.client(), "http://a.example/")
	q := a.wait(1)[0]
	if strings.Join(q.Answers, " ") != "once command no" {
		t.Errorf("answers %q: nothing saves a host, and there is no group", q.Answers)
	}
	for _, word := range []string{"always", "group", "yes", ""} {
		if r := a.answer(q.ID, word); r.StatusCode != 400 || !strings.Contains(r.body, "once, command, no") {
			t.Errorf("%q: %s: %s", word, r.Status, r.body)
		}
	}
	a.answer(q.ID, "no")
	if status := <-waiting; status != 403 {
		t.Errorf("got %d", status)
	}
	a.next(a.client(), false, 403) // remembered for five minutes
	if b := a.Blocked(); b[0].Message == "" || !strings.Contains(b[0].Message, "the user said no") {
		t.Errorf("%+v", b)
	}
	if r := a.answer(999, "once"); r.StatusCode != 404 {
		t.Errorf("an unknown question: %s", r.Status)
	}
}

// TestAlwaysThatCannotBeSaved checks that the host is allowed for the session then, and
// that the answer says so.
func TestAlwaysThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	a := startAsking(t, func(b *networkproxy.Builder) {
		b.AmendmentWriter(func(context.Context, networkproxy.Amendment) error { return errors.New("the disk is full") })
	})
	waiting := a.request(a.client(), "http://a.example/")
	r := a.answer(a.wait(1)[0].ID, "always")
	if r.StatusCode != 409 || !strings.Contains(r.body, "allowed for this command only") || !strings.Contains(r.body, "the disk is full") {
		t.Errorf("%s: %s", r.Status, r.body)
	}
	if status := <-waiting; status != 200 {
		t.Errorf("got %d", status)
	}
}

// TestAskingNeedsAToken: a command cannot answer its own question, because the admin API
// of a proxy that asks always has a token.
func TestAskingNeedsAToken(t *testing.T) {
	t.Parallel()
	a := startAsking(t, nil)
	waiting := a.request(a.client(), "http://a.example/")
	q := a.wait(1)[0]
	for _, fields := range [][]string{
		nil,
		{"Authorization: Bearer guess"},
		{"Sec-Fetch-Site: same-origin", "Origin: http://" + a.AdminAddr()},
		{a.token, "Sec-Fetch-Site: cross-site"},
		{a.token, "Origin: http://evil.example"},
	} {
		r := a.adminRaw(t, "POST", "/questions/answer", fmt.Sprintf(`{"id": %d, "answer": "once"}`, q.ID), fields...)
		if r.StatusCode != 401 && r.StatusCode != 403 {
			t.Errorf("%q: %s", fields, r.Status)
		}
		if r := a.adminRaw(t, "GET", "/questions", "", fields...); r.StatusCode == 200 {
			t.Errorf("%q: the questions can be read", fields)
		}
	}
	if len(a.wait(1)) != 1 {
		t.Error("the question was answered")
	}
	a.answer(q.ID, "no")
	if status := <-waiting; status != 403 {
		t.Errorf("the request: %d, want 403", status)
	}
	if _, err := networkproxy.NewBuilder().Config(allow()).AskOnPage().PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
		return networkproxy.Allow(), nil
	}).Build(); err == nil || !strings.Contains(err.Error(), "AskOnPage and PolicyDecider exclude each other") {
		t.Errorf("two deciders: %v", err)
	}
}

// TestAnswerFromGo checks Handle.Questions and Handle.Answer.
func TestAnswerFromGo(t *testing.T) {
	t.Parallel()
	a := startAsking(t, func(b *networkproxy.Builder) { b.DeciderTimeout(0) })
	waiting := a.request(a.client(), "http://a.example/")
	a.wait(1)
	q := a.Questions()
	if len(q) != 1 || q[0].Request.Host != "a.example" || !q[0].Expires.IsZero() {
		t.Fatalf("%+v", q)
	}
	if err := a.Answer(q[0].ID, networkproxy.Allow()); err != nil {
		t.Error(err)
	}
	if err := a.Answer(q[0].ID, networkproxy.Allow()); !errors.Is(err, networkproxy.ErrNoQuestion) {
		t.Errorf("a second answer: %v", err)
	}
	if status := <-waiting; status != 200 {
		t.Errorf("got %d", status)
	}
}

// eventStream reads GET /events.
type eventStream struct {
	t    testing.TB
	body io.Closer
	in   *bufio.Scanner
	id   string // of the last event
}

func (l *lab) follow(last string) *eventStream {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), "GET", "http://"+l.AdminAddr()+"/events", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", last)
	tr := new(http.Transport)
	l.t.Cleanup(tr.CloseIdleConnections)
	resp, err := tr.RoundTrip(r)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		l.t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	return &eventStream{t: l.t, body: resp.Body, in: bufio.NewScanner(resp.Body)}
}

// next returns the next event; ok is false at the end of the stream.
func (s *eventStream) next() (e networkproxy.Event, ok bool) {
	s.t.Helper()
	for s.in.Scan() {
		if id, ok := strings.CutPrefix(s.in.Text(), "id: "); ok {
			s.id = id
		}
		if data, ok := strings.CutPrefix(s.in.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				s.t.Fatal(err)
			}
			return e, true
		}
	}
	return e, false
}

// TestAdminEvents checks the stream of events, that it goes on where a client has left
// off, and that it ends with the proxy.
func TestAdminEvents(t *testing.T) {
	t.Parallel()
	l := start(t, allow("a.example"), nil)
	s := l.follow("")
	l.get("http://refused.example/")
	e, _ := s.next()
	if e.Kind != networkproxy.EventRefused || e.Host != "refused.example" || e.Reason != networkproxy.ReasonNotAllowed || !strings.HasSuffix(s.id, fmt.Sprint("-", e.Seq)) {
		t.Fatalf("%+v, id %s", e, s.id)
	}
	s.body.Close()
	l.get("http://missed.example/")
	s = l.follow(s.id)
	if e, _ := s.next(); e.Host != "missed.example" {
		t.Errorf("after the loss of the connection: %+v", e)
	}
	past := l.admin("GET", "/events?follow=0", "")
	if strings.Count(past.body, "data: ") != 2 {
		t.Errorf("follow=0: %s", past.body)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Shutdown(t.Context()) }()
	if _, ok := s.next(); ok {
		t.Error("an event after the end")
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown with a viewer: %v", err)
	}
}

// TestAdminSessions checks GET /sessions.
func TestAdminSessions(t *testing.T) {
	t.Parallel()
	l := start(t, allow("a.example"), nil)
	l.origin("a.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	if got := l.admin("GET", "/sessions", ""); !strings.Contains(got.body, `"sessions": []`) {
		t.Errorf("without sessions: %s", got.body)
	}
	s := l.member("talk", "curl <b>")
	c := clientThrough(t, s.ProxyURL())
	for _, url := range []string{"http://a.example/", "http://refused.example/"} {
		resp, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	type row struct {
		ID, Group, Command       string
		Opened                   time.Time
		Allowed, Refused, Failed uint64
		Sent, Received           uint64
	}
	var got row
	eventually(t, "the bytes of the request", func() bool {
		list := decode[struct{ Sessions []row }](t, l.adminRaw(t, "GET", "/sessions", "")).Sessions
		if len(list) != 1 {
			t.Fatalf("%+v", list)
		}
		got = list[0]
		return got.Received > 0
	})
	if got.Opened.IsZero() || time.Since(got.Opened) > time.Minute {
		t.Errorf("opened %v", got.Opened)
	}
	got.Opened = time.Time{}
	if want := (row{ID: s.ID(), Group: "talk", Command: "curl <b>", Allowed: 1, Refused: 1, Received: 5}); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
