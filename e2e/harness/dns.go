//go:build e2e && linux

package harness

import (
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a name server at 127.0.0.1:53. It answers queries over UDP for A and AAAA records.
type DNS struct {
	conn   net.PacketConn
	lookup Lookup
	ended  chan struct{}
}

// Lookup returns the addresses of a name, which is in lower case and without a final dot.
// A name that is not known does not exist. The server calls it for one query at a time.
type Lookup func(name string, t dnsmessage.Type) (addrs []netip.Addr, known bool)

// ListenDNS starts a name server.
func ListenDNS(lookup Lookup) (*DNS, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return nil, err
	}
	s := &DNS{conn: conn, lookup: lookup, ended: make(chan struct{})}
	go s.serve()
	return s, nil
}

// Close stops the server and waits for its goroutine.
func (s *DNS) Close() {
	s.conn.Close()
	<-s.ended
}

func (s *DNS) serve() {
	defer close(s.ended)
	buf := make([]byte, 1232)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply, ok := s.answer(buf[:n]); ok {
			s.conn.WriteTo(reply, from)
		}
	}
}

func (s *DNS) answer(query []byte) (reply []byte, ok bool) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil, false
	}
	question, err := p.Question()
	if err != nil {
		return nil, false
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	addrs, known := s.lookup(name, question.Type)
	msg := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, Authoritative: true,
			RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{question},
	}
	if !known {
		msg.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range addrs {
		if body := resource(question.Type, addr); body != nil {
			msg.Answers = append(msg.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: question.Class},
				Body:   body,
			})
		}
	}
	reply, err = msg.Pack()
	return reply, err == nil
}

// resource returns the record for addr, or nil if the query is for the other address
// family.
func resource(t dnsmessage.Type, addr netip.Addr) dnsmessage.ResourceBody {
	switch {
	case t == dnsmessage.TypeA && addr.Is4():
		return &dnsmessage.AResource{A: addr.As4()}
	case t == dnsmessage.TypeAAAA && addr.Is6():
		return &dnsmessage.AAAAResource{AAAA: addr.As16()}
	}
	return nil
}
