package gate

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// Gate is shared by every listener of one proxy. Safe for concurrent use.
type Gate struct {
	current      atomic.Pointer[policy.Policy]
	Self         policy.SelfListeners
	Asker        approval.Asker
	Grants       *approval.Grants
	Dialer       pindial.Dialer
	sockets      unixsock.Dialer
	Live         LiveRequests
	Blocked      audit.Record
	observer     *hostcall.Mailbox[audit.Refusal] // of OnBlocked; nil: there is none
	Log          *slog.Logger
	LogLimiter   audit.LogLimiter // on those of log that are about single requests
	debugLines   audit.LogLimiter // the same for the level debug
	ClientLog    *slog.Logger     // log for lines that clients cause, within lines and debug
	Counters     audit.Counters
	Observations *audit.Observations // nil: allowlist misses are not let pass
	config       Config
}

var (
	// ErrClosed is the error of requests after the proxy has ended.
	ErrClosed = errors.New("the proxy is closed")

	// ErrNoGrant is the error of Revoke if there is no such grant.
	ErrNoGrant = errors.New("no such grant: it may have ended; GET /grants and Handle.Grants list the current ones")
)

// Config holds the settings of an enforcer. All limits must be set.
type Config struct {
	Decider        func(context.Context, *approval.Request) (approval.Decision, error) // nil if there is none
	DeciderTimeout time.Duration
	Questions      int // the decider has at a time

	Resolver    pindial.Resolver
	Connect     func(context.Context, netip.AddrPort) (*net.TCPConn, error) // nil for the system's
	ConnectUDP  func(context.Context, netip.AddrPort) (*net.UDPConn, error)
	ConnectUnix unixsock.ConnectFunc
	Upstreams   *upstream.Proxies // those of the environment; nil if there are none

	LookupTimeout    time.Duration
	DialTimeout      time.Duration
	HandshakeTimeout time.Duration // until a ClientHello in a tunnel is complete
	TunnelIdle       time.Duration
	TunnelLifetime   time.Duration // 0 means no limit

	BlockedKept       int
	LogValueBytes     int
	LogLinesPerSecond int

	Observe   bool                 // let allowlist misses pass and record them
	OnBlocked func(*audit.Refusal) // called for every refusal from one goroutine; nil if there is none

	Log   *slog.Logger
	Calls *hostcall.Calls // counts the calls of the host's functions
}

// New returns an enforcer without a policy. Install one before use.
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
	g.sockets.Exclude = g.Self.ContainsFile
	g.Self.ViaProxy = func(q *policy.Query) bool { return upstreamFor(c.Upstreams, q) != nil }
	g.Asker.LogLimiter = &g.LogLimiter
	g.ClientLog = slog.New(audit.NewLimitedHandler(c.Log.Handler(), &g.LogLimiter, &g.debugLines))
	g.observer = g.newObserver(c.OnBlocked)
	return g
}

// CloseLogs reports the log lines that were dropped and waits until nothing of
// their limiters runs.
func (g *Gate) CloseLogs() {
	g.LogLimiter.Close()
	g.debugLines.Close()
}

// Policy returns the policy in force.
func (g *Gate) Policy() *policy.Policy { return g.current.Load() }

// Install puts a policy in force. Call rejudge afterwards.
func (g *Gate) Install(p *policy.Policy) { g.current.Store(p) }
