// GET /metrics: its format, and that every request is counted once.

package networkproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// series are the samples of /metrics by name and labels as they stand there.
type series map[string]float64

// metrics reads and checks /metrics.
func (l *lab) metrics(t testing.TB) series {
	t.Helper()
	a := l.adminRaw(t, "GET", "/metrics", "")
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Fatalf("got %s, %s", a.Status, a.Header.Get("Content-Type"))
	}
	samples, err := parseExposition(a.body)
	if err != nil {
		t.Fatalf("%v in\n%s", err, a.body)
	}
	return samples
}

// metric is the value of one series.
func (l *lab) metric(t testing.TB, name string) float64 {
	t.Helper()
	v, ok := l.metrics(t)[name]
	if !ok {
		t.Errorf("no %s", name)
	}
	return v
}

// requests sums what is counted of requests, in all or with some labels.
func (s series) requests(labels ...string) (sum float64) {
next:
	for name, v := range s {
		if !strings.HasPrefix(name, "networkproxy_requests_total{") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(name, label) {
				continue next
			}
		}
		sum += v
	}
	return sum
}

var sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)+\})? (\S+)$`)

// parseExposition reads Prometheus' text format, version 0.0.4, as far as it
// has no histograms and no time stamps, and is strict: HELP, TYPE, then the
// samples of that family and of no other, none of them twice.
func parseExposition(text string) (series, error) {
	samples := make(series)
	families := make(map[string]bool)
	family, kind, count := "", "", 1
	if !strings.HasSuffix(text, "\n") {
		return nil, errors.New("no line feed at the end")
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "# HELP "):
			if count == 0 {
				return nil, fmt.Errorf("%s has no sample", family)
			}
			var help string
			family, help, _ = strings.Cut(line[len("# HELP "):], " ")
			if families[family] || help == "" {
				return nil, fmt.Errorf("%q: a second time, or without a text", line)
			}
			families[family], kind, count = true, "", 0
		case strings.HasPrefix(line, "# TYPE "):
			of, k, _ := strings.Cut(line[len("# TYPE "):], " ")
			if of != family || kind != "" || k != "counter" && k != "gauge" || (k == "counter") != strings.HasSuffix(of, "_total") {
				return nil, fmt.Errorf("%q", line)
			}
			kind = k
		default:
			m := sampleLine.FindStringSubmatch(line)
			if m == nil || m[1] != family || kind == "" {
				return nil, fmt.Errorf("%q is no sample of %s", line, family)
			}
			v, err := strconv.ParseFloat(m[3], 64)
			if _, twice := samples[m[1]+m[2]]; err != nil || twice || v < 0 {
				return nil, fmt.Errorf("%q: twice, or its value is none: %v", line, err)
			}
			samples[m[1]+m[2]] = v
			count++
		}
	}
	if len(samples) == 0 || count == 0 {
		return nil, errors.New("no sample")
	}
	return samples, lines.Err()
}

// TestMetricsCountEveryRequestOnce makes a known number of requests, by every
// protocol and to every end.
func TestMetricsCountEveryRequestOnce(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow("*.example")), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			switch r.Host {
			case "deny.test":
				return networkproxy.Deny("not_allowed"), nil // a word of the proxy's
			case "free.test":
				return networkproxy.Deny("of\nhis \"own\" " + strings.Repeat("words ", 9)), nil
			case "fail.test":
				return networkproxy.Decision{}, errors.New("no")
			}
			return networkproxy.Allow(), nil
		})
	})
	echo := testnet.Echo(t).Addr()
	l.mapHost("tunnel.example", 443, echo)
	l.mapHost("other.test", 443, echo)
	l.dns.Set("gone.example", testnet.NXDomain())
	l.dns.Set("closed.example", addrs(publicAddr))
	l.dns.Set("inner.example", addrs("10.0.0.1"))
	l.mapHostUDP("udp.example", 53, testnet.EchoUDP(t, "127.0.0.1"))
	l.scripted("o.example", emptyAnswer)

	want := 0
	http := func(method, url string, status int, fields ...string) {
		t.Helper()
		want++
		w := l.dialHTTP(t)
		w.request(method, url, fields...)
		if a := w.readResponse(method); a.StatusCode != status {
			t.Errorf("%s %s: got %s, want %d", method, url, a.Status, status)
		}
		w.Close()
	}
	http("GET", "http://o.example/", 200)
	http("GET", "http://o.example/", 200, "Connection: Upgrade", "Upgrade: x") // which the origin does not
	http("GET", "http://gone.example/", 502)
	http("GET", "http://closed.example:81/", 502)
	http("GET", "http://inner.example/", 403)
	http("GET", "http://deny.test/", 403)
	http("GET", "http://free.test/", 403)
	http("GET", "http://fail.test/", 403)
	http("GET", "http://127.0.0.1/", 403)
	http("GET", "/", 400)
	http("GET", "http://a..b/", 400)
	http("CONNECT", "free.test:443", 403)
	http("CONNECT", "gone.example:443", 502)
	http("CONNECT", "closed.example:444", 502)
	http("CONNECT", "nowhere", 400)
	var tunnels []*rawConn
	for _, target := range []string{"tunnel.example:443", "tunnel.example:443", "tunnel.example:443", "other.test:443"} { // the last by the decider
		want++
		w := l.connectTo(t, target)
		tunnels = append(tunnels, w)
		if err := echoes(w); err != nil {
			t.Error(err)
		}
	}
	want++
	w := l.dialHTTP(t)
	w.send("nonsense\r\n\r\n")
	w.readAll()

	socks := func(command byte, dst []byte, code byte) {
		t.Helper()
		want++
		conn, got, _ := l.socksRequest(command, dst)
		if got != code {
			t.Errorf("SOCKS5 command %d to % x: reply %d, want %d", command, dst, got, code)
		}
		conn.Close()
	}
	socks(socksConnect, socksDestName("tunnel.example", 443), 0)
	socks(socksConnect, socksDestName("free.test", 443), 2)
	socks(socksConnect, socksDestName("gone.example", 443), 4)
	socks(socksConnect, socksDestName("closed.example", 444), 5)
	socks(socksConnect, socksDestName("a..b", 443), 2)
	socks(socksBind, socksDestName("tunnel.example", 443), 7)
	u := l.associate() // is no request, its flows are
	u.send(socksDestName("udp.example", 53), "ping")
	u.expect("ping", publicAddr+":53")
	u.send(socksDestName("udp.example", 53), "ping")
	u.expect("ping", publicAddr+":53")
	u.send(socksDestName("free.test", 53), "ping")
	u.send(socksDestName("gone.example", 53), "ping")
	u.sendRaw([]byte{0, 0, 1, 1, 1, 2, 3, 4, 0, 1}) // a fragment
	want += 3

	var got series
	eventually(t, "all requests are counted", func() bool {
		got = l.metrics(t)
		return got.requests() >= float64(want) && got.requests(`outcome="allowed"`) >= 8 && got[`networkproxy_datagrams_dropped_total{cause="refused"}`] == 2
	})
	allowed, refused, failed := got.requests(`outcome="allowed"`), got.requests(`outcome="refused"`), got.requests(`outcome="failed"`)
	if allowed+refused+failed != float64(want) || got.requests() != float64(want) {
		t.Errorf("%v allowed + %v refused + %v failed, want %d", allowed, refused, failed, want)
	}
	if allowed != 8 || refused != 14 || failed != 7 {
		t.Errorf("%v allowed, %v refused, %v failed", allowed, refused, failed)
	}
	h := l.health(t)
	if float64(h.Allowed) != allowed || float64(h.Refused) != refused || float64(h.Failed) != failed {
		t.Errorf("/health has %+v", h)
	}
	counted := series{
		`networkproxy_requests_total{protocol="http",outcome="refused",reason="decider"}`:           2,
		`networkproxy_requests_total{protocol="http",outcome="refused",reason="decider_failed"}`:    1,
		`networkproxy_requests_total{protocol="http",outcome="refused",reason="not_allowed_local"}`: 2,
		`networkproxy_requests_total{protocol="http",outcome="refused",reason="invalid_target"}`:    3,
		`networkproxy_requests_total{protocol="http",outcome="failed",reason="dns_failure"}`:        1,
		`networkproxy_requests_total{protocol="http",outcome="failed",reason="connect_failure"}`:    1,
		`networkproxy_requests_total{protocol="https_connect",outcome="allowed",reason=""}`:         4,
		`networkproxy_requests_total{protocol="socks5_tcp",outcome="allowed",reason=""}`:            1,
		`networkproxy_requests_total{protocol="socks5_udp",outcome="allowed",reason=""}`:            1,
		`networkproxy_requests_total{protocol="socks5_udp",outcome="refused",reason="decider"}`:     1,
		`networkproxy_datagrams_dropped_total{cause="fragment"}`:                                    1,
		`networkproxy_policy_generation`: 1,
		`networkproxy_tunnels`:           4,
		`networkproxy_sessions`:          0,
	}
	for name, want := range counted {
		if got[name] != want {
			t.Errorf("%s %v, want %v", name, got[name], want)
		}
	}
	for _, w := range tunnels {
		w.Close()
	}
	u.control.Close()
	eventually(t, "no client is left", func() bool { return l.health(t).Connections == 0 })
	if n := l.metrics(t).requests(); n != float64(want) {
		t.Errorf("%v requests once the tunnels have ended, want %d", n, want)
	}
	for name := range got {
		if strings.Contains(name, "words") || strings.Contains(name, `reason="not_allowed"`) {
			t.Errorf("a decider's own words are a label: %s", name)
		}
	}
}

// TestMetricsGauges: what is open now, and what has happened to the policy.
func TestMetricsGauges(t *testing.T) {
	t.Parallel()
	s := newSource(allow("tunnel.example"))
	l := startSource(t, s.builder, func(b *networkproxy.Builder) {
		b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			return networkproxy.Allow().ForSession(), nil
		})
	})
	l.mapHost("tunnel.example", 443, testnet.Echo(t).Addr())
	l.mapHost("granted.test", 443, testnet.Echo(t).Addr())
	session, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	tunnel := l.connectTo(t, "tunnel.example:443")
	if err := errors.Join(echoes(tunnel), echoes(l.connectTo(t, "granted.test:443"))); err != nil {
		t.Fatal(err)
	}
	check := func(want series) {
		t.Helper()
		got := l.metrics(t)
		for name, v := range want {
			if got["networkproxy_"+name] != v {
				t.Errorf("%s %v, want %v", name, got["networkproxy_"+name], v)
			}
		}
	}
	check(series{"tunnels": 2, "connections": 2, "sessions": 1, "grants": 1, "policy_generation": 1, `reloads_total{result="ok"}`: 0})

	session.Close()
	s.fail(errors.New("no"))
	if l.Reload(t.Context()) == nil {
		t.Error("a reload without a configuration")
	}
	s.fail(nil)
	s.set(func(c *networkproxy.Config) { c.Policy.DeniedDomains = []string{"tunnel.example"} })
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := checkClosed(tunnel); err != nil {
		t.Error(err)
	}
	eventually(t, "the tunnel is gone", func() bool { return l.metric(t, "networkproxy_tunnels") == 1 })
	check(series{
		"sessions": 0, "connections_cut_total": 1, "policy_generation": 2, "blocked_total": 0,
		`reloads_total{result="ok"}`: 1, `reloads_total{result="failed"}`: 1,
		`tunnel_bytes_total{direction="sent"}`: 4, `tunnel_bytes_total{direction="received"}`: 4,
	})
	info := 0
	for name, v := range l.metrics(t) {
		if strings.HasPrefix(name, `networkproxy_build_info{version="`) && strings.Contains(name, `goversion="go1.`) && v == 1 {
			info++
		}
	}
	if info != 1 {
		t.Error("no build info")
	}
	if a := l.adminRaw(t, "HEAD", "/metrics", ""); a.StatusCode != 200 || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("HEAD: got %s %v", a.Status, a.Header)
	}
}

// TestMetricsKnowEveryReason: one that is new to the policy and not to the
// metrics would be counted as "other".
func TestMetricsKnowEveryReason(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("internal/policy/vocabulary.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\tReason\w+ +Reason = "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	if len(found) < 15 {
		t.Fatalf("found %d reasons in vocabulary.go", len(found))
	}
	for _, m := range found {
		if reason := m[1]; reason != "policy_denied" && !networkproxy.CountsReason(networkproxy.Reason(reason)) {
			t.Errorf("%s is not in countedReasons", reason)
		}
	}
}

// The account costs a request neither a lock nor memory.
func TestCountingAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, networkproxy.CountOne()); n != 0 {
		t.Errorf("%v allocations to count a request", n)
	}
}
