// The table of verdicts: the spellings of targets that somebody might try, with the
// verdicts of the policy. It is data, so that every path into the proxy is tested
// with it. Targets whose verdict depends on no list are in networkproxytest.

package networkproxy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
	"example.com/networkproxy/networkproxytest"
)

// outcome is the outcome of one request. The zero value means that it reached its
// target.
type outcome struct {
	reason networkproxy.Reason
	source networkproxy.Source
	rule   string // the entry that refused
}

var (
	passes    = outcome{}
	malformed = outcome{reason: networkproxy.ReasonInvalidTarget}
	miss      = outcome{reason: networkproxy.ReasonNotAllowed, source: networkproxy.SourceBaselinePolicy}
	local     = outcome{reason: networkproxy.ReasonNotAllowedLocal, source: networkproxy.SourceBaselinePolicy}
	asked     = outcome{reason: "asked"} // the decider is asked, and allows it
)

func denied(rule string) outcome {
	return outcome{reason: networkproxy.ReasonDenied, source: networkproxy.SourceBaselinePolicy, rule: rule}
}

// verdictCase is one row of a table. The target may have placeholders of
// networkproxytest.ExpandTarget.
type verdictCase struct {
	target string
	want   outcome
}

// verdictTable has a configuration and its verdicts.
type verdictTable struct {
	name   string
	config func() networkproxy.Config
	names  map[string]testnet.Answer // the only names that may be looked up
	asks   bool                      // there is a decider, which allows everything
	cases  []verdictCase
}

// path sends a target to the proxy through one of its listeners or functions.
type path struct {
	name string
	send func(l *verdictLab, t *testing.T, target string) outcome
}

// inexpressible means that the path's protocol cannot express the target.
var inexpressible = outcome{reason: "inexpressible"}

var paths = []path{
	{"http", func(l *verdictLab, t *testing.T, target string) outcome { return l.overHTTP(t, l.HTTPAddr(), target) }},
	{"connect", func(l *verdictLab, t *testing.T, target string) outcome {
		return l.overConnect(t, l.HTTPAddr(), target)
	}},
	{"session http", func(l *verdictLab, t *testing.T, target string) outcome {
		return l.overHTTP(t, l.session(t).HTTPAddr(), target)
	}},
	{"session connect", func(l *verdictLab, t *testing.T, target string) outcome {
		return l.overConnect(t, l.session(t).HTTPAddr(), target)
	}},
	{"socks5 tcp", (*verdictLab).overSOCKS},
	{"socks5 udp", (*verdictLab).overUDP},
	{"explain http", func(l *verdictLab, t *testing.T, target string) outcome { return l.explained(t, l, "http://"+target) }},
	{"explain connect", func(l *verdictLab, t *testing.T, target string) outcome { return l.explained(t, l, target) }},
	{"check http", func(l *verdictLab, t *testing.T, target string) outcome {
		return l.explained(t, l.unstarted(t), "http://"+target)
	}},
	{"check connect", func(l *verdictLab, t *testing.T, target string) outcome {
		return l.explained(t, l.unstarted(t), target)
	}},
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	rows := 0
	for _, table := range verdictTables {
		rows += len(table.cases)
		t.Run(table.name, func(t *testing.T) {
			t.Parallel()
			for way, p := range paths {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					runVerdicts(t, table, p, way)
				})
			}
		})
	}
	if rows < 150 {
		t.Errorf("the tables have only %d rows", rows)
	}
}

// runVerdicts tests one path, the way-th, with one table.
func runVerdicts(t *testing.T, table verdictTable, p path, way int) {
	l := newVerdictLab(t, table)
	tried, chosen := 0, 0
	for row, c := range table.cases {
		if !testnet.Chosen(row, way, 4) {
			continue
		}
		chosen++
		target := l.expand(c.target)
		got := p.send(l, t, target)
		if got == inexpressible {
			continue
		}
		tried++
		if got != c.want {
			t.Errorf("%q: got %+v, want %+v", target, got, c.want)
		}
	}
	if tried < chosen*3/4 && !testing.Short() {
		t.Errorf("only %d of %d targets were tried", tried, chosen)
	}
	for _, name := range l.dns.Queries() {
		if _, ok := table.names[name]; !ok {
			t.Errorf("looked up %q, which the policy does not allow", name)
		}
	}
}

// verdictLab is a lab in which every address leads to one web server.
type verdictLab struct {
	*lab
	opened *networkproxy.Session
	built  *networkproxy.NetworkProxy
	asks   bool

	mu       sync.Mutex
	refusals []networkproxy.BlockedRequest
	asked    bool // the decider was asked since the last passed
}

// decide is the decider of tables that ask.
func (l *verdictLab) decide(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = true
	return networkproxy.Allow(), nil
}

