//go:build e2e && linux

// This file tests HTTP/2, streams, and connections that are no longer HTTP.

package tls

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy/e2e/harness"
)

// python is Debian's interpreter. Another python3 in the PATH may lack Debian's packages.
const python = "/usr/bin/python3"

func TestStreaming(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"h2-mirror", testMirror},
		{"h2-no-alpn-client", testNoALPN},
		{"grpc-unary", testGRPCUnary},
		{"grpc-bidi", testGRPCBidirectional},
		{"grpc-client", testGRPCClient},
		{"sse", testEvents},
		{"expect-100", testExpect},
		{"early-hints", testEarlyHints},
		{"trailers", testTrailers},
		{"websocket-full", testWebSocketFull},
		{"websocket-limited", testWebSocketLimited},
		{"plain-in-tunnel", testPlainInTunnel},
		{"ssh-in-tunnel", testSSHInTunnel},
		{"origin-closes-idle", testOriginClosesIdle},
		{"alt-svc-removed", testAltSvc},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// anyRequest returns a hook that allows everything, so that a host is opened in full mode.
func anyRequest(host string) string { return hook(host, `methods = ["*"]`, `path_prefixes = ["/"]`) }

func testMirror(t *testing.T) {
	for kind, want := range map[string]string{"h1": "HTTP/1.1", "web": "HTTP/2.0"} {
		host := lab.host(kind)
		p := start(t, limited(host))
		got := p.run(t, "curl", "-sS", "--fail", "--http2", "-w", "%{http_version}", "https://"+host+"/hello").MustSucceed(t)
		version := map[string]string{"HTTP/1.1": "1.1", "HTTP/2.0": "2"}[want]
		if got.Stdout != helloBody(host)+version {
			t.Errorf("%s: curl got %q, want the body and version %s", kind, got.Stdout, version)
		}
		if received := lab.origins.received(host); len(received) != 1 || received[0].Proto != want {
			t.Errorf("%s: the origin server received %+v, want one request over %s", kind, received, want)
		}
	}
}

func testNoALPN(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	conn := p.tls(t, host+":443", host)
	if got := conn.ConnectionState().NegotiatedProtocol; got != "" {
		t.Errorf("the proxy selected %q, although the client offered nothing", got)
	}
	exchange(t, conn, "GET /hello HTTP/1.1\r\nHost: "+host+"\r\n\r\n").wantStatus(t, http.StatusOK)
	if received := lab.origins.received(host); len(received) != 1 || received[0].Proto != "HTTP/1.1" {
		t.Errorf("the origin server received %+v, want one request over HTTP/1.1", received)
	}
}

func testGRPCUnary(t *testing.T) {
	host := lab.host("web")
	p := start(t, full(hook(host, `methods = ["POST"]`, `path_prefixes = ["/"]`), host))
	c := p.client(t, http2)
	for _, size := range []int{0, 1, 100_000, 3 << 20} {
		if err := unary(c.Client, "https://"+host, strings.Repeat("x", size)); err != nil {
			t.Errorf("a message of %d bytes: %v", size, err)
		}
	}
	if got := c.get(t, "https://"+host+"/hello"); !got.opened(p) {
		t.Error("the connection was not opened")
	}
}

func testGRPCBidirectional(t *testing.T) {
	host := lab.host("web")
	p := start(t, full(hook(host, `methods = ["POST"]`, `path_prefixes = ["/"]`), host))
	c := p.client(t, http2)
	if err := bidirectional(c.Client, "https://"+host); err != nil {
		t.Error(err)
	}
	p.client(t, http2).get(t, "https://"+host+"/hello").wantRefusal(t, http.StatusForbidden, "mitm_hook_denied", "blocked-by-mitm-hook")
}

