// Tests of tunnels: CONNECT and Upgrade.

package networkproxy_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// TestConnectEarlyBytes sends bytes for the target together with the header of
// the CONNECT request.
func TestConnectEarlyBytes(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.mapHost("o.example", 443, testnet.Echo(t).Addr())
	for _, early := range []string{"", "x", "hello", strings.Repeat("long ", 1000)} {
		w := l.dialHTTP(t)
		w.send("CONNECT o.example:443 HTTP/1.1\r\nHost: o.example:443\r\n\r\n" + early)
		if a := w.readHeader("CONNECT"); a.StatusCode != 200 || len(a.Header) > 0 {
			t.Fatalf("CONNECT: got %s with the header %v, want 200 without fields", a.Status, a.Header)
		}
		w.send("and late")
		if got := w.readN(len(early) + len("and late")); got != early+"and late" {
			t.Errorf("got the echo %.80q, want %.80q", got, early+"and late")
		}
		w.CloseWrite()
		if rest := w.readAll(); rest != "" {
			t.Errorf("after the echo: got %q, want the end", rest)
		}
	}
}

// TestConnectHalfClose checks that one direction continues after the end of the
// other.
func TestConnectHalfClose(t *testing.T) {
	t.Parallel()
	t.Run("the client first", func(t *testing.T) {
		t.Parallel()
		l := start(t, allow("o.example"), nil)
		l.serve("o.example", 443, func(c *net.TCPConn) {
			all, _ := io.ReadAll(c) // to the client's FIN
			io.WriteString(c, strings.ToUpper(string(all)))
		})
		w := l.connectRaw(t, "o.example:443")
		w.send("all of it")
		w.CloseWrite()
		if got := w.readAll(); got != "ALL OF IT" {
			t.Errorf("the client got %q, want %q", got, "ALL OF IT")
		}
	})
	t.Run("the target first", func(t *testing.T) {
		t.Parallel()
		l := start(t, allow("o.example"), nil)
		got := make(chan string, 1)
		l.serve("o.example", 443, func(c *net.TCPConn) {
			io.WriteString(c, "220 ready") // the server speaks first
			c.CloseWrite()
			all, _ := io.ReadAll(c)
			got <- string(all)
		})
		w := l.connectRaw(t, "o.example:443")
		if s := w.readAll(); s != "220 ready" {
			t.Errorf("the client got %q, want %q", s, "220 ready")
		}
		w.send("still here")
		w.CloseWrite()
		if s := wait(t, got, "the client's last bytes"); s != "still here" {
			t.Errorf("the target got %q, want %q", s, "still here")
		}
	})
}

func TestConnectReset(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.mapHost("o.example", 443, testnet.Reset(t).Addr())
	w := l.connectRaw(t, "o.example:443")
	w.send("x")
	if _, err := w.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("read: got %v, want a reset, because a truncated stream must not look complete", err)
	}
}

// TestConnectClientLeaves checks that the connection to the target ends when the
// client closes its own.
func TestConnectClientLeaves(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	gone := make(chan struct{})
	l.serve("o.example", 443, func(c *net.TCPConn) {
		io.Copy(io.Discard, c)
		close(gone)
	})
	w := l.connectRaw(t, "o.example:443")
	w.send("x")
	w.Close()
	wait(t, gone, "the end of the connection to the target")
	eventually(t, "no connection is left", func() bool { return l.health(t).Connections == 0 })
}

// TestConnectClientLeavesWhileDialing checks that the dial ends with the client.
func TestConnectClientLeavesWhileDialing(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"CONNECT", "GET"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			dialing, ended := make(chan struct{}), make(chan struct{})
			l := start(t, allow("o.example"), func(b *networkproxy.Builder) {
				networkproxy.SetConnect(b, func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
					close(dialing)
					<-ctx.Done()
					close(ended)
					return nil, ctx.Err()
				})
			})
			l.dns.Set("o.example", addrs(publicAddr))
			w := l.dialHTTP(t)
			target := "o.example:443"
			if method == "GET" {
				target = "http://o.example/"
			}
			w.request(method, target)
			wait(t, dialing, "the dial")
			w.Close()
			wait(t, ended, "the end of the dial")
		})
	}
}

