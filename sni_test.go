// Tests of the check of TLS server names: a tunnel for one name must not be used
// for another.

package networkproxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// clientHello returns the first bytes that crypto/tls sends.
func clientHello(t testing.TB, c *tls.Config) string {
	t.Helper()
	client, server := net.Pipe()
	c = c.Clone()
	c.InsecureSkipVerify = true // allows a hello without a name
	go tls.Client(client, c).Handshake()
	defer server.Close()
	b := make([]byte, 64<<10)
	n, err := io.ReadAtLeast(server, b, 5)
	if err != nil {
		t.Fatal(err)
	}
	// crypto/tls writes all of it at once, in records of 16 KiB.
	return string(b[:n])
}

// helloFor returns a hello for any name, even one that crypto/tls would not send.
func helloFor(t testing.TB, name string) string {
	t.Helper()
	standIn := strings.Repeat("a", len(name))
	if name == "" {
		standIn = ""
	}
	hello := clientHello(t, &tls.Config{ServerName: standIn})
	return strings.Replace(hello, standIn, name, 1)
}

// withExtension returns hello with one more extension (RFC 8446 section 4.2).
func withExtension(hello string, kind uint16, data string) string {
	b := []byte(hello)
	at := 5 + 4 + 2 + 32                           // the record's header, the message's, version and random
	at += 1 + int(b[at])                           // session
	at += 2 + int(binary.BigEndian.Uint16(b[at:])) // cipher suites
	at += 1 + int(b[at])                           // compression
	added := 4 + len(data)
	for _, length := range []int{3, 5 + 2, at} { // the lengths of the record, the message (two lower bytes of three) and the extensions
		binary.BigEndian.PutUint16(b[length:], binary.BigEndian.Uint16(b[length:])+uint16(added))
	}
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return string(b) + data
}

// records returns hello in records of n bytes.
func records(hello string, n int) string {
	var b strings.Builder
	for fragment := range slices.Chunk([]byte(hello)[5:], n) {
		b.Write([]byte{22, 3, 1, byte(len(fragment) >> 8), byte(len(fragment))})
		b.Write(fragment)
	}
	return b.String()
}

const (
	ccs         = "\x14\x03\x03\x00\x01\x01" // a change_cipher_spec
	deniedAlert = "\x15\x03\x03\x00\x02\x02\x31"
)

// tunnelPath opens tunnels with one protocol.
type tunnelPath struct {
	protocol networkproxy.Protocol
	open     func(l *lab, t testing.TB, host string, port uint16) *rawConn

	// begin, if not nil, is the origin server's part before the tunnel.
	begin func(c *net.TCPConn)
}

var tunnelPaths = []tunnelPath{
	{protocol: networkproxy.ProtocolHTTPSConnect, open: func(l *lab, t testing.TB, host string, port uint16) *rawConn {
		return l.connectRaw(t, net.JoinHostPort(host, strconv.Itoa(int(port))))
	}},
	{protocol: networkproxy.ProtocolSOCKS5TCP, open: func(l *lab, t testing.TB, host string, port uint16) *rawConn {
		w := dialRaw(t, l.SOCKSAddr())
		if code, _, err := socksRequest(w.TCPConn, socksConnect, socksDest(host, port)); err != nil || code != 0 {
			t.Fatalf("SOCKS5: got the reply %d, %v", code, err)
		}
		return w
	}},
	{protocol: networkproxy.ProtocolHTTP, open: func(l *lab, t testing.TB, host string, port uint16) *rawConn {
		w := l.dialHTTP(t)
		w.get("http://"+net.JoinHostPort(host, strconv.Itoa(int(port)))+"/", "Connection: Upgrade", "Upgrade: tcp")
		if a := w.readHeader("GET"); a.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("Upgrade: got %s, want %d", a.Status, http.StatusSwitchingProtocols)
		}
		return w
	}, begin: func(c *net.TCPConn) {
		b := make([]byte, 1)
		for head := ""; !strings.HasSuffix(head, "\r\n\r\n"); head += string(b) {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	}},
}

