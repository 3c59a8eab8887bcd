//go:build e2e

// The stream of events: requests appear at once, many of them do not make the page
// slow, and a lost connection is shown and made again.

package page

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
)

// counter returns a condition: a counter has a value.
func counter(outcome, value string) string {
	return fmt.Sprintf("document.querySelector('#totals [data-key=%s] dd').textContent === %q", outcome, value)
}

func TestRefusalAppears(t *testing.T) {
	p := start(t, nil, "allowed.example")
	page := open(t, "http://"+p.AdminAddr()+"/").live()
	_, c := p.session(attribution("curl http://refused.example/", "talk"))

	if status := get(t, c, "http://refused.example/"); status != 403 {
		t.Fatalf("status %d, want 403", status)
	}
	began := time.Now()
	page.wait("the refusal", row("refused", "refused.example"))
	if took := time.Since(began); took > time.Second {
		t.Errorf("the refusal appeared after %v, want at most 1s", took)
	} else {
		t.Logf("the refusal appeared after %v", took)
	}
	for _, want := range []string{"not_allowed", "the host is not on the allowlist", "curl http://refused.example/", "GET", ":80"} {
		if text := evaluate[string](page, row("refused", "refused.example")+".textContent"); !strings.Contains(text, want) {
			t.Errorf("the row %q lacks %q", text, want)
		}
	}

	get(t, c, "http://allowed.example/bytes/2500")
	page.wait("the allowed request with its bytes", row("allowed", "allowed.example")+"?.textContent.includes('2.5 kB')")
	get(t, c, "https://allowed.example/bytes/2500")
	c.CloseIdleConnections()
	page.wait("the end of the tunnel", `[...document.querySelectorAll('.row[data-outcome=allowed]')].some((r) => r.textContent.includes('CONNECT') && r.textContent.includes('kB') && !r.textContent.includes('open'))`)
	page.wait("the counters", counter("refused", "1")+" && "+counter("allowed", "2"))
	page.wait("the bytes", "/Bytes in the last five minutes: [5-9].\\d kB received/.test(document.querySelector('#chart-bytes svg').getAttribute('aria-label'))")

	page.click("#pause")
	get(t, c, "http://later.example/")
	page.wait("the number of new requests", "document.querySelector('#shown').textContent === 'paused, 1 new'")
	if evaluate[bool](page, "Boolean("+row("refused", "later.example")+")") {
		t.Error("a request appears during the pause")
	}
	page.click("#pause")
	page.wait("the request of the pause", row("refused", "later.example"))

	page.click("#session-list button")
	page.wait("the filter", "document.querySelector('#filter-session').value === 's1' && !document.querySelector('#clear').hidden")
	get(t, p.shared(), "http://elsewhere.example/")
	get(t, c, "http://again.example/")
	page.wait("the refusal in the session", row("refused", "again.example"))
	if evaluate[bool](page, "Boolean("+row("refused", "elsewhere.example")+")") {
		t.Error("the filter for a session shows a request of the shared listeners")
	}
	page.click("#clear")
	page.wait("all requests", row("refused", "elsewhere.example"))
	page.do(typeInto("#filter-host", "SEWH"))
	page.wait("the filter for a host", "document.querySelectorAll('#rows > *').length === 1 && "+row("refused", "elsewhere.example"))
	page.click("#clear")
	page.click("#outcomes [data-outcome=refused]")
	page.wait("the filter for outcomes", "document.querySelectorAll('.row[data-outcome=refused]').length === 0 && document.querySelectorAll('.row[data-outcome=allowed]').length === 2")
}

