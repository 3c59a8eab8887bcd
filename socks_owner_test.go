// Tests that a relay accepts only its client's datagrams, although other processes
// of this machine can send to it.

package networkproxy_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// associateFrom is associate for a client that announces its address.
func (l *lab) associateFrom(announced netip.AddrPort, from *udpClient) *udpClient {
	l.t.Helper()
	control, code, relay := l.socksRequest(socksAssociate, socksDestAddr(announced))
	if code != 0 {
		l.t.Fatalf("UDP ASSOCIATE from %s: got the reply %d", announced, code)
	}
	control.SetDeadline(time.Time{})
	from.control, from.relay = control, relay
	return from
}

func localUDP(t testing.TB) (*udpClient, netip.AddrPort) {
	c := &udpClient{t: t, conn: listenUDP(t, "127.0.0.1")}
	return c, netip.MustParseAddrPort(c.conn.LocalAddr().String())
}

// A stranger that sends first must not become the client.
func TestUDPStrangerIsFirst(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		announced func(victim netip.AddrPort) netip.AddrPort // nil: no address
		stranger  func(c *udpClient)
		refused   int
	}{
		{
			name:      "the client named its address and port",
			announced: func(victim netip.AddrPort) netip.AddrPort { return victim },
			stranger:  func(c *udpClient) { c.send(socksDest(publicAddr, 53), "stranger") },
		},
		{
			name: "the client named its port",
			announced: func(victim netip.AddrPort) netip.AddrPort {
				return netip.AddrPortFrom(netip.IPv4Unspecified(), victim.Port())
			},
			stranger: func(c *udpClient) { c.send(socksDest(publicAddr, 53), "stranger") },
		},
		{
			name: "the client named its port, with an IPv6 address",
			announced: func(victim netip.AddrPort) netip.AddrPort {
				return netip.AddrPortFrom(netip.IPv6Unspecified(), victim.Port())
			},
			stranger: func(c *udpClient) { c.send(socksDest(publicAddr, 53), "stranger") },
		},
		{
			name:     "a target that is denied",
			stranger: func(c *udpClient) { c.send(socksDestName("denied.example", 53), "stranger") },
			refused:  1,
		},
		{
			name:     "a target that no list names",
			stranger: func(c *udpClient) { c.send(socksDestName("other.test", 53), "stranger") },
			refused:  1,
		},
		{
			name:     "a local target",
			stranger: func(c *udpClient) { c.send(socksDest("127.0.0.1", 53), "stranger") },
			refused:  1,
		},
		{
			name:     "the same target, which does not resolve",
			stranger: func(c *udpClient) { c.send(socksDestName("none.example", 53), "stranger") },
		},
		{
			name:     "no target",
			stranger: func(c *udpClient) { c.send(socksDestName("a..example", 53), "stranger") },
		},
		{
			name: "a fragment",
			stranger: func(c *udpClient) {
				c.sendRaw(append([]byte{0, 0, 1}, append(socksDest(publicAddr, 53), "stranger"...)...))
			},
		},
		{name: "malformed", stranger: func(c *udpClient) { c.sendRaw([]byte("stranger")) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			config := withSOCKS(allow("none.example", publicAddr))
			config.Policy.DeniedDomains = []string{"denied.example"}
			l := start(t, config, nil)
			l.mapHostUDP("", 53, testnet.EchoUDP(t, "127.0.0.1"))
			victim, addr := localUDP(t)
			announced := netip.MustParseAddrPort("0.0.0.0:0")
			if test.announced != nil {
				announced = test.announced(addr)
			}
			l.associateFrom(announced, victim)
			stranger, _ := localUDP(t)
			stranger.relay = victim.relay
			test.stranger(stranger)
			eventually(t, "the stranger's datagram is dropped", func() bool { return l.healthCounts().Dropped == 1 })

			for range 3 {
				victim.send(socksDest(publicAddr, 53), "victim")
				victim.expect("victim", publicAddr+":53")
			}
			stranger.send(socksDest(publicAddr, 53), "late")
			eventually(t, "the stranger's datagrams are dropped", func() bool { return l.Dropped()["source"] >= 1 })
			victim.send(socksDest(publicAddr, 53), "again")
			victim.expect("again", publicAddr+":53")
			if got := len(l.Blocked()); got != test.refused {
				t.Errorf("got %d records, want %d", got, test.refused)
			}
		})
	}
}