// serve is lab.serve for an origin server of such tunnels.
func (p tunnelPath) serve(l *lab, name string, port uint16, handle func(*net.TCPConn)) *testnet.Origin {
	return l.serve(name, port, func(c *net.TCPConn) {
		if p.begin != nil {
			p.begin(c)
		}
		handle(c)
	})
}

// recorder receives the bytes that an origin server gets.
type recorder chan string

// record makes name:port lead to a recorder. It sends one element for each
// connection, with the bytes up to its end or the first want bytes.
func (p tunnelPath) record(l *lab, name string, port uint16, want int) recorder {
	r := make(recorder, 8)
	p.serve(l, name, port, func(c *net.TCPConn) {
		b := make([]byte, want)
		n, _ := io.ReadFull(c, b)
		r <- string(b[:n])
	})
	return r
}

func TestServerName(t *testing.T) {
	t.Parallel()
	const name, plain, ip = allowedName, plainName, publicAddr
	hello := helloFor(t, name)
	evil := helloFor(t, "evil.example")
	warning := "\x15\x03\x01\x00\x02\x01\x5a"
	const ech, grease = 0xfe0d, 0x1a1a // RFC 9849, RFC 8701
	inner := strings.Repeat("x", 200)  // encrypted, so nobody here can read it
	tests := []helloTest{
		{"the name", name, 443, hello, "", ""},
		{"the name, on another port", name, 8443, hello, "", ""},
		{"in upper case", name, 443, helloFor(t, "ALLOWED.Example"), "", ""},
		{"with a trailing dot", name, 443, helloFor(t, "allowed.example."), "", ""},
		{"in records of one byte", name, 443, records(hello, 1), "", ""},
		{"with GREASE", name, 443, withExtension(hello, grease, ""), "", ""},
		{"with ECH, by its outer name", name, 443, withExtension(hello, ech, inner), "", ""},
		{"to an address, without a name", ip, 443, helloFor(t, ""), "", ""},
		{"to an address, with the address", ip, 443, helloFor(t, ip), "", ""},
		{"to a name without a dot, without a name", plain, 443, helloFor(t, ""), "", ""},
		{"to a name without a dot, with it", plain, 443, helloFor(t, plain), "", ""},
		{"a second hello", name, 443, hello + ccs + hello, "", ""},
		{"TLS 1.0", name, 443, clientHello(t, &tls.Config{ServerName: name, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}), "", ""},

		{"another name", name, 443, evil, "evil.example", `names the server "evil.example"`},
		{"another name, on another port", name, 8443, evil, "evil.example", `names the server "evil.example"`},
		{"another name, in records of one byte", name, 443, records(evil, 1), "evil.example", `names the server "evil.example"`},
		{"another name outside of ECH", name, 443, withExtension(evil, ech, inner), "evil.example", `names the server "evil.example"`},
		{"no name outside of ECH", name, 443, withExtension(helloFor(t, ""), ech, inner), "", "names no server"},
		{"a name below it", name, 443, helloFor(t, "x.allowed.example"), "x.allowed.example", "names the server"},
		{"the address of the name", name, 443, helloFor(t, ip), ip, "names the server"},
		{"no name", name, 443, helloFor(t, ""), "", "names no server"},
		{"to a name without a dot, another name", plain, 443, hello, name, "names the server"},
		{"to a name without a dot, an address", plain, 443, helloFor(t, ip), ip, "names the server"},
		{"a name with a port", name, 443, helloFor(t, name+":443"), name + ":443", "names the server"},
		{"a name with a NUL", name, 443, helloFor(t, name+"\x00.evil.example"), "", "cannot be checked"},
		{"to an address, with a name", ip, 443, hello, name, "only the address was allowed"},
		{"to an address, with another address", ip, 443, helloFor(t, "93.184.215.15"), "93.184.215.15", "only the address was allowed"},
		{"to an address, with a zone", ip, 443, helloFor(t, "::ffff:"+ip+"%evil"), "::ffff:" + ip + "%evil", "only the address was allowed"},
		{"after an alert, which crypto/tls passes over", name, 443, warning + evil, "", "cannot be checked"},
		{"after an empty record, which OpenSSL passes over", name, 443, "\x16\x03\x01\x00\x00" + evil, "", "cannot be checked"},
		{"of SSL 2.0, which OpenSSL answers", name, 443, "\x80\x1c\x01\x03\x03\x00\x03\x00\x00\x00\x10\x00\x00\x2f" + strings.Repeat("x", 16), "", "cannot be checked"},
		{"of SSL 2.0, for version 4.3, which GnuTLS answers", name, 443, "\x80\x1d\x01\x04\x03\x00\x03\x00\x00\x00\x10\x00\x00\x2f" + strings.Repeat("x", 17), "", "cannot be checked"},
		{"too long", name, 443, clientHello(t, &tls.Config{ServerName: name, NextProtos: slices.Repeat([]string{strings.Repeat("p", 250)}, 80)}), "", "cannot be checked"},
	}
	for _, path := range tunnelPaths {
		for _, test := range tests {
			t.Run(string(path.protocol)+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, path)
			})
		}
	}
}

