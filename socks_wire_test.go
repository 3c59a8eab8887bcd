// Tests of every byte of RFC 1928.

package networkproxy_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// decodeHex decodes hexadecimal digits with spaces between them.
func decodeHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// failure returns the 10 bytes of a reply (RFC 1928 section 6) with an error code.
func failure(code string) string { return "05 " + code + " 00 01 00000000 0000" }

func TestSOCKSConformance(t *testing.T) {
	t.Parallel()
	config := withSOCKS(allow("allowed.example", publicAddr, "2606:2800:21f::1", "*"))
	config.EnableSOCKS5UDP = false
	l := start(t, config, nil)
	echo := testnet.Echo(t)
	l.mapHost("allowed.example", 7, echo.Addr())
	l.net.Map(netip.MustParseAddrPort("[2606:2800:21f::1]:7"), echo.Addr())

	const (
		greeting = "05 01 00"
		accepted = "05 00"
		allowed  = "03 0f 616c6c6f7765642e6578616d706c65 0007" // allowed.example:7
		v4       = "01 5db8d70e 0007"                          // 93.184.215.14:7
		v6       = "04 26062800021f00000000000000000001 0007"
	)
	name := func(s string) string { return hex.EncodeToString(socksDestName(s, 7)) }
	// success means a reply that opens a tunnel. The test sends "ping" through it.
	const success = "success"
	tests := []struct{ name, send, want string }{
		// Section 3: the methods.
		{"no methods", "05 00", "05 ff"},
		{"user and password, chosen where offered: it names a session", "05 02 00 02", "05 02"},
		{"a token of no session", "05 01 02 01 01 75 2b" + strings.Repeat("41", 43), "05 02 01 01"},
		{"a token of no session for the user name", "05 01 02 01 2b" + strings.Repeat("41", 43) + "00", "05 02 01 01"},
		// Credentials without a token are ignored, because Java sends the user's name.
		{"the user's name and no password", "05 02 00 02 01 04 726f6f74 00 05 01 00" + v4, "05 02 01 00" + success},
		{"user and password of something else", "05 01 02 01 01 75 01 70 05 01 00" + v4, "05 02 01 00" + success},
		{"neither user nor password", "05 02 02 00 01 00 00 05 01 00" + v4, "05 02 01 00" + success},
		{"a user name of any bytes", "05 01 02 01 04 00ff0d0a 01 00 05 01 00" + v4, "05 02 01 00" + success},
		{"the longest user and password", "05 01 02 01 ff" + strings.Repeat("75", 255) + "ff" + strings.Repeat("70", 255) + "05 01 00" + v4, "05 02 01 00" + success},
		{"user and password of another version", "05 01 02 05 01 75 01 70", "05 02"},
		{"GSSAPI and private methods", "05 03 01 80 fe", "05 ff"},
		{"0xff is not a method", "05 01 ff", "05 ff"},
		{"the last of many methods", "05 03 01 80 00 05 01 00" + v4, accepted + success},
		{"255 methods", "05 ff" + strings.Repeat("00", 255) + "05 01 00" + v4, accepted + success},
		{"SOCKS4", "04 01 0050 5db8d70e 00", ""},
		{"HTTP", hex.EncodeToString([]byte("GET http://allowed.example/ HTTP/1.1\r\n\r\n")), ""},
		{"TLS", "16 03 01 00 05 01 00 00 01 00", ""},
		{"a greeting cut short", "05 02 00", ""},

		// Section 4: the request.
		{"CONNECT by name", greeting + "05 01 00" + allowed, accepted + success},
		{"CONNECT by IPv4", greeting + "05 01 00" + v4, accepted + success},
		{"CONNECT by IPv6", greeting + "05 01 00" + v6, accepted + success},
		{"IPv4-mapped IPv6 is IPv4", greeting + "05 01 00 04 00000000000000000000ffff5db8d70e 0007", accepted + success},
		{"BIND", greeting + "05 02 00" + v4, accepted + failure("07")},
		{"BIND by name", greeting + "05 02 00" + allowed, accepted + failure("07")},
		{"UDP ASSOCIATE that is off", greeting + "05 03 00 01 00000000 0000", accepted + failure("07")},
		{"command 0", greeting + "05 00 00" + v4, accepted + failure("07")},
		{"command 4", greeting + "05 04 00" + v4, accepted + failure("07")},
		{"command 0xf0, Tor's RESOLVE", greeting + "05 f0 00" + allowed, accepted + failure("07")},
		{"another version", greeting + "04 01 00" + v4, accepted},
		{"a request cut short", greeting + "05 01 00 01 5db8d7", accepted},
		{"a name cut short", greeting + "05 01 00 03 0f 616c", accepted},
		{"no port", greeting + "05 01 00 01 5db8d70e 00", accepted},

		// Section 5: the address.
		{"address type 0", greeting + "05 01 00 00 5db8d70e 0007", accepted + failure("08")},
		{"address type 2", greeting + "05 01 00 02 5db8d70e 0007", accepted + failure("08")},
		{"address type 5", greeting + "05 01 00 05 5db8d70e 0007", accepted + failure("08")},
		{"address type 0xff", greeting + "05 01 00 ff", accepted + failure("08")},
		{"an empty name", greeting + "05 01 00 03 00 0007", accepted + failure("02")},
		{"port 0", greeting + "05 01 00 01 5db8d70e 0000", accepted + failure("02")},
		{"a name with port 0", greeting + "05 01 00 03 0f 616c6c6f7765642e6578616d706c65 0000", accepted + failure("02")},
		{"NUL in a name", greeting + "05 01 00" + name("allowed.example\x00.evil"), accepted + failure("02")},
		{"NUL after a name", greeting + "05 01 00" + name("allowed.example\x00"), accepted + failure("02")},
		{"a line feed in a name", greeting + "05 01 00" + name("allowed.example\n"), accepted + failure("02")},
		{"a space in a name", greeting + "05 01 00" + name("allowed. example"), accepted + failure("02")},
		{"a percent escape", greeting + "05 01 00" + name("allowed%2eexample"), accepted + failure("02")},
		{"not UTF-8", greeting + "05 01 00" + name("allowed\xff.example"), accepted + failure("02")},
		{"a name with its port", greeting + "05 01 00" + name("allowed.example:7"), accepted + failure("02")},
		{"an empty label", greeting + "05 01 00" + name("allowed..example"), accepted + failure("02")},
		{"255 bytes", greeting + "05 01 00" + name(strings.Repeat("abcd.", 51)), accepted + failure("02")},
		{"a name in capitals, with the root's dot", greeting + "05 01 00" + name("ALLOWED.Example."), accepted + success},
		{"an IPv4 address as a name", greeting + "05 01 00" + name(publicAddr), accepted + success},
		{"an IPv6 address as a name", greeting + "05 01 00" + name("2606:2800:21f::1"), accepted + success},
		{"an IPv6 address as a name, in brackets", greeting + "05 01 00" + name("[2606:2800:21f::1]"), accepted + success},
		{"loopback as a name", greeting + "05 01 00" + name("127.0.0.1"), accepted + failure("02")},
		{"loopback as a name, mapped", greeting + "05 01 00" + name("::ffff:127.0.0.1"), accepted + failure("02")},
		{"loopback, shortened", greeting + "05 01 00" + name("127.1"), accepted + failure("02")},
		{"loopback, as a number", greeting + "05 01 00" + name("2130706433"), accepted + failure("02")},
		{"loopback, in hexadecimal", greeting + "05 01 00" + name("0x7f.1"), accepted + failure("02")},
		{"loopback, mapped", greeting + "05 01 00 04 00000000000000000000ffff7f000001 0007", accepted + failure("02")},
		{"unspecified", greeting + "05 01 00 01 00000000 0007", accepted + failure("02")},
	}
	for _, test := range tests {
		for _, how := range []string{"at once", "byte by byte"} {
			t.Run(test.name+", "+how, func(t *testing.T) {
				t.Parallel()
				conn := dialSOCKS(t, l.SOCKSAddr())
				send := decodeHex(t, test.send)
				tunnel := strings.HasSuffix(test.want, success)
				if tunnel {
					send = append(send, "ping"...) // sent before the reply
				}
				if how == "at once" {
					conn.Write(send)
				} else {
					for i := range send {
						conn.Write(send[i : i+1]) // the proxy may have closed the connection
					}
				}
				conn.CloseWrite()
				got, err := io.ReadAll(conn)
				if err != nil && !isReset(err) {
					t.Fatal(err)
				}
				want := decodeHex(t, strings.TrimSuffix(test.want, success))
				if tunnel {
					if !bytes.HasPrefix(got, want) {
						t.Fatalf("got % x, want % x", got, want)
					}
					r := bytes.NewReader(got[len(want):])
					code, bound, err := readReply(r)
					if err != nil || code != 0 || !bound.Addr().IsLoopback() || bound.Port() == 0 {
						t.Fatalf("got the reply %d with the address %v, %v", code, bound, err)
					}
					if rest, _ := io.ReadAll(r); string(rest) != "ping" {
						t.Errorf("got %q through the tunnel, want ping", rest)
					}
					return
				}
				if !bytes.Equal(got, want) {
					t.Errorf("got % x, want % x", got, want)
				}
			})
		}
	}
	t.Cleanup(func() {
		for _, name := range l.dns.Queries() {
			if name != "allowed.example" {
				t.Errorf("looked up %q", name)
			}
		}
	})
}

