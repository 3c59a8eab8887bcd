// The gate's parts, its settings, and the policy in force.

package gate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/share"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// Gate enforces the policy for all listeners of one proxy. New sets the exported
// fields, which do not change afterwards. Safe for concurrent use.
type Gate struct {
	current      atomic.Pointer[policy.Policy]
	Self         policy.SelfListeners
	Asker        approval.Asker
	Grants       *approval.Grants
	Dialer       pindial.Dialer
	sockets      unixsock.Dialer
	Live         LiveRequests
	Blocked      audit.Record
	Events       audit.Stream
	lastVerdict  atomic.Pointer[policy.Verdict]   // what shared has returned last
	AuditLog     *audit.EventLog                  // nil if there is none
	observer     *hostcall.Mailbox[audit.Refusal] // for OnBlocked; nil if there is none
	notices      hostcall.Goroutines              // log that events are dropped
	Log          *slog.Logger
	LogLimiter   audit.LogLimiter // for lines of Log about single requests
	debugLines   audit.LogLimiter // the same for lines of the level debug
	ClientLog    *slog.Logger     // Log within LogLimiter and debugLines, for lines that clients cause
	Counters     audit.Counters
	Observations *audit.Observations // nil unless allowlist misses pass
	Credentials  credential.Registry // placeholders of all sessions
	config       Config

	openedMu sync.Mutex
	opened   share.Counter[*audit.Owner] // tunnels whose content is read
}

var (
	// ErrClosed is the error of a request after the proxy has closed.
	ErrClosed = errors.New("the proxy is closed")

	// ErrNoGrant is the error of [Gate.Revoke] for an unknown ID.
	ErrNoGrant = errors.New("no such grant: it may have ended; GET /grants and Handle.Grants list the current ones")
)

// Config holds the settings of a gate. Fields are required unless their comment
// gives a meaning to zero or nil.
type Config struct {
	Decider        approval.Decider // nil if there is none
	DeciderTimeout time.Duration    // 0 means no limit
	Questions      int              // limit on concurrent calls of deciders
	OpenedTunnels  int              // limit on tunnels whose content is read at a time; 0 means none

	Resolver    pindial.Resolver
	Connect     func(context.Context, netip.AddrPort) (*net.TCPConn, error) // nil means the operating system's
	ConnectUDP  func(context.Context, netip.AddrPort) (*net.UDPConn, error)
	ConnectUnix unixsock.ConnectFunc
	Upstreams   *upstream.Proxies // from the environment; nil if there are none

	LookupTimeout    time.Duration
	DialTimeout      time.Duration
	HandshakeTimeout time.Duration // for a complete ClientHello in a tunnel
	TunnelIdle       time.Duration
	TunnelLifetime   time.Duration // 0 means no limit

	BlockedKept       int
	LogValueBytes     int
	LogLinesPerSecond int

	Observe bool               // let allowlist misses pass and record them
	OnEvent func(*audit.Event) // called for every event from one goroutine; nil if there is none

	// AuditLog gets the events as lines of JSON, on one goroutine. Nil means no
	// audit log.
	AuditLog     io.Writer
	EventEncoder audit.Encoder

	OnBlocked func(*audit.Refusal) // called for every refusal from one goroutine; nil if there is none

	Log   *slog.Logger
	Calls *hostcall.Calls // counts the calls of the host's functions
}

// New returns a gate without a policy. Call [Gate.Install] before use.
func New(c Config) *Gate {
	grants := approval.NewGrants()
	g := &Gate{
		Asker: approval.Asker{
			Decider: c.Decider, Timeout: c.DeciderTimeout, Limit: c.Questions,
			Grants: grants, Log: c.Log, Calls: c.Calls,
		},
		Grants: grants,
		Dialer: pindial.Dialer{
			Resolver: hostcall.SafeResolver(c.Resolver, c.Calls), Lookups: new(pindial.Lookups),
			Connect: c.Connect, ConnectUDP: c.ConnectUDP,
			ResolveTimeout: c.LookupTimeout, ConnectTimeout: c.DialTimeout,
		},
		config:     c,
		Blocked:    audit.Record{Limit: c.BlockedKept},
		sockets:    unixsock.Dialer{Timeout: c.DialTimeout, Connect: c.ConnectUnix},
		LogLimiter: audit.LogLimiter{Limit: c.LogLinesPerSecond, Log: c.Log},
		debugLines: audit.LogLimiter{Limit: c.LogLinesPerSecond, Log: c.Log},
		Log:        c.Log,
	}
	if c.Observe {
		g.Observations = new(audit.Observations)
	}
	if network, ok := c.Resolver.(pindial.TestNetwork); ok {
		g.Dialer.TestNetwork = network
	}
	g.opened.Limit = c.OpenedTunnels
	g.sockets.Exclude = g.Self.ContainsFile
	g.Self.ViaProxy = func(q *policy.Query) bool { return upstreamFor(c.Upstreams, q) != nil }
	g.Asker.LogLimiter, g.Asker.Events = &g.LogLimiter, &g.Events
	g.ClientLog = slog.New(audit.NewLimitedHandler(c.Log.Handler(), &g.LogLimiter, &g.debugLines))
	g.observer = g.newObserver(c.OnBlocked)
	if c.OnEvent != nil {
		g.Events.Subscribe(g.newEventFunc(c.OnEvent))
	}
	if c.AuditLog != nil {
		g.AuditLog = g.newEventLog(c.AuditLog)
	}
	return g
}

// CloseLogs reports dropped log lines and waits until the reports are written.
func (g *Gate) CloseLogs() {
	g.notices.Wait(hostcall.GracePeriod)
	g.LogLimiter.Close()
	g.debugLines.Close()
}

// Policy returns the policy in force.
func (g *Gate) Policy() *policy.Policy { return g.current.Load() }

// Install puts a policy in force. Call [Gate.Rejudge] afterwards. Only one call may
// run at a time.
func (g *Gate) Install(p *policy.Policy) {
	if before := g.Policy(); before != nil && p.Mode != before.Mode {
		g.publishMode(p)
	}
	g.current.Store(p)
}