// The names that TestServerName allows.
const (
	allowedName = "allowed.example"
	plainName   = "intranet" // a name without a dot
)

// helloTest is a ClientHello in a tunnel to target.
type helloTest struct {
	name     string
	target   string
	port     uint16
	sent     string
	recorded string // the server name in the record of the refusal
	refused  string // part of the message; empty: allowed
}

// run sends the hello with the check on and off, at once and byte by byte.
func (test helloTest) run(t *testing.T, path tunnelPath) {
	pieces := []int{len(test.sent), 1}
	if testing.Short() {
		pieces = pieces[:1]
	}
	for _, piece := range pieces {
		t.Run(fmt.Sprintf("enforce, pieces of %d", piece), func(t *testing.T) {
			test.send(t, path, networkproxy.SNIEnforce, piece, test.refused != "")
		})
		t.Run(fmt.Sprintf("off, pieces of %d", piece), func(t *testing.T) {
			test.send(t, path, networkproxy.SNIOff, piece, false)
		})
	}
}

// send sends the hello in pieces, and checks what the origin server gets and, if
// it is refused, what the client gets.
func (test helloTest) send(t *testing.T, path tunnelPath, check networkproxy.SNICheck, piece int, refused bool) {
	c := withSOCKS(allow(allowedName, plainName, publicAddr))
	c.SNICheck = check
	l := start(t, c, nil)
	got := path.record(l, allowedName, test.port, len(test.sent))
	l.dns.Set(plainName, addrs(publicAddr))
	w := path.open(l, t, test.target, test.port)
	for part := range slices.Chunk([]byte(test.sent), piece) {
		if _, err := w.Write(part); err != nil {
			break // refused before the last piece
		}
	}
	sent := wait(t, got, "the bytes at the origin server")
	if !refused {
		if sent != test.sent {
			t.Fatalf("the origin server got %q, want %q", sent, test.sent)
		}
		if b := l.Blocked(); len(b) > 0 {
			t.Errorf("got the records %+v, want none", b)
		}
		return
	}
	// The first bytes of a hello of SSL 2.0 pass, because they do not identify it.
	if sent != "" && !(test.sent[0] == 0x80 && len(sent) <= 10 && strings.HasPrefix(test.sent, sent)) {
		t.Fatalf("the origin server got %q, want nothing", sent)
	}
	l.checkCut(t, w, path, test.target, test.recorded, test.refused)
}