// testGRPCClient uses the client of gRPC itself. The command has no options for proxies and
// certificates: what it needs is in its environment, or in a fence.
func testGRPCClient(t *testing.T) {
	script, err := filepath.Abs("testdata/grpcfetch.py")
	if err != nil {
		t.Fatal(err)
	}
	eachWay(t, func(t *testing.T, flags []string) {
		host, other := lab.host("web"), lab.host("web")
		file := writeFile(t, "config.toml", []byte(full(hook(host, `methods = ["POST"]`, `path_prefixes = ["/grpc.test.Echo"]`)+
			hook(other, `methods = ["GET"]`, `path_prefixes = ["/"]`), host, other).toml("", "", "")))
		flags = append([]string{"-config", file}, flags...)
		got := runCommand(t, nil, flags, python, script, host+":443").MustSucceed(t)
		if want := "one OK done\n" + grpcGreeting + "\ntwo\nthree\n0 OK\n"; got.Stdout != want {
			t.Errorf("the client prints %q, want %q", got.Stdout, want)
		}
		for _, s := range lab.origins.received(host) {
			if s.Proto != "HTTP/2.0" {
				t.Errorf("the origin server received %s over %s", s.URI, s.Proto)
			}
		}
		if got := runCommand(t, nil, flags, python, script, other+":443"); got.Exit == 0 || !strings.Contains(got.Stderr, "PERMISSION_DENIED") {
			t.Errorf("a refused call: exit %d, %s; want PERMISSION_DENIED", got.Exit, got.Stderr)
		}
		wantNothing(t, other)
	})
}

// readEvents reads n events and returns how late each of them came.
func readEvents(t *testing.T, c client, base string, n int) (late []time.Duration) {
	t.Helper()
	resp, err := c.Do(request(t, "GET", base+"/sse", ""))
	if err != nil {
		t.Error(err)
		return nil
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); len(late) < n && lines.Scan(); {
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		sent, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Error(err)
			return late
		}
		late = append(late, time.Since(time.Unix(0, sent)))
	}
	return late
}

// testEvents reads 20 seconds of events. The proxy may add less than 200 ms to an event.
//
// A busy machine delays events as well. The same stream without the proxy, at the same
// time, shows by how much: what it adds to an event or to one beside it is subtracted. It
// does not show when the program itself waits for a processor, so one event in ten may be
// late. A proxy that holds events back delays all of them: until the next event, which is
// eventInterval, or until a buffer is full, or for the period of a timer.
func testEvents(t *testing.T) {
	const most, mayBeLate = 200 * time.Millisecond, eventCount / 10
	host := lab.host("web")
	p := start(t, limited(host))
	eachVersion(t, func(t *testing.T, version string) {
		var alone []time.Duration
		var wg sync.WaitGroup
		wg.Go(func() { alone = readEvents(t, p.clientBy(t, direct, version), "https://"+host, eventCount) })
		late := readEvents(t, p.client(t, version), "https://"+host, eventCount)
		wg.Wait()
		if len(late) != eventCount || len(alone) != eventCount {
			t.Fatalf("%d events, and %d without the proxy; want %d", len(late), len(alone), eventCount)
		}
		added := make([]time.Duration, eventCount)
		tooLate := 0
		for i := range added {
			added[i] = late[i] - slices.Max(alone[max(i-1, 0):min(i+2, eventCount)])
			if added[i] >= most {
				tooLate++
			}
		}
		if tooLate > mayBeLate {
			t.Errorf("the proxy delays %d of %d events by %v or more, want at most %d: %v", tooLate, eventCount, most, mayBeLate, added)
		}
		t.Logf("events are at most %v late, %v without the proxy; %d are too late", slices.Max(late), slices.Max(alone), tooLate)
	})
}

// testExpect sends Expect: 100-continue. A refused request gets its response although the
// client never sends the content.
func testExpect(t *testing.T) {
	host := lab.host("web")
	p := start(t, full(hook(host, `methods = ["POST"]`, `path_prefixes = ["/v1"]`), host))
	t.Run("raw", func(t *testing.T) {
		conn := p.tls(t, host+":443", host, http1)
		reader := bufio.NewReader(conn)
		fmt.Fprintf(conn, "POST /v1 HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", host)
		if line, err := reader.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
			t.Fatalf("%q, %v; want status 100 before the content", line, err)
		}
		reader.ReadString('\n')
		io.WriteString(conn, "data")
		resp, err := http.ReadResponse(reader, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("after the content: %v, %v; want status 200", resp, err)
		}

		refused := p.tls(t, host+":443", host, http1)
		exchange(t, refused, "POST /v2 HTTP/1.1\r\nHost: "+host+"\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").
			wantRefusal(t, http.StatusForbidden, "mitm_hook_denied", "blocked-by-mitm-hook")
	})
	eachVersion(t, func(t *testing.T, version string) {
		c := p.client(t, version)
		c.Transport.(*http.Transport).ExpectContinueTimeout = harness.Timeout
		for path, want := range map[string]int{"/v1/big": http.StatusOK, "/v2/big": http.StatusForbidden} {
			var read bytes.Buffer
			req := request(t, "POST", "https://"+host+path, "")
			req.Body, req.ContentLength = io.NopCloser(io.TeeReader(stream(1<<20), &read)), 1<<20
			req.Header.Set("Expect", "100-continue")
			got := c.do(t, req).wantStatus(t, want)
			if want == http.StatusOK {
				if digest, _ := digestOf(stream(1 << 20)); got.seen(t).Body != digest {
					t.Errorf("the origin server received %s, want %s", got.seen(t).Body, digest)
				}
				if !slices.Contains(got.informational, http.StatusContinue) {
					t.Errorf("informational responses %v, want 100", got.informational)
				}
			} else if read.Len() > 0 {
				t.Errorf("the client sent %d bytes of a refused request that waits for 100", read.Len())
			}
		}
	})
}

