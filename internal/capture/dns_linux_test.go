package capture

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/testnet"
	"example.com/networkproxy/internal/track"
)

// packet is a datagram with its two ends.
type packet struct {
	data           string
	client, target netip.AddrPort
}

// wire is a socket in memory.
type wire struct {
	in, out chan packet
	closed  chan struct{}
	once    sync.Once
}

func newWire() *wire {
	return &wire{in: make(chan packet), out: make(chan packet, 64), closed: make(chan struct{})}
}

func (w *wire) Receive(b []byte) (int, netip.AddrPort, netip.AddrPort, error) {
	select {
	case p := <-w.in:
		return copy(b, p.data), p.client, p.target, nil
	case <-w.closed:
		return 0, netip.AddrPort{}, netip.AddrPort{}, net.ErrClosed
	}
}

func (w *wire) Send(b []byte, target, client netip.AddrPort) error {
	select {
	case w.out <- packet{string(b), client, target}:
		return nil
	case <-w.closed:
		return net.ErrClosed
	}
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

var commandAddr = netip.MustParseAddrPort("198.18.0.1:40000")

// lookup returns the response code and the first address.
func lookup(t *testing.T, l *lookups, name string, typ dnsmessage.Type) (dnsmessage.RCode, netip.Addr) {
	t.Helper()
	q := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: typ, Class: dnsmessage.ClassINET}}}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(l.responder.Respond(b)); err != nil {
		t.Fatal(err)
	}
	for _, a := range m.Answers {
		if a, ok := a.Body.(*dnsmessage.AResource); ok {
			return m.RCode, netip.AddrFrom4(a.A)
		}
	}
	return m.RCode, netip.Addr{}
}

func TestLookups(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		decider bool
		name    string
		found   bool
	}{
		{false, "ok.test", true},
		{false, "db.test", true}, // on one port
		{false, "a.wild.test", true},
		{false, "no.test", false},
		{true, "no.test", true}, // the decider may allow it when the command connects
		{true, "denied.test", false},
		{false, "printer", false},
		{true, "printer", false},
		{false, "listed", true},
		{true, "x.local", false},
		{true, "x.onion", false},
		{false, "listed.local", true},
		// Names that a resolver made of another and a search domain.
		{false, "ok.test.wild.test", false},
		{true, "any.thing.wild.test", false},
		{false, "any.thing.wild.test", true},
		{false, "made.of.wild.test", true},
		{true, "made.of.wild.test", true},
	} {
		var decide decider
		if c.decider {
			decide = func(context.Context, *approval.Request) (approval.Decision, error) { return approval.Allow(), nil }
		}
		l := newLab(t, decide, "ok.test", "db.test:5432", "**.wild.test", "listed", "listed.local", "made.of.wild.test")
		l.room.Search = []string{"wild.test"}
		code, addr := lookup(t, l.front.newLookups(l.room), c.name, dnsmessage.TypeA)
		if c.found != addr.IsValid() || c.found != (code == 0) {
			t.Errorf("%s (decider: %t): got %v, %v; want an address: %t", c.name, c.decider, code, addr, c.found)
		}
		if host, err := l.room.Names.Host(addr); c.found && (err != nil || host.Name() != c.name) {
			t.Errorf("%s: the address stands for %v, %v", c.name, host, err)
		}
	}
}

func TestRefusedLookupIsRecordedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{BlockedKept: 10, LogValueBytes: 100, LogLinesPerSecond: 10, Log: discard})
		defer g.CloseLogs()
		g.Install(&policy.Policy{Generation: 1, Enabled: true, Mode: policy.ModeFull, Self: &g.Self})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		names := newNames(t)
		l := New(g, Config{}).newLookups(&Room{Principal: gate.NewPrincipal(ctx, audit.NewAttribution("", "", nil)), Names: names})
		for range 3 {
			lookup(t, l, "no.test", dnsmessage.TypeA)
			lookup(t, l, "NO.test", dnsmessage.TypeAAAA)
		}
		lookup(t, l, "other.test", dnsmessage.TypeA)
		time.Sleep(recordInterval)
		lookup(t, l, "no.test", dnsmessage.TypeA)
		kept, _ := g.Blocked.List()
		var got []string
		for _, r := range kept {
			got = append(got, string(r.Protocol)+" "+r.Target.Host.String()+" "+string(r.Verdict.Reason))
		}
		want := []string{"dns no.test not_allowed", "dns other.test not_allowed", "dns no.test not_allowed"}
		if !slices.Equal(got, want) {
			t.Errorf("recorded %q, want %q", got, want)
		}
		if names.Len() != 0 {
			t.Errorf("refused names have %d addresses", names.Len())
		}
	})
}

