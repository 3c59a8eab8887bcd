// Tests of events: what is reported, in which order, and what happens if nobody
// listens in time.

package networkproxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// TestTraffic checks the number of bytes that are counted for each kind of
// request.
func TestTraffic(t *testing.T) {
	t.Parallel()
	const sent, received = 100_000, 70_000
	body := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(make([]byte, received))
	}
	for _, test := range []struct {
		name           string
		do             func(*lab)
		sent, received uint64
	}{
		{"GET", func(l *lab) { l.get("http://web.example/") }, 0, received},
		{"HEAD", func(l *lab) { doRequest(l.t, l.client(), "HEAD", "http://web.example/", "") }, 0, 0},
		{"POST with a length", func(l *lab) {
			doRequest(l.t, l.client(), "POST", "http://web.example/", strings.Repeat("x", sent))
		}, sent, received},
		{"chunked POST", func(l *lab) {
			resp, err := l.client().Post("http://web.example/", "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", sent))))
			if err != nil {
				l.t.Fatal(err)
			}
			defer resp.Body.Close()
			io.Copy(io.Discard, resp.Body)
		}, sent, received},
		{"refused", func(l *lab) { l.get("http://other.example/") }, 0, 0},
		{"failed", func(l *lab) { l.get("http://web.example:81/") }, 0, 0},
		{"declined upgrade", func(l *lab) {
			conn, _ := sendRaw(l.t, "tcp", l.HTTPAddr(), fmt.Sprintf("POST http://web.example/ HTTP/1.1\r\nHost: web.example\r\n"+
				"Connection: Upgrade, close\r\nUpgrade: websocket\r\nContent-Length: %d\r\n\r\n%s", sent, strings.Repeat("x", sent)))
			io.Copy(io.Discard, conn)
		}, sent, received},
		{"CONNECT", func(l *lab) { exchange(l.t, l.connect("echo.example:7"), sent) }, sent, sent},
		{"SOCKS5", func(l *lab) { exchange(l.t, l.socksTunnel("echo.example", 7), sent) }, sent, sent},
		{"UDP", func(l *lab) {
			u := l.associate()
			for range 3 {
				u.send(socksDestName("dns.example", 53), "datagram")
				u.expect("datagram", publicAddr+":53")
			}
			u.control.Close()
		}, 24, 24},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, withSOCKS(allow("*.example")), nil)
			l.origin("web.example", 80, body)
			l.mapHost("echo.example", 7, testnet.Echo(t).Addr())
			l.mapHostUDP("dns.example", 53, testnet.EchoUDP(t, "127.0.0.1"))
			if test.name == "refused" {
				if err := l.DenyDomain("other.example"); err != nil {
					t.Fatal(err)
				}
			}
			test.do(l)
			eventually(t, fmt.Sprintf("%d bytes sent, %d received", test.sent, test.received), func() bool {
				s, r := networkproxy.Traffic(l.Handle)
				return s == test.sent && r == test.received
			})
		})
	}
}

// exchange sends n bytes to an echo server, reads them back and closes conn.
func exchange(t testing.TB, conn io.ReadWriteCloser, n int) {
	t.Helper()
	go conn.Write(bytes.Repeat([]byte("y"), n))
	if _, err := io.ReadFull(conn, make([]byte, n)); err != nil {
		t.Error(err)
	}
	conn.Close()
}

// events collects the events that a consumer gets.
type events struct {
	mu   sync.Mutex
	list []networkproxy.Event
}

func (c *events) add(e networkproxy.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, e)
}

// all returns the events so far.
func (c *events) all() []networkproxy.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

// count returns the number of events of a kind.
func (c *events) count(kind networkproxy.EventKind) (n int) {
	for _, e := range c.all() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// wait waits until there are n events of a kind.
func (c *events) wait(t testing.TB, n int, kind networkproxy.EventKind) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d events of the kind %s", n, kind), func() bool { return c.count(kind) >= n })
}

