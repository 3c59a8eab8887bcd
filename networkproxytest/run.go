// Run: the promises, one after the other.

package networkproxytest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// Start starts a proxy as the host does, but with the configuration c, which
// asks for ports that are free. It is called several times, and the proxies
// run one after the other. Run closes them; a handle that Start has closed
// itself is a failure. Start may fail the test.
//
// The host's own layers, managed limits and addresses must leave c what it
// is: a Start that adds to its allowlist tests something else. A decider, if
// Start sets one, must deny; RequireSession and AdminToken may be set; SOCKS5
// and UDP are tested where c's EnableSOCKS5 and EnableSOCKS5UDP are left on,
// and what names resolve to where Start sets a [Resolver].
type Start func(t testing.TB, c networkproxy.Config) *networkproxy.Handle

// Run puts the promises of SECURITY.md that can be seen from outside to the
// test, each in a sub-test of its name. It takes a few seconds and does not
// run in parallel with itself.
func Run(t *testing.T, start Start) {
	t.Helper()
	for _, p := range promises() {
		t.Run(p.name, func(t *testing.T) { p.check(t, start) })
	}
}

// promise is one thing that holds.
type promise struct {
	name  string
	check func(t testing.TB, start Start)
}

func promises() []promise {
	var list []promise
	for _, table := range TargetTables() {
		list = append(list, promise{table.Promise, table.check})
	}
	for _, table := range nameTables() {
		list = append(list, promise{table.Promise, table.checkNames})
	}
	return append(list,
		promise{"what is allowed arrives", allowedArrives},
		promise{"a relay of datagrams serves its client alone", relayServesItsClient},
		promise{"every request is judged by itself, and cut as it says", framings},
		promise{"the limited mode only reads", limitedOnlyReads},
		promise{"what is for the proxy stays with the proxy", proxyFieldsStay},
		promise{"a unix socket that is not listed is out of reach", unlistedSocketsAreRefused},
		promise{"a refusal is recorded for its session", refusalsAreAttributed},
		promise{"a session's end cuts what is its own", sessionEnds},
		promise{"a deny cuts what is open", denyCuts},
		promise{"the listeners are on loopback", onLoopback},
		promise{"a web page cannot drive the admin API", webPages},
		promise{"nothing is left after Close", nothingIsLeft},
	)
}

// testProxy is a proxy under test.
type testProxy struct {
	*networkproxy.Handle
	t       testing.TB
	session *networkproxy.Session
	paths   []path
	silent  map[string]bool // paths on which a datagram came to nothing that can be seen: one wait is enough
}

// startProxy starts a proxy for as long as the test runs.
func startProxy(t testing.TB, start Start, policy networkproxy.PolicyConfig, mode networkproxy.Mode) *testProxy {
	t.Helper()
	c := networkproxy.DefaultConfig()
	c.Enabled = true
	c.ProxyURL, c.AdminURL, c.SOCKSURL = "http://127.0.0.1:0", "http://127.0.0.1:0", "http://127.0.0.1:0"
	c.EnableSOCKS5, c.EnableSOCKS5UDP = true, true
	c.Mode = mode
	c.Policy = policy
	h := start(t, c)
	if h == nil || h.HTTPAddr() == "" {
		t.Fatal("Start has not started a proxy")
	}
	t.Cleanup(func() { h.Close() })
	r := &testProxy{Handle: h, t: t, session: openSession(t, h), silent: make(map[string]bool)}
	r.paths = pathsOf(t, h, r.session)
	return r
}