// checkCut checks the effects of a refusal: the alert, the record, the counters and
// the log.
func (l *lab) checkCut(t *testing.T, w *rawConn, path tunnelPath, target, serverName, message string) {
	t.Helper()
	if got := w.readAll(); len(got) != 7 || got[:2]+got[3:] != deniedAlert[:2]+deniedAlert[3:] {
		t.Errorf("the client got %q, want the alert %q", got, deniedAlert)
	}
	b := l.Blocked()
	if len(b) != 1 {
		t.Fatalf("%d refusals are recorded, want 1", len(b))
	}
	if b[0].Host != target || b[0].Protocol != path.protocol || b[0].Reason != networkproxy.ReasonSNIMismatch ||
		b[0].Source != networkproxy.SourceBaselinePolicy || b[0].Decision != "deny" || b[0].ServerName != serverName {
		t.Errorf("got the record %+v", b[0])
	}
	w.Close()
	eventually(t, "the end of the tunnel", func() bool { return l.health(t).Connections == 0 })
	if h := l.health(t); h.Refused != 1 || h.Allowed != 0 || h.Failed != 0 {
		t.Errorf("got the counters %+v", h)
	}
	l.waitLogged(t, "reason=sni_mismatch")
	l.waitLogged(t, "tunnel cut")
	if log := l.log.String(); !strings.Contains(strings.ReplaceAll(log, `\"`, `"`), message) {
		t.Errorf("the log lacks %s:\n%s", message, log)
	}
}

// serverHello returns a ServerHello with this random value.
func serverHello(random string) string {
	return "\x16\x03\x03\x00\x2c\x02\x00\x00\x28\x03\x03" + random + "\x00\xc0\x2f\x00\x00\x00"
}

// TestSecondServerName checks the second hello after a HelloRetryRequest, because
// servers use the name in it. Other bytes after a hello are not checked. Only the
// server's response shows which case it is.
func TestSecondServerName(t *testing.T) {
	t.Parallel()
	const name = "allowed.example"
	first, evil := helloFor(t, name), helloFor(t, "evil.example")
	const retry = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c" // RFC 8446 section 4.1.3
	asks, takes := serverHello(retry), serverHello(strings.Repeat("r", 32))
	const version = 5 + 4 // its offset in a hello
	other := func(i int, b string) string { return evil[:i] + b + evil[i+len(b):] }
	finished := "\x16\x03\x03\x00\x28\x01\x00\x01\x2c\x03\x03" + strings.Repeat("x", 34) // encrypted, and like a hello by chance
	const named = `names the server "evil.example"`
	tests := []struct {
		name     string
		response string // the origin server's response to the first hello
		then     string
		recorded string // the server name in the record of the refusal
		refused  string // part of the message; empty: allowed
	}{
		{"at once", "", evil, "evil.example", named},
		{"after a change_cipher_spec", "", ccs + evil, "evil.example", named},
		{"after several, and an alert", "", ccs + ccs + "\x15\x03\x03\x00\x02\x01\x5a" + ccs + evil, "evil.example", named},
		{"after a record of a new version", "", "\x14\x07\x07\x00\x01\x01" + evil, "evil.example", named},
		{"after a long alert", "", "\x15\x03\x03\x00\x04\x01\x5a\x01\x5a" + evil, "evil.example", named},
		{"after a record of an unknown type", "", "\x63\x03\x03\x00\x01\x00" + evil, "evil.example", named},
		{"after data", "", "\x17\x03\x03\x00\x01\x00" + evil, "evil.example", named},
		{"of version 4.3", "", other(version, "\x04"), "", "cannot be checked"},
		{"longer than 2^16 bytes", "", other(version-3, "\x01"), "", "cannot be checked"},
		{"in records of 40 bytes", "", ccs + records(evil, 40), "evil.example", named},
		{"without a name", "", helloFor(t, ""), "", "names no server"},

		{"a retry, another name", asks, evil, "evil.example", named},
		{"a retry, another name after a change_cipher_spec", asks, ccs + evil, "evil.example", named},
		{"a retry, a hello of version 4.3", asks, ccs + other(version, "\x04"), "", "cannot be checked"},
		{"a retry, another message", asks, "\x16\x03\x03\x00\x04\x10\x00\x00\x00", "", "cannot be checked"},
		{"a retry, then half of a hello", asks, ccs + finished, "", "cannot be checked"},
		{"a retry, the same name", asks, ccs + first, "", ""},

		{"a ServerHello, another hello in the clear", takes, evil, "evil.example", named},
		{"a ServerHello, a key exchange", takes, "\x16\x03\x03\x00\x04\x10\x00\x00\x00", "", ""},
		{"a ServerHello, a finish in records of TLS 1.3", takes, ccs + "\x17\x03\x03\x00\x01\x00", "", ""},
		{"a ServerHello, a finish that looks like a hello", takes, ccs + finished, "", ""},
	}
	for _, path := range tunnelPaths {
		for _, tt := range tests {
			t.Run(string(path.protocol)+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				l := start(t, withSOCKS(allow(name)), nil)
				got := make(chan string, 2)
				path.serve(l, name, 443, func(c *net.TCPConn) {
					b := make([]byte, len(first))
					n, _ := io.ReadFull(c, b)
					got <- string(b[:n])
					io.WriteString(c, tt.response)
					rest, err := io.ReadAll(c)
					if tt.refused != "" && !isReset(err) {
						t.Errorf("the origin server got a part without a reset: %v", err)
					}
					got <- string(rest)
				})
				w := path.open(l, t, name, 443)
				w.send(first)
				if got := wait(t, got, "the first hello"); got != first {
					t.Fatalf("the origin server got %q, want the first hello", got)
				}
				if response := w.readN(len(tt.response)); response != tt.response {
					t.Fatalf("the client got %q", response)
				}
				w.send(tt.then)
				w.CloseWrite()
				rest := wait(t, got, "the end")
				switch {
				case tt.refused == "":
					if b := l.Blocked(); rest != tt.then || len(b) > 0 {
						t.Errorf("the origin server got %q, with the records %+v", rest, b)
					}
				case strings.Contains(rest, "evil"):
					t.Error("the origin server got the second hello")
				case tt.response == "":
					l.checkCut(t, w, path, name, tt.recorded, tt.refused)
				default: // no alert, because the origin server is sending
					w.readAll()
					if b := l.Blocked(); len(b) != 1 || b[0].Reason != networkproxy.ReasonSNIMismatch || b[0].ServerName != tt.recorded {
						t.Errorf("got the records %+v", b)
					}
					l.waitLogged(t, "tunnel cut")
				}
			})
		}
	}
}

