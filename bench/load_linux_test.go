package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/networkproxy/internal/testnet"
)

// startBase starts the base in this process.
func startBase(t *testing.T) netip.AddrPort {
	t.Helper()
	p := newBaseProxy()
	p.allowed["127.0.0.1"] = true
	s := httptest.NewServer(p)
	t.Cleanup(func() {
		s.Close()
		p.upstream.CloseIdleConnections()
	})
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// startOrigin starts an origin and closes it at the end of the test.
func startOrigin(t *testing.T, start func() (origin, error)) origin {
	t.Helper()
	o, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.close(); err != nil {
			t.Errorf("close the origin: %v", err)
		}
	})
	return o
}

// runUntil runs a loop until it has done 100 units, and then stops it.
func runUntil(done *atomic.Int64, stop *atomic.Bool, loop func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- loop() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for done.Load() < 100 {
		select {
		case err := <-ended:
			return errors.Join(errors.New("the loop ended before it was stopped"), err)
		case <-tick.C:
		}
	}
	stop.Store(true)
	return <-ended
}

func TestClient(t *testing.T) {
	t.Parallel()
	proxy := startBase(t)
	o := startOrigin(t, startResponder)
	closing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "goodbye")
	}))
	t.Cleanup(closing.Close)

	large := startOrigin(t, func() (origin, error) { return startBodies(300_000) })

	get := func(host string) []byte {
		return []byte("GET http://" + host + "/ HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	}
	last := func(host string) []byte {
		return bytes.Replace(get(host), headerEnd, append(closeField, '\r', '\n'), 1)
	}
	at := o.addr().String()
	for _, test := range []struct {
		name string
		script
		fails string
	}{
		{"straight", script{to: o.addr(), request: get(at), status: 200}, ""},
		{"forwarded", script{to: proxy, request: get(at), status: 200}, ""},
		{"large body", script{to: proxy, request: get(large.addr().String()), status: 200}, ""},
		{"refused", script{to: proxy, request: get("refused.example"), status: 403}, ""},
		{"tunnels", script{to: proxy, tunnel: []byte("CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\n\r\n"),
			request: last(at), status: 200, reconnect: true}, ""},
		{"a server that closes", script{to: closing.Listener.Addr().(*net.TCPAddr).AddrPort(), request: get("x"), status: 200}, ""},
		{"another status", script{to: proxy, request: get("refused.example"), status: 200}, "403"},
		{"CONNECT refused", script{to: proxy, tunnel: []byte("CONNECT refused.example:443 HTTP/1.1\r\n\r\n"),
			request: get(at), status: 200}, "403"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := &client{script: test.script}
			c.record.Store(true)
			err := runUntil(&c.done, &c.stop, func() error { return c.run(4) })
			switch {
			case test.fails == "" && err != nil:
				t.Error(err)
			case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
				t.Errorf("got %v, want an error with %q", err, test.fails)
			case test.fails == "" && int64(len(c.latencies)) != c.done.Load():
				t.Errorf("%d responses, but %d latencies", c.done.Load(), len(c.latencies))
			}
		})
	}
}

func TestTunnels(t *testing.T) {
	t.Parallel()
	trial := &trial{
		ctx: t.Context(), workload: new(workload), candidate: new(candidate),
		proxy: &process{http: startBase(t)}, origin: startOrigin(t, startStreamer),
	}
	closeAll, err := trial.openIdle(3)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll()
	s, err := trial.openStreams(2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	both := func() bool { return s.received.Load() >= 1<<20 && s.moved()-s.received.Load() >= 1<<20 }
	if !testnet.Poll(time.Minute, both) {
		t.Error("the streams do not transfer data in both directions")
	}
}

// TestDatagrams uses an echo server as the relay. It sends each datagram back with
// its header, like a relay with an echoing origin.
func TestDatagrams(t *testing.T) {
	t.Parallel()
	for _, burst := range []int{1, inFlight} {
		t.Run(fmt.Sprint(burst), func(t *testing.T) {
			t.Parallel()
			testDatagrams(t, burst)
		})
	}
}

func testDatagrams(t *testing.T, burst int) {
	echo := startOrigin(t, func() (origin, error) { return startEchoer(burst) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var ask [10]byte
			io.ReadFull(c, ask[:3])
			c.Write([]byte{5, 0})
			io.ReadFull(c, ask[:])
			at := echo.addr()
			ip := at.Addr().As4()
			c.Write([]byte{5, 0, 0, 1, ip[0], ip[1], ip[2], ip[3], byte(at.Port() >> 8), byte(at.Port())})
			go func() {
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	u := &udpClient{burst: burst}
	err = runUntil(&u.done, &u.stop, func() error {
		return u.run(l.Addr().(*net.TCPAddr).AddrPort(), netip.MustParseAddrPort("127.0.0.1:9"))
	})
	if err != nil {
		t.Error(err)
	}
}

func TestParsePeer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value, name, command string
		bad                  bool
	}{
		{"squid", "squid", knownPeers()["squid"].command, false},
		{"mine=/bin/mine -listen {http}", "mine", "/bin/mine -listen {http}", false},
		{"squid=/opt/squid -x=y", "squid", "/opt/squid -x=y", false},
		{"unknown", "", "", true},
		{"mine= ", "", "", true},
		{"=/bin/mine", "", "", true},
		{"base=/bin/mine", "", "", true},
	} {
		c, err := parsePeer(test.value)
		if (err != nil) != test.bad || !test.bad && (c.name != test.name || c.command != test.command) {
			t.Errorf("parsePeer(%q) = %q, %q, %v", test.value, c.name, c.command, err)
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &setup{dir: dir, program: "/bin/np", allowed: []string{"a.example", "b.example"}, origin: netip.MustParseAddrPort("127.0.0.1:1")}
	if err := s.choosePorts(); err != nil {
		t.Fatal(err)
	}
	c := subject()
	args, err := c.arguments(s)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "networkproxy.toml")
	if got, want := strings.Join(args, " "), "/bin/np -config "+config; got != want {
		t.Errorf("arguments = %s, want %s", got, want)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{s.http.String(), s.admin.String(), "\"a.example\",\n\"b.example\"", "enable_socks5 = false"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the configuration lacks %q:\n%s", want, text)
		}
	}
	if strings.ContainsAny(string(text), "{}") {
		t.Errorf("a placeholder was not replaced:\n%s", text)
	}
	for name, c := range knownPeers() {
		c.read = builtin
		if _, err := c.arguments(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	missing := candidate{command: "x {file:/nonexistent/file}", read: os.ReadFile}
	if _, err := missing.arguments(s); err == nil {
		t.Error("arguments with a missing template returned no error")
	}
}
