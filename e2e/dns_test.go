//go:build e2e && linux

// This file has the DNS server of the namespace. It answers from a table and counts
// the queries for each name.

package e2e

import (
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer answers A and AAAA queries on UDP at 127.0.0.1:53. Its answers for
// rebind.example alternate between the public address and loopback, like those of an
// attacker's server.
type dnsServer struct {
	conn  net.PacketConn
	zone  map[string][]netip.Addr
	ended chan struct{}

	mu      sync.Mutex
	queries map[string]int
	rebinds int
}

func listenDNS(zone map[string][]netip.Addr) (*dnsServer, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return nil, err
	}
	s := &dnsServer{conn: conn, zone: zone, ended: make(chan struct{}), queries: make(map[string]int)}
	go s.serve()
	return s, nil
}

func (s *dnsServer) close() {
	s.conn.Close()
	<-s.ended
}

// queryCount returns the number of queries for exactly this host, of all types.
func (s *dnsServer) queryCount(host string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries[host]
}

func (s *dnsServer) serve() {
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

func (s *dnsServer) answer(query []byte) (reply []byte, ok bool) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil, false
	}
	question, err := p.Question()
	if err != nil {
		return nil, false
	}
	addrs, known := s.lookup(question)
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

func (s *dnsServer) lookup(question dnsmessage.Question) (addrs []netip.Addr, known bool) {
	host := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries[host]++
	if host == "rebind.example" && question.Type == dnsmessage.TypeA {
		s.rebinds++
		if s.rebinds%2 == 0 {
			return []netip.Addr{loopback4}, true
		}
	}
	addrs, known = s.zone[host]
	return addrs, known
}

// resource returns the record for addr, or nil if the query is for the other address
// family.
func resource(typ dnsmessage.Type, addr netip.Addr) dnsmessage.ResourceBody {
	switch {
	case typ == dnsmessage.TypeA && addr.Is4():
		return &dnsmessage.AResource{A: addr.As4()}
	case typ == dnsmessage.TypeAAAA && addr.Is6():
		return &dnsmessage.AAAAResource{AAAA: addr.As16()}
	}
	return nil
}