// TestHelloWithheld checks that a hello must be complete within
// Limits.HandshakeTimeout.
func TestHelloWithheld(t *testing.T) {
	t.Parallel()
	hello := helloFor(t, "allowed.example")
	// The same time bounds the SOCKS5 handshake, so it allows for a busy machine.
	timeout := 2 * time.Second
	if testing.Short() {
		timeout = time.Second
	}
	for _, path := range tunnelPaths {
		for _, test := range []struct{ name, sent string }{{"the first byte", hello[:1]}, {"half a hello", hello[:100]}, {"half a second hello", hello + ccs + hello[:100]}} {
			t.Run(string(path.protocol)+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				l := start(t, withSOCKS(allow("allowed.example")), func(b *networkproxy.Builder) {
					b.Limits(networkproxy.Limits{HandshakeTimeout: timeout, TunnelIdle: time.Hour})
				})
				got := path.record(l, "allowed.example", 443, 1<<20)
				w := path.open(l, t, "allowed.example", 443)
				w.send(test.sent)
				if rest := wait(t, got, "the end of the origin server's connection"); len(rest)%len(hello) > len(ccs) {
					t.Errorf("the origin server got %q", rest)
				}
				w.readAll()
				eventually(t, "the refusal", func() bool { return len(l.Blocked()) == 1 })
				l.waitLogged(t, "does not end within "+timeout.String())
			})
		}
	}
}

