// Tests of the connect command, with this project's proxy and with fake ones.

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// runProxy runs a proxy that allows one local address and port.
func runProxy(t *testing.T, allowed netip.AddrPort) *networkproxy.Handle {
	t.Helper()
	config := networkproxy.DefaultConfig()
	config.Enabled, config.EnableSOCKS5 = true, true
	config.Policy.AllowedDomains = []string{allowed.String()}
	proxy, err := networkproxy.NewBuilder().Config(config).
		HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").SOCKSAddr("127.0.0.1:0").Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := proxy.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// connection is one run of the command.
type connection struct {
	stdin          io.Reader
	env            map[string]string
	hangup         chan os.Signal
	stdout, stderr bytes.Buffer
}

func (c *connection) run(t *testing.T, args ...string) (status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if c.stdin == nil {
		c.stdin = strings.NewReader("")
	}
	p := program{
		stdin: c.stdin, stdout: &c.stdout, stderr: &c.stderr,
		getenv: func(name string) string { return c.env[name] }, hangup: c.hangup,
	}
	status = p.main(ctx, append([]string{"connect"}, args...))
	if ctx.Err() != nil {
		t.Fatal("the command did not end")
	}
	return status
}

func TestConnect(t *testing.T) {
	t.Parallel()
	// A server that sends first, echoes, and sends last.
	target := testnet.Serve(t, func(c *net.TCPConn) {
		io.WriteString(c, "banner\n")
		n, _ := io.Copy(c, c)
		fmt.Fprintf(c, "\n%d bytes", n)
	}).AddrPort()
	h := runProxy(t, target)
	sent := strings.Repeat("0123456789", 100_000)
	want := "banner\n" + sent + "\n1000000 bytes"
	for _, proxy := range []string{
		"http://" + h.HTTPAddr(), "http://" + h.HTTPAddr() + "/", h.HTTPAddr(),
		"socks5h://" + h.SOCKSAddr(), "socks5://" + h.SOCKSAddr(),
	} {
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			c := connection{stdin: strings.NewReader(sent)}
			if status := c.run(t, "-proxy", proxy, target.String()); status != exitOK || c.stdout.String() != want {
				t.Errorf("status %d, %d bytes of output, %s", status, c.stdout.Len(), c.stderr.String())
			}
			c = connection{}
			if status := c.run(t, "-proxy", proxy, target.Addr().String(), fmt.Sprint(target.Port())); status != exitOK || c.stdout.String() != "banner\n\n0 bytes" {
				t.Errorf("separate host and port: status %d, %q, %s", status, c.stdout.String(), c.stderr.String())
			}
		})
	}
}

func TestConnectReportsRefusal(t *testing.T) {
	t.Parallel()
	h := runProxy(t, netip.MustParseAddrPort("127.0.0.1:1"))
	for proxy, tests := range map[string]map[string]string{
		"http://" + h.HTTPAddr(): {
			"git.example:22":  "connect git.example:22: networkproxy blocked git.example:22: the host is not on the allowlist.",
			"169.254.0.1:80":  "not a public address",
			"127.0.0.1:1":     "refused",
			"[2001:db8::1]:1": "[2001:db8::1]:1",
		},
		"socks5h://" + h.SOCKSAddr(): {
			"git.example:22": "connect git.example:22: the proxy's policy refused the target",
			"127.0.0.1:1":    "connection refused",
		},
		"http://127.0.0.1:1":    {"git.example:22": "cannot connect to the proxy"},
		"socks5h://127.0.0.1:1": {"git.example:22": "cannot connect to the proxy"},
	} {
		for target, want := range tests {
			c := connection{}
			if status := c.run(t, "-proxy", proxy, target); status != exitError || !strings.Contains(c.stderr.String(), want) || c.stdout.Len() > 0 {
				t.Errorf("%s through %s: status %d, stderr %q, stdout %q; want stderr with %q", target, proxy, status, c.stderr.String(), c.stdout.String(), want)
			}
		}
	}
}

