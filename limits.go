// Limits: bounds on what clients, origin servers and name servers can make the
// proxy hold or wait for. Whatever exceeds one is refused, dropped or cut. The
// proxy has no unbounded queues.

package networkproxy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/socksproxy"
)

// Limits bound what a proxy holds and waits for. Zero fields have their default
// values, so the zero value of Limits has all defaults.
//
// The limits themselves have maximums, which keep sums and deadlines from
// overflowing: 1,048,576 for counts, except 100,000 for BlockedKept and 65,536
// for HeaderFields; 16 MiB for headers; 64 KiB for LogValueBytes; 8760 hours for
// times. [Builder.Limits] refuses negative values and values over the maximum.
//
// Bodies are not limited in size or time, because long downloads, uploads and
// event streams are legitimate.
type Limits struct {
	// Connections bounds the open connections of clients, those of all listeners
	// and sessions together. When the bound is reached, a new connection replaces
	// an idle one, which has no open request: the one that has been idle longest
	// in the session with the most connections. If all are busy, the new one gets
	// status 503 with Retry-After (RFC 9110 section 15.6.4), or SOCKS5 reply 1. A
	// session, and all clients without a session together, can have at most three
	// times as many busy connections as are free. Each client connection can also
	// hold one connection to a target. Default 4096.
	Connections int

	// SessionConnections bounds the open connections of one session in the same
	// way: those to its own listeners and those that carry its token. Default 1024.
	SessionConnections int

	// IdleUpstream bounds the idle connections to origin servers that are kept
	// for reuse, for the shared listeners and for each session. Further ones are
	// closed. Default 512.
	IdleUpstream int

	// HeaderBytes bounds the header of a client's request, including the request
	// line. Larger ones get status 431 (RFC 6585 section 5). Default 64 KiB.
	HeaderBytes int

	// HeaderFields bounds the number of fields in a header, and in trailers,
	// because each field takes memory whatever its length. Requests with more get
	// status 431, or 400 if the trailers have more. Responses of origin servers
	// with more become status 502, or are cut if the trailers have more. The names
	// in Connection and Trailer count as fields. Default 256.
	HeaderFields int

	// ResponseHeaderBytes bounds the header of a response of an origin server.
	// Larger ones become status 502. Default 1 MiB.
	ResponseHeaderBytes int

	// HeaderTimeout bounds the time from the first byte of a request to the end of
	// its header. Slower requests get status 408. It also bounds the same time for
	// the response of an origin server. Slower responses become status 504. Default
	// 10 s.
	HeaderTimeout time.Duration

	// HandshakeTimeout bounds the time from a SOCKS5 client's connection to its
	// request. After this time the connection is closed. It also bounds how long
	// the proxy holds back the beginning of a ClientHello in a tunnel until it is
	// complete. After this time the tunnel is cut with [ReasonSNIMismatch].
	// Default 10 s.
	HandshakeTimeout time.Duration

	// IdleTimeout bounds the wait for the first or next request on a client's
	// connection. After this time the connection is closed. Default 90 s.
	IdleTimeout time.Duration

	// LookupTimeout bounds the lookup of a name. After this time the request gets
	// status 502. Default 10 s.
	LookupTimeout time.Duration

	// DialTimeout bounds connecting to a target, all its addresses together. After
	// this time the request gets status 504. Default 30 s.
	DialTimeout time.Duration

	// TunnelIdle bounds the time in which no byte moves through a tunnel or a UDP
	// association, in either direction. After this time the proxy closes it.
	// Default 10 min.
	TunnelIdle time.Duration

	// TunnelLifetime bounds the whole time of a tunnel or a UDP association. After
	// this time the proxy closes it. Default 0: no limit.
	TunnelLifetime time.Duration

	// Questions bounds the questions that wait for the decider. Identical requests
	// that wait together are one question. Further ones are refused with
	// [ReasonDeciderBusy], status 503 and Retry-After. A session can have at most
	// three times as many questions as are free. A single session can therefore
	// have three quarters of all. Default 256.
	Questions int

	// OpenedTunnels bounds the tunnels whose TLS is open at a time, see [Config.MITM],
	// because each holds about 100 KiB. Further ones get status 503 with Retry-After,
	// or SOCKS5 reply 1. A session can have at most three times as many as are free.
	// Default 512.
	OpenedTunnels int

	// UDPFlows bounds the targets that one SOCKS5 client exchanges datagrams with.
	// A further flow replaces the one that has been idle longest. Default 256.
	UDPFlows int

	// UDPTotalFlows bounds the flows of all clients together; each holds a socket.
	// A further flow replaces the one that has been idle longest in the session
	// with the most flows. Default 1024.
	UDPTotalFlows int

	// UDPIdle bounds the time in which no datagram moves in a flow. After this time
	// the flow ends. Default 60 s.
	UDPIdle time.Duration

	// BlockedKept is the number of refusals that the proxy keeps, and that each
	// session keeps. In a session, a new refusal replaces the oldest one. In the
	// proxy, it replaces the oldest one of the session with the most refusals.
	// Default 200.
	BlockedKept int

	// LogValueBytes bounds the length of a text from outside in a log line, such as
	// the error of a malformed or failed request. Longer ones are cut off. Default
	// 300.
	LogValueBytes int

	// LogLinesPerSecond bounds the log lines that clients cause: about refused,
	// failed, malformed, cut and granted requests, about questions without an
	// answer, and about panics. Debug lines have a bound of the same size of their
	// own. Further lines are dropped, and a line after that second reports their
	// number. A session can have at most three times as many lines as are free, as
	// with Questions. Records, counters and [Builder.OnBlocked] are not limited.
	// Default 500.
	LogLinesPerSecond int
}