// line returns the fields of an event that do not change from run to run.
func line(e networkproxy.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", e.Kind)
	add := func(format string, value any, there bool) {
		if there {
			fmt.Fprintf(&b, " "+format, value)
		}
	}
	add("%s", e.SessionID, e.SessionID != "")
	add("#%d", e.Request, e.Request != 0)
	add("%s", e.Protocol, e.Protocol != "")
	add("%s", fmt.Sprintf("%s:%d", e.Host, e.Port), e.Host != "")
	add("%s", e.Method, e.Method != "")
	add("=%s", e.Decision, e.Decision != "")
	add("(%s)", e.Reason, e.Reason != "")
	add("by %s", e.Source, e.Source != "")
	add("rule %s", e.Rule.Pattern, e.Rule.Pattern != "")
	add("grant %d", e.Grant, e.Grant != 0)
	add("mode %s", e.Mode, e.Mode != "")
	add("generation %d", e.Generation, e.Generation != 0)
	add("sent %d", e.Sent, e.Sent != 0)
	add("received %d", e.Received, e.Received != 0)
	add("error %s", e.Error, e.Error != "")
	return b.String()
}

// checkLines compares events with their lines.
func checkLines(t *testing.T, name string, list []networkproxy.Event, want []string) {
	t.Helper()
	var got []string
	for _, e := range list {
		got = append(got, line(e))
	}
	if !slices.Equal(got, want) {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		t.Errorf("%s got %d equal events, and then\n%s\nwant\n%s", name, i, strings.Join(got[i:], "\n"), strings.Join(want[i:], "\n"))
	}
}