// A handshake ends at its deadline, and the deadline has no effect after the
// handshake.
func TestSOCKSHandshakeDeadline(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	l := start(t, withSOCKS(allow()), func(b *networkproxy.Builder) {
		b.Limits(networkproxy.Limits{HandshakeTimeout: time.Second})
		b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			close(asked)
			<-answer
			return networkproxy.Allow(), nil
		})
	})
	l.mapHost("slow.example", 7, testnet.Echo(t).Addr())

	// This connection has completed its handshake, if the machine let it do so within a second.
	waiting, late := l.dialSOCKS(), 0
	replied := make(chan error, 1)
	for completed := false; !completed; {
		waiting.SetDeadline(time.Time{})
		go func() {
			code, _, err := socksRequest(waiting, socksConnect, socksDestName("slow.example", 7))
			if err == nil && code != 0 {
				err = fmt.Errorf("reply %d", code)
			}
			replied <- err
		}()
		select {
		case <-asked:
			completed = true
		case err := <-replied:
			t.Logf("a slow handshake: %v", err)
			waiting = l.dialSOCKS()
			late++
		}
	}

	// These have not. Each stops at another byte.
	full := append([]byte{5, 1, 0, 5, 1, 0}, socksDestName("slow.example", 7)...)
	var stuck []net.Conn
	for i := range scaled(300) {
		conn := l.dialSOCKS()
		conn.SetDeadline(time.Time{})
		conn.Write(full[:i%len(full)])
		stuck = append(stuck, conn)
	}
	for i, conn := range stuck {
		got, err := io.ReadAll(conn)
		if err != nil && !isReset(err) || len(got) > 0 && string(got) != "\x05\x00" {
			t.Fatalf("stopped after %d bytes: got % x, %v", i%len(full), got, err)
		}
	}
	eventually(t, "the unfinished handshakes are closed", func() bool { return l.healthCounts().Connections == 1 })

	close(answer)
	if err := wait(t, replied, "the reply"); err != nil {
		t.Fatalf("the connection with a complete handshake: %v", err)
	}
	if err := echoes(waiting); err != nil {
		t.Errorf("its tunnel: %v", err)
	}
	// A handshake counts as a request if at least one byte was sent.
	silent := 0
	for i := range stuck {
		if i%len(full) == 0 {
			silent++
		}
	}
	if got, want := l.healthCounts(), (healthCounts{Connections: 1, Allowed: 1, Refused: len(stuck) - silent + late}); got != want {
		t.Errorf("got the counters %+v, want %+v", got, want)
	}
}

