// Lookups inside a fence.

package capture

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"example.com/networkproxy/internal/fakedns"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
)

// Datagrams is a socket that receives the datagrams to any address. Receive returns
// the address that the client sent to, and Send sends from that address. Both are safe
// for concurrent use; the error after Close is net.ErrClosed.
type Datagrams interface {
	Receive(b []byte) (n int, client, target netip.AddrPort, err error)
	Send(b []byte, target, client netip.AddrPort) error
	Close() error
}

// Room is a fence as the front sees it.
type Room struct {
	Principal *gate.Principal // of the session
	Names     *fakedns.Names
	IPv6      bool     // the fence has IPv6
	Search    []string // search domains of its resolvers, in the form of hostname

	// Target returns the address that the client of a connection connected to. It is called
	// once for each connection. Nil means that it is the local address of the connection.
	Target func(net.Conn) netip.AddrPort
}

const (
	maxQuery = 65535 // RFC 1035 section 4.2.2

	// dnsIdle is how long a connection of a resolver may be idle (RFC 7766 section
	// 6.2.3 asks for a few seconds).
	dnsIdle = 10 * time.Second

	// recordInterval is the time between two records of the same refused name.
	// A resolver asks several times for each lookup.
	recordInterval = time.Second

	// maxRecent limits the names that are remembered for recordInterval.
	maxRecent = 1024
)

// lookups answers the lookups of one room.
type lookups struct {
	front     *Front
	room      *Room
	responder fakedns.Responder

	mu     sync.Mutex
	recent map[string]time.Time // when the refusal of a name was recorded
}

func (f *Front) newLookups(r *Room) *lookups {
	l := &lookups{front: f, room: r, recent: make(map[string]time.Time)}
	l.responder = fakedns.Responder{Names: r.Names, IPv6: r.IPv6, Judge: l.judge}
	return l
}

// ServeDNS answers the queries that d receives, until d is closed.
func (f *Front) ServeDNS(d Datagrams, r *Room) error {
	l := f.newLookups(r)
	buf := make([]byte, maxQuery)
	for {
		n, client, target, err := d.Receive(buf)
		if err != nil {
			return err
		}
		if response := l.responder.Respond(buf[:n]); response != nil {
			d.Send(response, target, client) // a resolver asks again if the response is lost
		}
	}
}

// ServeDNSStreams answers the queries on the connections that l accepts, until l is
// closed.
func (f *Front) ServeDNSStreams(l *gate.Listener, r *Room) error {
	lookups := f.newLookups(r)
	return l.Serve(func(c net.Conn, entry *track.Entry) {
		for lookups.serveQuery(c) {
			if !entry.Begin() {
				return
			}
			entry.Idle(time.Now())
		}
	})
}

// serveQuery answers one query of a stream (RFC 1035 section 4.2.2). It returns false
// if no other follows.
func (l *lookups) serveQuery(c net.Conn) (more bool) {
	c.SetDeadline(time.Now().Add(dnsIdle))
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return false
	}
	query := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, query); err != nil {
		return false
	}
	response := l.responder.Respond(query)
	if response == nil {
		return false
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(response))), response...))
	return err == nil
}

// judge reports whether a name gets an address: if the policy or the decider may allow
// it on some port. The decision itself is made when the command connects.
func (l *lookups) judge(name hostname.Host) (ok bool, reason string) {
	v, miss := l.judgeName(name)
	if l.mayMean(name, &v, miss) {
		return true, ""
	}
	if v.Allowed { // the name is not what the command means
		return false, string(policy.ReasonNotAllowed)
	}
	l.record(name, v)
	return false, string(v.Reason)
}

// judgeName returns the verdict on a name. miss reports that a decider will be asked.
func (l *lookups) judgeName(name hostname.Host) (v policy.Verdict, miss bool) {
	g, p := l.front.gate, l.room.Principal
	v, miss = g.Policy().JudgeName(name, p.Overlay.Load(), g.StandingApproval())
	return v, miss && g.DeciderOf(p) != nil
}

// mayMean reports whether a name with a verdict gets an address.
//
// Some names need an entry that lists them: single labels, and the names below local
// and onion, which are not names of the public DNS (RFC 6762, RFC 7686). So do names
// that a resolver may have made by appending a search domain to another name: with
// an address for "api.example.com.corp.example", it would never ask for
// "api.example.com".
func (l *lookups) mayMean(name hostname.Host, v *policy.Verdict, miss bool) bool {
	text := name.Name()
	_, last, dotted := cutLast(text)
	if !dotted || last == "local" || last == "onion" {
		return v.Allowed && v.Source == policy.SourceBaselinePolicy
	}
	if !v.Allowed && !miss {
		return false
	}
	for _, domain := range l.room.Search {
		front, found := strings.CutSuffix(text, "."+domain)
		if !found || !strings.Contains(front, ".") {
			continue
		}
		if intended, err := hostname.Parse(front); err == nil {
			other, asks := l.judgeName(intended)
			if other.Allowed || asks {
				return v.Allowed && v.Source == policy.SourceBaselinePolicy && !strings.Contains(v.Pattern(), "*")
			}
		}
	}
	return true
}

// cutLast returns the parts of a name before and after its last dot.
func cutLast(name string) (before, last string, found bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// record records the refusal of a name, once in recordInterval.
func (l *lookups) record(name hostname.Host, v policy.Verdict) {
	now := time.Now()
	l.mu.Lock()
	last, known := l.recent[name.Name()]
	if !known && len(l.recent) >= maxRecent {
		clear(l.recent)
	}
	due := !known || now.Sub(last) >= recordInterval
	if due {
		l.recent[strings.Clone(name.Name())] = now
	}
	l.mu.Unlock()
	if !due {
		return
	}
	p := l.room.Principal
	l.front.gate.Refused(&gate.Request{
		Query:     policy.Query{Protocol: policy.ProtocolDNS, Target: hostname.Target{Host: name}.Clone(), Overlay: p.Overlay.Load()},
		Principal: p,
		Listener:  p,
	}, v)
}

// SystemSearchDomains returns the search domains of /etc/resolv.conf.
func SystemSearchDomains() []string {
	conf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return nil // there are none
	}
	return searchDomains(conf)
}

// searchDomains returns the search domains of a resolv.conf(5), of which the last
// search or domain line counts.
func searchDomains(conf []byte) (domains []string) {
	for line := range strings.Lines(string(conf)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "search" && fields[0] != "domain" {
			continue
		}
		domains = nil
		for _, text := range fields[1:] {
			if domain, err := hostname.Parse(text); err == nil && !domain.IsIP() {
				domains = append(domains, domain.Name())
			}
		}
	}
	return domains
}
