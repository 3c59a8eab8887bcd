// Tests of every limit: at the limit, beyond it, and the response to the client.

package networkproxy_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// limited is like start, with limits.
func limited(t testing.TB, c networkproxy.Config, limits networkproxy.Limits) *lab {
	t.Helper()
	return start(t, c, func(b *networkproxy.Builder) { b.Limits(limits) })
}

func TestLimitDefaults(t *testing.T) {
	t.Parallel()
	defaults := reflect.ValueOf(networkproxy.DefaultLimits())
	for i := range defaults.NumField() {
		name := defaults.Type().Field(i).Name
		if defaults.Field(i).IsZero() != (name == "TunnelLifetime") {
			t.Errorf("%s: got the default %v", name, defaults.Field(i))
		}
		// A set limit is kept, and a negative one is an error.
		var set networkproxy.Limits
		reflect.ValueOf(&set).Elem().Field(i).SetInt(-1)
		_, err := networkproxy.NewBuilder().Config(networkproxy.Config{}).Limits(set).Build()
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "_", ""), strings.ToLower(name)+" is negative") {
			t.Errorf("%s = -1: got the error %v", name, err)
		}
	}
}

func TestLimitSet(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	// docs/limits.md has a row for each limit with its default.
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `(\\w+)` \\| `Limits.(\\w+)` ").FindAllStringSubmatch(string(page), -1)
	defaults := reflect.ValueOf(networkproxy.DefaultLimits())
	if len(rows) != defaults.NumField() {
		t.Errorf("docs/limits.md has %d limits, want %d", len(rows), defaults.NumField())
	}
	for _, row := range rows {
		var l networkproxy.Limits
		if err := l.Set(row[1], row[2]); err != nil {
			t.Error(err)
			continue
		}
		if got, want := reflect.ValueOf(l).FieldByName(row[3]), defaults.FieldByName(row[3]); !got.IsValid() || !got.Equal(want) {
			t.Errorf("%s: docs/limits.md has %s, the default is %v", row[3], row[2], want)
		}
	}
	for _, test := range []struct{ name, value string }{
		{"connections", "-1"}, {"blocked_kept", "many"}, {"header_bytes", "64k"}, {"tunnel_idle", "5"}, {"dial_timeout", "-1s"}, {"Connections", "1"}, {"", "1"},
	} {
		var l networkproxy.Limits
		if err := l.Set(test.name, test.value); err == nil || l != (networkproxy.Limits{}) {
			t.Errorf("%q = %q: got %v and %+v", test.name, test.value, err, l)
		}
	}
}

// upperBound returns the documented upper bound of a limit.
func upperBound(name string, kind reflect.Type) int64 {
	switch {
	case kind == reflect.TypeFor[time.Duration]():
		return int64(8760 * time.Hour)
	case strings.HasSuffix(name, "HeaderBytes"):
		return 16 << 20
	case name == "HeaderFields":
		return 65536
	case name == "BlockedKept":
		return 100_000
	case name == "LogValueBytes":
		return 64 << 10
	}
	return 1 << 20
}