func testEarlyHints(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	eachVersion(t, func(t *testing.T, version string) {
		got := p.client(t, version).get(t, "https://"+host+"/early").wantStatus(t, http.StatusOK)
		if !slices.Equal(got.informational, []int{http.StatusEarlyHints}) || got.body != "late\n" {
			t.Errorf("informational responses %v, body %q; want 103 and the body", got.informational, got.body)
		}
	})
}

// checkTrailers checks that trailers pass both ways.
func checkTrailers(t *testing.T, c client, base string) {
	t.Helper()
	req := request(t, "POST", base+"/trailers", "")
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader("data")), -1
	req.Trailer = http.Header{"X-Checksum": {"abc"}}
	got := c.do(t, req).wantStatus(t, http.StatusOK)
	if want := "from the client: abc"; got.trailer.Get("X-Checksum") != want || !strings.HasPrefix(got.body, "4 ") {
		t.Errorf("body %q, trailer %v; want 4 bytes and %q", got.body, got.trailer, want)
	}
}

func testTrailers(t *testing.T) {
	host := lab.host("web")
	p := start(t, full(anyRequest(host), host))
	eachVersion(t, func(t *testing.T, version string) { checkTrailers(t, p.client(t, version), "https://"+host) })
}

// checkWebSocket upgrades a connection and checks that messages come back.
func checkWebSocket(t *testing.T, conn net.Conn, host, path string) {
	t.Helper()
	fmt.Fprint(conn, harness.UpgradeRequest(path, host))
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	harness.CheckWebSocket(t, resp, conn, reader)
}

// testWebSocketFull uses the library of Python and a client of its own.
func testWebSocketFull(t *testing.T) {
	host := lab.host("web")
	p := start(t, full(hook(host, `methods = ["GET"]`, `path_prefixes = ["/ws"]`), host))
	conn := p.tls(t, host+":443", host, http1)
	if conn.ConnectionState().PeerCertificates[0].CheckSignatureFrom(p.ca) != nil {
		t.Error("the connection was not opened")
	}
	checkWebSocket(t, conn, host, "/ws")

	cmd := p.command(t.Context(), t, python, "../testdata/websocket.py", p.http, "wss://"+host+"/ws")
	messages := "one\ntwo\n" + strings.Repeat("three ", 20000) + "\n"
	cmd.Stdin = strings.NewReader(messages)
	if got := harness.Run(t, cmd).MustSucceed(t).Stdout; got != messages {
		t.Errorf("the echo has %d bytes, want %d", len(got), len(messages))
	}
	exchange(t, p.tls(t, host+":443", host, http1), harness.UpgradeRequest("/v2/ws", host)).
		wantRefusal(t, http.StatusForbidden, "mitm_hook_denied", "blocked-by-mitm-hook")
}

func testWebSocketLimited(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	exchange(t, p.tls(t, host+":443", host, http1), harness.UpgradeRequest("/ws", host)).
		wantRefusal(t, http.StatusForbidden, "method_not_allowed", "blocked-by-method-policy")
	wantNothing(t, host)
}

