// The paths into a proxy: a target is sent as bytes of each protocol, and the
// outcome is read.

package networkproxytest

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// timeout is the limit of every wait. Checks that pass do not reach it.
const timeout = 10 * time.Second

// path sends targets to a proxy via one listener and protocol.
type path struct {
	name string

	// udp reports whether the path sends datagrams. open then succeeds for all
	// valid targets, and only the record shows a refusal.
	udp bool

	// open sends target and returns the outcome. conn is the tunnel to the target
	// if there is one. ok is false if the protocol cannot express the target.
	open func(t testing.TB, target string) (out outcome, conn net.Conn, ok bool)
}

// outcome is the response to a target.
type outcome struct {
	reached   bool
	malformed bool                // the response says that the target is invalid
	reason    networkproxy.Reason // the reason in the response, if it has one
	text      string              // a description
}

// pathsOf returns the paths into a proxy and one of its sessions. It leaves out
// shared listeners if they require the token of a session.
func pathsOf(t testing.TB, h *networkproxy.Handle, s *networkproxy.Session) []path {
	t.Helper()
	token := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("session:"+s.Token()))
	paths := []path{
		{name: "HTTP with a session's token", open: forwardVia(h.HTTPAddr(), token)},
		{name: "CONNECT with a session's token", open: connectVia(h.HTTPAddr(), token)},
		{name: "HTTP at a session's listener", open: forwardVia(s.HTTPAddr())},
		{name: "CONNECT at a session's listener", open: connectVia(s.HTTPAddr())},
	}
	if s.SOCKSAddr() != "" {
		paths = append(paths, path{name: "SOCKS5 at a session's listener", open: socksVia(s.SOCKSAddr(), false)})
		if relaysUDP(t, s.SOCKSAddr()) {
			paths = append(paths, path{name: "UDP at a session's listener", open: udpVia(s.SOCKSAddr(), false), udp: true})
		}
	}
	if requiresSession(t, h) {
		return paths
	}
	paths = append(paths, path{name: "HTTP", open: forwardVia(h.HTTPAddr())}, path{name: "CONNECT", open: connectVia(h.HTTPAddr())})
	if h.SOCKSAddr() == "" {
		return paths
	}
	paths = append(paths,
		path{name: "SOCKS5 by name", open: socksVia(h.SOCKSAddr(), false)},
		path{name: "SOCKS5 by address", open: socksVia(h.SOCKSAddr(), true)})
	if relaysUDP(t, h.SOCKSAddr()) {
		paths = append(paths,
			path{name: "UDP by name", open: udpVia(h.SOCKSAddr(), false), udp: true},
			path{name: "UDP by address", open: udpVia(h.SOCKSAddr(), true), udp: true})
	}
	return paths
}

// requiresSession reports whether the shared listeners refuse requests without a
// session's token.
func requiresSession(t testing.TB, h *networkproxy.Handle) bool {
	t.Helper()
	out, _, _ := forwardVia(h.HTTPAddr())(t, "probe.invalid:80")
	return out.reason == networkproxy.ReasonSessionRequired
}

// dialer connects to a listener of a proxy. It fails the test if it cannot.
type dialer func(t testing.TB, addr string) net.Conn

func direct(t testing.TB, addr string) net.Conn {
	t.Helper()
	return dial(t, addr)
}

func forwardVia(addr string, fields ...string) func(testing.TB, string) (outcome, net.Conn, bool) {
	return dialer(direct).forwardVia(addr, fields...)
}

func connectVia(addr string, fields ...string) func(testing.TB, string) (outcome, net.Conn, bool) {
	return dialer(direct).connectVia(addr, fields...)
}

func socksVia(addr string, asAddress bool) func(testing.TB, string) (outcome, net.Conn, bool) {
	return dialer(direct).socksVia(addr, asAddress)
}

// forwardVia returns a function that sends a GET request for http://target/.
func (d dialer) forwardVia(addr string, fields ...string) func(testing.TB, string) (outcome, net.Conn, bool) {
	return func(t testing.TB, target string) (outcome, net.Conn, bool) {
		t.Helper()
		c := d(t, addr)
		defer c.Close()
		// The Host field names another host. The proxy must ignore it.
		send(c, "GET http://"+target+"/ HTTP/1.1\r\nHost: allowed.invalid\r\nConnection: close\r\n"+fieldLines(fields)+"\r\n")
		return readResponse(c, http.MethodGet), nil, true
	}
}

// connectVia returns a function that opens a tunnel with CONNECT.
func (d dialer) connectVia(addr string, fields ...string) func(testing.TB, string) (outcome, net.Conn, bool) {
	return func(t testing.TB, target string) (outcome, net.Conn, bool) {
		t.Helper()
		c := d(t, addr)
		send(c, "CONNECT "+target+" HTTP/1.1\r\nHost: allowed.invalid\r\n"+fieldLines(fields)+"\r\n")
		out := readResponse(c, http.MethodConnect)
		if !out.reached {
			c.Close()
			return out, nil, true
		}
		return out, c, true
	}
}