// TestLimitUpperBounds sets each limit to its upper bound, beyond it, and to a
// value that overflows when anything is added.
func TestLimitUpperBounds(t *testing.T) {
	t.Parallel()
	var most networkproxy.Limits
	fields := reflect.ValueOf(&most).Elem()
	page, err := os.ReadFile("docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `\\w+` \\| `Limits.(\\w+)` ").FindAllStringSubmatch(string(page), -1) {
		names[row[2]] = row[1]
	}
	for i := range fields.NumField() {
		name, kind := fields.Type().Field(i).Name, fields.Field(i).Type()
		bound := upperBound(name, kind)
		fields.Field(i).SetInt(bound)
		spell := func(v int64) string {
			if kind == reflect.TypeFor[time.Duration]() {
				return time.Duration(v).String()
			}
			return strconv.FormatInt(v, 10)
		}
		for _, value := range []int64{bound + 1, math.MaxInt32, math.MaxInt64 - 1, math.MaxInt64} {
			if value <= bound {
				continue
			}
			var l networkproxy.Limits
			reflect.ValueOf(&l).Elem().Field(i).SetInt(value)
			_, err := networkproxy.NewBuilder().Config(networkproxy.Config{}).Limits(l).Build()
			if err == nil {
				t.Errorf("%s = %s: got no error", name, spell(value))
			} else if text := err.Error(); !strings.Contains(text, names[name]) || !strings.Contains(text, spell(value)) || !strings.Contains(text, spell(bound)) {
				t.Errorf("%s = %s: the error %q lacks the limit, the value or the bound", name, spell(value), text)
			}
			l = networkproxy.Limits{}
			if err := l.Set(names[name], spell(value)); err == nil || l != (networkproxy.Limits{}) {
				t.Errorf("Set: %s = %s: got no error", name, spell(value))
			} else if text := err.Error(); !strings.Contains(text, names[name]) || !strings.Contains(text, spell(value)) || !strings.Contains(text, spell(bound)) {
				t.Errorf("Set: %s = %s: the error %q lacks the limit, the value or the bound", name, spell(value), text)
			}
		}
		var l networkproxy.Limits
		if err := l.Set(names[name], spell(bound)); err != nil || reflect.ValueOf(l).Field(i).Int() != bound {
			t.Errorf("Set: %s = %s: %v", name, spell(bound), err)
		}
		for _, value := range []string{"99999999999999999999", "99999999999999999999h", "-9223372036854775808", "1e9", "0x7fffffffffffffff", "Inf", "NaN"} {
			if err := l.Set(names[name], value); err == nil || !strings.Contains(err.Error(), spell(bound)) {
				t.Errorf("Set: %s = %s: %v", name, value, err)
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*networkproxy.Builder)
	}{
		{"questions", func(b *networkproxy.Builder) { b.Limits(networkproxy.Limits{Questions: math.MaxInt32}) }},
		{"DeciderTimeout", func(b *networkproxy.Builder) { b.DeciderTimeout(math.MaxInt64) }},
	} {
		b := networkproxy.NewBuilder().Config(networkproxy.Config{})
		test.change(b)
		if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), test.name) {
			t.Errorf("%s: %v", test.name, err)
		}
	}

	// A proxy with the widest limits works.
	l := start(t, withSOCKS(allow("o.example", publicAddr)), func(b *networkproxy.Builder) {
		b.SOCKSAddr("127.0.0.1:0").Limits(most)
	})
	l.mapHostUDP("echo.example", 53, testnet.EchoUDP(t, "127.0.0.1"))
	l.mapHost("o.example", 22, testnet.Echo(t).Addr())
	l.origin("o.example", 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	if a := l.get("http://o.example/"); a.body != "ok" {
		t.Errorf("GET: got %d %s", a.status, a.body)
	}
	if a := l.get("http://refused.example/"); a.status != 403 || len(l.Blocked()) != 1 {
		t.Errorf("a refused GET: got %d and the records %+v", a.status, l.Blocked())
	}
	_, resp := sendRaw(t, "tcp", l.HTTPAddr(), "GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\nX: "+strings.Repeat("x", 100<<10)+"\r\n\r\n")
	if resp.StatusCode != 200 {
		t.Errorf("a long header: got %s, want 200", resp.Status)
	}
	if err := echoes(l.connect("o.example:22")); err != nil {
		t.Errorf("CONNECT: %v", err)
	}
	if err := echoes(l.socksTunnel("o.example", 22)); err != nil {
		t.Errorf("SOCKS5: %v", err)
	}
	u := l.associate()
	u.send(socksDest(publicAddr, 53), "ping")
	u.expect("ping", publicAddr+":53")
	s := l.command("a")
	if a := doRequest(t, clientThrough(t, s.ProxyURL()), "GET", "http://o.example/", ""); a.body != "ok" {
		t.Errorf("through a session: got %d %s", a.status, a.body)
	}
}

// checkTooManyConnections checks the response on a connection over the limit.
func checkTooManyConnections(t *testing.T, w *rawConn) {
	t.Helper()
	w.get("http://o.example/?secret=1")
	a := w.readResponse("GET")
	if f := a.refusal(t); a.StatusCode != 503 || a.Header.Get("Retry-After") != "1" || !a.Close ||
		f.Reason != "too_many_connections" || f.Source != "proxy_state" || f.Host != "o.example" {
		t.Errorf("got %s with Retry-After %q and %+v", a.Status, a.Header.Get("Retry-After"), f)
	}
	if rest := w.readAll(); rest != "" {
		t.Errorf("after the response: got %q, want the end", rest)
	}
}