// TestHelloCutShort checks that part of a hello does not reach the origin server
// when the client closes its sending side, while the origin server sends.
func TestHelloCutShort(t *testing.T) {
	t.Parallel()
	hello := helloFor(t, "allowed.example")
	for _, path := range tunnelPaths {
		t.Run(string(path.protocol), func(t *testing.T) {
			t.Parallel()
			l := start(t, withSOCKS(allow("allowed.example")), nil)
			got := make(chan string, 1)
			send := make(chan string)
			path.serve(l, "allowed.example", 443, func(c *net.TCPConn) {
				io.WriteString(c, <-send)
				b, _ := io.ReadAll(c)
				got <- string(b)
			})
			w := path.open(l, t, "allowed.example", 443)
			w.send(hello[:100])
			send <- "meanwhile"
			if s := w.readN(9); s != "meanwhile" {
				t.Errorf("the client got %q", s)
			}
			w.CloseWrite()
			if s := wait(t, got, "the end of the origin server's connection"); s != "" {
				t.Errorf("the origin server got %q, want nothing", s)
			}
			if s := w.readAll(); s != "" {
				t.Errorf("the client got %q between the origin server's bytes", s)
			}
			if b := l.Blocked(); len(b) != 1 || b[0].Reason != networkproxy.ReasonSNIMismatch {
				t.Errorf("got the records %+v", b)
			}
		})
	}
}

// TestNotTLS checks that other protocols are not delayed by a single byte,
// whichever side sends first.
func TestNotTLS(t *testing.T) {
	t.Parallel()
	for _, path := range tunnelPaths {
		t.Run(string(path.protocol)+"/server first", func(t *testing.T) {
			t.Parallel()
			l := start(t, withSOCKS(allow("allowed.example")), nil)
			path.serve(l, "allowed.example", 22, func(c *net.TCPConn) {
				io.WriteString(c, "SSH-2.0-origin\r\n")
				io.Copy(c, c)
			})
			w := path.open(l, t, "allowed.example", 22)
			if got := w.readLine(); got != "SSH-2.0-origin" {
				t.Errorf("before the client sends: got %q", got)
			}
			w.send("SSH-2.0-client\r\n")
			if got := w.readLine(); got != "SSH-2.0-client" {
				t.Errorf("got the echo %q", got)
			}
		})
		for _, test := range []struct{ name, first string }{
			{"a letter", "S"},
			{"a NUL", "\x00"},
			{"telnet", "\xff\xfd\x01"},
			{"Ctrl-V, then text", "\x16abc"},
			{"almost a hello", "\x16\x03\x01\x00\x09\x02"},
		} {
			t.Run(string(path.protocol)+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				l := start(t, withSOCKS(allow("allowed.example")), nil)
				path.serve(l, "allowed.example", 443, func(c *net.TCPConn) { io.Copy(c, c) })
				w := path.open(l, t, "allowed.example", 443)
				w.send(test.first)
				if got := w.readN(len(test.first)); got != test.first {
					t.Errorf("got the echo %q", got)
				}
				if h := l.health(t); h.Allowed != 1 || h.Refused != 0 {
					t.Errorf("got the counters %+v", h)
				}
			})
		}
		t.Run(string(path.protocol)+"/nothing at all", func(t *testing.T) {
			t.Parallel()
			l := start(t, withSOCKS(allow("allowed.example")), nil)
			path.serve(l, "allowed.example", 443, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
			w := path.open(l, t, "allowed.example", 443)
			w.CloseWrite()
			w.readAll()
			eventually(t, "one request counted as allowed", func() bool { return l.health(t).Allowed == 1 })
		})
		t.Run(string(path.protocol)+"/too little to be TLS", func(t *testing.T) {
			t.Parallel()
			l := start(t, withSOCKS(allow("allowed.example")), nil)
			got := path.record(l, "allowed.example", 443, 100)
			w := path.open(l, t, "allowed.example", 443)
			w.send("\x16\x03\x01")
			w.CloseWrite()
			if s := wait(t, got, "the client's bytes"); s != "\x16\x03\x01" {
				t.Errorf("the origin server got %q, want the three bytes", s)
			}
		})
	}
}

