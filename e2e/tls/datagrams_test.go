//go:build e2e && linux

// This file sends datagrams to hosts whose requests the policy must see. HTTP/3 would hide
// them.

package tls

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy/e2e/harness"
)

// datagrams is a server that keeps each datagram and sends it back.
type datagrams struct {
	mu       sync.Mutex
	received []string
}

// listenDatagrams listens where the servers of HTTPS listen.
func listenDatagrams(t *testing.T) *datagrams {
	t.Helper()
	d := new(datagrams)
	for _, port := range []uint16{443, 8443} {
		conn, err := net.ListenPacket("udp", netip.AddrPortFrom(address("web"), port).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			for b := make([]byte, 1500); ; {
				n, from, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				d.mu.Lock()
				d.received = append(d.received, string(b[:n]))
				d.mu.Unlock()
				conn.WriteTo(b[:n], from)
			}
		}()
	}
	return d
}

// count returns how many datagrams had this text.
func (d *datagrams) count(text string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, got := range d.received {
		if got == text {
			n++
		}
	}
	return n
}

// association is a UDP ASSOCIATE of SOCKS5 (RFC 1928 section 7).
type association struct {
	control net.Conn
	conn    net.Conn
}

// associate requests a relay, and returns an error if the proxy refuses.
func (p *proxy) associate(t *testing.T) (*association, error) {
	t.Helper()
	control, err := net.Dial("tcp", p.socks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { control.Close() })
	control.SetDeadline(time.Now().Add(harness.Timeout))
	io.WriteString(control, "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")
	reply := make([]byte, 2+10)
	if _, err := io.ReadFull(control, reply); err != nil {
		t.Fatalf("UDP ASSOCIATE: %q, %v", reply, err)
	}
	if reply[3] != 0 {
		return nil, errors.New("refused")
	}
	relay, _ := netip.AddrFromSlice(reply[6:10])
	conn, err := net.Dial("udp", netip.AddrPortFrom(relay, uint16(reply[10])<<8|uint16(reply[11])).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(harness.Timeout))
	return &association{control, conn}, nil
}

// send sends a datagram to a name.
func (a *association) send(t *testing.T, host string, port uint16, text string) {
	t.Helper()
	head := "\x00\x00\x00\x03" + string(rune(len(host))) + host + string([]byte{byte(port >> 8), byte(port)})
	if _, err := io.WriteString(a.conn, head+text); err != nil {
		t.Fatal(err)
	}
}

// exchange sends a datagram and waits until it has come back. What was sent before has
// then been relayed or refused, because a relay keeps the order.
func (a *association) exchange(t *testing.T, host string, port uint16, text string) {
	t.Helper()
	a.send(t, host, port, text)
	for b := make([]byte, 1500); ; {
		n, err := a.conn.Read(b)
		if err != nil {
			t.Fatalf("%s to %s:%d did not come back: %v", text, host, port, err)
		}
		if strings.HasSuffix(string(b[:n]), text) {
			return
		}
	}
}

func TestDatagrams(t *testing.T) {
	t.Parallel()
	server := listenDatagrams(t)
	t.Run("all", func(t *testing.T) { // which ends before the server does
		for _, c := range []struct {
			name string
			test func(*testing.T, *datagrams)
		}{
			{"socks-hooked", testSOCKSDatagramsHooked},
			{"socks-limited", testSOCKSDatagramsLimited},
			{"socks-reload", testSOCKSDatagramsReload},
			{"fence-hooked", testFenceDatagramsHooked},
			{"fence-limited", testFenceDatagramsLimited},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.test(t, server)
			})
		}
	})
}

// testSOCKSDatagramsHooked sends datagrams to hosts that are opened in full mode, each by
// another part of the policy, and to one that is not.
func testSOCKSDatagramsHooked(t *testing.T, server *datagrams) {
	hooked, credential, listed, other := lab.host("web"), lab.host("web"), lab.host("web"), lab.host("web")
	c := full(v1(hooked), hooked, credential, listed, other)
	c.UDP, c.Domains = true, []string{listed}
	c.Broker, c.Env = true, []string{"SERVICE_TOKEN=" + strings.Repeat("secret", 7)}
	c.Providers = "[network_proxy.credential_providers.p]\nenv = [\"SERVICE_TOKEN\"]\nurl_prefixes = [\"https://" + credential + "/v1/\"]\n"
	p := start(t, c)
	relay, err := p.associate(t)
	if err != nil {
		t.Fatal(err)
	}
	relay.exchange(t, other, 443, "before "+other)
	for _, host := range []string{hooked, credential, listed, strings.ToUpper(hooked), hooked + "."} {
		for range 3 {
			relay.send(t, host, 443, "hidden "+hooked)
		}
	}
	relay.exchange(t, other, 443, "after "+other)
	relay.exchange(t, hooked, 8443, "another port "+hooked) // the hook is for 443
	if n := server.count("hidden " + hooked); n != 0 {
		t.Errorf("the server received %d datagrams for hosts whose requests must be seen, want none", n)
	}
	for _, host := range []string{hooked, credential, listed} {
		p.wantBlocked(t, refusal{Host: host, Port: 443, Protocol: "socks5_udp", Reason: "mitm_required"})
	}
}