func testPlainInTunnel(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	got := exchange(t, p.tunnel(t, host+":80"), "GET /hello HTTP/1.1\r\nHost: "+host+"\r\n\r\n").wantStatus(t, http.StatusOK)
	if got.body != helloBody(host) {
		t.Errorf("body %q, want %q", got.body, helloBody(host))
	}
	got = exchange(t, p.tunnel(t, host+":80"), "POST /v1 HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 4\r\n\r\ndata")
	if got.status != http.StatusForbidden || got.header.Get("X-Proxy-Error") != "blocked-by-method-policy" {
		t.Errorf("POST: status %d, %v; want 403, blocked-by-method-policy", got.status, got.header)
	}
	if received := lab.origins.received(host); len(received) != 1 {
		t.Errorf("the origin server received %+v, want one request", received)
	}
	// HTTP/2 without TLS would hide its requests.
	conn := p.tunnel(t, host+":80")
	io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	if text, _ := io.ReadAll(conn); bytes.Contains(text, []byte{0, 0, 4}) {
		t.Errorf("HTTP/2 without TLS: the proxy sent %q", text)
	}
	p.wantBlocked(t, refusal{Host: host, Port: 80, Reason: "mitm_required"})
}

// testSSHInTunnel sends the greeting of an SSH client. No byte of it reaches the server.
func testSSHInTunnel(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	before := lab.origins.receivedBytes()
	conn := p.tunnel(t, host+":22")
	io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n")
	if text, err := io.ReadAll(conn); len(text) > 0 || isTimeout(err) {
		t.Errorf("the proxy sent %q, %v; want a closed connection", text, err)
	}
	p.wantBlocked(t, refusal{Host: host, Port: 22, Reason: "mitm_required"})
	if got := lab.origins.receivedBytes() - before; got != 0 {
		t.Errorf("the server received %d bytes, want none", got)
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// testOriginClosesIdle uses an origin server that closes connections sooner than the
// client uses them again.
func testOriginClosesIdle(t *testing.T) {
	host := lab.host("idle")
	p := start(t, limited(host))
	eachVersion(t, func(t *testing.T, version string) {
		c := p.client(t, version)
		for range 3 {
			c.get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK)
			<-time.After(400 * time.Millisecond) // the origin server's limit is 200 ms
		}
	})
}

// testAltSvc checks that the offer of HTTP/3 does not reach the client.
func testAltSvc(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	eachVersion(t, func(t *testing.T, version string) {
		if got := p.client(t, version).get(t, "https://"+host+"/v1"); got.header.Get("Alt-Svc") != "" {
			t.Errorf("the response has Alt-Svc %q", got.header.Get("Alt-Svc"))
		}
	})
}

// TestBigBodies transfers 1 GiB in both directions and both versions. It does not run at
// the same time as other tests, because it measures memory.
func TestBigBodies(t *testing.T) {
	size := int64(1 << 30)
	if testing.Short() {
		size = 64 << 20
	}
	host := lab.host("web")
	c := full(anyRequest(host), host)
	c.Program = "networkproxy-fast"
	p := start(t, c)
	p.client(t, http1).get(t, "https://"+host+"/hello")
	idle := p.memory(t)
	digest, _ := digestOf(stream(size))
	for _, version := range []string{http1, http2} {
		c := p.client(t, version)
		resp, err := c.Do(request(t, "GET", fmt.Sprintf("https://%s/stream/%d", host, size), ""))
		if err != nil {
			t.Fatal(err)
		}
		got, err := digestOf(resp.Body)
		resp.Body.Close()
		if err != nil || got != digest {
			t.Errorf("download over %s: %s, %v; want %s", version, got, err, digest)
		}
		req := request(t, "POST", "https://"+host+"/v1", "")
		req.Body, req.ContentLength = io.NopCloser(stream(size)), size
		if got := c.do(t, req).wantStatus(t, http.StatusOK).seen(t).Body; got != digest {
			t.Errorf("upload over %s: the origin server received %s, want %s", version, got, digest)
		}
	}
	if peak := p.memory(t); peak > idle+64<<20 {
		t.Errorf("the peak of memory is %d MiB, and %d MiB when idle; want less than 64 MiB more", peak>>20, idle>>20)
	} else {
		t.Logf("the peak of memory is %d MiB, and %d MiB when idle", peak>>20, idle>>20)
	}
}

// memory returns the peak of the program's resident memory in bytes.
func (p *proxy) memory(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("/proc has no VmHWM")
	return 0
}