func TestLimitConnections(t *testing.T) {
	t.Parallel()
	l := limited(t, withSOCKS(allow("o.example")), networkproxy.Limits{Connections: 2})
	l.mapHost("o.example", 80, testnet.Echo(t).Addr())
	held := []net.Conn{l.connectRaw(t, "o.example:80"), l.socksTunnel("o.example", 80)}

	checkTooManyConnections(t, l.dialHTTP(t))
	w := l.dialHTTP(t)
	w.request("CONNECT", "o.example:80")
	if a := w.readResponse("CONNECT"); a.StatusCode != 503 || a.Header.Get("Retry-After") != "1" || !strings.Contains(a.body, "too many connections") {
		t.Errorf("CONNECT: got %s %q", a.Status, a.body)
	}
	w = l.dialHTTP(t)
	w.send("nonsense\r\n\r\n")
	if a := w.readResponse("GET"); a.StatusCode != 400 {
		t.Errorf("nonsense: got %s, want 400", a.Status)
	}
	for _, command := range []byte{socksConnect, socksBind, socksAssociate} {
		if _, code, _ := l.socksRequest(command, socksDestName("o.example", 80)); code != 1 {
			t.Errorf("SOCKS5 command %d: got the reply %d, want 1", command, code)
		}
	}
	for _, conn := range held {
		if err := echoes(conn); err != nil {
			t.Error(err)
		}
	}
	if list := l.Blocked(); len(list) != 5 || list[0].Reason != networkproxy.ReasonTooManyConnections {
		t.Errorf("got the records %+v", list)
	}
	if strings.Contains(l.log.String(), "secret") {
		t.Error("the log contains the query")
	}
	if len(l.net.Dialed()) != 2 {
		t.Errorf("dialed %v, want two connections", l.net.Dialed())
	}

	// A client that sends nothing gets no response, and its connection is closed.
	if rest := l.dialHTTP(t).readAll(); rest != "" {
		t.Errorf("a client that sends nothing got %q", rest)
	}

	held[0].Close()
	eventually(t, "there is room again", func() bool { return l.healthCounts().Connections == 1 })
	if err := echoes(l.connectRaw(t, "o.example:80")); err != nil {
		t.Error(err)
	}
}

// A client over the limit that never completes its request is closed sooner than
// a client within the limit.
func TestLimitConnectionsWithoutEnd(t *testing.T) {
	t.Parallel()
	l := limited(t, allow("o.example"), networkproxy.Limits{Connections: 1})
	l.mapHost("o.example", 80, testnet.Echo(t).Addr())
	first := l.connectRaw(t, "o.example:80")
	var many []*rawConn
	for range 200 {
		w := l.dialHTTP(t)
		io.WriteString(w, "GET http://o.example/ HT") // the connection may be closed already
		many = append(many, w)
	}
	for _, w := range many {
		w.readAll()
	}
	if err := echoes(first); err != nil {
		t.Errorf("the connection within the limit: %v", err)
	}
	if n := l.metric(t, "networkproxy_connections_refused_total"); n != 200 {
		t.Errorf("%v connections refused, want 200", n)
	}
}

func TestLimitSessionConnections(t *testing.T) {
	t.Parallel()
	l := limited(t, allow("o.example"), networkproxy.Limits{SessionConnections: 1})
	l.mapHost("o.example", 80, testnet.Echo(t).Addr())
	s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "wget"}})
	if err != nil {
		t.Fatal(err)
	}
	tunnel := func(addr string) *rawConn {
		w := dialRaw(t, addr)
		w.request("CONNECT", "o.example:80")
		if a := w.readHeader("CONNECT"); a.StatusCode != 200 {
			t.Errorf("CONNECT through %s: got %s", addr, a.Status)
		}
		return w
	}
	tunnel(s.HTTPAddr())
	checkTooManyConnections(t, dialRaw(t, s.HTTPAddr()))
	if list := s.Blocked(); len(list) != 1 || list[0].Command != "wget" {
		t.Errorf("got the session's records %+v", list)
	}
	other, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	tunnel(other.HTTPAddr())
	tunnel(l.HTTPAddr())
}