// TestOtherProtocolsOnSOCKS checks that a connection with another protocol is
// closed after its first byte, and that the log has the reason. Otherwise the
// proxy would wait: the second byte of an HTTP request is a larger number of
// methods than the bytes that follow.
func TestOtherProtocolsOnSOCKS(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, sent string }{
		{"HTTP", "GET / HTTP/1.1\r\n\r\n"}, {"one byte", "G"}, {"SOCKS4", "\x04\x01\x00\x50\x7f\x00\x00\x01\x00"}, {"TLS", "\x16\x03\x01\x02\x00\x01"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, withSOCKS(allow()), nil)
			conn := l.dialSOCKS()
			io.WriteString(conn, test.sent)
			if got, err := io.ReadAll(conn); len(got) > 0 || err != nil && !isReset(err) {
				t.Errorf("got % x, %v; want the end of the connection", got, err)
			}
			l.waitLogged(t, "not SOCKS5; for HTTP, use the address of the HTTP proxy")
		})
	}
}

// FuzzSOCKSConnection checks that every input gets valid replies of RFC 1928 only,
// and that targets that the policy refuses are not looked up or dialed.
func FuzzSOCKSConnection(f *testing.F) {
	l := start(f, withSOCKS(allow()), nil)
	for _, seed := range []string{
		"05 01 00 05 01 00 01 5db8d70e 0007", "05 01 00 05 01 00 03 0f 616c6c6f7765642e6578616d706c65 0007 70696e67",
		"05 01 00 05 01 00 04 26062800021f00000000000000000001 0007", "05 01 00 05 02 00 01 00000000 0000",
		"05 01 00 05 03 00 01 00000000 0000", "05 01 00 05 01 00 03 00 0007", "05 00", "05 02 01 02", "04 01 0050 7f000001 00",
		"05 01 00 05 01 00 05 00", "05 01 00 05 09 00 01 7f000001 0050",
	} {
		f.Add(decodeHex(f, seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn := dialSOCKS(t, l.SOCKSAddr())
		defer conn.Close()
		conn.Write(sent)
		conn.CloseWrite()
		got, err := io.ReadAll(conn)
		if err != nil && !isReset(err) {
			t.Fatal(err)
		}
		rest, chosen := bytes.CutPrefix(got, []byte{5, 0})
		if !chosen { // or with credentials that are not a token
			rest, chosen = bytes.CutPrefix(got, []byte{5, 2, 1, 0})
		}
		switch {
		case len(got) == 0, !chosen && bytes.Equal(got, []byte{5, 0xff}), chosen && len(rest) == 0:
		case bytes.Equal(got, []byte{5, 2}), bytes.Equal(got, []byte{5, 2, 1, 1}): // no password belongs to a session
		case chosen:
			r := bytes.NewReader(rest)
			code, _, err := readReply(r)
			associated := code == 0 && bytes.Contains(sent, []byte{5, socksAssociate})
			if err != nil || r.Len() != 0 || !associated && code != 2 && code != 7 && code != 8 {
				t.Errorf("% x: got % x: reply %d, %v", sent, got, code, err)
			}
		default:
			t.Errorf("% x: got % x", sent, got)
		}
		if asked, dialed := l.dns.Queries(), l.net.Dialed(); len(asked)+len(dialed) > 0 {
			t.Errorf("% x: looked up %q and dialed %v, want nothing", sent, asked, dialed)
		}
	})
}