// Set sets one limit by the name that the program's -limit flag and
// docs/limits.md use: "connections" to a number, "tunnel_idle" to a time such as
// "5m" (see [time.ParseDuration]). It is for hosts whose users set limits.
func (l *Limits) Set(name, value string) error {
	var names []string
	for _, f := range l.fields() {
		if f.name == name {
			return f.parse(value)
		}
		names = append(names, f.name)
	}
	return fmt.Errorf("unknown limit %.40q; the limits are %s", name, strings.Join(names, ", "))
}

// DefaultLimits returns the default limits.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

// withDefaults returns l with default values in place of zeros.
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
		OpenedTunnels:       512,
		UDPFlows:            socksproxy.UDPFlows,
		UDPTotalFlows:       socksproxy.UDPTotalFlows,
		UDPIdle:             socksproxy.UDPFlowIdle,
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

// limitField is a limit: a number or a time, the other is nil.
type limitField struct {
	name   string
	number *int
	time   *time.Duration
}

// fields returns all limits.
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
		number("opened_tunnels", &l.OpenedTunnels),
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

// Maximums of the limits. That of headers is memory that one connection can hold.
const (
	maxCount         = 1 << 20
	maxBlockedKept   = 100_000
	maxHeaderFields  = 1 << 16
	maxHeaderBytes   = 16 << 20
	maxLogValueBytes = 64 << 10
	maxTime          = 8760 * time.Hour
)

// most returns the maximum of a number.
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

// parse sets the limit to the value that a text has.
func (f limitField) parse(value string) error {
	if f.number != nil {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > f.most() {
			return fmt.Errorf("limit %s: %.40q is not a number from 0 to %d", f.name, value, f.most())
		}
		*f.number = n
		return nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > maxTime {
		return fmt.Errorf("limit %s: %.40q is not a time from 0s to %v, such as 30s or 5m", f.name, value, maxTime)
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

// problems describes each invalid limit.
func (l *Limits) problems() (problems []string) {
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, f := range l.fields() {
		switch {
		case f.negative():
			add("%s is negative; 0 means the default", f.name)
		case f.number != nil && *f.number > f.most():
			add("%s is %d; the maximum is %d", f.name, *f.number, f.most())
		case f.time != nil && *f.time > maxTime:
			add("%s is %v; the maximum is %v", f.name, *f.time, maxTime)
		}
	}
	return problems
}