// passed returns the outcome of a request that reached its target.
func (l *verdictLab) passed() outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked {
		l.asked = false
		return asked
	}
	return passes
}

// session returns the lab's session.
func (l *verdictLab) session(t *testing.T) *networkproxy.Session {
	t.Helper()
	if l.opened == nil {
		var err error
		if l.opened, err = l.OpenSession(t.Context(), networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "make"}}); err != nil {
			t.Fatal(err)
		}
	}
	return l.opened
}

func newVerdictLab(t *testing.T, table verdictTable) *verdictLab {
	l := &verdictLab{asks: table.asks}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "reached") }))
	t.Cleanup(origin.Close)
	echo := testnet.EchoUDP(t, "127.0.0.1")
	l.lab = start(t, withSOCKS(table.config()), func(b *networkproxy.Builder) {
		networkproxy.SetConnectUDP(b, func(context.Context, netip.AddrPort) (*net.UDPConn, error) {
			return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(echo))
		})
		networkproxy.SetConnect(b, func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
			var d net.Dialer
			return d.DialTCP(ctx, "tcp", netip.AddrPort{}, origin.Listener.Addr().(*net.TCPAddr).AddrPort())
		})
		if l.asks {
			b.PolicyDecider(l.decide)
		}
		b.OnBlocked(func(r networkproxy.BlockedRequest) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.refusals = append(l.refusals, r)
		})
	})
	for name, answer := range table.names {
		l.dns.Set(name, answer)
	}
	return l
}

func (l *verdictLab) expand(target string) string {
	return networkproxytest.ExpandTarget(target, l.Handle)
}

// recorded returns the refusals since the last call.
func (l *verdictLab) recorded() []networkproxy.BlockedRequest {
	networkproxy.FlushOnBlocked(l.Handle)
	l.mu.Lock()
	defer l.mu.Unlock()
	refusals := l.refusals
	l.refusals = nil
	return refusals
}

func (l *verdictLab) anyRecorded() bool {
	networkproxy.FlushOnBlocked(l.Handle)
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.refusals) > 0
}

func (l *verdictLab) overHTTP(t *testing.T, addr, target string) outcome {
	w := dialRaw(t, addr)
	defer w.Close()
	// The policy allows the Host field, which must not count.
	w.send("GET http://" + target + "/ HTTP/1.1\r\nHost: allowed.example\r\nConnection: close\r\n\r\n")
	a := w.readResponse("GET")
	got := l.outcome(t, target, a)
	if a.StatusCode == http.StatusForbidden {
		f := a.refusal(t)
		if inBody := (outcome{networkproxy.Reason(f.Reason), networkproxy.Source(f.Source), f.Rule}); inBody != got {
			t.Errorf("%q: the response has %+v, the record %+v", target, inBody, got)
		}
	}
	return got
}

func (l *verdictLab) overConnect(t *testing.T, addr, target string) outcome {
	w := dialRaw(t, addr)
	defer w.Close()
	w.send("CONNECT " + target + " HTTP/1.1\r\nHost: allowed.example\r\n\r\n")
	a := rawResponse{Response: w.readHeader("CONNECT")}
	return l.outcome(t, target, a)
}

// outcome returns the outcome of a response. That of a refusal is taken from its
// record.
func (l *verdictLab) outcome(t *testing.T, target string, a rawResponse) outcome {
	t.Helper()
	refusals := l.recorded()
	switch {
	case a.StatusCode == http.StatusOK && len(refusals) == 0:
		return l.passed()
	case a.StatusCode == http.StatusBadRequest && len(refusals) == 0:
		return malformed
	case a.StatusCode == http.StatusForbidden && len(refusals) == 1:
		r := refusals[0]
		if got, want := a.Header.Get("x-proxy-error"), errorTokens[r.Reason]; got != want {
			t.Errorf("%q: got x-proxy-error %q, want %q", target, got, want)
		}
		return outcome{r.Reason, r.Source, r.Rule.Pattern}
	}
	t.Errorf("%q: got %s %q and %d records", target, a.Status, a.body, len(refusals))
	return outcome{reason: "?"}
}

// socksDestination encodes a target for SOCKS5. It reports false if SOCKS5 cannot
// express the target.
func socksDestination(target string) ([]byte, bool) {
	i := strings.LastIndexByte(target, ':')
	if i < 0 {
		return nil, false
	}
	host, text := target[:i], target[i+1:]
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || strconv.FormatUint(port, 10) != text || len(host) > 255 {
		return nil, false
	}
	if strings.Contains(host, ":") {
		host = strings.Replace(host, "%25", "%", 1) // escaped in URIs only
		inner, ok := strings.CutPrefix(host, "[")
		inner, closed := strings.CutSuffix(inner, "]")
		if !ok || !closed {
			return nil, false // another host without the brackets
		}
		host = inner
	}
	return socksDest(host, uint16(port)), true
}

