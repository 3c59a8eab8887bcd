// Tests of sessions with SOCKS5: their own listeners, and tokens on the shared
// listener.

package networkproxy_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// connectSOCKS requests name:port from a SOCKS5 listener, with a password if it is
// not empty. It returns the connection and 0xFF if the methods were refused, 0xFE
// if the password was wrong, or the reply.
func connectSOCKS(t testing.TB, addr, password, name string, port uint16) (net.Conn, byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testTimeout))
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Fatalf("SOCKS5: %v", err)
		}
		return b
	}
	// Clients with a password also offer the method without (RFC 1928 section 3).
	methods := []byte{5, 1, 0}
	if password != "" {
		methods = []byte{5, 2, 0, 2}
	}
	conn.Write(methods)
	switch method := read(2)[1]; method {
	case 0xFF:
		return conn, 0xFF
	case 2: // RFC 1929
		conn.Write(append([]byte{1, 1, 'x', byte(len(password))}, password...))
		if read(2)[1] != 0 {
			return conn, 0xFE
		}
	}
	request := append([]byte{5, 1, 0, 3, byte(len(name))}, name...)
	conn.Write(binary.BigEndian.AppendUint16(request, port))
	reply := read(4)
	if reply[1] == 0 {
		read(map[byte]int{1: 6, 4: 18}[reply[3]])
	}
	return conn, reply[1]
}

func TestSessionsBySOCKS(t *testing.T) {
	t.Parallel()
	const noMethod, noPassword, refused = 0xFF, 0xFE, 2
	guess := strings.Repeat("A", 43) // has the form of a token
	for _, required := range []bool{false, true} {
		asked := make(chan string, 1)
		config := allow("echo.example")
		config.EnableSOCKS5 = true
		l := start(t, config, func(b *networkproxy.Builder) {
			b.SOCKSAddr("127.0.0.1:0")
			if required {
				b.RequireSession()
			}
			b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
				asked <- req.Command
				return networkproxy.Deny("no"), nil
			})
		})
		l.mapHost("echo.example", 22, testnet.Echo(t).Addr())
		a, b := l.command("a"), l.command("b")
		anonymous := map[bool]byte{false: 0, true: noMethod}[required]
		for i, test := range []struct {
			name, addr, password string
			want                 byte
			command              string
		}{
			{"shared, without", l.SOCKSAddr(), "", anonymous, ""},
			{"shared, with a token", l.SOCKSAddr(), a.Token(), 0, "a"},
			{"shared, unknown", l.SOCKSAddr(), guess, noPassword, ""},
			{"shared, a password of something else", l.SOCKSAddr(), "hunter2", map[bool]byte{false: 0, true: noPassword}[required], ""},
			{"shared, a token and more", l.SOCKSAddr(), a.Token() + "x", map[bool]byte{false: 0, true: noPassword}[required], ""},
			{"own, without", a.SOCKSAddr(), "", 0, "a"},
			{"own, with its token", a.SOCKSAddr(), a.Token(), 0, "a"},
			{"own, with another's token", a.SOCKSAddr(), b.Token(), noPassword, ""},
			{"own, unknown", a.SOCKSAddr(), guess, noPassword, ""},
			{"own, a password of something else", a.SOCKSAddr(), "hunter2", 0, "a"},
			{"another's own", b.SOCKSAddr(), "", 0, "b"},
		} {
			conn, got := connectSOCKS(t, test.addr, test.password, "echo.example", 22)
			if got != test.want {
				t.Errorf("required=%t, %s: got %#x, want %#x", required, test.name, got, test.want)
				continue
			}
			if got != 0 {
				continue
			}
			if err := echoes(conn); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			// Each test has its own name, because a denial is remembered for a while.
			if _, got := connectSOCKS(t, test.addr, test.password, fmt.Sprintf("other%d.example", i), 22); got != refused {
				t.Fatalf("%s, refused host: got %#x", test.name, got)
			}
			if command := <-asked; command != test.command {
				t.Errorf("%s: the decider got the command %q, want %q", test.name, command, test.command)
			}
		}
		if strings.Contains(l.log.String(), a.Token()) || strings.Contains(l.log.String(), b.Token()) {
			t.Error("the log contains a token")
		}

		own, _ := connectSOCKS(t, a.SOCKSAddr(), "", "echo.example", 22)
		shared, _ := connectSOCKS(t, l.SOCKSAddr(), a.Token(), "echo.example", 22)
		other, _ := connectSOCKS(t, b.SOCKSAddr(), "", "echo.example", 22)
		a.Close()
		waitClosed(t, "tunnel by its own listener", own)
		waitClosed(t, "tunnel by its token", shared)
		if err := echoes(other); err != nil {
			t.Errorf("another session's tunnel: %v", err)
		}
		if _, got := connectSOCKS(t, l.SOCKSAddr(), a.Token(), "echo.example", 22); got != noPassword {
			t.Errorf("the closed session's token: got %#x", got)
		}
		if n, m := networkproxy.OpenListeners(a), networkproxy.OpenListeners(b); n != 0 || m != 2 {
			t.Errorf("the closed session has %d open listeners and the other one %d, want 0 and 2", n, m)
		}
	}
}

// TestSessionSOCKSIsReleased checks that sessions with SOCKS5 end with the proxy.
func TestSessionSOCKSIsReleased(t *testing.T) {
	testnet.CheckLeaks(t)
	config := allow("echo.example")
	config.EnableSOCKS5, config.EnableSOCKS5UDP = true, true
	l := start(t, config, func(b *networkproxy.Builder) { b.SOCKSAddr("127.0.0.1:0") })
	l.mapHost("echo.example", 22, testnet.Echo(t).Addr())
	s := l.command("")
	shared := l.open(networkproxy.SessionConfig{SharedPort: true})
	if s.SOCKSAddr() == "" || shared.SOCKSAddr() != "" {
		t.Errorf("got the SOCKS5 addresses %q and %q", s.SOCKSAddr(), shared.SOCKSAddr())
	}
	conn, _ := connectSOCKS(t, s.SOCKSAddr(), "", "echo.example", 22)
	if err := echoes(conn); err != nil {
		t.Fatal(err)
	}
	// During the drain, open tunnels continue and new connections are refused.
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan error, 1)
	go func() { drained <- l.Shutdown(ctx) }()
	eventually(t, "the session's listeners are closed", func() bool { return networkproxy.OpenListeners(s) == 0 })
	if err := echoes(conn); err != nil {
		t.Errorf("the open tunnel during the drain: %v", err)
	}
	if _, err := l.OpenSession(context.Background(), networkproxy.SessionConfig{}); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("OpenSession during the drain: got the error %v", err)
	}
	cancel()
	<-drained
	<-s.Done()
	waitClosed(t, "after the drain", conn)
}