func openSession(t testing.TB, h *networkproxy.Handle) *networkproxy.Session {
	t.Helper()
	s, err := h.OpenSession(context.Background(), networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "networkproxytest"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newest is the last refusal of the record, if it is not older than since.
func (r *testProxy) newest(since time.Time) (networkproxy.BlockedRequest, bool) {
	list := r.Blocked()
	if len(list) == 0 || list[len(list)-1].Time.Before(since) {
		return networkproxy.BlockedRequest{}, false
	}
	return list[len(list)-1], true
}

// refuses sends a target by a way and checks that it is refused for a reason:
// in the outcome, and in the record.
func (r *testProxy) refuses(p path, target string, want networkproxy.Reason) {
	r.t.Helper()
	since := time.Now()
	a, c, ok := p.open(r.t, target)
	if !ok || p.datagrams && want == networkproxy.ReasonInvalidTarget {
		return // of what becomes of datagrams to no target, nothing is to be seen
	}
	if c != nil {
		defer c.Close()
	}
	if p.datagrams && a.reached {
		r.dropped(p, c, target, want)
		return
	}
	b, recorded := r.newest(since)
	switch {
	case a.reached:
		r.t.Errorf("%s: %q: reached (%s), want it refused: %s", p.name, target, a.text, want)
	case want == networkproxy.ReasonInvalidTarget:
		if !a.malformed || recorded {
			r.t.Errorf("%s: %q: %s, recorded as %q; want it refused as no target", p.name, target, a.text, b.Reason)
		}
	case !recorded:
		r.t.Errorf("%s: %q: %s, and no refusal was recorded, want %s", p.name, target, a.text, want)
	case b.Reason != want && !(want == networkproxy.ReasonNotAllowed && b.Source == networkproxy.SourceDecider):
		r.t.Errorf("%s: %q: refused as %q, want %q", p.name, target, b.Reason, want)
	case a.reason != "" && a.reason != b.Reason:
		r.t.Errorf("%s: %q: told %q, recorded %q", p.name, target, a.reason, b.Reason)
	}
}

// resendInterval is after how long without a refusal a datagram is sent again: the first
// may be the last of a flow that a change of the policy cuts at that moment,
// which is dropped with it and is no request.
const resendInterval = 50 * time.Millisecond

// dropped sends datagrams and checks that their target is refused.
func (r *testProxy) dropped(p path, c net.Conn, target string, want networkproxy.Reason) {
	r.t.Helper()
	if r.silent[p.name] {
		return
	}
	since := time.Now()
	for next := since; time.Since(since) < timeout; {
		if !time.Now().Before(next) {
			send(c, "ping")
			next = next.Add(resendInterval)
		}
		switch b, recorded := r.newest(since); {
		case !recorded:
			<-time.After(time.Millisecond)
		case b.Reason != want && !(want == networkproxy.ReasonNotAllowed && b.Source == networkproxy.SourceDecider):
			r.t.Errorf("%s: %q: refused as %q, want %q", p.name, target, b.Reason, want)
			return
		default:
			return
		}
	}
	r.silent[p.name] = true
	r.t.Errorf("%s: %q: no refusal was recorded, want %s", p.name, target, want)
}

// reasonIn is the reason that the JSON of a refusal gives.
func reasonIn(body []byte) networkproxy.Reason {
	var told struct{ Reason networkproxy.Reason }
	if json.Unmarshal(body, &told) != nil {
		return ""
	}
	return told.Reason
}

func (table TargetTable) check(t testing.TB, start Start) {
	t.Helper()
	table.checkAll(startProxy(t, start, table.Policy, networkproxy.ModeFull))
}

// checkAll sends the targets by every way.
func (table TargetTable) checkAll(r *testProxy) {
	r.t.Helper()
	for _, target := range table.Targets {
		target = ExpandTarget(target, r.Handle)
		if target == "" {
			continue
		}
		for _, p := range r.paths {
			r.refuses(p, target, table.Reason)
		}
	}
}

// allowOnly allows one address without its port.
func allowOnly(host string) networkproxy.PolicyConfig {
	return networkproxy.PolicyConfig{AllowedDomains: []string{host}}
}

func allowedArrives(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	for _, p := range r.paths {
		if strings.HasPrefix(p.name, "HTTP") {
			o := newOrigin(t)
			a, _, _ := p.open(t, o.addr)
			got, faults := o.received()
			if !a.reached || len(got) != 1 || len(faults) != 0 {
				t.Errorf("%s: %s; the origin got %q, faults %q", p.name, a.text, got, faults)
			}
			continue
		}
		a, c, ok := p.open(t, p.echo(t))
		if !ok || c == nil {
			t.Errorf("%s: %s", p.name, a.text)
			continue
		}
		if err := echoes(c); err != nil {
			t.Errorf("%s: the tunnel: %v", p.name, err)
		}
	}
	if list := r.Blocked(); slices.ContainsFunc(list, func(b networkproxy.BlockedRequest) bool { return b.Host == "127.0.0.1" }) {
		t.Errorf("refusals were recorded: %v", list)
	}
}

// framings runs the corpus of framings over the HTTP listeners.
func framings(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	addrs := []string{r.session.HTTPAddr()}
	if !requiresSession(t, r.Handle) {
		addrs = append(addrs, r.HTTPAddr())
	}
	for _, f := range FramingCases() {
		for _, addr := range addrs {
			f.check(t, addr)
		}
	}
}

func (f FramingCase) check(t testing.TB, addr string) {
	t.Helper()
	o := newOrigin(t)
	fill := func(text string) string { return strings.ReplaceAll(text, "{origin}", o.addr) }
	c := dial(t, addr)
	defer c.Close()
	send(c, fill(f.Send))
	if f.HalfClose {
		c.CloseWrite()
	}
	answers, err := statuses(c, f.Send)
	if err != nil {
		t.Errorf("%s: behind the answers %v: %v", f.Name, answers, err)
	}
	if !slices.Equal(answers, f.Statuses) {
		t.Errorf("%s: answered %v, want %v", f.Name, answers, f.Statuses)
	}
	requests, faults := o.received()
	if len(faults) > 0 {
		t.Errorf("%s: the origin got what is no request: %q", f.Name, faults)
	}
	var got, want []string
	for _, r := range requests {
		got = append(got, r.String())
	}
	for _, r := range f.Forwarded {
		want = append(want, fill(r))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the origin got %q, want %q", f.Name, got, want)
	}
}

// statuses are those of the answers on a connection, up to its end. Interim
// ones are left out.
func statuses(c net.Conn, sent string) ([]int, error) {
	var list []int
	br := bufio.NewReader(c)
	method := http.MethodGet
	if strings.HasPrefix(sent, "CONNECT {origin}") {
		method = http.MethodConnect
	}
	for {
		if _, err := br.Peek(1); err != nil {
			if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
				return list, fmt.Errorf("the connection is still open")
			}
			return list, nil // however it ended
		}
		a, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return list, err
		}
		method = http.MethodGet
		if a.StatusCode < 200 {
			continue
		}
		list = append(list, a.StatusCode)
		if a.Request.Method == http.MethodConnect && a.StatusCode == http.StatusOK {
			continue
		}
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			return list, err
		}
	}
}