func (l *verdictLab) overSOCKS(t *testing.T, target string) outcome {
	destination, ok := socksDestination(target)
	if !ok {
		return inexpressible
	}
	conn := dialSOCKS(t, l.SOCKSAddr())
	defer conn.Close()
	code, _, err := socksRequest(conn, socksConnect, destination)
	if err != nil {
		t.Errorf("%q: %v", target, err)
		return outcome{reason: "?"}
	}
	return l.withoutHTTP(t, target, code == 0, code == 2)
}

func (l *verdictLab) overUDP(t *testing.T, target string) outcome {
	destination, ok := socksDestination(target)
	if !ok {
		return inexpressible
	}
	before, dropped := l.healthCounts(), l.Dropped()
	u := l.associate()
	defer u.conn.Close()
	defer u.control.Close()
	u.send(destination, "ping")
	passed, refused := false, false
	eventually(t, "the datagram is counted", func() bool {
		passed = l.healthCounts().Allowed > before.Allowed
		// A refusal is recorded after its drop is counted.
		refused = l.Dropped()["malformed"] > dropped["malformed"] || l.anyRecorded()
		return passed || refused
	})
	return l.withoutHTTP(t, target, passed, refused)
}

// withoutHTTP returns the outcome on a path whose replies have no reason.
func (l *verdictLab) withoutHTTP(t *testing.T, target string, passed, refused bool) outcome {
	t.Helper()
	switch refusals := l.recorded(); {
	case passed && len(refusals) == 0:
		return l.passed()
	case refused && len(refusals) == 0:
		return malformed
	case refused && len(refusals) == 1:
		return outcome{refusals[0].Reason, refusals[0].Source, refusals[0].Rule.Pattern}
	default:
		t.Errorf("%q: got passed %t, refused %t and %d records", target, passed, refused, len(refusals))
		return outcome{reason: "?"}
	}
}

var errorTokens = map[networkproxy.Reason]string{
	networkproxy.ReasonNotAllowed:       "blocked-by-allowlist",
	networkproxy.ReasonNotAllowedLocal:  "blocked-by-allowlist",
	networkproxy.ReasonDenied:           "blocked-by-denylist",
	networkproxy.ReasonMethodNotAllowed: "blocked-by-method-policy",
}

// explainer is a running proxy or, as for the check command, one that does not run.
type explainer interface {
	ExplainURL(ctx context.Context, url, method string, resolve bool) (networkproxy.Explanation, error)
}

// unstarted returns a proxy with the same configuration and addresses that does not
// run.
func (l *verdictLab) unstarted(t *testing.T) *networkproxy.NetworkProxy {
	t.Helper()
	if l.built == nil {
		b := networkproxy.NewBuilder().Config(l.Config()).Resolver(l.dns).
			HTTPAddr(l.HTTPAddr()).AdminAddr(l.AdminAddr()).SOCKSAddr(l.SOCKSAddr())
		if l.asks {
			b.PolicyDecider(l.decide)
		}
		var err error
		l.built, err = b.Build()
		if err != nil {
			t.Fatal(err)
		}
	}
	return l.built
}

func (l *verdictLab) explained(t *testing.T, by explainer, url string) outcome {
	x, err := by.ExplainURL(t.Context(), url, "", true)
	if err != nil {
		t.Errorf("%q: %v", url, err)
	}
	switch {
	case x.Allowed:
		return passes
	case x.Decider:
		return asked
	}
	return outcome{x.Reason, x.Source, x.Rule.Pattern}
}

