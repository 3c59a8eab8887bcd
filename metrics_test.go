// Tests of GET /metrics: the format, and that each request is counted once.

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

// series has the values of the samples of /metrics, by their names with labels.
type series map[string]float64

// metrics returns the samples of /metrics after checking the format.
func (l *lab) metrics(t testing.TB) series {
	t.Helper()
	a := l.adminRaw(t, "GET", "/metrics", "")
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Fatalf("/metrics: got status %s and Content-Type %q", a.Status, a.Header.Get("Content-Type"))
	}
	samples, err := parseExposition(a.body)
	if err != nil {
		t.Fatalf("%v in\n%s", err, a.body)
	}
	return samples
}

// metric returns the value of a sample.
func (l *lab) metric(t testing.TB, name string) float64 {
	t.Helper()
	v, ok := l.metrics(t)[name]
	if !ok {
		t.Errorf("/metrics has no %s", name)
	}
	return v
}

// requests returns the number of counted requests that have all the labels.
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

// parseExposition parses Prometheus' text format, version 0.0.4, without
// histograms and time stamps. It is strict: each family has HELP, then TYPE, then
// its samples, each once.
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
				return nil, fmt.Errorf("%q: a repeated family, or no help text", line)
			}
			families[family], kind, count = true, "", 0
		case strings.HasPrefix(line, "# TYPE "):
			of, k, _ := strings.Cut(line[len("# TYPE "):], " ")
			if of != family || kind != "" || k != "counter" && k != "gauge" || (k == "counter") != strings.HasSuffix(of, "_total") {
				return nil, fmt.Errorf("%q: an unexpected TYPE", line)
			}
			kind = k
		default:
			m := sampleLine.FindStringSubmatch(line)
			if m == nil || m[1] != family || kind == "" {
				return nil, fmt.Errorf("%q is not a sample of %s", line, family)
			}
			v, err := strconv.ParseFloat(m[3], 64)
			if _, twice := samples[m[1]+m[2]]; err != nil || twice || v < 0 {
				return nil, fmt.Errorf("%q: a repeated sample, or an invalid value: %v", line, err)
			}
			samples[m[1]+m[2]] = v
			count++
		}
	}
	if len(samples) == 0 || count == 0 {
		return nil, errors.New("no samples")
	}
	return samples, lines.Err()
}

// TestMetricsCountEveryRequestOnce makes a known number of requests with each
// protocol and each outcome.
func TestMetricsCountEveryRequestOnce(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow("*.example")), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			switch r.Host {
			case "deny.test":
				return networkproxy.Deny("not_allowed"), nil // a reason that the proxy has, too
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
	l.scripted("o.example", emptyResponse)

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
	http("GET", "http://o.example/", 200, "Connection: Upgrade", "Upgrade: x") // the origin server ignores the upgrade
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
	for _, target := range []string{"tunnel.example:443", "tunnel.example:443", "tunnel.example:443", "other.test:443"} { // the decider allows the last one
		want++
		w := l.connectRaw(t, target)
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
			t.Errorf("SOCKS5 command %d to % x: got the reply %d, want %d", command, dst, got, code)
		}
		conn.Close()
	}
	socks(socksConnect, socksDestName("tunnel.example", 443), 0)
	socks(socksConnect, socksDestName("free.test", 443), 2)
	socks(socksConnect, socksDestName("gone.example", 443), 4)
	socks(socksConnect, socksDestName("closed.example", 444), 5)
	socks(socksConnect, socksDestName("a..b", 443), 2)
	socks(socksBind, socksDestName("tunnel.example", 443), 7)
	u := l.associate() // not a request itself, unlike its flows
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
		t.Errorf("got %v allowed + %v refused + %v failed, want %d in all", allowed, refused, failed, want)
	}
	if allowed != 8 || refused != 14 || failed != 7 {
		t.Errorf("got %v allowed, %v refused, %v failed, want 8, 14, 7", allowed, refused, failed)
	}
	h := l.health(t)
	if float64(h.Allowed) != allowed || float64(h.Refused) != refused || float64(h.Failed) != failed {
		t.Errorf("/health differs from /metrics: %+v", h)
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
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
	for _, w := range tunnels {
		w.Close()
	}
	u.control.Close()
	eventually(t, "no client is left", func() bool { return l.health(t).Connections == 0 })
	if n := l.metrics(t).requests(); n != float64(want) {
		t.Errorf("got %v requests after the tunnels ended, want %d", n, want)
	}
	for name := range got {
		if strings.Contains(name, "words") || strings.Contains(name, `reason="not_allowed"`) {
			t.Errorf("a label contains a reason of the decider: %s", name)
		}
	}
}

// TestMetricsGauges checks the metrics of open connections, and of the policy.
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
	tunnel := l.connectRaw(t, "tunnel.example:443")
	if err := errors.Join(echoes(tunnel), echoes(l.connectRaw(t, "granted.test:443"))); err != nil {
		t.Fatal(err)
	}
	check := func(want series) {
		t.Helper()
		got := l.metrics(t)
		for name, v := range want {
			if got["networkproxy_"+name] != v {
				t.Errorf("%s: got %v, want %v", name, got["networkproxy_"+name], v)
			}
		}
	}
	check(series{"tunnels": 2, "connections": 2, "sessions": 1, "grants": 1, "policy_generation": 1, `reloads_total{result="ok"}`: 0})

	session.Close()
	s.fail(errors.New("no"))
	if l.Reload(t.Context()) == nil {
		t.Error("a reload whose source fails: got no error")
	}
	s.fail(nil)
	s.set(func(c *networkproxy.Config) { c.Policy.DeniedDomains = []string{"tunnel.example"} })
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := checkClosed(tunnel); err != nil {
		t.Error(err)
	}
	eventually(t, "the tunnel is closed", func() bool { return l.metric(t, "networkproxy_tunnels") == 1 })
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
		t.Errorf("got %d samples of build_info, want 1", info)
	}
	if a := l.adminRaw(t, "HEAD", "/metrics", ""); a.StatusCode != 200 || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("HEAD: got %s %v", a.Status, a.Header)
	}
}

// TestMetricsKnowEveryReason checks that each reason of the policy is counted as
// itself and not as "other".
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
			t.Errorf("%s is not in audit.Reasons", reason)
		}
	}
}

// TestCountingAllocatesNothing checks that counting a request does not allocate.
func TestCountingAllocatesNothing(t *testing.T) {
	if n := allocations(networkproxy.CountOne()); n != 0 {
		t.Errorf("counting a request allocates %v times", n)
	}
}
