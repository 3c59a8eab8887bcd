// A DNS server on loopback.

package testnet

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a name server on UDP and TCP at one loopback port with scripted answers to A and AAAA questions. Set and Queries
// work as in Resolver. Each question counts as a query. Start one with NewDNS. It is safe for concurrent use.
type DNS struct {
	script
	udp  *net.UDPConn
	tcp  *Origin
	done sync.WaitGroup
}

// NewDNS starts a server. It ends with the test.
func NewDNS(tb testing.TB) *DNS {
	tb.Helper()
	d := new(DNS)
	// The kernel chooses a port that is free for TCP. It may be taken for UDP, so try several.
	var lastErr error
	for range 20 {
		ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			tb.Fatalf("listen for DNS on TCP: %v", err)
		}
		d.udp, lastErr = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: ln.Addr().(*net.TCPAddr).Port})
		if lastErr != nil {
			ln.Close()
			continue
		}
		d.tcp = serve(tb, ln, d.serveTCP)
		break
	}
	if d.tcp == nil {
		tb.Fatalf("listen for DNS on UDP at the port of TCP: %v", lastErr)
	}
	d.done.Go(d.serveUDP)
	tb.Cleanup(func() {
		d.udp.Close()
		d.done.Wait()
	})
	return d
}

// Addr returns the address and port of the server.
func (d *DNS) Addr() netip.AddrPort { return d.tcp.AddrPort() }

// SetType sets the answers for one record type. Call Set first, for all other types.
func (d *DNS) SetType(name string, recordType dnsmessage.Type, answers ...Answer) {
	d.setType(name, recordType.String(), answers)
}

// Resolver returns a resolver that queries only this server.
func (d *DNS) Resolver() *net.Resolver {
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, d.Addr().String())
		},
	}
}

func (d *DNS) serveUDP() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := d.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed by the cleanup
		}
		if reply := d.answer(buf[:n], true); reply != nil {
			d.udp.WriteToUDPAddrPort(reply, from)
		}
	}
}

// serveTCP reads and writes messages with a length prefix (RFC 1035 section 4.2.2).
func (d *DNS) serveTCP(c *net.TCPConn) {
	for {
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		msg := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, msg); err != nil {
			return
		}
		reply := d.answer(msg, false)
		if reply == nil {
			continue
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

// answer returns the reply to a query, or nil for no reply.
func (d *DNS) answer(query []byte, udp bool) []byte {
	var in dnsmessage.Message
	if err := in.Unpack(query); err != nil || len(in.Questions) != 1 {
		return nil
	}
	q := in.Questions[0]
	out := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: in.ID, Response: true, Authoritative: true, RecursionDesired: in.RecursionDesired, RecursionAvailable: true,
		},
		Questions: in.Questions,
	}
	a := d.nextAnswer(q.Name.String(), q.Type.String())
	switch a.kind {
	case answerSilence:
		return nil
	case answerNXDomain:
		out.RCode = dnsmessage.RCodeNameError
	case answerServFail:
		out.RCode = dnsmessage.RCodeServerFailure
	}
	for _, addr := range a.addrs {
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class} // TTL 0: no caching
		switch {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case q.Type == dnsmessage.TypeAAAA && addr.Is6(): // includes mapped addresses, which a hostile zone may have
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	reply, err := out.Pack()
	if err != nil {
		return nil
	}
	if udp && len(reply) > udpLimit(in.Additionals) {
		out.Truncated, out.Answers = true, nil // the client retries on TCP: RFC 1035 section 4.2.1
		reply, _ = out.Pack()
	}
	return reply
}

// udpLimit returns the maximum size of a reply on UDP: 512 bytes, or the size in the client's EDNS record (RFC 6891
// section 6.2.3).
func udpLimit(additionals []dnsmessage.Resource) int {
	for _, r := range additionals {
		if r.Header.Type == dnsmessage.TypeOPT {
			return max(512, int(r.Header.Class))
		}
	}
	return 512
}