// Two senders wait for the decider at the same time. The one whose target is
// allowed becomes the client.
func TestUDPStrangerAsks(t *testing.T) {
	t.Parallel()
	answers := map[string]chan networkproxy.Decision{"stranger.example": make(chan networkproxy.Decision), "victim.example": make(chan networkproxy.Decision)}
	asked := make(chan string, 2)
	l := start(t, withSOCKS(allow()), func(b *networkproxy.Builder) { b.PolicyDecider(deciderWith(asked, answers)) })
	l.mapHostUDP("victim.example", 53, testnet.EchoUDP(t, "127.0.0.1"))
	victim, _ := localUDP(t)
	l.associateFrom(netip.MustParseAddrPort("0.0.0.0:0"), victim)
	stranger, _ := localUDP(t)
	stranger.relay = victim.relay
	stranger.send(socksDestName("stranger.example", 53), "stranger")
	wait(t, asked, "the question of the stranger")
	victim.send(socksDestName("victim.example", 53), "victim")
	wait(t, asked, "the question of the victim")
	answers["victim.example"] <- networkproxy.Allow()
	victim.expect("victim", publicAddr+":53")
	eventually(t, "the stranger's datagram is dropped", func() bool { return l.Dropped()["source"] == 1 })
	victim.send(socksDestName("victim.example", 53), "again")
	victim.expect("again", publicAddr+":53")
}

// The address in the request must be the client's own or unspecified.
func TestUDPAssociateFromElsewhere(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow(publicAddr)), nil)
	for _, announced := range []string{"127.0.0.2:0", "127.0.0.2:4000", "93.184.216.34:53", "[::1]:4000", "[::ffff:127.0.0.2]:1"} {
		if _, code, _ := l.socksRequest(socksAssociate, socksDestAddr(netip.MustParseAddrPort(announced))); code != 2 {
			t.Errorf("from %s: got the reply %d, want 2", announced, code)
		}
	}
	for _, announced := range [][]byte{socksDestName("client.example", 0), socksDestAddr(netip.MustParseAddrPort("127.0.0.1:0")), socksDestAddr(netip.MustParseAddrPort("[::ffff:127.0.0.1]:0"))} {
		if _, code, _ := l.socksRequest(socksAssociate, announced); code != 0 {
			t.Errorf("from % x: got the reply %d", announced, code)
		}
	}
}

// socketTable is a table of sockets in the format of Linux.
type socketTable strings.Builder

func (s *socketTable) add(local, remote string, uid, inode int) {
	spell := func(text string) string {
		a := netip.MustParseAddrPort(text)
		var words string
		for b := a.Addr().AsSlice(); len(b) > 0; b = b[4:] {
			words += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b))
		}
		return fmt.Sprintf("%s:%04X", words, a.Port())
	}
	fmt.Fprintf((*strings.Builder)(s), "  12: %s %s 07 00000000:00000000 00:00000000 00000000  %4d        0 %d 2 0000000000000000 0\n", spell(local), spell(remote), uid, inode)
}