// TestTenThousandEvents makes 10,000 requests in ten seconds, and clicks on a filter
// every half second, which makes all rows anew.
func TestTenThousandEvents(t *testing.T) {
	const (
		total    = 10_000
		duration = 10 * time.Second
		batches  = 100
		rows     = 500
	)
	p := start(t, nil)
	page := open(t, "http://"+p.AdminAddr()+"/").live()
	evaluate[any](page, `window.latencies = [];
		addEventListener('click', (e) => requestAnimationFrame(() => setTimeout(() => latencies.push(performance.now() - e.timeStamp))), true); 0`)

	c := p.shared()
	var work sync.WaitGroup
	finished := make(chan time.Duration, 1)
	work.Go(func() {
		began := time.Now()
		tick := time.NewTicker(duration / batches)
		defer tick.Stop()
		names := hosts(total)
		for batch := range batches {
			for _, host := range names[batch*total/batches : (batch+1)*total/batches] {
				resp, err := c.Get("http://" + host + "/")
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			<-tick.C
		}
		finished <- time.Since(began)
	})
	defer work.Wait()

	var took time.Duration
	clicks, most := 0, 0
	tick := time.NewTicker(duration / 20)
	defer tick.Stop()
	for took == 0 {
		select {
		case took = <-finished:
		case <-tick.C:
			page.click("#outcomes [data-outcome=changes]")
			clicks++
			most = max(most, page.count("#rows > *"))
		}
	}
	page.wait("all requests in the counters", counter("refused", "10,000"))
	last := row("refused", fmt.Sprintf("h%d.refused.example", total-1))
	page.wait("the last request", last)

	latencies := evaluate[[]float64](page, "latencies")
	slices.Sort(latencies)
	missing := evaluate[int](page, "[...document.querySelectorAll('.row[data-outcome=missing]')].length")
	kept, _ := strconv.Atoi(strings.ReplaceAll(page.text("#shown")[strings.LastIndex(page.text("#shown"), " ")+1:], ",", ""))
	t.Logf("%d requests in %v; the page had %d records; clicks took %.0f ms in the median and %.0f ms at most; at most %d rows",
		total, took.Round(time.Millisecond), kept, latencies[len(latencies)/2], latencies[len(latencies)-1], most)
	if len(latencies) != clicks || clicks < 5 {
		t.Errorf("the page handled %d clicks of %d", len(latencies), clicks)
	}
	if worst := latencies[len(latencies)-1]; worst > 500 {
		t.Errorf("a click took %.0f ms, want at most 500", worst)
	}
	if most > rows || page.count("#rows > *") != rows {
		t.Errorf("the page had up to %d rows, and %d at the end, want %d", most, page.count("#rows > *"), rows)
	}
	if kept < total && missing == 0 {
		t.Errorf("the page had %d records of %d requests, and does not say that events are missing", kept, total)
	}
	if took > duration*3/2 {
		t.Errorf("the requests took %v, so they were not as frequent as the test needs", took)
	}
}

// TestReconnect cuts the connection of the page, so that it misses few events, then so
// many that the proxy has not kept them all, and then ends the proxy.
func TestReconnect(t *testing.T) {
	p := start(t, withToken)
	gap := newGap(t, p.AdminAddr())
	page := open(t, "http://"+gap.addr()+"/")
	page.wait("the form for the token", "!document.querySelector('#login').hidden && document.activeElement.id === 'token'")
	page.do(typeInto("#token", "wrong\r"))
	page.wait("the refusal of the token", "document.querySelector('#login-text').textContent.includes('not accepted')")
	page.do(typeInto("#token", token+"\r"))
	page.live()
	if evaluate[bool](page, "location.href.includes('token') || document.cookie !== '' || localStorage.length > 0") {
		t.Error("the token is kept outside the tab")
	}
	c := p.shared()
	get(t, c, "http://first.example/")
	page.wait("the first request", row("refused", "first.example"))

	gap.close()
	page.wait("the notice", "!document.querySelector('#disconnected').hidden && document.querySelector('#connection').textContent === 'disconnected'")
	get(t, c, "http://second.example/")
	gap.open(t)
	page.click("#retry")
	page.wait("the request that was missed", row("refused", "second.example"))
	if n := page.count(".row[data-outcome=refused]"); n != 2 {
		t.Errorf("%d refusals after the reconnection, want 2", n)
	}
	if !evaluate[bool](page, "document.querySelector('#disconnected').hidden") {
		t.Error("the notice stays")
	}

	gap.close()
	page.wait("the notice", "!document.querySelector('#disconnected').hidden")
	const many = 6000
	for _, host := range hosts(many) {
		get(t, c, "http://"+host+"/")
	}
	gap.open(t)
	page.click("#retry")
	page.live()
	get(t, c, "http://last.example/")
	page.wait("the last request", row("refused", "last.example"))
	// The page knows of every request, or says how many it does not know. records is its own list.
	page.wait("the sum of all", fmt.Sprintf("records.reduce((n, r) => n + (r.outcome === 'missing' ? r.e.dropped : 1), 0) === %d", many+3))
	page.do(typeInto("#filter-host", "nothing like that"))
	page.wait("the number of missing events", `/^[\d,]+ events are missing here$/.test(document.querySelector('.row[data-outcome=missing] .target')?.textContent)`)
	page.click("#clear")

	p.stop()
	page.wait("the notice", "!document.querySelector('#disconnected').hidden")
	start(t, func(b *networkproxy.Builder) { b.AdminToken(token).AdminAddr(p.AdminAddr()) })
	page.click("#retry")
	page.live()
	page.wait("the restart", counter("refused", "0"))
}

// gap is a forwarder of TCP connections that can be closed and opened again.
type gap struct {
	target   string
	listener net.Listener
	address  string

	mu    sync.Mutex
	conns []net.Conn
}

func newGap(t testing.TB, target string) *gap {
	t.Helper()
	g := &gap{target: target, address: "127.0.0.1:0"}
	g.open(t)
	g.address = g.addr()
	t.Cleanup(g.close)
	return g
}

func (g *gap) addr() string { return g.listener.Addr().String() }

func (g *gap) open(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	g.listener = l
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", g.target)
			if err != nil {
				client.Close()
				continue
			}
			g.mu.Lock()
			g.conns = append(g.conns, client, server)
			g.mu.Unlock()
			go func() { io.Copy(server, client); server.Close() }()
			go func() { io.Copy(client, server); client.Close() }()
		}
	}()
}

func (g *gap) close() {
	g.listener.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}
