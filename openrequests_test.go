// Tests of policy changes during requests: each open request is judged again with
// its own method, approval and grant, on whichever connection it is.

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

// streams is an origin server whose requests stay open until they are cut or
// released.
type streams struct {
	mu      sync.Mutex
	ended   map[string]chan struct{} // by path; closed when the origin server sees the end of the request
	release chan struct{}
}

func newStreams(t *testing.T) *streams {
	s := &streams{ended: make(map[string]chan struct{}), release: make(chan struct{})}
	t.Cleanup(sync.OnceFunc(func() { close(s.release) }))
	return s
}

// endOf returns a channel that is closed when the request for path has ended.
func (s *streams) endOf(path string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended[path] == nil {
		s.ended[path] = make(chan struct{})
	}
	return s.ended[path]
}

// ServeHTTP responds to /quick at once. For other paths it begins a response, and
// then reads the body or waits until either side ends.
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

// finish completes the one open request.
func (s *streams) finish(t *testing.T) {
	t.Helper()
	select {
	case s.release <- struct{}{}:
	case <-time.After(30 * time.Second):
		t.Fatal("no request is open")
	}
}

// openRequest is the client's side of an open request.
type openRequest struct {
	*http.Response
	send *io.PipeWriter // nil: no body
}

// beginRequest makes a request and waits until its response has begun. The body of
// a POST stays open.
func beginRequest(t *testing.T, client *http.Client, method, url string) *openRequest {
	t.Helper()
	var body io.Reader
	u := new(openRequest)
	if method == "POST" {
		body, u.send = io.Pipe()
		t.Cleanup(func() { u.send.Close() })
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if u.Response, err = client.Do(r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Body.Close() })
	if _, err := io.ReadFull(u.Body, make([]byte, len("begun "))); err != nil {
		t.Fatalf("%s %s: reading the response: %v, status %d", method, url, err, u.StatusCode)
	}
	return u
}

// cut reads the rest of the response and returns its error.
func (u *openRequest) cut(t *testing.T) error {
	t.Helper()
	_, err := io.ReadAll(u.Body)
	if err == nil {
		t.Error("the response was completed, want an error")
	}
	return err
}

// requestClients returns a client for each way to make a forwarded request.
func requestClients() map[string]func(*lab) *http.Client {
	return map[string]func(*lab) *http.Client{
		"through the proxy": (*lab).client,
		"the host's own":    func(l *lab) *http.Client { return l.inProcess(networkproxy.Attribution{}, nil) },
	}
}

// A new mode ends open requests whose method it forbids. Other requests continue.
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
			<-s.endOf("/upload") // the origin server gets no more of the body
			upload.cut(t)
			s.finish(t)
			if got, err := io.ReadAll(download.Body); string(got) != "ended" || err != nil {
				t.Errorf("the open GET: got %q, %v", got, err)
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
	body, send := io.Pipe()
	defer send.Close()
	go func() {
		io.WriteString(send, "begun")
		<-sending
		l.SetMode(networkproxy.ModeLimited)
	}()
	resp, err := l.client().Post("http://o.example/", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if token := resp.Header.Get("X-Proxy-Error"); resp.StatusCode != 403 || token != "blocked-by-method-policy" {
		t.Errorf("got the status %d and x-proxy-error %q", resp.StatusCode, token)
	}
	if list := l.Blocked(); len(list) != 1 || list[0].Method != "POST" || list[0].Reason != networkproxy.ReasonMethodNotAllowed {
		t.Errorf("got the records %+v", list)
	}
}

// A request that an allowlist entry allows ends with the entry, even on a
// connection that the decider allowed.
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
			doRequest(t, client, "GET", "http://o.example/quick", "") // leaves a connection that the decider allowed
			if err := l.AllowDomain("o.example"); err != nil {
				t.Fatal(err)
			}
			listed := beginRequest(t, client, "GET", "http://o.example/listed")
			if n := len(l.net.Dialed()); n != 2 {
				t.Fatalf("%d connections were opened, but the last request must reuse the second", n)
			}
			if err := l.RemoveDomain("o.example"); err != nil {
				t.Fatal(err)
			}
			listed.cut(t)
			<-s.endOf("/listed")
			s.finish(t)
			if got, err := io.ReadAll(granted.Body); string(got) != "ended" || err != nil {
				t.Errorf("the request of the grant: got %q, %v", got, err)
			}
		})
	}
}

// Revoking a grant ends the requests of the grant, but not requests of other grants
// on a connection of the first.
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
			doRequest(t, client, "GET", "http://o.example/quick", "") // uses the grant up and leaves a connection
			revoked := l.Grants()[0].ID
			second := beginRequest(t, client, "GET", "http://o.example/second") // with its own grant
			if n := len(l.net.Dialed()); n != 2 {
				t.Fatalf("%d connections were opened, but the last request must reuse the second", n)
			}
			if err := l.Revoke(revoked); err != nil {
				t.Fatal(err)
			}
			first.cut(t)
			<-s.endOf("/first")
			s.finish(t)
			if got, err := io.ReadAll(second.Body); string(got) != "ended" || err != nil {
				t.Errorf("the request of the other grant: got %q, %v", got, err)
			}
		})
	}
}

// Requests on the same HTTP/2 connection are judged separately.
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
		t.Fatalf("got %s on %d connections, want HTTP/2 on one", first.Proto, len(l.net.Dialed()))
	}
	grants := l.Grants()
	if len(grants) != 2 {
		t.Fatalf("got the grants %+v", grants)
	}
	if err := l.Revoke(grants[0].ID); err != nil {
		t.Fatal(err)
	}
	var refusal *networkproxy.RefusedError
	if err := first.cut(t); !errors.As(err, &refusal) || refusal.Verdict.Reason != networkproxy.ReasonGrantRevoked {
		t.Errorf("the first request: got the error %v", err)
	}
	<-s.endOf("/first")
	s.finish(t)
	if got, err := io.ReadAll(second.Body); string(got) != "ended" || err != nil {
		t.Errorf("the second request: got %q, %v", got, err)
	}
	if err := l.DenyDomain("example.com"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the idle connection is closed", func() bool { return l.LiveTargets() == 0 })
}

// A connection that was busy during a policy change is judged when it becomes
// idle.
func TestBusyConnectionIsJudgedAfterwards(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), withDecisions(map[string]networkproxy.Decision{"o.example": networkproxy.Allow().For(time.Hour)}))
	s := newStreams(t)
	l.origin("o.example", 80, s.ServeHTTP)
	if err := l.AllowDomain("o.example"); err != nil {
		t.Fatal(err)
	}
	client := l.client()
	doRequest(t, client, "GET", "http://o.example/quick", "") // a connection that the entry allowed
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
	busy := beginRequest(t, client, "GET", "http://o.example/busy") // of a grant
	if err := l.AllowDomain("other.example"); err != nil {
		t.Fatal(err)
	}
	s.finish(t)
	if got, err := io.ReadAll(busy.Body); string(got) != "ended" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	doRequest(t, client, "GET", "http://o.example/quick", "")
}

// Opening, granting, revoking, reloading and closing at the same time does not
// deadlock.
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
		t.Errorf("got the grants %+v, want none left", list)
	}
	if !strings.Contains(l.log.String(), "grant revoked") {
		t.Error("no grant was revoked during a dial")
	}
}