// TestConnectDialsFirst checks that the response 200 comes after the connection
// is open.
func TestConnectDialsFirst(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	echo := testnet.Echo(t)
	l := start(t, allow("o.example"), func(b *networkproxy.Builder) {
		networkproxy.SetConnect(b, func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
			release <- struct{}{}
			var d net.Dialer
			return d.DialTCP(ctx, "tcp", netip.AddrPort{}, echo.AddrPort())
		})
	})
	l.dns.Set("o.example", addrs(publicAddr))
	w := l.dialHTTP(t)
	w.request("CONNECT", "o.example:443")
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		w.r.Peek(1)
	}()
	select {
	case <-answered:
		t.Error("got a response before the dial")
	case <-release:
	}
	wait(t, answered, "the response")
	if a := w.readHeader("CONNECT"); a.StatusCode != 200 {
		t.Errorf("got %s, want 200", a.Status)
	}
}

// TestConnectFallsBack checks that the second address is tried if the first one
// refuses the connection.
func TestConnectFallsBack(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.mapHost("o.example", 443, testnet.Echo(t).Addr())
	l.dns.Set("o.example", addrs("93.184.215.99", publicAddr))
	if err := echoes(l.connectRaw(t, "o.example:443")); err != nil {
		t.Error(err)
	}
}

func TestConnectHTTP10(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.mapHost("o.example", 443, testnet.Echo(t).Addr())
	w := l.dialHTTP(t)
	w.send("CONNECT o.example:443 HTTP/1.0\r\n\r\nhi")
	if a := w.readHeader("CONNECT"); a.StatusCode != 200 {
		t.Fatalf("got %s, want 200", a.Status)
	}
	if got := w.readN(2); got != "hi" {
		t.Errorf("got %q", got)
	}
}

// websocket is an origin server that accepts an upgrade, sends a greeting in the
// same segment as the response, and then echoes.
func websocket(c *net.TCPConn) {
	r := bufio.NewReader(c)
	request, err := http.ReadRequest(r)
	if err != nil || !strings.EqualFold(request.Header.Get("Upgrade"), "websocket") || request.Header.Get("Connection") != "Upgrade" {
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		return
	}
	sum := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Proxy-Error: x\r\nKeep-Alive: x\r\n"+
		"Sec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\nwelcome")
	io.Copy(c, r)
}

const (
	upgradeRequest = "GET http://o.example/chat?room=1 HTTP/1.1\r\nHost: o.example\r\nUpgrade: websocket\r\nConnection: keep-alive, upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nProxy-Secret: secret\r\n\r\n"
	upgradeResponse = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)

func TestUpgrade(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.serve("o.example", 80, websocket)
	for _, early := range []string{"", "early"} {
		w := l.dialHTTP(t)
		w.send(upgradeRequest + early)
		want := upgradeResponse + "welcome" + early
		if got := w.readN(len(want)); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if err := echoes(w); err != nil {
			t.Error(err)
		}
		w.CloseWrite()
		if rest := w.readAll(); rest != "" {
			t.Errorf("after the echo: got %q, want the end", rest)
		}
	}
}

func TestUpgradeThroughConnect(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.serve("o.example", 443, websocket)
	w := l.connectRaw(t, "o.example:443")
	w.send(strings.Replace(strings.Replace(upgradeRequest, "http://o.example", "", 1), "keep-alive, upgrade", "Upgrade", 1))
	if a := w.readHeader("GET"); a.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %s, want 101", a.Status)
	}
	if got := w.readN(len("welcome")); got != "welcome" {
		t.Errorf("got %q, want %q", got, "welcome")
	}
}