// TestTLSThroughTunnel uses a real client with every TLS version and with the
// options that change its messages.
func TestTLSThroughTunnel(t *testing.T) {
	t.Parallel()
	cert := selfSigned(t, "allowed.example")
	tests := []struct {
		name   string
		client *tls.Config
		server *tls.Config
	}{
		{"TLS 1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, &tls.Config{MinVersion: tls.VersionTLS10}},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}, &tls.Config{MinVersion: tls.VersionTLS11}},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{}},
		{"TLS 1.3", &tls.Config{}, &tls.Config{}},
		{"a HelloRetryRequest", &tls.Config{}, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP521}, MinVersion: tls.VersionTLS13}},
		{"a client certificate", &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}, &tls.Config{ClientAuth: tls.RequireAnyClientCert}},
	}
	for _, path := range tunnelPaths {
		for _, tt := range tests {
			t.Run(string(path.protocol)+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				l := start(t, withSOCKS(allow("allowed.example")), nil)
				server := tt.server.Clone()
				server.Certificates = []tls.Certificate{cert}
				path.serve(l, "allowed.example", 443, func(c *net.TCPConn) {
					s := tls.Server(c, server)
					io.Copy(s, s)
				})
				client := tt.client.Clone()
				client.ServerName, client.RootCAs = "allowed.example", x509.NewCertPool()
				client.RootCAs.AddCert(cert.Leaf)
				client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				resumed := 0
				connections := 20
				if testing.Short() {
					connections = 3
				}
				for range connections {
					c := tls.Client(path.open(l, t, "allowed.example", 443), client)
					if err := echoes(c); err != nil {
						t.Fatal(err)
					}
					if c.ConnectionState().DidResume {
						resumed++
					}
					c.Close()
				}
				if resumed == 0 {
					t.Error("no session was resumed")
				}
				eventually(t, "all requests counted as allowed", func() bool { return l.health(t).Allowed == uint64(connections) })
				if b := l.Blocked(); len(b) > 0 {
					t.Errorf("got the records %+v, want none", b)
				}
			})
		}
	}
}

// TestTLSClientError checks the error that a real client shows for a refusal.
func TestTLSClientError(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS13} {
		for _, path := range tunnelPaths {
			l := start(t, withSOCKS(allow("allowed.example")), nil)
			path.record(l, "allowed.example", 443, 1)
			c := tls.Client(path.open(l, t, "allowed.example", 443), &tls.Config{
				ServerName: "evil.example", MinVersion: tls.VersionTLS10, MaxVersion: version, InsecureSkipVerify: true,
			})
			var alert tls.AlertError
			if err := c.Handshake(); err == nil || !errors.As(err, &alert) && !strings.Contains(err.Error(), "tls: access denied") {
				t.Errorf("version %x: the client's error is %v", version, err)
			}
		}
	}
}

// TestSNICheckSharesAnAddress is the attack that the check prevents: two sites
// have the same address, and only one is allowed.
func TestSNICheckSharesAnAddress(t *testing.T) {
	t.Parallel()
	for _, check := range []networkproxy.SNICheck{networkproxy.SNIOff, networkproxy.SNIEnforce} {
		c := allow("allowed.example")
		c.SNICheck = check
		l := start(t, c, nil)
		good, evil := selfSigned(t, "allowed.example"), selfSigned(t, "evil.example")
		l.serve("allowed.example", 443, func(c *net.TCPConn) {
			s := tls.Server(c, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if h.ServerName == "evil.example" {
					return &evil, nil
				}
				return &good, nil
			}})
			io.Copy(s, s)
		})
		roots := x509.NewCertPool()
		roots.AddCert(evil.Leaf)
		err := echoes(tls.Client(l.connectRaw(t, "allowed.example:443"), &tls.Config{ServerName: "evil.example", RootCAs: roots}))
		if (err == nil) != (check == networkproxy.SNIOff) {
			t.Errorf("with sni_check %q, evil.example through a tunnel for allowed.example: %v", check, err)
		}
	}
}