// readResponse reads an HTTP response.
func readResponse(c net.Conn, method string) outcome {
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return outcome{text: "no response: " + err.Error()}
	}
	out := outcome{text: r.Status, reached: r.StatusCode < 300, malformed: r.StatusCode == http.StatusBadRequest}
	if method == http.MethodConnect && out.reached {
		return out
	}
	body, _ := io.ReadAll(r.Body)
	out.text += fmt.Sprintf(" %.200q", body)
	out.reason = reasonIn(body)
	return out
}

// socksVia returns a function that opens a tunnel with SOCKS5 (RFC 1928). It sends
// the target's host as a domain name or, if asAddress is set, as an address.
func (d dialer) socksVia(addr string, asAddress bool) func(testing.TB, string) (outcome, net.Conn, bool) {
	return func(t testing.TB, target string) (outcome, net.Conn, bool) {
		t.Helper()
		destination, ok := socksDestination(target, asAddress)
		if !ok {
			return outcome{}, nil, false
		}
		c := d(t, addr)
		code, _, err := socksRequest(c, connectCommand, destination)
		if err != nil {
			c.Close()
			return outcome{text: err.Error()}, nil, true
		}
		out := outcome{text: fmt.Sprintf("reply %d", code), reached: code == 0}
		if !out.reached {
			out.malformed = code == 2 // same code as a refusal; only the record differs
			c.Close()
			return out, nil, true
		}
		return out, c, true
	}
}

// Commands of RFC 1928 section 4.
const (
	connectCommand   = 1
	associateCommand = 3
)

// socksRequest sends a request without credentials. It returns the code and the
// address in the reply.
func socksRequest(c net.Conn, command byte, destination []byte) (code byte, bound netip.AddrPort, err error) {
	send(c, "\x05\x01\x00")
	reply := make([]byte, 2)
	if _, err := io.ReadFull(c, reply); err != nil || reply[1] != 0 {
		return 0, bound, fmt.Errorf("method selection % x, %v", reply, err)
	}
	send(c, string([]byte{5, command, 0})+string(destination))
	reply = make([]byte, 4)
	if _, err := io.ReadFull(c, reply); err != nil {
		return 0, bound, fmt.Errorf("no reply: %w", err)
	}
	address := make([]byte, 4+2)
	if reply[3] == 4 {
		address = make([]byte, 16+2)
	}
	if _, err := io.ReadFull(c, address); err != nil {
		return 0, bound, fmt.Errorf("incomplete reply: %w", err)
	}
	ip, _ := netip.AddrFromSlice(address[:len(address)-2])
	return reply[1], netip.AddrPortFrom(ip, binary.BigEndian.Uint16(address[len(address)-2:])), nil
}

// socksDestination returns the type, address and port of a target (RFC 1928
// section 5). It returns false if the format cannot express the target. This
// includes malformed brackets, because the format has no brackets.
func socksDestination(target string, asAddress bool) ([]byte, bool) {
	i := strings.LastIndexByte(target, ':')
	if i < 0 {
		return nil, false
	}
	host, port := target[:i], target[i+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return nil, false
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host, ok = strings.CutSuffix(inner, "]")
		if a, err := netip.ParseAddr(host); !ok || err != nil || !a.Is6() {
			return nil, false
		}
	} else if strings.Contains(host, ":") {
		return nil, false
	}
	var b []byte
	if asAddress {
		a, err := netip.ParseAddr(host)
		if err != nil || a.Zone() != "" {
			return nil, false
		}
		b = append([]byte{4}, a.AsSlice()...)
		if a.Is4() {
			b[0] = 1
		}
	} else {
		if len(host) > 255 || strings.Contains(host, "%25") { // a zone in the form of URLs
			return nil, false
		}
		b = append([]byte{3, byte(len(host))}, host...)
	}
	return binary.BigEndian.AppendUint16(b, uint16(n)), true
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("cannot connect to the proxy: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(timeout))
	return c.(*net.TCPConn)
}

// send writes text and ignores errors, because the proxy may respond and close
// before it has read everything. A lost text shows in the response.
func send(c net.Conn, text string) { io.WriteString(c, text) }

// fieldLines returns header fields as lines.
func fieldLines(fields []string) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	return b.String()
}

// echoes returns an error unless data sent through a tunnel comes back.
func echoes(c net.Conn) error {
	send(c, "ping")
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
		return fmt.Errorf("sent %q, got %q, %v", "ping", got, err)
	}
	return nil
}

// checkClosed returns an error unless the peer closes the connection.
func checkClosed(c net.Conn) error {
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("it is still open")
	}
	return nil
}