// TestUpgradeResponses checks the other responses of an origin server to an
// upgrade.
func TestUpgradeResponses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, response string
		status         int
		body           string
	}{
		{"refused", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403, "no"},
		{"ignored", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nplain\r\n0\r\n\r\n", 200, "plain"},
		{"ignored, to the end", "HTTP/1.0 200 OK\r\n\r\nplain", 200, "plain"},
		{"426", "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n", 426, ""},
		{"1xx first", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 502, ""},
		{"no protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n", 502, ""},
		{"no Connection", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 502, ""},
		{"garbage", "garbage\r\n\r\n", 502, ""},
		{"nothing", "", 502, ""},
		{"a status below 100", "HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n", 502, ""},
		{"another version", "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n", 502, ""},
		{"a header without end", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 2<<20) + "\r\n\r\n", 502, ""},
		{"endless 1xx", strings.Repeat("HTTP/1.1 103 Early Hints\r\nX-A: "+strings.Repeat("a", 1000)+"\r\n\r\n", 2000), 502, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), nil)
			l.scripted("o.example", tt.response)
			w := l.dialHTTP(t)
			w.send(upgradeRequest)
			a := w.readResponse("GET")
			if a.StatusCode != tt.status || tt.status != 502 && a.body != tt.body {
				t.Errorf("got %s %q, want %d %q", a.Status, a.body, tt.status, tt.body)
			}
			if tt.status == 502 {
				if f := a.refusal(t); f.Reason != "upstream_error" {
					t.Errorf("got %+v, want the reason upstream_error", f)
				}
			}
			if strings.Contains(l.log.String(), "panic") {
				t.Errorf("the log has a panic: %s", l.log)
			}
		})
	}
}

// TestUpgradeIsAsked checks that one of the fields Upgrade and Connection alone
// does not request an upgrade, and is not forwarded.
func TestUpgradeIsAsked(t *testing.T) {
	t.Parallel()
	for _, fields := range [][]string{
		{"Upgrade: websocket"},
		{"Connection: upgrade"},
		{"Connection: keep-alive", "Upgrade: websocket"},
		{"Connection: upgraded", "Upgrade: websocket"},
	} {
		config := allow("o.example")
		config.Mode = networkproxy.ModeLimited // which refuses upgrades
		l := start(t, config, nil)
		headers := l.scripted("o.example", emptyResponse)
		w := l.dialHTTP(t)
		w.get("http://o.example/", fields...)
		if a := w.readResponse("GET"); a.StatusCode != 200 {
			t.Errorf("%q: got %s, want 200", fields, a.Status)
		}
		if head := wait(t, headers, "the request"); strings.Contains(strings.ToLower(head), "upgrade") {
			t.Errorf("%q: the origin server got %q, want no upgrade", fields, head)
		}
	}
}