// verdictTables has the tables for every path.
var verdictTables = []verdictTable{
	{
		name: "listed",
		config: func() networkproxy.Config {
			c := allow("allowed.example", "*.wild.example", "**.apex.example", "port.example:8443", "region*.v2.example",
				"93.184.216.34", "[2606:4700::1111]", "8.8.0.0/16", "[2606:4700:10::/48]:443",
				"127.0.0.1:9000", "localhost:9001", "[::1]:9002", "10.1.0.0/16", "127.0.0.9",
				"bücher.example", "under_score.example", "-hyphens-.example",
				"private.example", "loopback.example", "loopback6.example", "mapped.example", "compatible.example", "nat64.example",
				"nat64-local.example", "sixtofour.example", "linklocal.example", "metadata.example", "zero.example", "shared.example",
				"ula.example", "multicast.example", "isatap.example", "mixed.example", "mixed6.example", "listed-private.example",
				"denied-addr.example", "denied-mixed.example", "denied-nat64.example", "dual.example")
			c.Policy.DeniedDomains = []string{"denied.example", "**.tracker.example", "bad.wild.example", "only-port.example:25",
				"8.8.4.4", "45.33.0.0/16", "2a01:4f8::/32", "127.0.0.9"}
			return c
		},
		names: map[string]testnet.Answer{
			"allowed.example":        testnet.Addrs(publicAddr),
			"a.wild.example":         testnet.Addrs(publicAddr),
			"a.b.wild.example":       testnet.Addrs(publicAddr),
			"x.bad.wild.example":     testnet.Addrs(publicAddr),
			"apex.example":           testnet.Addrs(publicAddr),
			"x.apex.example":         testnet.Addrs(publicAddr),
			"port.example":           testnet.Addrs(publicAddr),
			"region.v2.example":      testnet.Addrs(publicAddr),
			"region-7.v2.example":    testnet.Addrs(publicAddr),
			"xn--bcher-kva.example":  testnet.Addrs(publicAddr),
			"-hyphens-.example":      testnet.Addrs(publicAddr),
			"-.wild.example":         testnet.Addrs(publicAddr),
			"under_score.example":    testnet.Addrs(publicAddr),
			"dual.example":           testnet.Addrs(publicAddr, "2606:4700::2"),
			"private.example":        testnet.Addrs("192.168.7.7"),
			"loopback.example":       testnet.Addrs("127.0.0.1"),
			"loopback6.example":      testnet.Addrs("::1"),
			"mapped.example":         testnet.Addrs("::ffff:127.0.0.1"),
			"compatible.example":     testnet.Addrs("::127.0.0.1"),
			"nat64.example":          testnet.Addrs("64:ff9b::10.0.0.1"),
			"nat64-local.example":    testnet.Addrs("64:ff9b:1::808:808"),
			"sixtofour.example":      testnet.Addrs("2002:7f00:1::"),
			"linklocal.example":      testnet.Addrs("fe80::1"),
			"metadata.example":       testnet.Addrs("169.254.169.254"),
			"zero.example":           testnet.Addrs("0.0.0.0"),
			"shared.example":         testnet.Addrs("100.100.100.200"),
			"ula.example":            testnet.Addrs("fd00:ec2::254"),
			"multicast.example":      testnet.Addrs("224.0.0.251"),
			"isatap.example":         testnet.Addrs("2606:4700::5efe:10.0.0.1"),
			"mixed.example":          testnet.Addrs(publicAddr, "10.0.0.1"),
			"mixed6.example":         testnet.Addrs(publicAddr, "fd00::1"),
			"listed-private.example": testnet.Addrs("10.1.2.3"),
			"denied-addr.example":    testnet.Addrs("45.33.1.1"),
			"denied-mixed.example":   testnet.Addrs(publicAddr, "8.8.4.4"),
			"denied-nat64.example":   testnet.Addrs("64:ff9b::8.8.4.4"),
		},
		cases: slices.Concat(malformedCases, localCases, listedCases),
	},
	{
		// A single "*" allows everything public and nothing local.
		name: "everything public",
		config: func() networkproxy.Config {
			c := allow("*")
			c.Policy.DeniedDomains = []string{"8.8.4.0/24", "**.denied.example", "2001:4860::/32", "1.1.1.1:25"}
			return c
		},
		names: map[string]testnet.Answer{
			"any.example":           testnet.Addrs(publicAddr),
			"private.example":       testnet.Addrs("192.168.7.7"),
			"denied-6to4.example":   testnet.Addrs("2002:808:404::1"),
			"localhost.example":     testnet.Addrs("127.0.0.1"),
			"localhost.localdomain": testnet.Addrs("127.0.0.1"),
		},
		cases: slices.Concat(localCases, []verdictCase{
			{"any.example:1", passes},
			{"1.1.1.1:443", passes},
			{"1.1.1.1:25", denied("1.1.1.1:25")},
			{"[2606:4700::1]:443", passes},
			{"[64:ff9b::8.8.8.8]:443", passes},
			{"[2002:808:808::1]:443", passes},
			// One address, four spellings, one denylist.
			{"8.8.4.4:443", denied("8.8.4.0/24")},
			{"[::ffff:8.8.4.4]:443", denied("8.8.4.0/24")},
			{"[64:ff9b::8.8.4.4]:443", denied("8.8.4.0/24")},
			{"[2002:808:404::1]:443", denied("8.8.4.0/24")},
			{"[2606:4700::5efe:8.8.4.4]:443", denied("8.8.4.0/24")},
			{"[64:ff9b::1.1.1.1]:25", denied("1.1.1.1:25")},
			{"denied-6to4.example:443", denied("8.8.4.0/24")},
			{"[2001:4860:4860::8888]:53", denied("2001:4860::/32")},
			{"denied.example:80", denied("**.denied.example")},
			{"x.DENIED.example.:80", denied("**.denied.example")},
			{"private.example:80", local},
			{"localhost.example:80", local},
			{"localhost.localdomain:80", local},
			{"127.0.0.1:9000", local},
			{"localhost:9001", local},
		}),
	},
	{
		// An entry without a zone matches every zone, and one with a zone matches
		// that zone. The name and the number of an interface are the same zone.
		name: "zones",
		config: func() networkproxy.Config {
			c := allow("fe80::1", "fe80::2%eth0", "[fe80::2%25eth1]:8080", "fe80::3%"+loopbackName, "fe80::4", "fe80::5", "fe80::6%eth0", "*")
			c.Policy.DeniedDomains = []string{"fe80::4%eth0", "fe80::5", "fe80::4%" + loopbackNumber, "fe80::6/127"}
			return c
		},
		cases: []verdictCase{
			{"[fe80::1]:80", passes},
			{"[fe80::1%25eth0]:80", passes},
			{"[fe80::1%25eth1]:443", passes},
			{"[FE80:0::1%25eth0]:80", passes},
			{"[fe80::2%25eth0]:80", passes},
			{"[fe80::2]:80", local},
			{"[fe80::2%25eth1]:80", local},
			{"[fe80::2%25eth1]:8080", passes},
			{"[fe80::2%25ETH0]:80", local},
			{"[fe80::3%25" + loopbackName + "]:80", passes},
			{"[fe80::3%25" + loopbackNumber + "]:80", passes},
			{"[fe80::3%25nosuch0]:80", local},
			{"[fe80::4]:80", passes},
			{"[fe80::4%25eth1]:80", passes},
			{"[fe80::4%25eth0]:80", denied("fe80::4%eth0")},
			{"[fe80::4%25" + loopbackName + "]:80", denied("fe80::4%" + loopbackNumber)},
			{"[fe80::5]:80", denied("fe80::5")},
			{"[fe80::5%25eth0]:80", denied("fe80::5")},
			{"[fe80:0:0::5%25nosuch0]:80", denied("fe80::5")},
			{"[fe80::6%25eth0]:80", denied("fe80::6/127")},
			{"[fe80::7%25localhost]:80", denied("fe80::6/127")},
			{"[fe80::9%25eth0]:80", local},
			{"[ff02::1%25eth0]:80", local},
			// Outside of the link-local scope, zones have no meaning.
			{"[2606:4700::1%25eth0]:80", passes},
			{"[::1%25eth0]:80", local},
			{"[fd00::1%25eth0]:80", local},
		},
	},
	{
		// With ask_local, the decider is asked about loopback, and about nothing
		// else that is local.
		name: "ask local",
		config: func() networkproxy.Config {
			c := allow("*", "localhost:9001", "127.0.0.1:9000")
			c.Policy.AskLocal = true
			c.Policy.DeniedDomains = []string{"127.0.0.9", "localhost:7777", "::1"}
			return c
		},
		names: map[string]testnet.Answer{
			"any.example":        testnet.Addrs(publicAddr),
			"private.example":    testnet.Addrs("192.168.7.7"),
			"loopback.example":   testnet.Addrs("127.0.0.1"),
			"loopback6.example":  testnet.Addrs("::1"),
			"mapped.example":     testnet.Addrs("::ffff:127.0.0.1"),
			"mixed.example":      testnet.Addrs(publicAddr, "127.0.0.1"),
			"localhost.example":  testnet.Addrs("127.0.0.1"),
			"denied-own.example": testnet.Addrs("127.0.0.9"),
		},
		asks: true,
		cases: slices.Concat(malformedCases, []verdictCase{
			{"127.0.0.1:80", asked},
			{"127.0.0.2:80", asked},
			{"127.255.255.254:65535", asked},
			{"[::ffff:127.0.0.1]:80", asked},
			{"[::ffff:7f00:1]:80", asked},
			{"[::ffff:127.0.0.1%25lo]:80", asked},
			{"[0:0:0:0:0:ffff:7f00:0001]:80", asked},
			{"127.0.0.1:9001", asked}, // listed for another port or spelling
			{"127.0.0.1:9000", passes},

			{"any.example:80", passes},
			{"127.0.0.9:80", denied("127.0.0.9")},
			{"[::ffff:127.0.0.9]:80", denied("127.0.0.9")},
			{"[64:ff9b::127.0.0.9]:80", denied("127.0.0.9")},
			{"[::1]:80", denied("::1")},
			{"[0:0:0:0:0:0:0:1]:80", denied("::1")},
			{"[::1%25lo]:80", denied("::1")},
			{"localhost:7777", denied("localhost:7777")},
			{"LOCALHOST.:7777", denied("localhost:7777")},

			// A name does not become loopback by its addresses.
			{"loopback.example:80", local},
			{"loopback6.example:80", local},
			{"mapped.example:80", local},
			{"mixed.example:80", local},
			{"localhost.example:80", local},
			{"denied-own.example:80", local},
			{"private.example:80", local},

			{"0.0.0.0:80", local},
			{"0.1.2.3:80", local},
			{"[::]:80", local},
			{"[::2]:80", local},
			{"[::ffff:0.0.0.0]:80", local},
			{"[::127.0.0.1]:80", local},
			{"[::7f00:1]:80", local},
			{"[::ffff:0:127.0.0.1]:80", local},
			{"[64:ff9b::127.0.0.1]:80", local},
			{"[64:ff9b:1::127.0.0.1]:80", local},
			{"[2002:7f00:1::]:80", local},
			{"[2606:4700::5efe:127.0.0.1]:80", local},
			{"128.0.0.1:80", passes},
			{"126.255.255.255:80", passes},
			{"10.0.0.1:80", local},
			{"172.16.0.1:80", local},
			{"192.168.1.1:80", local},
			{"169.254.169.254:80", local},
			{"100.64.0.1:80", local},
			{"224.0.0.1:80", local},
			{"255.255.255.255:80", local},
			{"[fe80::1]:80", local},
			{"[fe80::1%25lo]:80", local},
			{"[fd00::1]:80", local},
			{"[ff01::1]:80", local},

			{"127.0.0.1:{http}", local},
			{"127.0.0.1:{admin}", local},
			{"127.0.0.1:{socks}", local},
			{"127.0.0.2:{http}", local},
			{"127.0.0.9:{admin}", local}, // before the denylist
			{"127.255.255.254:{admin}", local},
			{"localhost:{http}", local},
			{"LOCALHOST.:{admin}", local},
			{"admin.localhost:{admin}", local},
			{"[::1]:{http}", local},
			{"[::1%25lo]:{socks}", local},
			{"[::]:{admin}", local},
			{"0.0.0.0:{admin}", local},
			{"[::ffff:127.0.0.1]:{admin}", local},
			{"{self}:{http}", local},
			{"loopback.example:{admin}", local},
		}),
	},
	{
		name: "ask local, names",
		config: func() networkproxy.Config {
			c := allow("localhost:9001")
			c.Policy.AskLocal = true
			return c
		},
		names: map[string]testnet.Answer{"other.example": testnet.Addrs(publicAddr)},
		asks:  true,
		cases: []verdictCase{
			{"localhost:80", asked},
			{"LOCALHOST:80", asked},
			{"LocalHost.:80", asked},
			{"a.localhost:80", asked},
			{"a.b.LOCALHOST.:80", asked},
			{"ｌｏｃａｌｈｏｓｔ:80", asked},
			{"localhost。:80", asked},
			{"_x.localhost:443", asked},
			{"a.localhost:9001", asked},
			{"127.0.0.1:9001", asked},
			{"[::1]:80", asked},
			{"[0000:0000:0000:0000:0000:0000:0000:0001]:80", asked},
			{"[::1%25lo]:9001", asked},
			{"localhost:9001", passes},
			{"other.example:80", asked},
			{"localhost..:80", malformed},
			{".localhost:80", malformed},
			{"127.0.0.1.:80", malformed},
		},
	},
	{
		// With allow_local_binding, only the proxy itself and denied targets are
		// refused.
		name: "local binding",
		config: func() networkproxy.Config {
			c := allow("*")
			c.Policy.AllowLocalBinding = true
			c.Policy.DeniedDomains = []string{"10.9.0.0/16", "127.0.0.1", "localhost:7777"}
			return c
		},
		names: map[string]testnet.Answer{
			"private.example":    testnet.Addrs("192.168.7.7"),
			"loopback.example":   testnet.Addrs("127.0.0.2"),
			"self.example":       testnet.Addrs(publicAddr, "::1"),
			"mapped.example":     testnet.Addrs("::ffff:127.0.0.1"),
			"denied.example":     testnet.Addrs("10.9.1.1"),
			"denied-own.example": testnet.Addrs("127.0.0.1"),
		},
		cases: []verdictCase{
			{"127.0.0.1:{http}", local}, // before the denylist
			{"127.0.0.1:{admin}", local},
			{"127.0.0.2:{http}", local},
			{"127.255.255.254:{admin}", local},
			{"0.0.0.0:{http}", local},
			{"0.0.0.0:{admin}", local},
			{"localhost:{http}", local},
			{"LOCALHOST.:{admin}", local},
			{"admin.localhost:{admin}", local},
			{"[::1]:{http}", local},
			{"[::]:{admin}", local},
			{"[::ffff:127.0.0.1]:{admin}", local},
			{"[::ffff:7f00:1]:{http}", local},
			{"[::ffff:0.0.0.0]:{http}", local},
			{"[::1%25lo]:{http}", local},
			{"[0:0:0:0:0:0:0:1]:{admin}", local},
			{"[::127.0.0.1]:{admin}", local},
			{"[64:ff9b::127.0.0.1]:{admin}", local},
			{"[2002:7f00:1::]:{admin}", local},
			{"127.0.0.1:{socks}", local},
			{"self.example:{socks}", local},
			{"{self}:{http}", local},
			{"{self}:{admin}", local},
			{"[::ffff:{self}]:{admin}", local},
			{"loopback.example:{admin}", local},
			{"self.example:{http}", local},
			{"mapped.example:{admin}", local},
			{"denied-own.example:{http}", local},

			{"192.168.0.1:{http}", passes},
			{"private.example:{http}", passes},
			{"127.0.0.2:9", passes},
			{"[::1]:9", passes},
			{"10.0.0.1:80", passes},
			{"loopback.example:80", passes},
			{"self.example:80", passes},

			{"127.0.0.1:9", denied("127.0.0.1")},
			{"[::ffff:127.0.0.1]:9", denied("127.0.0.1")},
			{"[64:ff9b::127.0.0.1]:9", denied("127.0.0.1")},
			{"localhost:9", denied("127.0.0.1")}, // because of its address
			{"localhost:7777", denied("localhost:7777")},
			{"mapped.example:9", denied("127.0.0.1")},
			{"10.9.0.1:80", denied("10.9.0.0/16")},
			{"denied.example:80", denied("10.9.0.0/16")},
			{"[::10.9.0.1]:80", denied("10.9.0.0/16")},
		},
	},
}