func limitedOnlyReads(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeLimited)
	for _, p := range r.paths {
		if !strings.HasPrefix(p.name, "HTTP") {
			r.refuses(p, newOrigin(t).addr, networkproxy.ReasonMethodNotAllowed)
		}
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", "Get", "GETT", "QUERY", "UPGRADE"} {
		r.limited(method, slices.Contains([]string{"GET", "HEAD", "OPTIONS"}, method))
	}
	r.limited("GET", false, "Connection: Upgrade", "Upgrade: websocket")
	r.limited("OPTIONS", false, "Connection: keep-alive, upgrade", "Upgrade: h2c, tcp")
	r.limited("GET", true, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__") // an ordinary request
}

// limited sends one request and checks whether the limited mode lets it pass.
func (r *testProxy) limited(method string, want bool, fields ...string) {
	r.t.Helper()
	o := newOrigin(r.t)
	c := dial(r.t, r.session.HTTPAddr())
	defer c.Close()
	send(c, method+" http://"+o.addr+"/ HTTP/1.1\r\nHost: "+o.addr+"\r\n"+fieldLines(fields)+"\r\n")
	a, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		r.t.Errorf("%s %q: no answer: %v", method, fields, err)
		return
	}
	c.Close()
	got, faults := o.received()
	if passed := a.StatusCode == http.StatusOK; passed != want || (len(got) > 0) != want || len(faults) > 0 {
		r.t.Errorf("%s %q: %s, the origin got %q, faults %q; want it to pass: %t", method, fields, a.Status, got, faults, want)
	}
}

func proxyFieldsStay(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	o := newOrigin(t)
	forward := forwardBy(r.session.HTTPAddr(), "Connection: X-Hop", "X-Hop: 1", "Proxy-Connection: keep-alive", "Proxy-Secret: s", "Keep-Alive: 1", "X-Stays: 1")
	if a, _, _ := forward(t, o.addr); !a.reached {
		t.Errorf("a request with fields for the proxy: %s", a.text)
	}
	shared := r.paths[0] // which carries the session's token
	if a, _, _ := shared.open(t, o.addr); !a.reached {
		t.Errorf("%s: %s", shared.name, a.text)
	}
	requests, _ := o.received()
	if len(requests) != 2 || !slices.Contains(requests[0].fields, "X-Stays: 1") {
		t.Errorf("the origin got %v", requests)
	}
	for _, request := range requests {
		for _, field := range request.fields {
			name, value, _ := strings.Cut(strings.ToLower(field), ":")
			if strings.HasPrefix(name, "proxy-") || slices.Contains([]string{"x-hop", "keep-alive", "x-forwarded-for", "via", "forwarded"}, name) ||
				strings.Contains(value, strings.ToLower(r.session.Token())) {
				t.Errorf("the origin got %q", field)
			}
		}
	}
}