// testSOCKSDatagramsLimited checks that there is no relay in limited mode.
func testSOCKSDatagramsLimited(t *testing.T, _ *datagrams) {
	c := limited(lab.host("web"))
	c.UDP = true
	p := start(t, c)
	if _, err := p.associate(t); err == nil {
		t.Error("UDP ASSOCIATE succeeded")
	}
}

// testSOCKSDatagramsReload adds a hook for a host to which datagrams flow.
func testSOCKSDatagramsReload(t *testing.T, server *datagrams) {
	host, other := lab.host("web"), lab.host("web")
	c := full("", host, other)
	c.UDP = true
	p := start(t, c)
	relay, err := p.associate(t)
	if err != nil {
		t.Fatal(err)
	}
	relay.exchange(t, host, 443, "before "+host)
	relay.exchange(t, other, 443, "before "+other)
	c.Hooks = v1(host)
	p.reload(t, c)
	for range 3 {
		relay.send(t, host, 443, "hidden "+host)
	}
	relay.exchange(t, other, 443, "after "+other)
	if n := server.count("hidden " + host); n != 0 {
		t.Errorf("the server received %d datagrams after the reload, want none", n)
	}
	p.wantBlocked(t, refusal{Host: host, Port: 443, Protocol: "socks5_udp", Reason: "mitm_required"})
}

// fenceDatagrams runs a command in a fence with datagrams. It sends "hidden" to the first
// host and then "control" to the second, whose response it awaits for some seconds, and
// returns the summary.
func fenceDatagrams(t *testing.T, flags []string, hidden, control, seconds string) (harness.Result, string) {
	t.Helper()
	script, err := filepath.Abs("../testdata/datagram.py")
	if err != nil {
		t.Fatal(err)
	}
	summary := filepath.Join(t.TempDir(), "summary.json")
	flags = append([]string{"-fence", "-fence-udp", "-json-file", summary}, flags...)
	got := runCommand(t, nil, flags, "sh", "-c", `
		for i in 1 2; do `+python+` "$1" "$2" 443 1 "hidden $2"; done
		exec `+python+` "$1" "$3" 443 "$4" "control $3"`, "sh", script, hidden, control, seconds)
	text, err := os.ReadFile(summary)
	if err != nil {
		t.Fatalf("%v: %s", err, got.Stderr)
	}
	return got, string(text)
}

func testFenceDatagramsHooked(t *testing.T, server *datagrams) {
	hooked, other := lab.host("web"), lab.host("web")
	config := writeFile(t, "config.toml", []byte(full(v1(hooked), hooked, other).toml("", "", "")))
	got, summary := fenceDatagrams(t, []string{"-config", config}, hooked, other, "20")
	if got.Exit != 0 || got.Stdout != "control "+other+"\n" {
		t.Errorf("exit %d, %q, want the response of the host without rules alone: %s", got.Exit, got.Stdout, got.Stderr)
	}
	if n := server.count("hidden " + hooked); n != 0 {
		t.Errorf("the server received %d datagrams for the hooked host, want none", n)
	}
	if !strings.Contains(summary, "captured_udp") || !strings.Contains(summary, "mitm_required") {
		t.Errorf("the summary lacks captured_udp or mitm_required: %s", summary)
	}
}

// testFenceDatagramsLimited has an exempt host too: its requests are not seen, so that it
// cannot be reached in limited mode by any protocol.
func testFenceDatagramsLimited(t *testing.T, server *datagrams) {
	host, exempt := lab.host("web"), lab.host("web")
	c := limited(host, exempt)
	c.Exempt = []string{exempt}
	config := writeFile(t, "config.toml", []byte(c.toml("", "", "")))
	got, summary := fenceDatagrams(t, []string{"-config", config}, host, exempt, "1")
	if got.Exit == 0 || got.Stdout != "" {
		t.Errorf("exit %d, %q; want no response: %s", got.Exit, got.Stdout, got.Stderr)
	}
	if n := server.count("hidden "+host) + server.count("control "+exempt); n != 0 {
		t.Errorf("the server received %d datagrams in limited mode, want none", n)
	}
	if !strings.Contains(summary, "captured_udp") {
		t.Errorf("the summary lacks captured_udp: %s", summary)
	}
}