// Idle connections, in every state, are closed to make room for others. The
// connection that was idle for longest is closed first.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	const head = "GET http://miss.example/ HTTP/1.1\r\nHost: miss.example\r\n"
	for _, test := range []struct {
		name  string
		socks bool
		sends string
		gets  string // read before the next connection is opened
	}{
		{name: "silent"},
		{name: "half a header", sends: "GET http://miss.example/ HT"},
		{name: "empty lines", sends: "\r\n\r\n"},
		{name: "a kept-alive connection", sends: head + "\r\n", gets: "HTTP/1.1 403"},
		{name: "half a header after that", sends: head + "\r\n" + head, gets: "HTTP/1.1 403"},
		{name: "silent SOCKS5", socks: true},
		{name: "a SOCKS5 greeting", socks: true, sends: "\x05\x01\x00", gets: "\x05\x00"},
		{name: "half a request of SOCKS5", socks: true, sends: "\x05\x01\x00\x05\x01\x00\x03\x09o.exa", gets: "\x05\x00"},
		{name: "half of user and password", socks: true, sends: "\x05\x01\x02\x01\x08", gets: "\x05\x02"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := limited(t, withSOCKS(allow("o.example")), networkproxy.Limits{Connections: 8})
			l.mapHost("o.example", 80, testnet.Echo(t).Addr())
			addr := l.HTTPAddr()
			if test.socks {
				addr = l.SOCKSAddr()
			}
			tunnel := l.connectRaw(t, "o.example:80")
			var idle []*rawConn
			for range 50 {
				w := dialRaw(t, addr)
				io.WriteString(w, test.sends)
				if test.gets != "" {
					got := make([]byte, len(test.gets))
					if _, err := io.ReadFull(w, got); err != nil || string(got) != test.gets {
						t.Fatalf("a new connection got %q, %v", got, err)
					}
				}
				idle = append(idle, w)
			}
			// All connections have been accepted once all but eight are closed. A new
			// connection is idle as well until its request is read, so it would
			// compete with those that are accepted after it.
			closed := make(chan int)
			for i, w := range idle {
				go func() {
					if _, err := io.Copy(io.Discard, w.r); !errors.Is(err, os.ErrDeadlineExceeded) {
						select {
						case closed <- i:
						case <-t.Context().Done():
						}
					}
				}()
			}
			oldest, left := 40, len(idle)
			if test.gets != "" {
				oldest = 0 // they become idle in any order, when their responses are written
			}
			for left > 8-1 || oldest > 0 {
				select {
				case i := <-closed:
					left--
					if i < 40 {
						oldest--
					}
				case <-time.After(testTimeout):
					t.Fatalf("%d connections are open, want 7; %d of them are among the 40 that were idle for longest, want 0", left, max(oldest, 0))
				}
			}
			if err := echoes(l.connectRaw(t, "o.example:80")); err != nil {
				t.Errorf("a new tunnel: %v", err)
			}
			if _, code, _ := l.socksRequest(socksConnect, socksDestName("o.example", 80)); code != 0 {
				t.Errorf("SOCKS5: got the reply %d", code)
			}
			if err := echoes(tunnel); err != nil {
				t.Errorf("the tunnel that was open throughout: %v", err)
			}
			if list := l.Blocked(); len(list) > 0 && list[len(list)-1].Reason == networkproxy.ReasonTooManyConnections {
				t.Errorf("got the refusal %+v, want none", list[len(list)-1])
			}
			if strings.Contains(l.log.String(), "malformed") {
				t.Error("a connection that was closed to make room is logged as malformed")
			}
		})
	}
}

// A session's connections count for it on every listener.
func TestLimitSessionConnectionsByToken(t *testing.T) {
	t.Parallel()
	l := limited(t, withSOCKS(allow("o.example")), networkproxy.Limits{SessionConnections: 2})
	l.mapHost("o.example", 80, testnet.Echo(t).Addr())
	s, other := l.command("mine"), l.command("other")
	connect := func(addr, header string) (*rawConn, int) {
		w := dialRaw(t, addr)
		w.send("CONNECT o.example:80 HTTP/1.1\r\nHost: o.example\r\n" + header + "\r\n")
		return w, w.readHeader("CONNECT").StatusCode
	}
	token := credentials("session", s.Token())
	first, code := connect(l.HTTPAddr(), token)
	if code != 200 {
		t.Fatalf("the first connection: got %d", code)
	}
	if _, code := connectSOCKS(t, l.SOCKSAddr(), s.Token(), "o.example", 80); code != 0 {
		t.Fatalf("the second connection: got the reply %d", code)
	}
	for range 20 {
		if _, code := connect(l.HTTPAddr(), token); code != 503 {
			t.Errorf("beyond the limit, with the token: got %d", code)
		}
	}
	if _, code := connect(s.HTTPAddr(), ""); code != 503 {
		t.Errorf("beyond the limit, on the session's listener: got %d", code)
	}
	if _, code := connectSOCKS(t, l.SOCKSAddr(), s.Token(), "o.example", 80); code != 1 {
		t.Errorf("beyond the limit, with SOCKS5 and the token: got the reply %d", code)
	}
	if list := s.Blocked(); len(list) == 0 || list[0].Reason != networkproxy.ReasonTooManyConnections || list[0].Command != "mine" {
		t.Errorf("got the session's records %+v", list)
	}
	for name, header := range map[string]string{"nobody": "", "another session": credentials("x", other.Token())} {
		if _, code := connect(l.HTTPAddr(), header); code != 200 {
			t.Errorf("%s: got %d", name, code)
		}
	}

	first.Close()
	eventually(t, "the place is free", func() bool {
		_, code := connect(l.HTTPAddr(), token)
		return code == 200
	})

	// A connection with requests of several sessions counts for the last one.
	w := dialRaw(t, l.HTTPAddr())
	for _, who := range []*networkproxy.Session{other, nil, other} {
		header := "\r\n"
		if who != nil {
			header = credentials("x", who.Token()) + "\r\n"
		}
		w.send("GET http://miss.example/ HTTP/1.1\r\nHost: miss.example\r\n" + header)
		if a := w.readResponse("GET"); a.StatusCode != 403 {
			t.Errorf("an allowlist miss: got %s", a.Status)
		}
	}
	other.Close()
	w.get("http://miss.example/")
	if a := w.readResponse("GET"); a.StatusCode != 403 {
		t.Errorf("a connection after the end of its last session: got %s", a.Status)
	}
}