// TestUpgradeOffers checks that protocols that carry requests are not offered to
// an origin server. A request for such protocols only is an ordinary request in
// every mode.
func TestUpgradeOffers(t *testing.T) {
	t.Parallel()
	const asked = "Connection: Upgrade"
	tests := []struct {
		name   string
		method string // and the version if it is not HTTP/1.1
		fields []string
		offer  string // what the origin server gets; empty: an ordinary request
	}{
		{"h2c", "GET", []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"}, ""},
		{"h2c, with its settings not named", "GET", []string{asked, "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"}, ""},
		{"h2c in capitals", "GET", []string{asked, "Upgrade: H2C"}, ""},
		{"h2c of a version", "GET", []string{asked, "Upgrade: h2c/14"}, ""},
		{"h2c with a body", "POST", []string{asked, "Upgrade: h2c", "Content-Length: 2"}, ""},
		{"h2c and nothing", "GET", []string{asked, "Upgrade: , h2c\t,"}, ""},
		{"HTTP/2.0", "GET", []string{asked, "Upgrade: HTTP/2.0"}, ""},
		{"HTTP/1.1", "GET", []string{asked, "Upgrade: http/1.1"}, ""},
		{"HTTP with a space", "GET", []string{asked, "Upgrade: HTTP /2.0"}, ""},
		{"TLS", "OPTIONS", []string{asked, "Upgrade: TLS/1.0"}, ""},
		{"several", "GET", []string{asked, "Upgrade: TLS/1.3, h2c, HTTP/3"}, ""},
		{"several fields", "GET", []string{asked, "Upgrade: TLS/1.3", "Upgrade: h2c"}, ""},
		{"nothing", "GET", []string{asked, "Upgrade:"}, ""},
		{"HTTP/1.0", "GET HTTP/1.0", []string{asked, "Upgrade: websocket"}, ""}, // RFC 9110 section 7.8

		{"websocket", "GET", []string{asked, "Upgrade: websocket"}, "websocket"},
		{"h2c first", "GET", []string{asked, "Upgrade: h2c, websocket", "HTTP2-Settings: AAMAAABkAAQAAP__"}, "websocket"},
		{"h2c last", "GET", []string{asked, "Upgrade: WebSocket,h2c"}, "WebSocket"},
		{"h2c in a field of its own", "GET", []string{asked, "Upgrade: h2c", "Upgrade: websocket"}, "websocket"},
		{"others", "POST", []string{asked, "Upgrade: tcp", "Upgrade: TLS/1.0, SPDY/3.1", "Content-Length: 2"}, "tcp, SPDY/3.1"},
		{"like the name of one", "GET", []string{asked, "Upgrade: h2cx, httpx, xtls"}, "h2cx, httpx, xtls"},
	}
	for _, mode := range []networkproxy.Mode{networkproxy.ModeFull, networkproxy.ModeLimited} {
		for _, tt := range tests {
			t.Run(string(mode)+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				config := allow("o.example")
				config.Mode = mode
				l := start(t, config, nil)
				got := make(chan *http.Request, 1)
				l.serve("o.example", 80, func(c *net.TCPConn) {
					r, err := http.ReadRequest(bufio.NewReader(c))
					if err != nil {
						return
					}
					io.Copy(io.Discard, r.Body)
					got <- r
					io.WriteString(c, emptyResponse)
				})
				method, version, ok := strings.Cut(tt.method, " ")
				if !ok {
					version = "HTTP/1.1"
				}
				w := l.dialHTTP(t)
				w.send(method + " http://o.example/ " + version + "\r\nHost: o.example\r\n" + lines(tt.fields) + "\r\n")
				if strings.Contains(lines(tt.fields), "Content-Length") {
					w.send("ok")
				}
				a := w.readResponse(method)
				if mode == networkproxy.ModeLimited && (tt.offer != "" || method == "POST") {
					if a.StatusCode != http.StatusForbidden {
						t.Errorf("got %s, want %d", a.Status, http.StatusForbidden)
					}
					return
				}
				if a.StatusCode != http.StatusOK {
					t.Fatalf("got %s %s", a.Status, a.body)
				}
				r := wait(t, got, "the request")
				wantConnection := ""
				if tt.offer != "" {
					wantConnection = "Upgrade"
				}
				if u, c, s := r.Header.Values("Upgrade"), r.Header.Get("Connection"), r.Header["Http2-Settings"]; strings.Join(u, "|") != tt.offer || c != wantConnection || s != nil {
					t.Errorf("the origin server got the offer %q, Connection %q, HTTP2-Settings %q; want the offer %q", u, c, s, tt.offer)
				}
			})
		}
	}
}