// TestEvents checks the events of every kind, for three consumers.
func TestEvents(t *testing.T) {
	t.Parallel()
	var all, session, iterated events
	var log bytes.Buffer // read after the end of the proxy only
	config := withSOCKS(allow("web.example", "echo.example", "dns.example", "gone.example", "inner.example"))
	config.Policy.DeniedDomains = []string{"denied.example"}
	source := newSource(config)
	l := startSource(t, source.builder, func(b *networkproxy.Builder) {
		b.OnEvent(all.add).AuditLog(&log)
		b.PolicyDecider(func(_ context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			switch r.Host {
			case "asked.example":
				return networkproxy.Allow().ForSession().AnyPort(), nil
			case "fault.example":
				return networkproxy.Decision{}, fmt.Errorf("out of order")
			}
			return networkproxy.Ask("ask the user"), nil
		})
	})
	iteration := make(chan struct{})
	go func() {
		defer close(iteration)
		for e := range l.Events(t.Context()) {
			iterated.add(e)
		}
	}()
	eventually(t, "the iterator follows", func() bool { return networkproxy.Followers(l.Handle) == 3 })

	hello := func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }
	l.origin("web.example", 80, hello)
	l.mapHost("asked.example", 8080, testnet.Echo(t).Addr())
	l.mapHost("echo.example", 7, testnet.Echo(t).Addr())
	l.mapHostUDP("dns.example", 53, testnet.EchoUDP(t, "127.0.0.1"))
	l.dns.Set("gone.example", testnet.NXDomain())
	l.dns.Set("inner.example", testnet.Addrs("10.0.0.7"))

	s := l.open(networkproxy.SessionConfig{
		Attribution: networkproxy.Attribution{Command: "make", Labels: map[string]string{"task": "7"}},
		OnEvent:     session.add,
	})
	client := clientThrough(t, s.ProxyURL())
	var want []string
	expect := func(lines ...string) { want = append(want, lines...) }

	expect("session_opened s1")
	doRequest(t, client, "POST", "http://web.example/", "hello")
	expect("allowed s1 #1 http web.example:80 POST =allow by baseline_policy rule web.example generation 1 sent 5 received 5")
	session.wait(t, 1, networkproxy.EventAllowed)
	doRequest(t, client, "GET", "http://denied.example/", "")
	expect("refused s1 #2 http denied.example:80 GET =deny (denied) by baseline_policy rule denied.example generation 1")
	doRequest(t, client, "GET", "http://inner.example/", "")
	expect("refused s1 #3 http inner.example:80 GET =deny (not_allowed_local) by baseline_policy generation 1")
	doRequest(t, client, "GET", "http://gone.example/", "")
	expect(`failed s1 #4 http gone.example:80 GET =allow (dns_failure) by baseline_policy rule gone.example generation 1 error resolve "gone.example": no such host`)
	doRequest(t, client, "GET", "http://miss.example/", "")
	expect("asked s1 http miss.example:80 GET generation 1",
		"answered s1 http miss.example:80 GET =ask (ask the user)",
		"refused s1 #5 http miss.example:80 GET =ask (ask the user) by decider generation 1")
	doRequest(t, client, "GET", "http://fault.example/", "")
	expect("asked s1 http fault.example:80 GET generation 1",
		"answered s1 http fault.example:80 GET error out of order",
		"refused s1 #6 http fault.example:80 GET =deny (decider_failed) by decider generation 1")

	tunnel := connectThrough(t, s.HTTPAddr(), "asked.example:8080", "")
	if err := echoes(tunnel); err != nil {
		t.Fatal(err)
	}
	expect("asked s1 https_connect asked.example:8080 CONNECT generation 1",
		"answered s1 https_connect asked.example:8080 CONNECT =allow",
		"granted s1 asked.example:0 grant 1",
		"opened s1 #7 https_connect asked.example:8080 CONNECT grant 1",
		"allowed s1 #7 https_connect asked.example:8080 CONNECT =allow by decider grant 1 generation 1")
	if err := l.Revoke(1); err != nil {
		t.Fatal(err)
	}
	expect("revoked s1 asked.example:0 grant 1",
		"cut s1 #7 https_connect asked.example:8080 CONNECT =deny (grant_revoked) by decider grant 1 generation 1",
		"closed s1 #7 https_connect asked.example:8080 CONNECT grant 1 sent 4 received 4")
	session.wait(t, 1, networkproxy.EventClosed)
	s.Close()
	expect("session_closed s1 sent 9 received 9")
	session.wait(t, 1, networkproxy.EventSessionClosed)
	checkLines(t, "the session", session.all(), want)
	for _, e := range session.all() {
		if e.SessionID != s.ID() || e.Command != "make" || e.Labels["task"] != "7" || e.Time.IsZero() {
			t.Errorf("got the event %+v", e)
		}
		ends := slices.Contains([]networkproxy.EventKind{networkproxy.EventClosed, networkproxy.EventAnswered, networkproxy.EventSessionClosed}, e.Kind)
		if (e.Duration > 0) != (ends || e.Kind == networkproxy.EventAllowed && e.Request == 1) {
			t.Errorf("%s has the duration %v", e.Kind, e.Duration)
		}
	}

	// Outside sessions.
	closed := 1
	awaitClosed := func() {
		t.Helper()
		closed++
		all.wait(t, closed, networkproxy.EventClosed)
	}
	exchange(t, l.socksTunnel("echo.example", 7), 3)
	awaitClosed()
	u := l.associate()
	u.send(socksDestName("dns.example", 53), "datagram")
	u.expect("datagram", publicAddr+":53")
	u.control.Close()
	awaitClosed()
	conn, err := l.DialContext(networkproxy.Attribution{Command: "dial"})(t.Context(), "tcp", "echo.example:7")
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, conn, 2)
	awaitClosed()
	own := &http.Client{Transport: l.Transport(networkproxy.Attribution{Command: "own"})}
	doRequest(t, own, "POST", "http://web.example/", "hello")
	awaitClosed()
	expect("opened #8 socks5_tcp echo.example:7",
		"allowed #8 socks5_tcp echo.example:7 =allow by baseline_policy rule echo.example generation 1",
		"closed #8 socks5_tcp echo.example:7 sent 3 received 3",
		"opened #9 socks5_udp dns.example:53",
		"allowed #9 socks5_udp dns.example:53 =allow by baseline_policy rule dns.example generation 1",
		"closed #9 socks5_udp dns.example:53 sent 8 received 8",
		"opened #10 https_connect echo.example:7 CONNECT",
		"allowed #10 https_connect echo.example:7 CONNECT =allow by baseline_policy rule echo.example generation 1",
		"closed #10 https_connect echo.example:7 CONNECT sent 2 received 2",
		"opened #11 http web.example:80 POST",
		"allowed #11 http web.example:80 POST =allow by baseline_policy rule web.example generation 1",
		"closed #11 http web.example:80 POST sent 5 received 5")
	own.CloseIdleConnections()
	sendRaw(t, "tcp", l.HTTPAddr(), "GET http://a..example/ HTTP/1.1\r\nHost: x\r\n\r\n")
	expect(`refused #12 http =deny (invalid_target) error invalid host "a..example": it has an empty label; write one dot between labels`)
	if err := l.SetMode(networkproxy.ModeLimited); err != nil {
		t.Fatal(err)
	}
	expect("mode mode limited generation 2")
	source.set(func(c *networkproxy.Config) { c.Policy.DeniedDomains = nil })
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("reload generation 3")
	source.fail(fmt.Errorf("no configuration"))
	if err := l.Reload(t.Context()); err == nil {
		t.Fatal("the reload has not failed")
	}
	expect("reload error the configuration source failed: no configuration")
	l.Close()
	wait(t, iteration, "the end of the iterator")
	checkLines(t, "OnEvent", all.all(), want)
	checkLines(t, "the iterator", iterated.all(), want)
	lines := slices.Collect(bytes.Lines(log.Bytes()))
	for i, e := range all.all() {
		if text, _ := e.MarshalJSON(); i >= len(lines) || string(text)+"\n" != string(lines[i]) {
			t.Errorf("the audit log has the lines\n%s\nwant in line %d\n%s", log.Bytes(), i+1, text)
			break
		}
	}
	last := uint64(0)
	for _, e := range all.all() {
		if e.Seq <= last {
			t.Errorf("Seq is %d after %d", e.Seq, last)
		}
		last = e.Seq
	}
}

