// The settings of a proxy: what a Builder collects.

package networkproxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/ca"
	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/filewatch"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/learned"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/socksproxy"
	"example.com/networkproxy/internal/tomltable"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// settings are the settings that a Builder collects. They do not change after Build,
// except that Run takes the listeners over.
type settings struct {
	// The configuration: files, or a function, or else config.
	files   []string
	source  func(context.Context) (Config, error)
	config  Config
	sources int // how often the Builder was given a configuration

	added   []addedDomain   // to the lists of the configuration
	learned *learned.File   // nil: none
	amend   AmendmentWriter // nil: none

	requirements  string
	http          endpoint
	admin         endpoint
	socks         endpoint
	adminToken    string
	adminReadOnly bool

	embedded       bool
	observe        bool
	requireSession bool
	connectHelper  []string

	decider        PolicyDecider
	askOnPage      bool
	deciderTimeout time.Duration
	limits         Limits
	onBlocked      func(BlockedRequest)
	onEvent        func(Event)
	auditLog       io.Writer
	resolver       Resolver
	log            *slog.Logger

	environ       func() []string
	upstreams     *upstream.Proxies // from environ; nil if upstreamFault is not
	upstreamFault error             // matters only while allow_upstream_proxy is true

	mitm        bool                          // turn TLS inspection on
	authority   *ca.Authority                 // of the host; nil if it gives none
	originRoots *x509.CertPool                // nil: the system's
	providers   map[string]CredentialProvider // added to those of the configuration
	credentials map[string]credential.Source  // of the host, by the name of the provider

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

// addProviders adds the credential providers of the host to those of src.
func (s *settings) addProviders(src *sourcedConfig) {
	if len(s.providers) == 0 {
		return
	}
	all := cloneProviders(s.providers)
	maps.Copy(all, src.Config.CredentialProviders)
	src.Config.CredentialProviders, src.Config.CredentialBroker = all, true
	src.override(keyCredentialBroker)
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
	refusalTTL    time.Duration // socksproxy.UDPRefusalTTL
	callbackGrace time.Duration // hostcall.GracePeriod
	quiet         time.Duration // filewatch.ShortQuiet
}

type (
	connectFunc    = func(context.Context, netip.AddrPort) (*net.TCPConn, error)
	connectUDPFunc = func(context.Context, netip.AddrPort) (*net.UDPConn, error)
)

// defaultSettings returns the settings of a new Builder.
func defaultSettings() settings {
	return settings{
		http:           endpoint{name: "HTTP", key: keyProxyURL},
		admin:          endpoint{name: "Admin", key: keyAdminURL},
		socks:          endpoint{name: "SOCKS", key: keySOCKSURL},
		deciderTimeout: approval.DefaultTimeout,
		log:            slog.New(slog.DiscardHandler),
		environ:        os.Environ,
		hooks: hooks{
			unixSockets:   httpproxy.UnixSocketsSupported,
			refusalTTL:    socksproxy.UDPRefusalTTL,
			callbackGrace: hostcall.GracePeriod,
			quiet:         filewatch.ShortQuiet,
		},
	}
}

// conflicts returns errors for settings that exclude each other. failed means that other
// errors were found, one of which may be the reason why there is no configuration.
func (s *settings) conflicts(failed bool) (errs []error) {
	switch s.sources {
	case 1:
	case 0:
		if !failed {
			errs = append(errs, errors.New("no configuration: call ConfigFile, Config or ConfigSource"))
		}
	default:
		errs = append(errs, errors.New("more than one configuration: call only one of ConfigFile, ConfigFiles, Config and ConfigSource, and only once"))
	}
	if s.learned != nil && s.amend != nil {
		errs = append(errs, errors.New("LearnedFile and AmendmentWriter exclude each other"))
	}
	if s.askOnPage && s.decider != nil {
		errs = append(errs, errors.New("AskOnPage and PolicyDecider exclude each other"))
	}
	for _, ep := range s.endpoints() {
		if ep.provided != nil && ep.override != "" {
			errs = append(errs, fmt.Errorf("%[1]sAddr and %[1]sListener exclude each other", ep.name))
		}
		if ep.provided != nil && ep.off {
			errs = append(errs, fmt.Errorf("No%[1]s and %[1]sListener exclude each other", ep.name))
		}
	}
	return errs
}

// endpoint is a listener that Run opens: at the address of the configuration,
// at that of the Builder, or one that the host has opened itself.
type endpoint struct {
	name     string // "HTTP", as in the names of the Builder's methods
	key      string // of its address in the configuration
	override string // the Builder's address; empty: preset
	preset   string // the address of Embedded; empty: that of the configuration
	provided net.Listener
	off      bool // Run does not open it
}

// addr returns the address that replaces the one in the configuration, or "".
func (ep *endpoint) addr() string { return cmp.Or(ep.override, ep.preset) }

// endpoints returns pointers to all endpoints.
func (s *settings) endpoints() []*endpoint { return []*endpoint{&s.http, &s.admin, &s.socks} }

// overrides returns the addresses that replace those of the configuration, by
// key.
func (s *settings) overrides() map[string]string {
	addrs := make(map[string]string)
	for _, ep := range s.endpoints() {
		addrs[ep.key] = ep.addr()
	}
	return addrs
}

// unopened returns the keys of the listeners that Run does not open, or that the
// host opened.
func (s *settings) unopened() (keys []string) {
	for _, ep := range s.endpoints() {
		if ep.off || ep.provided != nil {
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
func (s *settings) gateConfig(log *slog.Logger, calls *hostcall.Calls, inbox *approval.Inbox) gate.Config {
	l := &s.limits
	c := gate.Config{
		Decider:           s.decider.ask(),
		DeciderTimeout:    s.deciderTimeout,
		Questions:         l.Questions,
		OpenedTunnels:     l.OpenedTunnels,
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
		OnEvent:           eventFunc(s.onEvent),
		AuditLog:          s.auditLog,
		EventEncoder:      appendEvent,
		Log:               log,
		Calls:             calls,
	}
	if s.askOnPage {
		c.Decider = inbox.Decide
	}
	if onBlocked := s.onBlocked; onBlocked != nil {
		c.OnBlocked = func(r *audit.Refusal) { onBlocked(publicRefusal(r)) }
	}
	return c
}

// httpConfig returns the settings of the HTTP front.
func (s *settings) httpConfig(t *gate.Tokens, authority func() (*ca.Authority, error)) httpproxy.Config {
	l := &s.limits
	return httpproxy.Config{
		Tokens: t,
		Roots:  func(hostname.Host) *x509.CertPool { return s.originRoots },
		Leaf: func(host hostname.Host) (*tls.Certificate, error) {
			a, err := authority()
			if err != nil {
				return nil, err
			}
			return a.Leaf(host)
		},
		UnixSockets:         s.hooks.unixSockets,
		HeaderTimeout:       l.HeaderTimeout,
		IdleTimeout:         l.IdleTimeout,
		HeaderBytes:         l.HeaderBytes,
		HeaderFields:        l.HeaderFields,
		ResponseHeaderBytes: l.ResponseHeaderBytes,
		IdleUpstream:        l.IdleUpstream,
		DialTimeout:         l.DialTimeout,
		HandshakeTimeout:    l.HandshakeTimeout,
		TunnelLifetime:      l.TunnelLifetime,
	}
}

// newAuthority returns the certificate authority of a run, by its first configuration.
func (s *settings) newAuthority(first *loadedConfig) (*ca.Authority, error) {
	if first.authority != nil {
		return first.authority, nil
	}
	if a, err := s.ownAuthority(first.sourcedConfig); a != nil || err != nil {
		return a, err
	}
	return ca.New()
}

// ownAuthority returns the certificate authority of the host, or else that of the files
// that a configuration names, or nil if there is none.
func (s *settings) ownAuthority(c *sourcedConfig) (*ca.Authority, error) {
	cert := c.Config.MITMCACert
	if s.authority != nil || cert == "" {
		return s.authority, nil
	}
	a, err := ca.Load(cert, c.Config.MITMCAKey)
	if err != nil {
		return nil, &ConfigError{Position: c.position(keyMITMCACert), Key: keyMITMCACert, Value: cert, Problem: err.Error(), Err: err}
	}
	return a, nil
}
