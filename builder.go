// Builder: the settings of a proxy, checked together by Build.

package networkproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"example.com/networkproxy/internal/ca"
	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/learned"
)

// Builder collects the settings of a proxy. Get one from [NewBuilder], change
// the settings whose defaults do not fit, and call [Builder.Build]. Invalid
// settings are errors of Build, which reports all of them together. A Builder
// is not safe for concurrent use.
type Builder struct {
	settings settings
	errs     []error
}

// NewBuilder returns a Builder with the default settings: no decider, the system's
// resolver, and no log. It has no configuration yet, and Build requires one.
func NewBuilder() *Builder { return &Builder{settings: defaultSettings()} }

// fail adds an error for Build to return.
func (b *Builder) fail(format string, args ...any) *Builder {
	b.errs = append(b.errs, fmt.Errorf(format, args...))
	return b
}

// Embedded makes the settings for a host that runs commands in sessions and has no
// other clients:
//
//   - The proxy is enabled unless a file has enabled = false. So a Config needs
//     no Enabled, and its value false has no effect.
//   - The shared listeners are on free ports of 127.0.0.1, whatever proxy_url and
//     socks_url are, so that several hosts can use one configuration file.
//   - They refuse requests without the token of a session, as with
//     RequireSession, because every process of the machine can connect to them.
//   - There is no admin API, as with NoAdmin.
//
// HTTPAddr, HTTPListener and the like, called after Embedded, override it.
func (b *Builder) Embedded() *Builder {
	b.settings.embedded = true
	for _, ep := range b.settings.endpoints() {
		ep.preset, ep.override = "127.0.0.1:0", ""
	}
	return b.RequireSession().NoAdmin()
}

// ConfigFile sets the TOML file that has the configuration in its [network_proxy]
// table. Other tables are ignored, so it may be the file of a larger program.
func (b *Builder) ConfigFile(path string) *Builder { return b.ConfigFiles(path) }

// ConfigFiles sets the TOML files that have the configuration. Later files override
// earlier ones: tables are merged key by key, arrays are replaced.
func (b *Builder) ConfigFiles(paths ...string) *Builder {
	if len(paths) == 0 || slices.Contains(paths, "") {
		return b.fail("ConfigFiles: no path, or an empty one")
	}
	b.settings.files = slices.Clone(paths)
	b.settings.sources++
	return b
}

// Config sets the configuration to a copy of c.
func (b *Builder) Config(c Config) *Builder {
	b.settings.config = c.clone()
	b.settings.sources++
	return b
}

// ConfigSource sets a function that returns the configuration. Build calls it,
// and every reload calls it on a goroutine of its own, never twice at a time.
//
// While a reload waits for it, another [Handle.Reload] returns [ErrReloading]
// at once, so the function may call every method of the Handle. The policy in
// force stays, and everything except reloads works. ctx ends with the context
// of the reload, or when the proxy begins to stop. A later result is dropped.
func (b *Builder) ConfigSource(load func(ctx context.Context) (Config, error)) *Builder {
	if load == nil {
		return b.fail("ConfigSource: the function is nil")
	}
	b.settings.source = load
	b.settings.sources++
	return b
}

// AllowDomains adds patterns to the allowed_domains of the configuration, at
// the start and after every reload. The managed limits apply to them. from
// names their source, such as "the flag -allow": it is the File of their
// [Position].
func (b *Builder) AllowDomains(from string, patterns ...string) *Builder {
	return b.addDomains(keyAllowedDomains, from, patterns)
}

// DenyDomains is AllowDomains for denied_domains.
func (b *Builder) DenyDomains(from string, patterns ...string) *Builder {
	return b.addDomains(keyDeniedDomains, from, patterns)
}

func (b *Builder) addDomains(key, from string, patterns []string) *Builder {
	for _, p := range patterns {
		b.settings.added = append(b.settings.added, addedDomain{key, p, Position{File: from}})
	}
	return b
}

// LearnedFile sets a TOML file that [Handle.Remember] and [Handle.Forget] write. Its
// entries are added to the lists of the configuration: at the start, as soon as
// Remember has written them, and within two seconds after another process or
// a person has changed the file. The file may be missing. Only networkproxy may
// write it: a file of another form is an error, and is never changed.
//
// The managed limits apply. An entry that exceeds them has no effect, and
// [Handle.Warnings] says so. Keep the file and its directory out of the reach of
// commands, because an entry in it allows a host for good.
func (b *Builder) LearnedFile(path string) *Builder {
	if path == "" {
		return b.fail("LearnedFile: the path is empty")
	}
	b.settings.learned = &learned.File{Path: path}
	return b
}

// AmendmentWriter sets the function that saves what [Handle.Remember] and
// [Handle.Forget] change, in place of a LearnedFile.
func (b *Builder) AmendmentWriter(w AmendmentWriter) *Builder {
	if w == nil {
		return b.fail("AmendmentWriter: the function is nil")
	}
	b.settings.amend = w
	return b
}