// TestEventsOfForwardedRequests checks that a forwarded request has one event if its
// response arrives at once, and that one that takes longer is visible before its end.
func TestEventsOfForwardedRequests(t *testing.T) {
	t.Parallel()
	const large = 200_000
	allowed := "allowed #1 http web.example:80 %s =allow by baseline_policy rule web.example generation 1"
	for _, test := range []struct {
		name, method, path string
		body               int  // bytes of the request
		slow               bool // the request ends after its opening was published
		want               []string
	}{
		{name: "no body", method: "GET", path: "/empty", want: []string{allowed}},
		{name: "short body", method: "GET", path: "/short", want: []string{allowed + " received 5"}},
		{name: "short chunked body", method: "GET", path: "/chunked", want: []string{allowed + " received 5"}},
		{name: "HEAD", method: "HEAD", path: "/short", want: []string{allowed}},
		{name: "short upload", method: "POST", path: "/short", body: 7, want: []string{allowed + " sent 7 received 5"}},
		{name: "slow body", method: "GET", path: "/slow", slow: true,
			want: []string{"opened #1 http web.example:80 %s", allowed, "closed #1 http web.example:80 %s received 5"}},
		{name: "slow rest of the body", method: "GET", path: "/rest", slow: true,
			want: []string{"opened #1 http web.example:80 %s", allowed, "closed #1 http web.example:80 %s received 6"}},
		{name: "large body", method: "GET", path: "/large",
			want: []string{"opened #1 http web.example:80 %s", allowed, fmt.Sprintf("closed #1 http web.example:80 %%s received %d", large)}},
		{name: "large upload", method: "POST", path: "/upload", body: large, slow: true,
			want: []string{"opened #1 http web.example:80 %s", allowed, fmt.Sprintf("closed #1 http web.example:80 %%s sent %d", large)}},
		{name: "no response to an upload", method: "POST", path: "/broken", body: 7,
			want: []string{"opened #1 http web.example:80 %s",
				"failed #1 http web.example:80 %s =allow (upstream_error) by baseline_policy rule web.example generation 1 error the origin closed the connection without a response",
				"closed #1 http web.example:80 %s sent 7"}},
		{name: "no response", method: "GET", path: "/broken",
			want: []string{"failed #1 http web.example:80 %s =allow (upstream_error) by baseline_policy rule web.example generation 1 error the origin closed the connection without a response"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var all events
			l := start(t, allow("web.example"), func(b *networkproxy.Builder) { b.OnEvent(all.add) })
			proceed := make(chan struct{})
			l.origin("web.example", 80, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/upload" {
					<-proceed
				}
				io.Copy(io.Discard, r.Body)
				switch r.URL.Path {
				case "/short":
					io.WriteString(w, "hello")
				case "/chunked":
					w.Header().Set("Trailer", "X-Sum") // makes the coding chunked
					io.WriteString(w, "hello")
				case "/slow":
					w.(http.Flusher).Flush()
					<-proceed
					io.WriteString(w, "hello")
				case "/rest":
					w.Header().Set("Content-Length", "6")
					io.WriteString(w, "h")
					w.(http.Flusher).Flush()
					<-proceed
					io.WriteString(w, "ello!")
				case "/large":
					w.Write(make([]byte, large))
				case "/broken":
					panic(http.ErrAbortHandler)
				}
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				doRequest(t, l.client(), test.method, "http://web.example"+test.path, strings.Repeat("x", test.body))
			}()
			if test.slow {
				all.wait(t, 1, networkproxy.EventOpened)
			}
			close(proceed)
			wait(t, done, "the response")
			l.Close()
			var want []string
			for _, line := range test.want {
				want = append(want, fmt.Sprintf(line, test.method))
			}
			checkLines(t, "OnEvent", all.all(), want)
		})
	}
}