// Clients without a session cannot take the places of all sessions.
func TestConnectionsLeaveRoomForSessions(t *testing.T) {
	t.Parallel()
	l := limited(t, allow("o.example"), networkproxy.Limits{Connections: 16})
	l.mapHost("o.example", 80, testnet.Echo(t).Addr())
	connect := func(addr string) int {
		w := dialRaw(t, addr)
		w.request("CONNECT", "o.example:80")
		return w.readHeader("CONNECT").StatusCode
	}
	tunnels := 0
	for connect(l.HTTPAddr()) == 200 {
		tunnels++
	}
	if tunnels != 12 {
		t.Errorf("%d tunnels without a session, want 12 of 16", tunnels)
	}
	s := l.command("")
	for range 2 {
		if code := connect(s.HTTPAddr()); code != 200 {
			t.Errorf("a tunnel of a session: got %d", code)
		}
	}
}

func TestLimitHeader(t *testing.T) {
	t.Parallel()
	l := limited(t, allow("o.example"), networkproxy.Limits{
		HeaderBytes: 6 << 10, IdleTimeout: 500 * time.Millisecond,
	})
	l.scripted("o.example", emptyResponse)

	w := l.dialHTTP(t)
	w.get("http://o.example/", "X-Long: "+strings.Repeat("x", 4<<10))
	if a := w.readResponse("GET"); a.StatusCode != 200 {
		t.Errorf("a header within the limit: got %s", a.Status)
	}
	w = l.dialHTTP(t)
	w.get("http://o.example/", "X-Long: "+strings.Repeat("x", 16<<10))
	if a := w.readResponse("GET"); a.StatusCode != 431 {
		t.Errorf("a header over the limit: got %s, want 431", a.Status)
	}
	if rest := l.dialHTTP(t).readAll(); rest != "" { // IdleTimeout ends the connection
		t.Errorf("a connection without a request: got %q, want the end", rest)
	}

	l = limited(t, allow("o.example"), networkproxy.Limits{HeaderFields: 3})
	l.origin("o.example", 80, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	for fields, status := range map[string]int{"": 200, "A:\r\n": 200, "A:\r\nB:\r\n": 431, "Trailer: B, C, D\r\n": 431} {
		w = l.dialHTTP(t)
		w.send("POST http://o.example/ HTTP/1.1\r\nHost: o.example\r\nTransfer-Encoding: chunked\r\n" + fields + "\r\n0\r\n\r\n")
		if a := w.readResponse("POST"); a.StatusCode != status {
			t.Errorf("%q: got %s, want %d", fields, a.Status, status)
		}
	}
	w = l.dialHTTP(t)
	w.send("POST http://o.example/ HTTP/1.1\r\nHost: o.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA:\r\nB:\r\nC:\r\nD:\r\n\r\n")
	if a := w.readResponse("POST"); a.StatusCode != 400 || a.refusal(t).Reason != "invalid_content" || !a.Close {
		t.Errorf("too many trailers: got %s %s", a.Status, a.body)
	}

	l = limited(t, allow("o.example"), networkproxy.Limits{HeaderTimeout: 300 * time.Millisecond})
	w = l.dialHTTP(t)
	w.send("GET http://o.example/ HTTP/1.1\r\nHost:")
	if a := w.readResponse("GET"); a.StatusCode != 408 {
		t.Errorf("an unfinished header: got %s", a.Status)
	}
}

func TestLimitResponseHeader(t *testing.T) {
	t.Parallel()
	l := limited(t, allow("o.example"), networkproxy.Limits{ResponseHeaderBytes: 8 << 10})
	l.scripted("o.example", "HTTP/1.1 200 OK\r\nX-Long: "+strings.Repeat("x", 64<<10)+"\r\nContent-Length: 0\r\n\r\n")
	for _, fields := range [][]string{nil, {"Connection: Upgrade", "Upgrade: other"}} {
		w := l.dialHTTP(t)
		w.get("http://o.example/", fields...)
		if a := w.readResponse("GET"); a.StatusCode != 502 {
			t.Errorf("%q: got %s, want 502", fields, a.Status)
		}
	}
}

func TestLimitLookupAndDial(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow("*")), func(b *networkproxy.Builder) {
		b.Limits(networkproxy.Limits{LookupTimeout: 50 * time.Millisecond, DialTimeout: 50 * time.Millisecond})
		networkproxy.SetConnect(b, func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	l.dns.Set("silent.example", testnet.Silence())
	l.dns.Set("hole.example", addrs(publicAddr))
	for _, test := range []struct {
		host, reason string
		status       int
	}{{"silent.example", "dns_failure", 502}, {"hole.example", "timeout", 504}} {
		w := l.dialHTTP(t)
		w.SetDeadline(time.Now().Add(5 * time.Second)) // less than the defaults
		w.get("http://" + test.host + "/")
		if a := w.readResponse("GET"); a.StatusCode != test.status || a.refusal(t).Reason != test.reason {
			t.Errorf("%s: got %s %s", test.host, a.Status, a.body)
		}
		if _, code, _ := l.socksRequest(socksConnect, socksDestName(test.host, 80)); code != 4 {
			t.Errorf("%s with SOCKS5: got the reply %d", test.host, code)
		}
	}
}

// deafResolver blocks until free is closed, and ignores its context.
type deafResolver struct{ free chan struct{} }

func (r deafResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	<-r.free
	return []netip.Addr{netip.MustParseAddr(publicAddr)}, nil
}

// TestResolverThatDoesNotReturn checks that a look-up is abandoned at its time
// limit for every protocol. Neither the request nor Close waits longer, and a late
// answer is not dialed.
func TestResolverThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	r := deafResolver{make(chan struct{})}
	l := start(t, withSOCKS(allow("*")), func(b *networkproxy.Builder) {
		b.Resolver(r).Limits(networkproxy.Limits{LookupTimeout: 20 * time.Millisecond})
	})
	s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		request func(t *testing.T)
	}{
		{"HTTP", func(t *testing.T) {
			w := dialRaw(t, l.HTTPAddr())
			w.get("http://deaf.example/")
			if a := w.readResponse("GET"); a.StatusCode != 502 || a.refusal(t).Reason != "dns_failure" {
				t.Errorf("got %s %s", a.Status, a.body)
			}
		}},
		{"CONNECT from a session", func(t *testing.T) {
			w := dialRaw(t, s.HTTPAddr())
			w.request("CONNECT", "deaf.example:443")
			if a := w.readHeader("CONNECT"); a.StatusCode != 502 {
				t.Errorf("got %s, want 502", a.Status)
			}
		}},
		{"SOCKS5", func(t *testing.T) {
			if _, code, _ := l.socksRequest(socksConnect, socksDestName("deaf.example", 80)); code != 4 {
				t.Errorf("got the reply %d", code)
			}
		}},
		{"explain", func(t *testing.T) {
			if a, err := l.ExplainURL(t.Context(), "http://deaf.example/", "GET", true); err != nil || a.Allowed {
				t.Errorf("got %+v, %v", a, err)
			}
		}},
	} {
		t.Run(test.name, test.request)
	}
	l.Close()
	l.waitLogged(t, "the resolver has not returned")
	close(r.free)
	if n := networkproxy.AwaitLookups(l.Handle); n != 0 {
		t.Errorf("%d look-ups are counted as running, want none", n)
	}
	if got := l.net.Dialed(); len(got) != 0 {
		t.Errorf("a late answer was dialed: %v", got)
	}
}