// malformedCases and localCases are the corpus of the conformance kit, with which
// hosts test their own embeddings.
var (
	malformedCases = refusedAs(malformed, networkproxytest.MalformedTargets()...)
	localCases     = refusedAs(local, networkproxytest.LocalTargets()...)
)

// listedCases has the verdicts that depend on the lists of the table "listed".
var listedCases = []verdictCase{
	{"allowed.example:80", passes},
	{"allowed.example:65535", passes},
	{"ALLOWED.Example:443", passes},
	{"allowed.example.:443", passes},
	{"ａｌｌｏｗｅｄ.example:80", passes},
	{"allowed。example:80", passes},
	{"allo\u00adwed.example:80", passes}, // a soft hyphen is ignored
	{"a.wild.example:80", passes},
	{"a.b.wild.example:80", passes},
	{"-allowed.example:80", miss},
	{"allowed-.example:80", miss},
	{"-hyphens-.example:80", passes},
	{"-HYPHENS-.example.:80", passes},
	{"-.wild.example:80", passes},
	{"hyphens.example:80", miss},
	{"wild.example:80", miss},
	{"evilwild.example:80", miss},
	{"a.wild.example.other.example:80", miss},
	{"apex.example:80", passes},
	{"x.apex.example:80", passes},
	{"xapex.example:80", miss},
	{"port.example:8443", passes},
	{"port.example:8444", miss},
	{"port.example:443", miss},
	{"region.v2.example:80", passes},
	{"region-7.v2.example:80", passes},
	{"region.1.v2.example:80", miss},
	{"xregion1.v2.example:80", miss},
	{"bücher.example:80", passes},
	{"BÜCHER.example:80", passes},
	{"bu\u0308cher.example:80", passes}, // the same in combining characters
	{"xn--bcher-kva.example:80", passes},
	{"XN--BCHER-KVA.example:80", passes},
	{"bucher.example:80", miss},
	{"under_score.example:80", passes},
	{"dual.example:80", passes},
	{"93.184.216.34:1", passes},
	{"93.184.216.35:1", miss},
	{"[::ffff:93.184.216.34]:80", passes},
	{"[64:ff9b::93.184.216.34]:80", miss}, // only the address itself can be allowed
	{"[2606:4700::1111]:80", passes},
	{"[2606:4700:0:0:0:0:0:1111]:80", passes},
	{"[2606:4700::1112]:80", miss},
	{"[2606:4700:10::1]:443", passes},
	{"[2606:4700:10::1]:80", miss},
	{"8.8.8.8:53", passes},
	{"8.9.8.8:53", miss},
	{"8.8.4.4:53", denied("8.8.4.4")},
	{"[::ffff:8.8.4.4]:53", denied("8.8.4.4")},
	{"[64:ff9b::8.8.4.4]:53", denied("8.8.4.4")},
	{"[2002:808:404::1]:53", denied("8.8.4.4")},
	{"45.33.32.156:80", denied("45.33.0.0/16")},
	{"[2a01:4f8::1]:80", denied("2a01:4f8::/32")},
	{"denied.example:80", denied("denied.example")},
	{"DENIED.EXAMPLE.:443", denied("denied.example")},
	{"ｄｅｎｉｅｄ.example:80", denied("denied.example")},
	{"x.denied.example:80", miss},
	{"tracker.example:80", denied("**.tracker.example")},
	{"a.b.tracker.example:80", denied("**.tracker.example")},
	{"bad.wild.example:80", denied("bad.wild.example")},
	{"x.bad.wild.example:80", passes},
	{"only-port.example:25", denied("only-port.example:25")},
	{"only-port.example:26", miss},
	{"other.example:80", miss},
	{"allowed.example.other.example:80", miss},
	{"allowed.exampleother:80", miss},
	{"example:80", miss},
	{"com:80", miss},
	{"a:80", miss},
	{"localhosts:80", miss},
	{"notlocalhost:80", miss},
	{"localhost.other.example:80", miss},
	{"ip6-localhost:80", miss},
	{"secret-0123456789abcdef.exfiltration.example:80", miss},
	{"xn--80ak6aa92e.example:80", miss},
	{strings.Repeat("a", 63) + ".example:80", miss},
	{longName(253) + ":80", miss},
	{"allowed.example\u2044x:80", miss}, // a fraction slash is not a slash
	{"1.1.1.1:80", miss},
	{"[2606:4700:4700::1111]:443", miss},

	// Local targets that entries allow exactly, and their neighbors.
	{"127.0.0.1:9000", passes},
	{"[::ffff:127.0.0.1]:9000", passes},
	{"127.0.0.2:9000", local},
	{"localhost:9000", local},
	{"[::1]:9000", local},
	{"localhost:9001", passes},
	{"LOCALHOST.:9001", passes},
	{"a.localhost:9001", local},
	{"127.0.0.1:9001", local},
	{"[::1]:9001", local},
	{"[::1]:9002", passes},
	{"[::1%25lo]:9002", passes},
	{"localhost:9002", local},
	{"127.0.0.1:9002", local},
	{"10.1.2.3:80", passes},
	{"[::ffff:10.1.2.3]:80", passes},
	{"[::10.1.2.3]:80", local},
	{"[64:ff9b::10.1.2.3]:80", local},
	{"10.2.0.1:80", local},
	{"127.0.0.9:80", denied("127.0.0.9")},

	// Allowed names and their addresses.
	{"private.example:80", local},
	{"loopback.example:80", local},
	{"loopback.example:9000", local}, // only the address 127.0.0.1:9000 is allowed
	{"loopback6.example:9002", local},
	{"mapped.example:80", local},
	{"compatible.example:80", local},
	{"nat64.example:80", local},
	{"nat64-local.example:80", local},
	{"sixtofour.example:80", local},
	{"linklocal.example:80", local},
	{"metadata.example:80", local},
	{"zero.example:80", local},
	{"shared.example:80", local},
	{"ula.example:80", local},
	{"multicast.example:80", local},
	{"isatap.example:80", local},
	{"mixed.example:80", local},
	{"mixed6.example:80", local},
	{"listed-private.example:80", local}, // 10.1.0.0/16 is on the list, but the name is not an address
	{"denied-addr.example:80", denied("45.33.0.0/16")},
	{"denied-mixed.example:80", denied("8.8.4.4")},
	{"denied-nat64.example:80", denied("8.8.4.4")},
	{"loopback.example:{admin}", local},
}

func refusedAs(want outcome, targets ...string) []verdictCase {
	var cases []verdictCase
	for _, target := range targets {
		cases = append(cases, verdictCase{target, want})
	}
	return cases
}

// longName returns a name of n bytes.
func longName(n int) string {
	const tail = ".example"
	name := strings.Repeat(strings.Repeat("a", 61)+".", 4)
	return name[:n-len(tail)-1] + "b" + tail
}

// TestVerdictTables checks that no row is in a table twice, and the length of
// longName.
func TestVerdictTables(t *testing.T) {
	t.Parallel()
	for _, table := range verdictTables {
		seen := make(map[string]bool)
		for _, c := range table.cases {
			if seen[c.target] {
				t.Errorf("%s: %q is in the table twice", table.name, c.target)
			}
			seen[c.target] = true
		}
	}
	if got := len(longName(253)); got != 253 {
		t.Errorf("longName(253) has %d bytes, want 253", got)
	}
}

// loopbackName and loopbackNumber are the name and the number of the same zone.
var loopbackName, loopbackNumber = func() (name, number string) {
	all, _ := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 {
			return i.Name, strconv.Itoa(i.Index)
		}
	}
	return "lo", "1"
}()
