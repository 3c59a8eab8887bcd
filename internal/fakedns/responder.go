// Answers to queries.

package fakedns

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"example.com/networkproxy/internal/hostname"
)

const (
	ttl = 60 // seconds; short, because an answer means that the name may be allowed now

	// optExtendedError is the option code of extended DNS errors, and infoBlocked
	// the info code for a name that a policy blocks (RFC 8914).
	optExtendedError = 15
	infoBlocked      = 15

	// maxReason limits the text in an extended error, so that the answer fits a
	// datagram of 512 bytes.
	maxReason = 120

	// udpSize is the size of datagrams that the Responder accepts (RFC 6891
	// section 6.2.5).
	udpSize = 1232
)

// Responder answers queries with the addresses of Names. The answers are short enough
// for a datagram, so that they are never truncated.
type Responder struct {
	Names *Names
	IPv6  bool // there are IPv6 addresses; if false, a query for one has no data

	// Judge reports whether a name gets an address. If not, reason says why in one
	// word. It is called for names without a special meaning.
	Judge func(name hostname.Host) (ok bool, reason string)
}

var (
	loopback4 = [4]byte{127, 0, 0, 1}
	loopback6 = netip.IPv6Loopback().As16()
)

// Respond returns the response to a query. It returns nil for a message that gets no
// response: one too short for an ID, or one that is a response itself.
func (r *Responder) Respond(query []byte) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil || header.Response {
		return nil
	}
	answer := response{id: header.ID, recursion: header.RecursionDesired}
	switch {
	case header.OpCode != 0:
		answer.code = dnsmessage.RCodeNotImplemented
		return answer.pack()
	case binary.BigEndian.Uint16(query[4:]) != 1 || isCompressed(query):
		answer.code = dnsmessage.RCodeFormatError
		return answer.pack()
	}
	question, err := p.Question()
	if err != nil {
		answer.code = dnsmessage.RCodeFormatError
		return answer.pack()
	}
	answer.question, answer.hasQuestion = question, true
	if answer.edns, err = hasOPT(&p); err != nil {
		answer.code = dnsmessage.RCodeFormatError
		return answer.pack()
	}
	if question.Class != dnsmessage.ClassINET {
		answer.code = dnsmessage.RCodeRefused
		return answer.pack()
	}
	r.answer(&answer)
	return answer.pack()
}

// isCompressed reports whether the name in the question has a compression pointer. The
// first name of a message has nothing to point to.
func isCompressed(query []byte) bool {
	for i := 12; i < len(query) && query[i] != 0; i += 1 + int(query[i]) {
		if query[i]&0xc0 != 0 {
			return true
		}
	}
	return false
}

// hasOPT reports whether the query has an OPT record (RFC 6891).
func hasOPT(p *dnsmessage.Parser) (bool, error) {
	err := errors.Join(p.SkipAllQuestions(), p.SkipAllAnswers(), p.SkipAllAuthorities())
	found := false
	for err == nil {
		var h dnsmessage.ResourceHeader
		if h, err = p.AdditionalHeader(); err != nil {
			break
		}
		found = found || h.Type == dnsmessage.TypeOPT
		err = p.SkipAdditional()
	}
	if err == dnsmessage.ErrSectionDone {
		err = nil
	}
	return found, err
}

// answer fills in the answer to a valid question.
func (r *Responder) answer(a *response) {
	name := strings.TrimSuffix(a.question.Name.String(), ".")
	if name == "" {
		return // the root has no addresses
	}
	if addr, ok := reverseAddr(name); ok {
		r.answerReverse(a, addr)
		return
	}
	host, err := hostname.Parse(name)
	if err != nil || host.IsIP() {
		a.refuse("invalid_target")
		return
	}
	if host.IsLocalhost() { // RFC 6761 section 6.3
		switch a.question.Type {
		case dnsmessage.TypeA:
			a.data = &dnsmessage.AResource{A: loopback4}
		case dnsmessage.TypeAAAA:
			a.data = &dnsmessage.AAAAResource{AAAA: loopback6}
		}
		return
	}
	if ok, reason := r.Judge(host); !ok {
		a.refuse(reason)
		return
	}
	switch a.question.Type {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
	default:
		return // the name exists without data of this type
	}
	v4, v6, err := r.Names.Addrs(host)
	switch {
	case err != nil:
		a.code = dnsmessage.RCodeServerFailure
	case a.question.Type == dnsmessage.TypeA:
		a.data = &dnsmessage.AResource{A: v4.As4()}
	case r.IPv6:
		a.data = &dnsmessage.AAAAResource{AAAA: v6.As16()}
	}
}

// answerReverse answers the lookup of an address.
func (r *Responder) answerReverse(a *response, addr netip.Addr) {
	host, err := r.Names.Host(addr)
	if err != nil || host.IsIP() {
		a.code = dnsmessage.RCodeNameError
		return
	}
	if a.question.Type != dnsmessage.TypePTR {
		return
	}
	name, err := dnsmessage.NewName(host.Name() + ".")
	if err != nil {
		a.code = dnsmessage.RCodeServerFailure
		return
	}
	a.data = &dnsmessage.PTRResource{PTR: name}
}

// reverseAddr returns the address whose name is asked for: of in-addr.arpa (RFC 1035
// section 3.5) or ip6.arpa (RFC 3596 section 2.5).
func reverseAddr(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(digits, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		addr, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return addr, err == nil
	}
	digits, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(digits) != 63 {
		return netip.Addr{}, false
	}
	var text strings.Builder
	for i := 62; i >= 0; i -= 2 {
		text.WriteByte(digits[i])
		if i > 0 && digits[i-1] != '.' {
			return netip.Addr{}, false
		}
		if n := (62 - i) / 2; n%4 == 3 && i > 0 {
			text.WriteByte(':')
		}
	}
	addr, err := netip.ParseAddr(text.String())
	return addr, err == nil
}

// response is a response to be packed.
type response struct {
	id          uint16
	recursion   bool
	code        dnsmessage.RCode
	question    dnsmessage.Question
	hasQuestion bool
	edns        bool                    // the query has an OPT record, so the response gets one
	data        dnsmessage.ResourceBody // nil means none
	reason      string                  // of the refusal of a name
}

// refuse makes the answer that the name does not exist. That answer is final, whereas
// resolvers take REFUSED for a fault of the server and ask again.
func (a *response) refuse(reason string) {
	a.code, a.reason = dnsmessage.RCodeNameError, reason
}

// pack returns the message, or nil if it cannot be packed.
func (a *response) pack() []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{
		ID: a.id, Response: true, RecursionDesired: a.recursion, RecursionAvailable: true, RCode: a.code,
	}}
	if a.hasQuestion {
		m.Questions = []dnsmessage.Question{a.question}
	}
	if a.data != nil {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: a.question.Name, Class: dnsmessage.ClassINET, TTL: ttl},
			Body:   a.data,
		}}
	}
	if a.edns {
		m.Additionals = []dnsmessage.Resource{a.opt()}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// opt returns the OPT record of the response, with the reason of a refusal.
func (a *response) opt() dnsmessage.Resource {
	opt := &dnsmessage.OPTResource{}
	if a.reason != "" {
		data := append([]byte{0, infoBlocked}, a.reason[:min(len(a.reason), maxReason)]...)
		opt.Options = []dnsmessage.Option{{Code: optExtendedError, Data: data}}
	}
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Class: udpSize},
		Body:   opt,
	}
}