// Requirements sets the file of managed limits: ceilings that no configuration,
// reload, run-time mode, session or decider may exceed. At the start,
// a configuration that exceeds them is an error. When they are tightened while
// the proxy runs, they take effect at once: the configuration is cut back to
// them, and the log, /health and [Handle.Warnings] say so.
func (b *Builder) Requirements(path string) *Builder {
	if path == "" {
		return b.fail("Requirements: the path is empty")
	}
	b.settings.requirements = path
	return b
}

// HTTPAddr sets the address of the HTTP proxy in place of proxy_url:
// "127.0.0.1:3128", "[::1]:3128", or a URL. Port 0 means any free port, see
// [Handle.HTTPAddr]. The address is clamped to loopback like proxy_url.
func (b *Builder) HTTPAddr(addr string) *Builder {
	return b.listenOn(&b.settings.http, addr)
}

// AdminAddr sets the address of the admin API in place of admin_url, as
// HTTPAddr does for proxy_url. "unix:///path" is a Unix socket.
func (b *Builder) AdminAddr(addr string) *Builder {
	return b.listenOn(&b.settings.admin, addr)
}

// SOCKSAddr sets the address of the SOCKS5 proxy in place of socks_url, as
// HTTPAddr does for proxy_url. It has no effect while enable_socks5 is false.
func (b *Builder) SOCKSAddr(addr string) *Builder {
	return b.listenOn(&b.settings.socks, addr)
}

// listenOn sets the address of ep.
func (b *Builder) listenOn(ep *endpoint, addr string) *Builder {
	ep.override, ep.off = addr, false
	return b
}

// HTTPListener sets an open listener for the HTTP proxy in place of proxy_url.
// Run takes it over, and the proxy closes it. It is clamped to loopback like
// proxy_url: a listener on another address is closed, and the proxy listens on
// loopback instead.
func (b *Builder) HTTPListener(l net.Listener) *Builder { return b.provide(&b.settings.http, l) }

// AdminListener is HTTPListener for the admin API and admin_url.
func (b *Builder) AdminListener(l net.Listener) *Builder { return b.provide(&b.settings.admin, l) }

// SOCKSListener is HTTPListener for the SOCKS5 proxy and socks_url. While
// enable_socks5 is false, Run closes the listener.
func (b *Builder) SOCKSListener(l net.Listener) *Builder { return b.provide(&b.settings.socks, l) }

// provide sets the listener of ep.
func (b *Builder) provide(ep *endpoint, l net.Listener) *Builder {
	if l == nil {
		return b.fail("%sListener: the listener is nil", ep.name)
	}
	ep.provided, ep.off = l, false
	return b
}

// NoAdmin makes Run open no listener for the admin API. A later AdminAddr or
// AdminListener opens one again. The Handle has a method for each resource of
// the API.
func (b *Builder) NoAdmin() *Builder {
	b.settings.admin.off = true
	return b
}

// AdminToken sets the token that requests to the admin API must carry, as
// "Authorization: Bearer <token>". It must have at least 16 bytes. Without one,
// the admin API needs no token.
func (b *Builder) AdminToken(token string) *Builder {
	if len(token) < 16 {
		return b.fail("AdminToken: the token has %d bytes; use at least 16, because shorter ones can be guessed", len(token))
	}
	b.settings.adminToken = token
	return b
}

// AdminReadOnly makes the admin API read-only, whatever the configuration sets
// admin_read_only to.
func (b *Builder) AdminReadOnly() *Builder {
	b.settings.adminReadOnly = true
	return b
}

// RequireSession refuses, with status 407, requests on the shared listeners
// that do not carry the token of an open session, see [Session.Token]. It does
// not affect the listeners of sessions.
func (b *Builder) RequireSession() *Builder {
	b.settings.requireSession = true
	return b
}

// ConnectHelper sets the command that connects clients without proxy support:
// "networkproxy connect", or a command of the host's own program. It is called
// with the arguments given here followed by a host and a port, and relays between
// the target and its standard input and output. It takes the proxy from HTTPS_PROXY,
// because other users can read arguments, which must not contain a token.
//
// [Session.Environ] sets GIT_SSH_COMMAND to use it. Without a helper, ssh
// connects directly, or fails if a sandbox forbids that.
func (b *Builder) ConnectHelper(argv ...string) *Builder {
	if len(argv) == 0 || argv[0] == "" {
		return b.fail("ConnectHelper: the command is empty")
	}
	b.settings.connectHelper = slices.Clone(argv)
	return b
}

// Observe allows hosts that no list names, and records them, instead of
// refusing them or asking the decider. Use it once, to learn the allowlist that
// a task needs: [Handle.Suggest], [Handle.SuggestTOML] and GET /suggest return it.
// The denylist, the protection of local and private networks and the mode still
// hold. [Handle.SuggestLocal] lists the local targets that were refused. The log,
// /health and [Handle.Warnings] say that the proxy is observing.
func (b *Builder) Observe() *Builder {
	b.settings.observe = true
	return b
}

// PolicyDecider sets the function that decides about hosts that no list names.
// nil, the default, refuses them.
func (b *Builder) PolicyDecider(d PolicyDecider) *Builder {
	b.settings.decider = d
	return b
}

