// What is under way is judged as the request that it is, with its own method,
// approval and grant, whatever connection carries it.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// streams is an origin whose requests stay under way until they are cut or
// released.
type streams struct {
	mu      sync.Mutex
	ended   map[string]chan struct{} // by path; closed when the origin sees the end of the request
	release chan struct{}
}

func newStreams(t *testing.T) *streams {
	s := &streams{ended: make(map[string]chan struct{}), release: make(chan struct{})}
	t.Cleanup(sync.OnceFunc(func() { close(s.release) }))
	return s
}

// endOf returns what is closed when the request for a path has ended.
func (s *streams) endOf(path string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended[path] == nil {
		s.ended[path] = make(chan struct{})
	}
	return s.ended[path]
}

// ServeHTTP answers /quick at once. It reads what any other request sends,
// and answers in pieces, until either side ends.
func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/quick" {
		return
	}
	defer close(s.endOf(r.URL.Path))
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	io.WriteString(w, "begun ")
	rc.Flush()
	if r.Method == "POST" {
		io.Copy(io.Discard, r.Body)
		return
	}
	select {
	case <-r.Context().Done():
	case <-s.release:
		io.WriteString(w, "ended")
	}
}

// finish lets the one request that is under way come to its end.
func (s *streams) finish(t *testing.T) {
	t.Helper()
	select {
	case s.release <- struct{}{}:
	case <-time.After(30 * time.Second):
		t.Fatal("no request is under way")
	}
}

// openRequest is a request under way, as its client sees it.
type openRequest struct {
	*http.Response
	send *io.PipeWriter // nil: it has no content
}

// beginRequest makes a request and waits until its response has begun. A POST sends
// content for as long as nothing ends it.
func beginRequest(t *testing.T, client *http.Client, method, url string) *openRequest {
	t.Helper()
	var content io.Reader
	u := new(openRequest)
	if method == "POST" {
		content, u.send = io.Pipe()
		t.Cleanup(func() { u.send.Close() })
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	if u.Response, err = client.Do(r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Body.Close() })
	if _, err := io.ReadFull(u.Body, make([]byte, len("begun "))); err != nil {
		t.Fatalf("%s %s: %v, status %d", method, url, err, u.StatusCode)
	}
	return u
}

// cut returns the error that ends the request.
func (u *openRequest) cut(t *testing.T) error {
	t.Helper()
	_, err := io.ReadAll(u.Body)
	if err == nil {
		t.Error("the response came to a regular end")
	}
	return err
}

// A client is one of the ways by which a forwarded request comes.
func requestClients() map[string]func(*lab) *http.Client {
	return map[string]func(*lab) *http.Client{
		"through the proxy": (*lab).client,
		"the host's own":    func(l *lab) *http.Client { return l.inProcess(networkproxy.Attribution{}, nil) },
	}
}

// A mode that forbids the method ends a request with it that is under way.
// Requests that the mode permits go on.
func TestModeEndsWhatItForbids(t *testing.T) {
	t.Parallel()
	for name, clientOf := range requestClients() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), nil)
			s := newStreams(t)
			l.origin("o.example", 80, s.ServeHTTP)
			client := clientOf(l)
			upload := beginRequest(t, client, "POST", "http://o.example/upload")
			download := beginRequest(t, client, "GET", "http://o.example/download")
			if err := l.SetMode(networkproxy.ModeLimited); err != nil {
				t.Fatal(err)
			}
			<-s.endOf("/upload") // the origin gets no more of it
			upload.cut(t)
			s.finish(t)
			if got, err := io.ReadAll(download.Body); string(got) != "ended" || err != nil {
				t.Errorf("a GET under way got %q, %v", got, err)
			}
		})
	}
}

// A request that has no response yet gets the refusal as its response.
func TestModeRefusesAnUploadInWords(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	sending := make(chan struct{})
	l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) {
		r.Body.Read(make([]byte, 1))
		close(sending)
		io.Copy(io.Discard, r.Body)
	})
	content, send := io.Pipe()
	defer send.Close()
	go func() {
		io.WriteString(send, "begun")
		<-sending
		l.SetMode(networkproxy.ModeLimited)
	}()
	answer, err := l.client().Post("http://o.example/", "text/plain", content)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if token := answer.Header.Get("X-Proxy-Error"); answer.StatusCode != 403 || token != "blocked-by-method-policy" {
		t.Errorf("status %d, x-proxy-error %q", answer.StatusCode, token)
	}
	if list := l.Blocked(); len(list) != 1 || list[0].Method != "POST" || list[0].Reason != networkproxy.ReasonMethodNotAllowed {
		t.Errorf("recorded: %+v", list)
	}
}

// A request that an allowlist entry let through ends with the entry, though
// the decider let the connection be made that carries it.
func TestAllowlistEntryEndsItsRequests(t *testing.T) {
	t.Parallel()
	for name, clientOf := range requestClients() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow(), withDecisions(map[string]networkproxy.Decision{"o.example": networkproxy.Allow().For(time.Hour)}))
			s := newStreams(t)
			l.origin("o.example", 80, s.ServeHTTP)
			client := clientOf(l)
			granted := beginRequest(t, client, "GET", "http://o.example/granted")
			doRequest(t, client, "GET", "http://o.example/quick", "") // leaves a connection that the decider let in
			if err := l.AllowDomain("o.example"); err != nil {
				t.Fatal(err)
			}
			listed := beginRequest(t, client, "GET", "http://o.example/listed")
			if n := len(l.net.Dialed()); n != 2 {
				t.Fatalf("%d connections were made: the last request was to use the second", n)
			}
			if err := l.RemoveDomain("o.example"); err != nil {
				t.Fatal(err)
			}
			listed.cut(t)
			<-s.endOf("/listed")
			s.finish(t)
			if got, err := io.ReadAll(granted.Body); string(got) != "ended" || err != nil {
				t.Errorf("the request under the grant got %q, %v", got, err)
			}
		})
	}
}

