// The settings of a proxy: what a Builder collects.

package networkproxy

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/tomltable"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// settings is what a Builder collects. It does not change after Build, except
// that Run takes the listeners over.
type settings struct {
	// The configuration: files, or a function, or else config.
	files   []string
	source  func(context.Context) (Config, error)
	config  Config
	sources int // how often the Builder was given a configuration

	added []addedDomain // to the lists of the configuration

	requirements  string
	http          endpoint
	admin         endpoint
	socks         endpoint
	adminToken    string
	adminReadOnly bool

	observe        bool
	requireSession bool
	connectHelper  []string

	decider        PolicyDecider
	deciderTimeout time.Duration
	limits         Limits
	onBlocked      func(BlockedRequest)
	resolver       Resolver
	log            *slog.Logger

	environ       func() []string
	upstreams     *upstream.Proxies // from environ; nil if upstreamFault is not
	upstreamFault error             // matters only while allow_upstream_proxy is true

	hooks hooks
}

// addedDomain is an entry that the host adds to a list of the configuration.
type addedDomain struct {
	key, entry string
	from       Position // has no line
}

// addDomains appends the entries for key to list, which is the value of key in
// src.
func (s *settings) addDomains(src *sourcedConfig, key string, list *[]string) {
	n, added := len(*list), []tomltable.Position(nil)
	for _, d := range s.added {
		if d.key == key {
			*list = append(*list, d.entry)
			added = append(added, tomltable.Position(d.from))
		}
	}
	if len(added) > 0 {
		src.places.Extend(key, n, added)
	}
}

// hooks are settings that only tests change.
type hooks struct {
	connect     connectFunc          // nil: the system's
	connectUDP  connectUDPFunc       // nil: the system's
	connectUnix unixsock.ConnectFunc // nil: the system's
	unixSockets bool                 // whether the platform has x-unix-socket
	procNet     string               // in place of the constant of that name; empty: the constant

	upstreamRoots *x509.CertPool // for TLS to upstream proxies; nil: the system's

	// Outside tests, these are the constants that are named here.
	refusalStands    time.Duration // socksproxy.UDPRefusalTTL
	callbackPatience time.Duration // hostcall.Patience
	quiet            time.Duration // filewatch.ShortQuiet
}

type (
	connectFunc    = func(context.Context, netip.AddrPort) (*net.TCPConn, error)
	connectUDPFunc = func(context.Context, netip.AddrPort) (*net.UDPConn, error)
)

// endpoint is a listener that Run opens: at the address of the configuration,
// at that of the Builder, or one that the host has opened itself.
type endpoint struct {
	name     string // "HTTP", as in the names of the Builder's methods
	key      string // of its address in the configuration
	override string // the Builder's address; empty: that of the configuration
	provided net.Listener
}

// endpoints returns pointers to all endpoints.
func (s *settings) endpoints() []*endpoint { return []*endpoint{&s.http, &s.admin, &s.socks} }

// overrides returns the addresses that replace those of the configuration, by
// key.
func (s *settings) overrides() map[string]string {
	addrs := make(map[string]string)
	for _, ep := range s.endpoints() {
		addrs[ep.key] = ep.override
	}
	return addrs
}

// provided returns the keys of the listeners that the host opened.
func (s *settings) provided() (keys []string) {
	for _, ep := range s.endpoints() {
		if ep.provided != nil {
			keys = append(keys, ep.key)
		}
	}
	return keys
}

// closeProvided closes the listeners that the host opened.
func (s *settings) closeProvided() {
	for _, ep := range s.endpoints() {
		if ep.provided != nil {
			ep.provided.Close()
		}
	}
}

// Resolver looks names up. A *[net.Resolver] is one.
//
// The proxy makes one lookup for a connection, and only for a name that the
// policy allows. It judges all addresses before it connects to any.
type Resolver interface {
	// LookupNetIP returns the addresses of host. network is "ip", or "ip4" or
	// "ip6" for a *net.Resolver. It is called from many goroutines at once.
	//
	// It should return when ctx ends, which is after [Limits.LookupTimeout] at
	// the latest. The request does not wait longer, and a later result is
	// dropped.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var (
	_ Resolver         = (*net.Resolver)(nil)
	_ pindial.Resolver = Resolver(nil)
)

// gateConfig returns the settings of the gate.
func (s *settings) gateConfig(log *slog.Logger, calls *hostcall.Calls) gate.Config {
	l := &s.limits
	c := gate.Config{
		Decider:           s.decider.ask(),
		DeciderTimeout:    s.deciderTimeout,
		Questions:         l.Questions,
		Resolver:          s.resolver,
		Connect:           s.hooks.connect,
		ConnectUDP:        s.hooks.connectUDP,
		ConnectUnix:       s.hooks.connectUnix,
		Upstreams:         s.upstreams,
		LookupTimeout:     l.LookupTimeout,
		DialTimeout:       l.DialTimeout,
		HandshakeTimeout:  l.HandshakeTimeout,
		TunnelIdle:        l.TunnelIdle,
		TunnelLifetime:    l.TunnelLifetime,
		BlockedKept:       l.BlockedKept,
		LogValueBytes:     l.LogValueBytes,
		LogLinesPerSecond: l.LogLinesPerSecond,
		Observe:           s.observe,
		Log:               log,
		Calls:             calls,
	}
	if onBlocked := s.onBlocked; onBlocked != nil {
		c.OnBlocked = func(r *audit.Refusal) { onBlocked(publicRefusal(r)) }
	}
	return c
}

// httpConfig returns the settings of the HTTP front.
func (s *settings) httpConfig(t *gate.Tokens) httpproxy.Config {
	l := &s.limits
	return httpproxy.Config{
		Tokens:              t,
		UnixSockets:         s.hooks.unixSockets,
		HeaderTimeout:       l.HeaderTimeout,
		IdleTimeout:         l.IdleTimeout,
		HeaderBytes:         l.HeaderBytes,
		HeaderFields:        l.HeaderFields,
		ResponseHeaderBytes: l.ResponseHeaderBytes,
		IdleUpstream:        l.IdleUpstream,
	}
}