// TestUpgradeNotOffered checks that an origin server that switches to a protocol
// that was not offered does not get the connection.
func TestUpgradeNotOffered(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, asked, switched string }{
		{"a removed offer", "h2c, websocket", "Upgrade: h2c"},
		{"the only offer, removed", "h2c", "Upgrade: h2c"},
		{"TLS", "TLS/1.0", "Upgrade: TLS/1.0, HTTP/1.1"},
		{"a protocol that was not requested", "websocket", "Upgrade: h2c"},
		{"one more than was asked for", "websocket", "Upgrade: websocket, h2c"},
		{"one more, in another field", "websocket", "Upgrade: websocket\r\nUpgrade: h2c"},
		{"one more, in front", "websocket", "Upgrade: h2c\r\nUpgrade: websocket"},
		{"both that were asked for", "websocket, tcp", "Upgrade: websocket, tcp"},
		{"another version of the protocol", "SPDY/3.1", "Upgrade: SPDY/2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), nil)
			got := make(chan string, 1)
			l.serve("o.example", 80, func(c *net.TCPConn) {
				r := bufio.NewReader(c)
				readHeader(r)
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+tt.switched+"\r\n\r\n")
				rest, _ := io.ReadAll(r)
				got <- string(rest)
			})
			w := l.dialHTTP(t)
			w.get("http://o.example/", "Connection: Upgrade", "Upgrade: "+tt.asked)
			if a := w.readResponse("GET"); a.StatusCode != http.StatusBadGateway {
				t.Errorf("got %s, want %d", a.Status, http.StatusBadGateway)
			}
			w.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") // RFC 9113 section 3.4
			w.CloseWrite()
			w.readAll()
			if rest := wait(t, got, "the end of the origin server's connection"); rest != "" {
				t.Errorf("after the request, the origin server got %q, want nothing", rest)
			}
		})
	}
}

// TestTransportUpgradeOffers checks the same for the host's own requests.
func TestTransportUpgradeOffers(t *testing.T) {
	t.Parallel()
	config := allow("o.example")
	config.Mode = networkproxy.ModeLimited
	l := start(t, config, nil)
	headers := l.scripted("o.example", emptyResponse)
	for asked, want := range map[string]bool{"h2c": true, "TLS/1.0": true, "websocket": false, "h2c, websocket": false} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://o.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Connection", "Upgrade, HTTP2-Settings")
		r.Header.Set("Upgrade", asked)
		r.Header.Set("HTTP2-Settings", "AAMAAABkAAQAAP__")
		resp, err := l.Transport(networkproxy.Attribution{}).RoundTrip(r)
		if (err == nil) != want {
			t.Errorf("%q: got the error %v, want success: %t", asked, err, want)
		}
		if err != nil {
			continue
		}
		resp.Body.Close()
		if head := wait(t, headers, "the request"); strings.Contains(strings.ToLower(head), "upgrade") || strings.Contains(head, "Http2-Settings") {
			t.Errorf("%q: the origin server got %q, want no upgrade", asked, head)
		}
		if r.Header.Get("Upgrade") != asked {
			t.Errorf("%q: the host's request was changed", asked)
		}
	}
}

func TestUpgradeWithBody(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.serve("o.example", 80, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(request.Body)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"+string(body))
		io.Copy(c, r)
	})
	w := l.dialHTTP(t)
	w.request("POST", "http://o.example/", "Connection: Upgrade", "Upgrade: other, Echo", "Content-Length: 7")
	w.send("content")
	if a := w.readHeader("POST"); a.StatusCode != 101 || a.Header.Get("Upgrade") != "echo" {
		t.Fatalf("got %s with the header %v, want 101 and Upgrade: echo", a.Status, a.Header)
	}
	if got := w.readN(7); got != "content" {
		t.Errorf("the origin server got the body %q, want %q", got, "content")
	}
	if err := echoes(w); err != nil {
		t.Error(err)
	}
}