func TestConnectArguments(t *testing.T) {
	t.Parallel()
	target := testnet.Serve(t, func(c *net.TCPConn) { io.WriteString(c, "hello") }).AddrPort()
	h := runProxy(t, target)
	good, bad := "http://"+h.HTTPAddr(), "http://127.0.0.1:1"
	tests := []struct {
		name   string
		args   []string
		env    map[string]string
		status int
		stderr string
	}{
		{"ALL_PROXY", []string{target.String()}, map[string]string{"ALL_PROXY": good, "HTTPS_PROXY": bad}, exitOK, ""},
		{"all_proxy", []string{target.String()}, map[string]string{"all_proxy": "socks5h://" + h.SOCKSAddr()}, exitOK, ""},
		{"HTTPS_PROXY", []string{target.String()}, map[string]string{"HTTPS_PROXY": good, "HTTP_PROXY": bad}, exitOK, ""},
		{"https_proxy", []string{target.String()}, map[string]string{"https_proxy": good}, exitOK, ""},
		{"the flag first", []string{"-proxy", good, target.String()}, map[string]string{"ALL_PROXY": bad}, exitOK, ""},
		{"no proxy", []string{target.String()}, map[string]string{"HTTP_PROXY": good}, exitError, "set ALL_PROXY or HTTPS_PROXY"},
		{"no target", nil, map[string]string{"ALL_PROXY": good}, exitUsage, "name one target"},
		{"three arguments", []string{"a", "1", "2"}, map[string]string{"ALL_PROXY": good}, exitUsage, "name one target"},
		{"no port", []string{"git.example"}, map[string]string{"ALL_PROXY": good}, exitError, "no port"},
		{"a second request", []string{"git.example:22 HTTP/1.1\r\nX: y"}, map[string]string{"ALL_PROXY": good}, exitError, "invalid host"},
		{"a URL", []string{"https://git.example/"}, map[string]string{"ALL_PROXY": good}, exitError, "invalid host"},
		{"an HTTPS proxy", []string{target.String()}, map[string]string{"ALL_PROXY": "https://u:secret@127.0.0.1:1"}, exitError, `scheme "https"`},
		{"a proxy without a port", []string{target.String()}, map[string]string{"ALL_PROXY": "http://u:secret@127.0.0.1"}, exitError, "host:port"},
		{"not a URL", []string{target.String()}, map[string]string{"ALL_PROXY": "http://u:secret@%zz:1"}, exitError, "ALL_PROXY is not a proxy URL"},
		{"an unknown flag", []string{"-no"}, nil, exitUsage, "unknown flag -no (networkproxy connect -h for help)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := connection{env: test.env}
			status := c.run(t, test.args...)
			if status != test.status || !strings.Contains(c.stderr.String(), test.stderr) {
				t.Errorf("status %d, stderr %q; want %d, %q", status, c.stderr.String(), test.status, test.stderr)
			}
			if strings.Contains(c.stderr.String(), "secret") {
				t.Errorf("stderr contains the password: %q", c.stderr.String())
			}
			if hello := c.stdout.String() == "hello"; hello != (test.status == exitOK && test.stderr == "") {
				t.Errorf("output %q", c.stdout.String())
			}
		})
	}
}

// fakeProxy sends responses on every connection, one after each request. A request
// ends with terminator or, if that is empty, with the first read. read returns
// everything that was received.
func fakeProxy(t *testing.T, terminator string, responses ...string) (addr string, read func() string) {
	t.Helper()
	var mu sync.Mutex
	var all []byte
	o := testnet.Serve(t, func(c *net.TCPConn) {
		for _, response := range responses {
			b := make([]byte, 4096)
			for seen := []byte(nil); len(seen) == 0 || !bytes.HasSuffix(seen, []byte(terminator)); {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				seen = append(seen, b[:n]...)
				mu.Lock()
				all = append(all, b[:n]...)
				mu.Unlock()
			}
			io.WriteString(c, response)
		}
	})
	return o.AddrPort().String(), func() string {
		mu.Lock()
		defer mu.Unlock()
		return string(all)
	}
}

