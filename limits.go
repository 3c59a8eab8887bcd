// Limits: what clients, origins and name servers may make the proxy hold or
// wait for. Each is a bound with a default; what goes beyond it is refused,
// dropped or cut, never queued without end.

package networkproxy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/socksproxy"
)

// Limits bound what a proxy holds and waits for. A field that is zero stands
// for its default, so that the zero value is the defaults. It is a plain
// value.
//
// Each has an upper bound, which keeps sums and deadlines from overflowing:
// 1,048,576 for counts, but 100,000 for BlockedKept and 65,536 for HeaderFields; 16
// MiB for the bytes of a header and 64 KiB for LogValueBytes; 8760 hours for times.
//
// Content has no limit of size or time: downloads, uploads and streams of
// events are legitimate.
type Limits struct {
	// Connections is how many clients may be connected at a time, to all
	// listeners and sessions together. One more closes the connection that was
	// idle for longest, without a request under way, of the session that has
	// the most. If there is none it is answered 503 with Retry-After (RFC 9110
	// section 15.6.4), and SOCKS5 requests with the reply 1. One session, or all
	// clients without one, may have at most three times as many busy ones as
	// are free. Each may hold a connection to a target besides. Default 4096.
	Connections int

	// SessionConnections is the same for one session: for the connections to its
	// own listeners and those that carry its token. Default 1024.
	SessionConnections int

	// IdleUpstream is how many connections to origins, on which no request is
	// under way, are kept for reuse by the shared listeners, and by each
	// session. Beyond that they are closed. Default 512.
	IdleUpstream int

	// HeaderBytes bounds the header of a client's request, the request line
	// included. Beyond it: 431 (RFC 6585 section 5). Default 64 KiB.
	HeaderBytes int

	// HeaderFields bounds the number of fields in the header of a client's
	// request, and in the trailers behind its content. Beyond it: 431, or 400
	// for trailers. It also bounds those of an origin's response and of its
	// trailers. Beyond it: 502, or a cut connection for trailers. Each field
	// takes memory whatever its length. The names that Connection and Trailer
	// list count as fields. Default 256.
	HeaderFields int

	// ResponseHeaderBytes bounds the header of an origin's answer. Beyond it:
	// 502. Default 1 MiB.
	ResponseHeaderBytes int

	// HeaderTimeout bounds the time from the first byte of a request to the end
	// of its header. Beyond it: 408. The header of an origin's response has the
	// same time from its first byte on. Beyond it: 504. Default 10 s.
	HeaderTimeout time.Duration

	// HandshakeTimeout bounds the time from a SOCKS5 client's connection to its
	// request. Beyond it the connection is closed. It also bounds how long the
	// beginning of a TLS handshake in a tunnel is held back until its ClientHello
	// is complete. Beyond it the tunnel is cut with [ReasonSNIMismatch]. Default
	// 10 s.
	HandshakeTimeout time.Duration

	// IdleTimeout is how long a client's connection may wait for its first or
	// next request. Beyond it the connection is closed. Default 90 s.
	IdleTimeout time.Duration

	// LookupTimeout bounds the look-up of a name. Beyond it: 502. Default 10 s.
	LookupTimeout time.Duration

	// DialTimeout bounds the connecting to a target, all its addresses together.
	// Beyond it: 504. Default 30 s.
	DialTimeout time.Duration

	// TunnelIdle ends a tunnel in which no byte has moved, in either
	// direction, for so long, and a UDP association likewise. Default 10 min.
	TunnelIdle time.Duration

	// TunnelLifetime ends a tunnel, or a UDP association, so long after it
	// began, whatever moves in it. Default 0: never.
	TunnelLifetime time.Duration

	// Questions is how many questions the decider has before it at a time.
	// Identical requests that wait together are one question. What goes
	// beyond is refused with "decider_busy", 503 and Retry-After. One session
	// has at most three times as many as are free, so three quarters of them
	// while it is alone. Default 256.
	Questions int

	// UDPFlows is how many targets one SOCKS5 client may exchange datagrams
	// with at a time; the one idle for longest makes way. Default 256.
	UDPFlows int

	// UDPTotalFlows is the same for all clients together: each flow holds a
	// socket. Another one ends the flow idle for longest of the session that
	// has the most. Default 1024.
	UDPTotalFlows int

	// UDPIdle ends a flow in which no datagram has moved for so long. Default
	// 60 s.
	UDPIdle time.Duration

	// BlockedKept is how many refusals are kept, the newest: by the proxy, and by
	// each session. The proxy forgets the oldest of the session that has the
	// most. Default 200.
	BlockedKept int

	// LogValueBytes bounds, in bytes, one text from outside in a log line: the
	// error of a malformed or failed request. Default 300.
	LogValueBytes int

	// LogLinesPerSecond is how many lines that clients cause (refused, failed,
	// malformed, cut, not decided, granted, panics) the log gets in a second,
	// and as many more at the level debug. What goes beyond is left out, and a
	// line behind that second tells how many they were. One session has at most
	// three times as many as are free, as with Questions.
	// Records, counters and [Builder.OnBlocked] have all of them. Default 500.
	LogLinesPerSecond int
}