// DeciderTimeout bounds each call of the decider. The default is 60 seconds,
// the maximum is 8760 hours. 0 means no limit: a question then ends with the
// last of its clients, with its session or with the proxy.
func (b *Builder) DeciderTimeout(d time.Duration) *Builder {
	if d < 0 {
		return b.fail("DeciderTimeout: %v is negative; 0 means no limit", d)
	}
	if d > maxTime {
		return b.fail("DeciderTimeout: %v is over the maximum of %v", d, maxTime)
	}
	b.settings.deciderTimeout = d
	return b
}

// Limits sets all limits; those that are zero have their defaults. Negative
// limits, and limits over their maximum, are errors.
func (b *Builder) Limits(l Limits) *Builder {
	for _, problem := range l.problems() {
		b.fail("Limits: %s", problem)
	}
	b.settings.limits = l
	return b
}

// OnBlocked sets a function that is called for every refusal, in order, on
// a goroutine of its own. No request waits for it. While a call does not
// return, the next 1,024 refusals wait. Further ones are dropped, counted in
// /metrics and reported in the log. The proxy logs panics of f. f may call every
// method of the Handle and of sessions. [Handle.Shutdown] describes how Shutdown and
// Close wait for it.
func (b *Builder) OnBlocked(f func(BlockedRequest)) *Builder {
	b.settings.onBlocked = f
	return b
}

// Resolver sets the resolver that looks names up in place of the system's.
// A panic in it fails the lookup.
func (b *Builder) Resolver(r Resolver) *Builder {
	if r == nil {
		return b.fail("Resolver: the resolver is nil")
	}
	b.settings.resolver = r
	return b
}

// Logger sets the logger; the default discards everything. Refusals and changes
// of the policy are logged at level info, tunnels at debug, and problems at
// warn and error. Query strings, credentials and header values are never
// logged.
//
// The handler is called on a goroutine of its own, one line after the other, in
// order, so a slow handler does not delay requests. While a call does not
// return, the next 1,024 lines wait. Further ones are dropped, counted in
// /metrics and reported in a later line. Shutdown and Close wait for the last
// lines. A change of the handler's level takes effect within 100 ms. The handler
// may call every method of the Handle and of sessions, but it also receives the
// lines that these calls cause.
func (b *Builder) Logger(l *slog.Logger) *Builder {
	if l == nil {
		return b.fail("Logger: the logger is nil; do not call Logger to discard the log")
	}
	b.settings.log = slog.New(hostcall.SafeLogHandler(l.Handler()))
	return b
}

// Credential sets the function that returns the secret of a credential provider, such as
// one that reads a keychain. A call may take 5 s. Requests at the same time share one call.
// An error or a panic fails the requests with the placeholder. An error must not contain
// the secret.
func (b *Builder) Credential(provider string, get func(ctx context.Context, provider string) (Secret, error)) *Builder {
	if get == nil {
		return b.fail("Credential: the function for %q is nil", provider)
	}
	if b.settings.credentials == nil {
		b.settings.credentials = make(map[string]credential.Source)
	}
	b.settings.credentials[provider] = credential.Func(func(ctx context.Context) (string, time.Time, error) {
		s, err := hostcall.Call(ctx, nil, hostcall.Credential, func(ctx context.Context) (Secret, error) { return get(ctx, provider) })
		return s.Value, s.Until, err
	})
	return b
}

// CredentialProvider adds a credential provider to those of the configuration, and turns
// the exchange and TLS inspection on. A provider of the same name in the configuration wins.
func (b *Builder) CredentialProvider(name string, p CredentialProvider) *Builder {
	if b.settings.providers == nil {
		b.settings.providers = make(map[string]CredentialProvider)
	}
	b.settings.providers[name] = p
	return b.MITM()
}

// UpstreamEnviron sets the environment, in the form of [os.Environ], in which
// allow_upstream_proxy looks for upstream proxies. The default is that of the
// process. Build reads HTTP_PROXY for plain HTTP, HTTPS_PROXY for CONNECT and
// SOCKS5, ALL_PROXY in place of either that is not set, and NO_PROXY. Names in lower
// case win. The environment has no effect while allow_upstream_proxy is false.
func (b *Builder) UpstreamEnviron(env []string) *Builder {
	env = slices.Clone(env)
	b.settings.environ = func() []string { return env }
	return b
}

// MITM turns TLS inspection on, whatever the configuration sets mitm to.
func (b *Builder) MITM() *Builder {
	b.settings.mitm = true
	return b
}

// MITMCA sets the certificate authority of TLS inspection, in place of one that the proxy
// makes or reads from mitm_ca_cert. cert holds its chain and its key.
func (b *Builder) MITMCA(cert tls.Certificate) *Builder {
	a, err := ca.FromCertificate(cert)
	if err != nil {
		b.fail("MITMCA: %v", err)
	}
	b.settings.authority = a
	return b
}

// UpstreamRoots sets the root certificates with which the proxy verifies origin servers
// where it opens TLS. Default nil: those of the system.
func (b *Builder) UpstreamRoots(pool *x509.CertPool) *Builder {
	b.settings.originRoots = pool
	return b
}