func refusalsAreAttributed(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, networkproxy.PolicyConfig{}, networkproxy.ModeFull)
	other := openSession(t, r.Handle)
	forwardBy(other.HTTPAddr())(t, "mine.invalid:80")
	has := func(s *networkproxy.Session) bool {
		return slices.ContainsFunc(s.Blocked(), func(b networkproxy.BlockedRequest) bool { return b.Host == "mine.invalid" })
	}
	if !has(other) || has(r.session) {
		t.Errorf("the refusal is in the record of its session: %t; of another: %t", has(other), has(r.session))
	}
	if b, ok := r.newest(time.Time{}); !ok || b.Host != "mine.invalid" || b.Command != "networkproxytest" {
		t.Errorf("the record's newest is %+v", b)
	}
}

func sessionEnds(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	other := openSession(t, r.Handle)
	target := echo(t).addr()
	_, gone, _ := connectBy(r.session.HTTPAddr())(t, target)
	_, stays, _ := connectBy(other.HTTPAddr())(t, target)
	if gone == nil || stays == nil {
		t.Fatal("no tunnels to begin with")
	}
	r.session.Close()
	if err := checkClosed(gone); err != nil {
		t.Errorf("the tunnel of a session that has ended: %v", err)
	}
	if err := echoes(stays); err != nil {
		t.Errorf("the tunnel of another session: %v", err)
	}
	if c, err := net.Dial("tcp", r.session.HTTPAddr()); err == nil {
		c.Close()
		t.Error("the session's listener still accepts")
	}
	if a, _, _ := r.paths[0].open(t, newOrigin(t).addr); a.reached {
		t.Errorf("the session's token still opens: %s", a.text)
	}
}

func denyCuts(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	target := echo(t).addr()
	open := make(map[string]net.Conn)
	for _, p := range r.paths {
		if !strings.HasPrefix(p.name, "HTTP") {
			to := target
			if p.datagrams {
				to = p.echo(t)
			}
			_, c, _ := p.open(t, to)
			if c == nil {
				t.Fatalf("%s: no tunnel to begin with", p.name)
			}
			if p.datagrams && echoes(c) != nil {
				t.Errorf("%s: no flow to begin with", p.name)
			}
			open[p.name] = c
		}
	}
	if err := r.DenyDomain("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	for _, p := range r.paths {
		c := open[p.name]
		switch {
		case c == nil:
		case p.datagrams:
			r.dropped(p, c, "what is denied now", networkproxy.ReasonDenied)
		default:
			if err := checkClosed(c); err != nil {
				t.Errorf("%s: a tunnel to what is denied now: %v", p.name, err)
			}
		}
	}
	for _, p := range r.paths {
		r.refuses(p, target, networkproxy.ReasonDenied)
	}
}

func onLoopback(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, networkproxy.PolicyConfig{}, networkproxy.ModeFull)
	for _, addr := range []string{r.HTTPAddr(), r.AdminAddr(), r.SOCKSAddr(), r.session.HTTPAddr()} {
		if a, err := netip.ParseAddrPort(addr); addr != "" && (err != nil || !a.Addr().IsLoopback()) {
			t.Errorf("a listener at %s", addr)
		}
	}
}

func webPages(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, networkproxy.PolicyConfig{}, networkproxy.ModeFull)
	host := "Host: " + r.AdminAddr()
	for _, fields := range [][]string{
		{"Host: rebound.invalid"},
		{"Host: rebound.invalid:8080"},
		{host, "Origin: http://page.invalid"},
		{host, "Origin: null"},
		{host, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"},
		{host, "Sec-Fetch-Site: same-site"},
	} {
		c := dial(t, r.AdminAddr())
		const body = `{"mode":"limited"}`
		send(c, "POST /mode HTTP/1.1\r\n"+fieldLines(fields)+fmt.Sprintf("Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n", len(body))+body)
		a, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || a.StatusCode/100 != 4 {
			t.Errorf("POST /mode with %q: %v, %v", fields, a, err)
		}
		c.Close()
	}
	if m := r.Mode(); m != networkproxy.ModeFull {
		t.Errorf("the mode is %s now", m)
	}
}

func nothingIsLeft(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	_, tunnel, _ := connectBy(r.session.HTTPAddr())(t, echo(t).addr())
	if tunnel == nil {
		t.Fatal("no tunnel to begin with")
	}
	r.Close()
	if err := checkClosed(tunnel); err != nil {
		t.Errorf("a tunnel: %v", err)
	}
	for _, addr := range []string{r.HTTPAddr(), r.AdminAddr(), r.SOCKSAddr(), r.session.HTTPAddr()} {
		if addr == "" {
			continue
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Errorf("%s still accepts", addr)
		}
	}
}