func TestServeDNS(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "ok.test")
	w := newWire()
	var serving sync.WaitGroup
	serving.Go(func() { l.front.ServeDNS(w, l.room) })
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("ok.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	server := netip.MustParseAddrPort("8.8.8.8:53")
	w.in <- packet{"junk", commandAddr, server}
	w.in <- packet{string(b), commandAddr, server}
	got := <-w.out
	if got.client != commandAddr || got.target != server {
		t.Errorf("the answer goes from %v to %v", got.target, got.client)
	}
	w.Close()
	serving.Wait()

	inner, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	group := track.NewGroup(nil)
	serving.Go(func() {
		l.front.ServeDNSStreams(&gate.Listener{Listener: &track.Listener{Inner: inner, Group: group, StartIdle: true}, Principal: l.room.Principal}, l.room)
	})
	defer serving.Wait()
	defer inner.Close()
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 { // several queries on one connection
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, answer); err != nil || string(answer) != got.data {
			t.Errorf("the answer over TCP is %x, %v; over UDP %x", answer, err, got.data)
		}
	}
}

// startUDP serves captured datagrams of l.
func startUDP(t *testing.T, l *lab) *wire {
	w := newWire()
	var serving sync.WaitGroup
	serving.Go(func() { l.front.ServeUDP(w, l.room) })
	t.Cleanup(func() {
		w.Close()
		serving.Wait()
	})
	return w
}

func (l *lab) udpTarget(name string) netip.AddrPort {
	l.t.Helper()
	v4, _, err := l.room.Names.Addrs(l.host(name))
	if err != nil {
		l.t.Fatal(err)
	}
	return netip.AddrPortFrom(v4, 123)
}

func TestServeUDP(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "time.test")
	echo := testnet.EchoUDP(t, "127.0.0.1")
	l.Resolver.Set("time.test", testnet.Addrs("93.184.216.99"))
	l.Dialer.MapUDP(netip.MustParseAddrPort("93.184.216.99:123"), echo)
	w := startUDP(t, l)
	target := l.udpTarget("time.test")
	for _, data := range []string{"one", "two"} {
		w.in <- packet{data, commandAddr, target}
		if got := <-w.out; !strings.HasSuffix(got.data, data) || got.client != commandAddr || got.target != target {
			t.Errorf("got %+v, want %q from the target", got, data)
		}
	}
	w.in <- packet{"x", commandAddr, l.udpTarget("no.test")}
	w.in <- packet{"y", commandAddr, l.udpTarget("no.test")} // the flow is refused already, or soon
	w.in <- packet{"z", commandAddr, netip.MustParseAddrPort("127.18.200.200:123")}
	w.in <- packet{"three", commandAddr, target}
	<-w.out
	w.Close()
	if got := l.refusals(); len(got) > 1 || len(got) == 1 && got[0] != "captured_udp no.test:123 not_allowed" {
		t.Errorf("recorded %q", got)
	}
}

func TestUDPFlowIsCut(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "time.test")
	echo := testnet.EchoUDP(t, "127.0.0.1")
	l.Resolver.Set("time.test", testnet.Addrs("93.184.216.99"))
	l.Dialer.MapUDP(netip.MustParseAddrPort("93.184.216.99:123"), echo)
	w := startUDP(t, l)
	target := l.udpTarget("time.test")
	w.in <- packet{"one", commandAddr, target}
	<-w.out
	l.Install(func(p *policy.Policy) { p.Allow = nil })
	w.in <- packet{"two", commandAddr, target}
	w.in <- packet{"three", commandAddr, target}
	select {
	case got := <-w.out:
		t.Errorf("after the entry is gone: got %+v", got)
	default:
	}
}