// Set sets one limit by its name, as the program's -limit and docs/limits.md
// have it: "connections" to a number, "tunnel_idle" to a time like "5m" (see
// [time.ParseDuration]). It is for a host that has its users set limits.
func (l *Limits) Set(name, value string) error {
	var names []string
	for _, f := range l.fields() {
		if f.name == name {
			return f.parse(value)
		}
		names = append(names, f.name)
	}
	return fmt.Errorf("no limit is named %.40q; there are %s", name, strings.Join(names, ", "))
}

// DefaultLimits returns the limits that the zero value stands for.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

// withDefaults fills in what is zero.
func (l Limits) withDefaults() Limits {
	defaults := Limits{
		Connections:         4096,
		SessionConnections:  1024,
		IdleUpstream:        512,
		HeaderBytes:         64 << 10,
		HeaderFields:        256,
		ResponseHeaderBytes: 1 << 20,
		HeaderTimeout:       10 * time.Second,
		HandshakeTimeout:    10 * time.Second,
		IdleTimeout:         90 * time.Second,
		LookupTimeout:       10 * time.Second,
		DialTimeout:         30 * time.Second,
		TunnelIdle:          10 * time.Minute,
		Questions:           approval.DefaultQuestions,
		UDPFlows:            socksproxy.UdpFlows,
		UDPTotalFlows:       socksproxy.UdpAllFlows,
		UDPIdle:             socksproxy.UdpFlowIdle,
		BlockedKept:         200,
		LogValueBytes:       300,
		LogLinesPerSecond:   500,
	}
	from := defaults.fields()
	for i, f := range l.fields() {
		f.setIfZero(from[i])
	}
	return l
}

// limitField is one limit: a number or a time.
type limitField struct {
	name   string
	number *int
	time   *time.Duration
}

// fields lists the limits.
func (l *Limits) fields() []limitField {
	number := func(name string, v *int) limitField { return limitField{name: name, number: v} }
	within := func(name string, v *time.Duration) limitField { return limitField{name: name, time: v} }
	return []limitField{
		number("connections", &l.Connections),
		number("session_connections", &l.SessionConnections),
		number("idle_upstream", &l.IdleUpstream),
		number("header_bytes", &l.HeaderBytes),
		number("header_fields", &l.HeaderFields),
		number("response_header_bytes", &l.ResponseHeaderBytes),
		within("header_timeout", &l.HeaderTimeout),
		within("handshake_timeout", &l.HandshakeTimeout),
		within("idle_timeout", &l.IdleTimeout),
		within("lookup_timeout", &l.LookupTimeout),
		within("dial_timeout", &l.DialTimeout),
		within("tunnel_idle", &l.TunnelIdle),
		within("tunnel_lifetime", &l.TunnelLifetime),
		number("questions", &l.Questions),
		number("udp_flows", &l.UDPFlows),
		number("udp_total_flows", &l.UDPTotalFlows),
		within("udp_idle", &l.UDPIdle),
		number("blocked_kept", &l.BlockedKept),
		number("log_value_bytes", &l.LogValueBytes),
		number("log_lines_per_second", &l.LogLinesPerSecond),
	}
}

func (f limitField) negative() bool {
	return f.number != nil && *f.number < 0 || f.time != nil && *f.time < 0
}

// Upper bounds. Header sizes are what one connection may take in memory.
const (
	maxCount         = 1 << 20
	maxBlockedKept   = 100_000
	maxHeaderFields  = 1 << 16
	maxHeaderBytes   = 16 << 20
	maxLogValueBytes = 64 << 10
	maxTime          = 8760 * time.Hour
)

// most returns the upper bound of a number.
func (f limitField) most() int {
	switch f.name {
	case "header_bytes", "response_header_bytes":
		return maxHeaderBytes
	case "header_fields":
		return maxHeaderFields
	case "blocked_kept":
		return maxBlockedKept
	case "log_value_bytes":
		return maxLogValueBytes
	}
	return maxCount
}

// parse sets the limit to the value in a text.
func (f limitField) parse(value string) error {
	if f.number != nil {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > f.most() {
			return fmt.Errorf("the limit %s = %.40q is not a number from 0 to %d", f.name, value, f.most())
		}
		*f.number = n
		return nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > maxTime {
		return fmt.Errorf("the limit %s = %.40q is not a time from 0s to %v, such as 30s or 5m", f.name, value, maxTime)
	}
	*f.time = d
	return nil
}

func (f limitField) setIfZero(from limitField) {
	switch {
	case f.number != nil && *f.number == 0:
		*f.number = *from.number
	case f.time != nil && *f.time == 0:
		*f.time = *from.time
	}
}