// Sockets of other users are recognized if the system lists their owners.
func TestUDPSenderOfAnotherUser(t *testing.T) {
	t.Parallel()
	const nowhere, nowhere6 = "0.0.0.0:0", "[::]:0"
	for _, test := range []struct {
		name   string
		tables func(client, proxy, victim, stranger string) (tcp, udp, udp6 socketTable)
		shut   bool // the stranger's datagrams are dropped
	}{
		{"another user", func(client, proxy, victim, stranger string) (tcp, udp, udp6 socketTable) {
			tcp.add(proxy, client, 7, 3)
			tcp.add(client, proxy, 1000, 4)
			udp.add(victim, nowhere, 1000, 1)
			udp.add(stranger, nowhere, 1001, 2)
			return
		}, true},
		{"another user, any address", func(client, proxy, victim, stranger string) (tcp, udp, udp6 socketTable) {
			tcp.add(client, proxy, 1000, 4)
			udp.add(strings.Replace(victim, "127.0.0.1", "0.0.0.0", 1), nowhere, 1000, 1)
			udp6.add(strings.Replace(stranger, "127.0.0.1", "[::]", 1), nowhere6, 1001, 2)
			return
		}, true},
		{"another user, mapped", func(client, proxy, victim, stranger string) (tcp, udp, udp6 socketTable) {
			tcp.add(client, proxy, 1000, 4)
			udp6.add(strings.Replace(victim, "127.0.0.1", "[::ffff:127.0.0.1]", 1), nowhere6, 1000, 1)
			udp6.add(strings.Replace(stranger, "127.0.0.1", "[::ffff:127.0.0.1]", 1), nowhere6, 0, 2)
			return
		}, true},
		{"two users on one port", func(client, proxy, victim, stranger string) (tcp, udp, udp6 socketTable) {
			tcp.add(client, proxy, 1000, 4)
			udp.add(victim, nowhere, 1000, 1)
			udp.add(stranger, nowhere, 1000, 2)
			udp.add(strings.Replace(stranger, "127.0.0.1", "0.0.0.0", 1), nowhere, 1001, 5)
			return
		}, true},
		{"closed already", func(client, proxy, victim, stranger string) (tcp, udp, udp6 socketTable) {
			tcp.add(client, proxy, 1000, 4)
			udp.add(victim, nowhere, 1000, 1)
			return
		}, true},
		{"the same user", func(client, proxy, victim, stranger string) (tcp, udp, udp6 socketTable) {
			tcp.add(client, proxy, 1000, 4)
			udp.add(victim, nowhere, 1000, 1)
			udp.add(stranger, nowhere, 1000, 2)
			return
		}, false},
		{"a client that is not here", func(client, proxy, victim, stranger string) (tcp, udp, udp6 socketTable) {
			tcp.add(proxy, client, 7, 3)
			udp.add(stranger, nowhere, 1001, 2)
			return
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := start(t, withSOCKS(allow(publicAddr)), func(b *networkproxy.Builder) { networkproxy.SetProcNet(b, dir) })
			l.mapHostUDP("", 53, testnet.EchoUDP(t, "127.0.0.1"))
			victim, victimAddr := localUDP(t)
			stranger, strangerAddr := localUDP(t)
			l.associateFrom(netip.MustParseAddrPort("0.0.0.0:0"), victim)
			stranger.relay = victim.relay
			tcp, udp, udp6 := test.tables(victim.control.LocalAddr().String(), victim.control.RemoteAddr().String(), victimAddr.String(), strangerAddr.String())
			for name, table := range map[string]*socketTable{"tcp": &tcp, "udp": &udp, "udp6": &udp6} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("  sl  local_address ...\n"+(*strings.Builder)(table).String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			stranger.send(socksDest(publicAddr, 53), "stranger")
			if !test.shut {
				stranger.expect("stranger", publicAddr+":53")
				return
			}
			stranger.send(socksDest(publicAddr, 53), "stranger")
			victim.send(socksDest(publicAddr, 53), "victim")
			victim.expect("victim", publicAddr+":53")
			if got, want := l.Dropped(), map[string]uint64{"source": 2}; !maps.Equal(got, want) {
				t.Errorf("dropped %v, want %v", got, want)
			}
		})
	}
}

// deciderWith returns a decider that sends the host to asked and waits for an answer
// for this host.
func deciderWith(asked chan<- string, answers map[string]chan networkproxy.Decision) networkproxy.PolicyDecider {
	return func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
		asked <- req.Host
		select {
		case d := <-answers[req.Host]:
			return d, nil
		case <-ctx.Done():
			return networkproxy.Decision{}, ctx.Err()
		}
	}
}