// TestUpgradeClientLeaves checks that the wait for the origin server's response
// ends with the client.
func TestUpgradeClientLeaves(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	got, gone := make(chan string, 1), make(chan struct{})
	l.serve("o.example", 80, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		got <- readHeader(r)
		io.Copy(io.Discard, r)
		close(gone)
	})
	w := l.dialHTTP(t)
	w.send(upgradeRequest)
	wait(t, got, "the request")
	w.Close()
	wait(t, gone, "the end of the origin server's connection")
}

// TestLimitedMode checks that the limited mode allows only GET, HEAD and OPTIONS
// over plain HTTP.
func TestLimitedMode(t *testing.T) {
	t.Parallel()
	config := allow("o.example", "127.0.0.1:9000")
	config.Policy.DeniedDomains = []string{"denied.example"}
	config.Mode = networkproxy.ModeLimited
	l := start(t, config, nil)
	l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) {})
	for _, tt := range []struct {
		method, target string
		fields         []string
		want           networkproxy.Reason
	}{
		{"GET", "http://o.example/", nil, ""},
		{"HEAD", "http://o.example/", nil, ""},
		{"OPTIONS", "http://o.example/", nil, ""},
		{"get", "http://o.example/", nil, networkproxy.ReasonMethodNotAllowed},
		{"GET", "http://o.example/", []string{"Connection: Upgrade", "Upgrade: websocket"}, networkproxy.ReasonMethodNotAllowed},
		{"POST", "http://o.example/", nil, networkproxy.ReasonMethodNotAllowed},
		{"PUT", "http://o.example/", nil, networkproxy.ReasonMethodNotAllowed},
		{"TRACE", "http://o.example/", nil, networkproxy.ReasonMethodNotAllowed},
		{"PROPFIND", "http://o.example/", nil, networkproxy.ReasonMethodNotAllowed},
		{"CONNECT", "o.example:80", nil, networkproxy.ReasonMethodNotAllowed},
		// Servers with some frameworks take the method from these fields.
		{"GET", "http://o.example/", []string{"X-HTTP-Method-Override: POST"}, networkproxy.ReasonMethodNotAllowed},
		{"GET", "http://o.example/", []string{"X-HTTP-Method-Override: HEAD"}, ""},
		// The lists come first.
		{"POST", "http://other.example/", nil, networkproxy.ReasonNotAllowed},
		{"CONNECT", "denied.example:443", nil, networkproxy.ReasonDenied},
		{"CONNECT", "127.0.0.1:80", nil, networkproxy.ReasonNotAllowedLocal},
		{"CONNECT", "127.0.0.1:9000", nil, networkproxy.ReasonMethodNotAllowed},
	} {
		w := l.dialHTTP(t)
		w.request(tt.method, tt.target, append(tt.fields, "Content-Length: 0")...)
		a := w.readHeader(tt.method)
		var got networkproxy.Reason
		if list := l.Blocked(); a.StatusCode == 403 {
			got = list[len(list)-1].Reason
		}
		if got != tt.want || a.StatusCode != 200 && a.Header.Get("x-proxy-error") != errorTokens[tt.want] {
			t.Errorf("%s %s %q: got %s with the reason %q, want the reason %q", tt.method, tt.target, tt.fields, a.Status, got, tt.want)
		}
	}
	// Requests that the mode forbids are refused before a look-up.
	for _, name := range l.dns.Queries() {
		if name != "o.example" {
			t.Errorf("looked up %q, want only o.example", name)
		}
	}
	if n := len(l.dns.Queries()); n > 4 {
		t.Errorf("%d look-ups, want at most 4", n)
	}
}

// TestShutdownEndsTunnels checks that a tunnel is cut at the end of the drain, and
// that both its connections end.
func TestShutdownEndsTunnels(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	gone := make(chan struct{})
	l.serve("o.example", 443, func(c *net.TCPConn) {
		io.Copy(io.Discard, c)
		close(gone)
	})
	w := l.connectRaw(t, "o.example:443")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: got %v, want %v", err, context.Canceled)
	}
	w.readAll()
	wait(t, gone, "the end of the connection to the target")
}