func TestLimitHandshake(t *testing.T) {
	t.Parallel()
	l := limited(t, withSOCKS(allow()), networkproxy.Limits{HandshakeTimeout: 100 * time.Millisecond})
	for _, text := range []string{"", "\x05\x01\x00", "\x05\x01\x00\x05\x01\x00\x03\x09o.exa"} {
		c := l.dialSOCKS()
		c.SetDeadline(time.Now().Add(5 * time.Second)) // less than the default
		io.WriteString(c, text)
		if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
			t.Errorf("%q: the connection is still open", text)
		}
	}
}

func TestLimitTunnels(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		limits networkproxy.Limits
	}{
		{"idle", networkproxy.Limits{TunnelIdle: 200 * time.Millisecond}},
		{"lifetime", networkproxy.Limits{TunnelLifetime: 200 * time.Millisecond}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := limited(t, withSOCKS(allow("o.example")), test.limits)
			l.mapHost("o.example", 80, testnet.Echo(t).Addr())
			for protocol, conn := range map[string]net.Conn{"CONNECT": l.connectRaw(t, "o.example:80"), "SOCKS5": l.socksTunnel("o.example", 80)} {
				conn.SetDeadline(testDeadline())
				var err error
				for test.name == "lifetime" && err == nil { // never idle
					err = echoes(conn)
				}
				if _, err = io.Copy(io.Discard, conn); os.IsTimeout(err) {
					t.Errorf("%s: the tunnel is still open", protocol)
				}
			}
			l.waitLogged(t, "cause="+test.name)
		})
	}
}

func TestLimitAssociationLifetime(t *testing.T) {
	t.Parallel()
	l := limited(t, withSOCKS(allow(publicAddr)), networkproxy.Limits{TunnelLifetime: 300 * time.Millisecond})
	u := l.associate()
	u.control.SetReadDeadline(testDeadline())
	if err := checkClosed(u.control); err != nil {
		t.Error(err)
	}
}