func TestConnectSendsCredentials(t *testing.T) {
	t.Parallel()
	addr, read := fakeProxy(t, "\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nhello")
	c := connection{}
	if status := c.run(t, "-proxy", "http://session:a%20b@"+addr, "git.example:22"); status != exitOK || c.stdout.String() != "hello" {
		t.Errorf("status %d, %q, %s", status, c.stdout.String(), c.stderr.String())
	}
	want := "CONNECT git.example:22 HTTP/1.1\r\nHost: git.example:22\r\nProxy-Authorization: Basic c2Vzc2lvbjphIGI=\r\n\r\n"
	if got := read(); got != want {
		t.Errorf("sent %q, want %q", got, want)
	}

	addr, read = fakeProxy(t, "", "\x05\x02", "\x01\x00", "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01hello")
	c = connection{}
	if status := c.run(t, "-proxy", "socks5h://session:ab@"+addr, "git.example:22"); status != exitOK || c.stdout.String() != "hello" {
		t.Errorf("status %d, %q, %s", status, c.stdout.String(), c.stderr.String())
	}
	if got, want := read(), "\x05\x02\x00\x02"+"\x01\x07session\x02ab"+"\x05\x01\x00\x03\x0bgit.example\x00\x16"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
}

// TestConnectFakeProxy sends responses that are not HTTP, are endless, or are
// unsafe to print on a terminal.
func TestConnectFakeProxy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ response, stderr string }{
		"not HTTP":         {"SSH-2.0-test\r\n\r\n", "proxy: response is not HTTP/1.1"},
		"nothing":          {"", "proxy: connection closed before the end of the response header"},
		"an endless field": {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), "proxy: response header larger than 65536 bytes"},
		"no text":          {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "proxy: response status 403 Forbidden"},
		"an endless text":  {"HTTP/1.1 403 Forbidden\r\n\r\nno" + strings.Repeat("!", 1<<20), "no!!!"},
		"control bytes":    {"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\n\x1b[31mno\r\nway", "[31mno\nway"},
		"407":              {"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, _ := fakeProxy(t, "\r\n\r\n", test.response)
			c := connection{}
			status := c.run(t, "-proxy", "http://"+addr, "git.example:22")
			if got := c.stderr.String(); status != exitError || !strings.Contains(got, test.stderr) || strings.ContainsAny(got, "\x1b\r") || len(got) > 64<<10+200 {
				t.Errorf("status %d, stderr %.200q; want %q", status, got, test.stderr)
			}
			if c.stdout.Len() > 0 {
				t.Errorf("output %q", c.stdout.String())
			}
		})
	}
}

// TestConnectHangup sends SIGHUP, as ssh does to end its ProxyCommand, at
// different stages of a connection.
func TestConnectHangup(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, proxy string }{
		{"while CONNECT waits", "http://%s"}, {"while SOCKS5 waits", "socks5h://%s"}, {"in a tunnel", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stdin, input := io.Pipe()
			defer input.Close()
			c := connection{stdin: stdin, hangup: make(chan os.Signal, 1)}
			// The signal arrives while the command waits for this server.
			silent := testnet.Serve(t, func(conn *net.TCPConn) {
				if test.proxy != "" {
					conn.Read(make([]byte, 1))
				}
				c.hangup <- os.Interrupt
				io.Copy(io.Discard, conn)
			}).AddrPort()
			proxy := fmt.Sprintf(test.proxy, silent)
			if test.proxy == "" {
				proxy = "http://" + runProxy(t, silent).HTTPAddr()
			}
			c.run(t, "-proxy", proxy, silent.String()) // fails the test if it does not end
		})
	}
}

// TestConnectDoesNotResolve checks that the proxy gets the host name itself.
func TestConnectDoesNotResolve(t *testing.T) {
	t.Parallel()
	addr, read := fakeProxy(t, "", "\x05\x00", "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")
	c := connection{}
	if status := c.run(t, "-proxy", "socks5://"+addr, "Git.Example.:22"); status != exitError {
		t.Errorf("status %d", status)
	}
	if !strings.Contains(read(), "\x03\x0bgit.example\x00\x16") {
		t.Errorf("the proxy received %q", read())
	}
}
