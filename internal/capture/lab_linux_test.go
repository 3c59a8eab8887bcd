package capture

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/fakedns"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/gatetest"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/testnet"
)

// lab is a front behind a listener on all addresses of 127.18.0.0/16, which stand for
// the captured ones. It needs no namespace.
type lab struct {
	*gatetest.Lab
	t     *testing.T
	front *Front
	room  *Room
	port  uint16
	stop  func() // ends the front, and waits until it has served its connections
}

var discard = slog.New(slog.DiscardHandler)

func newNames(t testing.TB) *fakedns.Names {
	t.Helper()
	names, err := fakedns.NewNames(netip.MustParsePrefix("127.18.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

type decider = func(context.Context, *approval.Request) (approval.Decision, error)

// newLab starts a front whose policy allows the entries.
func newLab(t *testing.T, decide decider, allowed ...string) *lab {
	t.Helper()
	l := &lab{t: t, Lab: gatetest.New(t, func(c *gate.Config) {
		c.Decider, c.DeciderTimeout, c.Questions = decide, time.Minute, 16
	}, func(*policy.Policy) {}, allowed...)}
	http := httpproxy.New(l.Gate, httpproxy.Config{
		Tokens: new(gate.Tokens), HeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		HeaderBytes: 64 << 10, HeaderFields: 100, ResponseHeaderBytes: 64 << 10, IdleUpstream: 8,
	})
	http.Adopt(l.Principal)
	l.front = New(l.Gate, Config{HTTP: http.ServeCaptured, FirstBytes: 10 * time.Second, Idle: time.Minute})
	l.room = &Room{Principal: l.Principal, Names: newNames(t), IPv6: true}
	addr, stop := l.Serve(t, "tcp4", "0.0.0.0:0", 64, func(listener *gate.Listener) { l.front.ServeTCP(listener, l.room) })
	l.port = uint16(addr.(*net.TCPAddr).Port)
	l.stop = sync.OnceFunc(func() {
		stop()
		http.CloseIdle(l.Principal)
	})
	t.Cleanup(l.stop)
	return l
}

func (l *lab) host(name string) hostname.Host {
	l.t.Helper()
	h, err := hostname.Parse(name)
	if err != nil {
		l.t.Fatal(err)
	}
	return h
}

// origin makes name lead to a server, at the port of the lab's listener.
func (l *lab) origin(name string, addr net.Addr) {
	l.t.Helper()
	public := netip.AddrFrom4([4]byte{93, 184, 216, byte(l.room.Names.Len() + 1)})
	l.Resolver.Set(name, testnet.Addrs(public.String()))
	l.Dialer.Map(netip.AddrPortFrom(public, l.port), addr)
}

// dial connects as a command does that has looked name up.
func (l *lab) dial(name string) *net.TCPConn {
	l.t.Helper()
	v4, _, err := l.room.Names.Addrs(l.host(name))
	if err != nil {
		l.t.Fatal(err)
	}
	return l.dialAddr(v4)
}

func (l *lab) dialAddr(a netip.Addr) *net.TCPConn {
	l.t.Helper()
	c, err := net.Dial("tcp", netip.AddrPortFrom(a, l.port).String())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// exchange sends text to name and returns all that comes back, and the error of the
// last read.
func (l *lab) exchange(name, text string) (string, error) {
	l.t.Helper()
	c := l.dial(name)
	io.WriteString(c, text)
	c.CloseWrite()
	b, err := io.ReadAll(c)
	return string(b), err
}

// readAddr connects to an address and returns all that comes back. The error may be
// that of the connection, because a reset may overtake it.
func (l *lab) readAddr(addr string) (string, error) {
	c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), l.port).String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return string(b), err
}

// refusals returns the recorded refusals as "protocol target method reason".
func (l *lab) refusals() []string {
	kept, _ := l.Gate.Blocked.List()
	var all []string
	for _, r := range kept {
		port := r.Target.Port
		if port == l.port {
			port = 1 // any port will do
		}
		target := hostname.Target{Host: r.Target.Host, Port: port}
		all = append(all, strings.Join(strings.Fields(string(r.Protocol)+" "+target.String()+" "+r.Method+" "+string(r.Verdict.Reason)), " "))
	}
	return all
}

func (l *lab) wantRefusals(want ...string) {
	l.t.Helper()
	if got := l.refusals(); strings.Join(got, "; ") != strings.Join(want, "; ") {
		l.t.Errorf("recorded %q, want %q", got, want)
	}
}