// A question over the limit is refused at once with a status that invites a
// retry.
func TestLimitQuestions(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 8)
	l := start(t, withSOCKS(allow()), func(b *networkproxy.Builder) {
		b.Limits(networkproxy.Limits{Questions: 1}).
			PolicyDecider(func(ctx context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
				asked <- r.Host
				<-ctx.Done()
				return networkproxy.Allow(), nil
			})
	})
	first := l.dialHTTP(t)
	first.get("http://first.example/")
	wait(t, asked, "the first question")

	w := l.dialHTTP(t)
	w.get("http://second.example/")
	a := w.readResponse("GET")
	if f := a.refusal(t); a.StatusCode != 503 || a.Header.Get("Retry-After") != "1" || f.Reason != "decider_busy" ||
		a.Header.Get("x-proxy-error") != "blocked-by-policy" {
		t.Errorf("got %s with Retry-After %q and %+v", a.Status, a.Header.Get("Retry-After"), f)
	}
	if _, code, _ := l.socksRequest(socksConnect, socksDestName("third.example", 80)); code != 1 {
		t.Errorf("SOCKS5: got the reply %d", code)
	}
	// A decider's own reason of the same name does not get this status.
	l = start(t, allow(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			return networkproxy.Deny("decider_busy"), nil
		})
	})
	w = l.dialHTTP(t)
	w.get("http://first.example/")
	if a := w.readResponse("GET"); a.StatusCode != 403 || a.Header.Get("Retry-After") != "" {
		t.Errorf("the decider's reason decider_busy: got %s", a.Status)
	}
}

func TestLimitUDPFlows(t *testing.T) {
	t.Parallel()
	l := limited(t, withSOCKS(allow(publicAddr)), networkproxy.Limits{UDPFlows: 2})
	echo := testnet.EchoUDP(t, "127.0.0.1")
	u := l.associate()
	for port := range uint16(6) {
		l.net.MapUDP(netip.AddrPortFrom(netip.MustParseAddr(publicAddr), port+1), echo)
		u.send(socksDest(publicAddr, port+1), "ping")
		u.expect("ping", fmt.Sprintf("%s:%d", publicAddr, port+1))
	}
	eventually(t, "two flows are left", func() bool { return l.LiveTargets() == 2 })
}

func TestLimitRecord(t *testing.T) {
	t.Parallel()
	l := limited(t, allow(), networkproxy.Limits{BlockedKept: 3})
	s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	w := dialRaw(t, s.HTTPAddr())
	for i := range 5 {
		w.get(fmt.Sprintf("http://host%d.example/", i))
		w.readResponse("GET")
	}
	for _, list := range [][]networkproxy.BlockedRequest{l.Blocked(), s.Blocked()} {
		if len(list) != 3 || list[0].Host != "host2.example" || list[2].Host != "host4.example" {
			t.Errorf("got the records %+v", list)
		}
	}
	var all struct{ Total, Limit int }
	if a := l.adminRaw(t, "GET", "/blocked", ""); json.Unmarshal([]byte(a.body), &all) != nil || all.Total != 5 || all.Limit != 3 {
		t.Errorf("got %s", a.body)
	}
}