// publish makes the proxy publish an event that leaves nothing behind.
func publish(t testing.TB, l *lab) {
	t.Helper()
	mode := networkproxy.ModeLimited
	if l.Mode() == mode {
		mode = networkproxy.ModeFull
	}
	if err := l.SetMode(mode); err != nil {
		t.Fatal(err)
	}
}

// TestEventsOfASlowConsumer checks that a consumer that does not return loses its
// own events only, and that each is either received or reported as dropped.
func TestEventsOfASlowConsumer(t *testing.T) {
	t.Parallel()
	const n = 5000
	var slow, fast events
	begun, release := make(chan struct{}), make(chan struct{})
	l := start(t, allow("web.example"), func(b *networkproxy.Builder) {
		b.OnEvent(func(e networkproxy.Event) {
			if e.Seq == 1 {
				close(begun)
				<-release
			}
			slow.add(e)
		})
	})
	late := l.Events(t.Context()) // nobody ranges over it yet
	go func() {
		for e := range l.Events(t.Context()) {
			fast.add(e)
		}
	}()
	eventually(t, "the iterators follow", func() bool { return networkproxy.Followers(l.Handle) == 3 })
	publish(t, l)
	wait(t, begun, "the first call")
	for i := range n - 1 {
		publish(t, l)
		if i%500 == 0 {
			fast.wait(t, i+1, networkproxy.EventMode)
			networkproxy.FlushLog(l.Handle) // so that the queue of the log drops no line
		}
	}
	fast.wait(t, n, networkproxy.EventMode)
	l.waitLogged(t, `msg="events are dropped, because their consumer is too slow" consumer=OnEvent`)
	close(release)
	publish(t, l)
	eventually(t, "the slow consumer gets the last event", func() bool {
		list := slow.all()
		return len(list) > 0 && list[len(list)-1].Seq == n+1
	})
	checkDropped(t, "OnEvent", slow.all(), n+1)
	if d := fast.count(networkproxy.EventDropped); d != 0 || fast.count(networkproxy.EventMode) < n {
		t.Errorf("the fast consumer has lost events: got %d and %d reports", fast.count(networkproxy.EventMode), d)
	}
	dropped := checkDropped(t, "Events", slices.Collect(func(yield func(networkproxy.Event) bool) {
		for e := range late {
			if !yield(e) || e.Seq == n+1 {
				return
			}
		}
	}), n+1)
	metrics := l.admin("GET", "/metrics", "").body
	for _, want := range []string{
		fmt.Sprintf(`networkproxy_callbacks_dropped_total{callback="OnEvent"} %d`, checkDropped(t, "OnEvent", slow.all(), n+1)),
		fmt.Sprintf(`networkproxy_callbacks_dropped_total{callback="Events"} %d`, dropped),
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

// checkDropped checks that a consumer received n events or reports of them, in
// order, and returns the number of dropped ones.
func checkDropped(t *testing.T, name string, list []networkproxy.Event, n uint64) (dropped uint64) {
	t.Helper()
	received, last := uint64(0), uint64(0)
	for _, e := range list {
		missing := uint64(1)
		if e.Kind == networkproxy.EventDropped {
			missing = e.Dropped
			dropped += e.Dropped
		} else {
			received++
		}
		if e.Seq != last+missing {
			t.Fatalf("%s: got %s with the Seq %d after %d", name, e.Kind, e.Seq, last)
		}
		last = e.Seq
	}
	if dropped == 0 || received < 1024 || received+dropped != n {
		t.Errorf("%s: received %d events and %d are reported as dropped, of %d", name, received, dropped, n)
	}
	return dropped
}

// TestEventsOfAPanickingConsumer checks that neither a panic nor an exit of the
// goroutine costs more than one event.
func TestEventsOfAPanickingConsumer(t *testing.T) {
	t.Parallel()
	var got events
	l := start(t, allow("web.example"), func(b *networkproxy.Builder) {
		b.OnEvent(func(e networkproxy.Event) {
			got.add(e)
			switch e.Seq {
			case 1:
				panic("first")
			case 2:
				runtime.Goexit()
			}
		})
	})
	for range 4 {
		publish(t, l)
	}
	got.wait(t, 4, networkproxy.EventMode)
	l.waitLogged(t, `msg="OnEvent panicked" panic=first`)
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestEventsEnd checks the ends of an iterator.
func TestEventsEnd(t *testing.T) {
	t.Parallel()
	l := start(t, allow("web.example"), nil)
	follow := func(ctx context.Context, do func(networkproxy.Event) bool) chan struct{} {
		seq := l.Events(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			seq(do)
		}()
		return ended
	}
	gone := func(what string) {
		t.Helper()
		eventually(t, "nobody follows after "+what, func() bool { return networkproxy.Followers(l.Handle) == 0 })
	}
	never := func(networkproxy.Event) bool { t.Error("got an event"); return false }

	// By break.
	n := 0
	ended := follow(t.Context(), func(networkproxy.Event) bool { n++; return n < 2 })
	for range 4 {
		publish(t, l)
	}
	wait(t, ended, "the end of the loop")
	if n != 2 {
		t.Errorf("the loop got %d events, want 2", n)
	}
	gone("a break")
	// By its context, while it waits, before it is used, and during the loop.
	ctx, cancel := context.WithCancel(t.Context())
	ended = follow(ctx, never)
	unused := l.Events(ctx)
	cancel()
	wait(t, ended, "the end of the loop")
	gone("the end of the context")
	publish(t, l)
	unused(never)
	ctx, cancel = context.WithCancel(t.Context())
	n = 0
	ended = follow(ctx, func(networkproxy.Event) bool { n++; cancel(); return true })
	publish(t, l)
	publish(t, l)
	wait(t, ended, "the end of the loop")
	if n != 1 {
		t.Errorf("the loop got %d events after the end of its context", n-1)
	}
	// By the end of the proxy, after its last event.
	var last events
	seq := l.Events(t.Context())
	s := l.command("make")
	l.Close()
	within(t, "the loop", func() {
		for e := range seq {
			last.add(e)
		}
	})
	checkLines(t, "the iterator", last.all(), []string{"session_opened " + s.ID(), "session_closed " + s.ID()})
	within(t, "a second loop", func() { seq(never) })
	within(t, "the loop after the end", func() { l.Events(t.Context())(never) })
}

// TestEventsInOrder checks the order of the events of each session while many
// sessions have requests.
func TestEventsInOrder(t *testing.T) {
	t.Parallel()
	const sessions, clients, requests = 4, 3, 20
	var all events
	l := start(t, allow("web.example"), func(b *networkproxy.Builder) { b.OnEvent(all.add) })
	l.origin("web.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	var wg sync.WaitGroup
	own := make([]events, sessions)
	for i := range own {
		wg.Go(func() {
			s := l.open(networkproxy.SessionConfig{OnEvent: own[i].add})
			var commands sync.WaitGroup
			for range clients {
				commands.Go(func() {
					client := clientThrough(t, s.ProxyURL())
					for range requests {
						doRequest(t, client, "GET", "http://web.example/", "")
					}
				})
			}
			commands.Wait()
			s.Close()
		})
	}
	wg.Wait()
	all.wait(t, sessions, networkproxy.EventSessionClosed)
	for i := range own {
		own[i].wait(t, 1, networkproxy.EventSessionClosed)
		list := own[i].all()
		if len(list) != 2+clients*requests || list[0].Kind != networkproxy.EventSessionOpened || list[len(list)-1].Kind != networkproxy.EventSessionClosed {
			t.Fatalf("session %d: got %d events, the first %s, the last %s", i, len(list), list[0].Kind, list[len(list)-1].Kind)
		}
		kinds := make(map[uint64]string)
		last := uint64(0)
		for _, e := range list {
			if e.Seq <= last {
				t.Errorf("session %d: Seq is %d after %d", i, e.Seq, last)
			}
			last = e.Seq
			if e.Request != 0 {
				kinds[e.Request] += string(e.Kind) + " "
			}
		}
		for request, order := range kinds {
			if order != "allowed " {
				t.Errorf("session %d: request %d has the events %s", i, request, order)
			}
		}
		same := slices.DeleteFunc(all.all(), func(e networkproxy.Event) bool { return e.SessionID != list[0].SessionID })
		if !slices.EqualFunc(same, list, func(a, b networkproxy.Event) bool { return a.Seq == b.Seq && line(a) == line(b) }) {
			t.Errorf("session %d: the two consumers got different events", i)
		}
	}
}

// TestEventsOfCutTunnels checks that requests which are cut by the end of their session
// have all their events. On the session's own listener, they come before that end.
func TestEventsOfCutTunnels(t *testing.T) {
	t.Parallel()
	const tunnels = 20
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared port %t", shared), func(t *testing.T) {
			t.Parallel()
			var own events
			l := start(t, allow("web.example"), nil)
			l.mapHost("web.example", 7, testnet.Echo(t).Addr())
			s := l.open(networkproxy.SessionConfig{OnEvent: own.add, SharedPort: shared})
			addr, header := s.HTTPAddr(), ""
			if shared {
				addr, header = l.HTTPAddr(), credentials("", s.Token())
			}
			for range tunnels {
				if err := echoes(connectThrough(t, addr, "web.example:7", header)); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			own.wait(t, tunnels, networkproxy.EventClosed)
			own.wait(t, 1, networkproxy.EventSessionClosed)
			if n := own.count(networkproxy.EventOpened); n != tunnels {
				t.Errorf("%d tunnels were opened, want %d", n, tunnels)
			}
			list := own.all()
			if last := list[len(list)-1]; !shared && (last.Kind != networkproxy.EventSessionClosed || last.Sent != 4*tunnels) {
				t.Errorf("the last event is %+v, want the end of the session with all bytes", last)
			}
		})
	}
}

// TestLabelsAreCopies checks that a host which changes the labels that it gets does
// not change those of the session.
func TestLabelsAreCopies(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	change := func(labels map[string]string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, labels["user"])
		labels["user"] = "changed"
	}
	labels := map[string]string{"user": "alice"}
	var own events
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.OnEvent(func(e networkproxy.Event) { change(e.Labels) })
		b.OnBlocked(func(r networkproxy.BlockedRequest) { change(r.Labels) })
		b.PolicyDecider(func(_ context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			change(r.Labels)
			return networkproxy.Ask("later"), nil
		})
	})
	s := l.open(networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Labels: labels}, OnEvent: own.add})
	change(labels)
	for range 2 {
		statusIn(t, s, "http://a.example/")
		change(s.Blocked()[0].Labels)
	}
	s.Close()
	own.wait(t, 1, networkproxy.EventSessionClosed)
	l.Close()
	if len(got) < 10 || slices.ContainsFunc(got, func(user string) bool { return user != "alice" }) {
		t.Errorf("got the users %q, want each to be alice", got)
	}
}
