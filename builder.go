// Builder: the settings of a proxy, checked together by Build.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/filewatch"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/socksproxy"
	"example.com/networkproxy/internal/upstream"
)

// Builder collects the settings of a proxy. Get one from [NewBuilder], change
// the settings whose defaults do not fit, and call [Builder.Build]. Invalid
// settings are errors of Build, which reports all of them together. A Builder
// is not safe for concurrent use.
type Builder struct {
	settings settings
	errs     []error
}

// NewBuilder returns a Builder with the default settings: no configuration,
// which Build requires, no decider, the system's resolver, and no log.
func NewBuilder() *Builder {
	return &Builder{settings: settings{
		http:           endpoint{name: "HTTP", key: keyProxyURL},
		admin:          endpoint{name: "Admin", key: keyAdminURL},
		socks:          endpoint{name: "SOCKS", key: keySOCKSURL},
		deciderTimeout: approval.DefaultTimeout,
		log:            slog.New(slog.DiscardHandler),
		environ:        os.Environ,
		hooks: hooks{
			unixSockets:      httpproxy.UnixSocketsSupported,
			refusalStands:    socksproxy.UDPRefusalTTL,
			callbackPatience: hostcall.Patience,
			quiet:            filewatch.ShortQuiet,
		},
	}}
}

// fail adds an error for Build to return.
func (b *Builder) fail(format string, args ...any) *Builder {
	b.errs = append(b.errs, fmt.Errorf(format, args...))
	return b
}

// ConfigFile sets the TOML file that has the configuration in its
// [network_proxy] table. Other tables are ignored, so the file may be that of
// a larger program.
func (b *Builder) ConfigFile(path string) *Builder { return b.ConfigFiles(path) }

// ConfigFiles sets the TOML files that have the configuration. Later files
// override earlier ones: tables are merged key by key, arrays are replaced.
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
	b.settings.http.override = addr
	return b
}

// AdminAddr sets the address of the admin API in place of admin_url, as
// HTTPAddr does for proxy_url. "unix:///path" is a Unix socket.
func (b *Builder) AdminAddr(addr string) *Builder {
	b.settings.admin.override = addr
	return b
}

// SOCKSAddr sets the address of the SOCKS5 proxy in place of socks_url, as
// HTTPAddr does for proxy_url. It has no effect while enable_socks5 is false.
func (b *Builder) SOCKSAddr(addr string) *Builder {
	b.settings.socks.override = addr
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
	ep.provided = l
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
// with the arguments given here followed by a host and a port. It takes the
// proxy from HTTPS_PROXY, because other users can read arguments, which must
// not contain a token. It relays between the target and its standard input and
// output.
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
// a task needs: [Handle.Suggest] and GET /suggest return it. The denylist, the
// protection of local and private networks and the mode still hold. The log,
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
// the maximum is 8760 hours.
func (b *Builder) DeciderTimeout(d time.Duration) *Builder {
	if d <= 0 {
		return b.fail("DeciderTimeout: %v is not a positive duration", d)
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
	for _, f := range l.fields() {
		switch {
		case f.negative():
			b.fail("Limits: %s is negative; 0 means the default", f.name)
		case f.number != nil && *f.number > f.most():
			b.fail("Limits: %s is %d; the maximum is %d", f.name, *f.number, f.most())
		case f.time != nil && *f.time > maxTime:
			b.fail("Limits: %s is %v; the maximum is %v", f.name, *f.time, maxTime)
		}
	}
	b.settings.limits = l
	return b
}

// OnBlocked sets a function that is called for every refusal, in order, on
// a goroutine of its own. No request waits for it. While a call does not
// return, the next 1,024 refusals wait. Further ones are dropped, counted in
// /metrics and reported in the log. The proxy logs panics of f. f may call every
// method of the Handle and of sessions. [Handle.Shutdown] describes the calls of
// Shutdown and Close.
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

// UpstreamEnviron sets the environment, in the form of [os.Environ], in which
// allow_upstream_proxy looks for upstream proxies. The default is that of the
// process. Build reads HTTP_PROXY for plain HTTP, HTTPS_PROXY for CONNECT and
// SOCKS5, ALL_PROXY in place of either that is not set, and NO_PROXY. Names in
// lower case override those in upper case. The environment has no effect
// while allow_upstream_proxy is false.
func (b *Builder) UpstreamEnviron(env []string) *Builder {
	env = slices.Clone(env)
	b.settings.environ = func() []string { return env }
	return b
}

// Build loads and checks the configuration and returns a proxy that is ready to
// run. It opens no listeners. The error joins all errors that were found. Those
// in the configuration are *[ConfigError] with file, line and column.
func (b *Builder) Build() (*NetworkProxy, error) {
	errs := slices.Clone(b.errs)
	switch b.settings.sources {
	case 1:
	case 0:
		if len(errs) == 0 {
			errs = append(errs, errors.New("no configuration: call ConfigFile, Config or ConfigSource"))
		}
	default:
		errs = append(errs, errors.New("more than one configuration: call only one of ConfigFile, ConfigFiles, Config and ConfigSource, and only once"))
	}
	for _, ep := range b.settings.endpoints() {
		if ep.provided != nil && ep.override != "" {
			errs = append(errs, fmt.Errorf("%[1]sAddr and %[1]sListener exclude each other", ep.name))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	p := &NetworkProxy{settings: b.settings}
	p.settings.limits = p.settings.limits.withDefaults()
	p.settings.upstreams, p.settings.upstreamFault = upstream.FromEnviron(p.settings.environ(), p.settings.hooks.upstreamRoots)
	first, files, err := p.settings.loadFirst(context.Background())
	if err != nil {
		return nil, err
	}
	p.first, p.files = first, files
	return p, nil
}