// The part of a log line that clients control is bounded.
func TestLimitLogValueBytes(t *testing.T) {
	t.Parallel()
	l := limited(t, allow("o.example"), networkproxy.Limits{LogValueBytes: 20})
	w := l.dialHTTP(t)
	w.send("GET http://" + strings.Repeat("a.", 2000) + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if a := w.readResponse("GET"); a.StatusCode != 400 {
		t.Fatalf("got %s, want 400", a.Status)
	}
	l.waitLogged(t, "malformed request")
	for line := range strings.Lines(l.log.String()) {
		if strings.Contains(line, "malformed request") && (len(line) > 250 || strings.Contains(line, "a.a.a.a.a.a.a.")) {
			t.Errorf("a log line of %d bytes: %s", len(line), line)
		}
	}
}

// Clients cannot fill the log. Only the log omits requests, not the records and
// counters.
func TestLimitLogLines(t *testing.T) {
	t.Parallel()
	const limit, each = 5, 20
	l := limited(t, withSOCKS(allow("gone.example")), networkproxy.Limits{LogLinesPerSecond: limit, BlockedKept: 10 * each})
	l.dns.Set("gone.example") // no address
	began := time.Now()
	for range each {
		for _, test := range []struct {
			request string
			status  int
		}{
			{"GET http://refused.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 403},
			{"CONNECT refused.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", 403},
			{"GET http://gone.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 502},
			{"GET http://a..example/ HTTP/1.1\r\nHost: x\r\n\r\n", 400},
			{"GET http://refused.example/ HTTP/1.1\r\nHost : x\r\n\r\n", 400},
		} {
			w := l.dialHTTP(t)
			w.send(test.request)
			if a := w.readResponse("GET"); a.StatusCode != test.status {
				t.Fatalf("%q: got %s, want %d", test.request, a.Status, test.status)
			}
		}
	}
	if n := len(l.Blocked()); n != 2*each {
		t.Errorf("%d refusals are recorded, want %d", n, 2*each)
	}
	l.Close() // logs the number of dropped lines
	about := regexp.MustCompile(`msg=(refused|failed|"malformed request") `)
	left := regexp.MustCompile(`msg="dropped log lines[^"]*" lines=(\d+) log_lines_per_second=5\n`)
	lines := len(about.FindAllString(l.log.String(), -1))
	sum := lines
	reports := left.FindAllStringSubmatch(l.log.String(), -1)
	for _, m := range reports {
		n, _ := strconv.Atoi(m[1])
		sum += n
	}
	// Each second, including the last, may have its lines. All are of one principal, which
	// can have at most three times as many as it leaves free: four of five.
	if seconds := int(time.Since(began)/time.Second) + 2; lines < limit-1 || lines > limit*seconds {
		t.Errorf("%d lines about requests in %d seconds, and %d lines about dropped ones", lines, seconds, len(reports))
	}
	if sum != 5*each {
		t.Errorf("the log accounts for %d requests, want %d", sum, 5*each)
	}
}

// The limit holds for every kind of line that a client can cause.
func TestLimitLogLinesOfEveryKind(t *testing.T) {
	t.Parallel()
	const limit, each = 4, 30
	for _, test := range []struct {
		name  string
		lines string
		cause func(l *lab, i int)
	}{
		{"panic in HTTP", "panic while serving a request", func(l *lab, _ int) {
			w := l.dialHTTP(l.t)
			w.request("CONNECT", "panic.example:54")
			w.readAll()
		}},
		{"panic in SOCKS5", "panic while serving a connection", func(l *lab, _ int) {
			c := l.dialSOCKS()
			c.Write(slices.Concat([]byte{5, 1, 0, 5, socksConnect, 0}, socksDestName("panic.example", 54)))
			io.Copy(io.Discard, c)
		}},
		{"panic in a UDP association", "panic in a UDP association", func(l *lab, _ int) {
			u := l.associate()
			u.send(socksDestName("panic.example", 54), "ping")
			if err := checkClosed(u.control); err != nil {
				l.t.Error(err)
			}
		}},
		{"decider panic", "decider panicked", func(l *lab, i int) {
			w := l.dialHTTP(l.t)
			w.get(fmt.Sprintf("http://miss%d.test/", i))
			w.readResponse("GET")
		}},
		{"tunnels at the level debug", "tunnel (open|closed)", func(l *lab, _ int) {
			conn := l.connectRaw(l.t, "echo.example:80")
			if err := echoes(conn); err != nil {
				l.t.Error(err)
			}
			conn.Close()
		}},
		{"client hellos at the level debug", "client hello", func(l *lab, _ int) {
			conn := l.connectRaw(l.t, "echo.example:80")
			tls.Client(conn, &tls.Config{ServerName: "echo.example"}).Handshake()
			conn.Close()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var l *lab
			l = start(t, withSOCKS(allow("*.example")), func(b *networkproxy.Builder) {
				b.Limits(networkproxy.Limits{LogLinesPerSecond: limit})
				b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) { panic("decider") })
				networkproxy.SetConnect(b, func(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
					if addr.Port() == 54 {
						panic("out of order")
					}
					return l.net.Connect(ctx, addr)
				})
				networkproxy.SetConnectUDP(b, func(context.Context, netip.AddrPort) (*net.UDPConn, error) { panic("out of order") })
			})
			l.dns.Set("panic.example", addrs(publicAddr))
			l.mapHost("echo.example", 80, testnet.Echo(t).Addr())
			began := time.Now()
			for i := range each {
				test.cause(l, i)
			}
			l.Close()
			lines := len(regexp.MustCompile(`msg="`+test.lines+`"`).FindAllString(l.log.String(), -1))
			// On a busy machine the lines may come so slowly that none is dropped.
			seconds := max(strings.Count(l.log.String(), "dropped log lines"), int(time.Since(began)/time.Second)) + 1
			if lines == 0 || lines > limit*seconds {
				t.Errorf("%d lines in %d seconds, want at most %d per second", lines, seconds, limit)
			}
		})
	}
}

// A client that uses many hosts leaves no more idle connections than the limit.
func TestLimitIdleUpstream(t *testing.T) {
	t.Parallel()
	l := limited(t, allow("*.example"), networkproxy.Limits{IdleUpstream: 2})
	for i := range 6 {
		l.origin(fmt.Sprintf("host%d.example", i), uint16(8000+i), func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	}
	w := l.dialHTTP(t)
	for i := range 6 {
		w.get(fmt.Sprintf("http://host%d.example:%d/", i, 8000+i))
		if a := w.readResponse("GET"); a.body != "ok" {
			t.Fatalf("got %s %q", a.Status, a.body)
		}
	}
	eventually(t, "two connections are kept", func() bool { return l.LiveTargets() == 2 })
}