// Revoking a grant ends what that grant let in, and nothing of another grant
// that has come to use a connection of the first.
func TestRevokeLeavesOtherGrantsAlone(t *testing.T) {
	t.Parallel()
	for name, clientOf := range requestClients() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow(), withDecisions(map[string]networkproxy.Decision{"o.example": networkproxy.Allow().Times(2)}))
			s := newStreams(t)
			l.origin("o.example", 80, s.ServeHTTP)
			client := clientOf(l)
			first := beginRequest(t, client, "GET", "http://o.example/first")
			doRequest(t, client, "GET", "http://o.example/quick", "") // uses the grant up, and leaves a connection of it
			revoked := l.Grants()[0].ID
			second := beginRequest(t, client, "GET", "http://o.example/second") // a grant of its own
			if n := len(l.net.Dialed()); n != 2 {
				t.Fatalf("%d connections were made: the last request was to use the second", n)
			}
			if err := l.Revoke(revoked); err != nil {
				t.Fatal(err)
			}
			first.cut(t)
			<-s.endOf("/first")
			s.finish(t)
			if got, err := io.ReadAll(second.Body); string(got) != "ended" || err != nil {
				t.Errorf("the request of the other grant got %q, %v", got, err)
			}
		})
	}
}

// Requests that share a connection of HTTP/2 are judged one by one.
func TestRequestsOnOneConnectionAreJudgedAlone(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), withDecisions(map[string]networkproxy.Decision{"example.com": networkproxy.Allow()}))
	s := newStreams(t)
	server := httptest.NewUnstartedServer(s)
	server.EnableHTTP2 = true
	roots := l.startTLS("example.com", server)
	client := l.inProcess(networkproxy.Attribution{}, roots)
	first := beginRequest(t, client, "GET", "https://example.com/first")
	second := beginRequest(t, client, "GET", "https://example.com/second")
	if first.ProtoMajor != 2 || len(l.net.Dialed()) != 1 {
		t.Fatalf("%s over %d connections: nothing is shared", first.Proto, len(l.net.Dialed()))
	}
	grants := l.Grants()
	if len(grants) != 2 {
		t.Fatalf("grants in use: %+v", grants)
	}
	if err := l.Revoke(grants[0].ID); err != nil {
		t.Fatal(err)
	}
	var refusal *networkproxy.RefusedError
	if err := first.cut(t); !errors.As(err, &refusal) || refusal.Verdict.Reason != networkproxy.ReasonGrantRevoked {
		t.Errorf("the first ended with: %v", err)
	}
	<-s.endOf("/first")
	s.finish(t)
	if got, err := io.ReadAll(second.Body); string(got) != "ended" || err != nil {
		t.Errorf("the second got %q, %v", got, err)
	}
	if err := l.DenyDomain("example.com"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the idle connection is closed", func() bool { return l.LiveTargets() == 0 })
}

// A connection that was busy during a change is judged when it becomes idle.
func TestBusyConnectionIsJudgedAfterwards(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), withDecisions(map[string]networkproxy.Decision{"o.example": networkproxy.Allow().For(time.Hour)}))
	s := newStreams(t)
	l.origin("o.example", 80, s.ServeHTTP)
	if err := l.AllowDomain("o.example"); err != nil {
		t.Fatal(err)
	}
	client := l.client()
	doRequest(t, client, "GET", "http://o.example/quick", "") // a connection that the entry let in
	if err := l.RemoveDomain("o.example"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the idle connection is closed", func() bool { return l.LiveTargets() == 0 })
	if err := l.AllowDomain("o.example"); err != nil {
		t.Fatal(err)
	}
	doRequest(t, client, "GET", "http://o.example/quick", "")
	if err := l.RemoveDomain("o.example"); err != nil {
		t.Fatal(err)
	}
	busy := beginRequest(t, client, "GET", "http://o.example/busy") // under a grant
	if err := l.AllowDomain("other.example"); err != nil {
		t.Fatal(err)
	}
	s.finish(t)
	if got, err := io.ReadAll(busy.Body); string(got) != "ended" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	doRequest(t, client, "GET", "http://o.example/quick", "")
}

// Opening, granting, revoking, reloading and closing at once comes to an end:
// no two locks are taken in both orders.
func TestRevokeBesideWhatOpens(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			return networkproxy.Allow(), nil
		})
	})
	l.mapHost("o.example", 7, testnet.Echo(t).Addr())
	dial := l.DialContext(networkproxy.Attribution{})
	rounds := scaled(2000)
	var openers, others sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		openers.Go(func() {
			for range rounds {
				if conn, err := dial(t.Context(), "tcp", "o.example:7"); err == nil {
					conn.Close()
				}
			}
		})
	}
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			for _, g := range l.Grants() {
				l.Revoke(g.ID)
			}
			runtime.Gosched() // this loop never waits
			if i%50 == 0 {
				l.AllowDomain(fmt.Sprintf("n%d.example", i%3))
				l.RemoveDomain(fmt.Sprintf("n%d.example", i%3))
			}
		}
	})
	openers.Wait()
	close(done)
	others.Wait()
	if list := l.Grants(); len(list) != 0 {
		t.Errorf("grants left: %+v", list)
	}
	if !strings.Contains(l.log.String(), "grant revoked") {
		t.Error("nothing was revoked while it opened")
	}
}