// TestServerNameOfEarlyBytes checks hellos that arrive in one segment with the
// request.
func TestServerNameOfEarlyBytes(t *testing.T) {
	t.Parallel()
	hello, evil := helloFor(t, "allowed.example"), helloFor(t, "evil.example")
	for _, test := range []struct{ name, request string }{
		{"CONNECT", "CONNECT allowed.example:80 HTTP/1.1\r\nHost: allowed.example:80\r\n\r\n"},
		{"Upgrade", "GET http://allowed.example/ HTTP/1.1\r\nHost: allowed.example\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := tunnelPaths[0]
			if test.name == "Upgrade" {
				path = tunnelPaths[2]
			}
			l := start(t, allow("allowed.example"), nil)
			for _, sent := range []string{hello, evil} {
				got := path.record(l, "allowed.example", 80, len(sent))
				w := l.dialHTTP(t)
				w.send(test.request + sent)
				w.readHeader("CONNECT")
				want := map[string]string{hello: hello, evil: ""}[sent]
				if all := wait(t, got, "the end of the origin server's connection"); all != want {
					t.Errorf("the origin server got %q, want %q", all, want)
				}
			}
		})
	}
}

// TestServerNameOfLocalhost checks tunnels to localhost, for which clients send no
// name or "localhost".
func TestServerNameOfLocalhost(t *testing.T) {
	t.Parallel()
	for _, path := range tunnelPaths {
		for _, test := range []struct {
			name string
			want bool
		}{{"", true}, {"localhost", true}, {"allowed.example", false}, {"127.0.0.1", false}} {
			t.Run(string(path.protocol)+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				l := start(t, withSOCKS(allow("localhost")), nil)
				hello := helloFor(t, test.name)
				got := make(chan string, 1)
				origin := path.serve(l, "localhost", 8443, func(c *net.TCPConn) {
					b := make([]byte, len(hello))
					n, _ := io.ReadFull(c, b)
					got <- string(b[:n])
				})
				l.dns.Set("localhost", addrs("127.0.0.1"))
				l.net.Map(netip.MustParseAddrPort("127.0.0.1:8443"), origin.Addr())
				w := path.open(l, t, "localhost", 8443)
				w.send(hello)
				if sent := wait(t, got, "the end of the origin server's connection"); (sent == hello) != test.want {
					t.Errorf("the origin server got %q", sent)
				}
			})
		}
	}
}

// TestSNICheckReload checks that a new configuration applies to the next tunnel.
func TestSNICheckReload(t *testing.T) {
	t.Parallel()
	s := newSource(allow("allowed.example"))
	l := startSource(t, s.builder, nil)
	l.serve("allowed.example", 443, func(c *net.TCPConn) { io.Copy(c, c) })
	evil := helloFor(t, "evil.example")
	open := l.connectRaw(t, "allowed.example:443")

	s.set(func(c *networkproxy.Config) { c.SNICheck = networkproxy.SNIOff })
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := l.connectRaw(t, "allowed.example:443")
	w.send(evil)
	if got := w.readN(len(evil)); got != evil {
		t.Errorf("with the check off: got %q", got)
	}
	open.send(evil)
	if got := open.readAll(); got != deniedAlert {
		t.Errorf("in a tunnel that was opened before: got %q", got)
	}
}

func TestSNICheckLeavesNothing(t *testing.T) {
	testnet.CheckLeaks(t)
	l := start(t, withSOCKS(allow("allowed.example")), nil)
	l.serve("allowed.example", 443, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	hello, evil := helloFor(t, "allowed.example"), helloFor(t, "evil.example")
	for i := range 20 {
		w := tunnelPaths[i%2].open(l, t, "allowed.example", 443)
		for _, s := range []string{evil, hello[:50], hello, "plain", ""}[i%5:][:1] {
			w.send(s)
		}
		w.Close()
	}
}

// selfSigned returns a certificate for one name.
func selfSigned(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		DNSNames:              []string{name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
