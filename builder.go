// Builder: every setting of a proxy, kept until Build checks them together.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"example.com/networkproxy/internal/filewatch"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/upstream"
)

// Resolver looks names up. *net.Resolver is one.
//
// A lookup is made once for a connection, only for a name that the policy has
// allowed, and its whole answer is judged before anything is connected to.
type Resolver interface {
	// LookupNetIP returns the addresses of host; network is "ip", or "ip4"
	// and "ip6" for a *net.Resolver. It is called from many goroutines at
	// once. It should return when ctx ends, which it does after
	// [Limits.LookupTimeout] at the latest: the request goes on without it, and
	// what it returns later is thrown away.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Builder collects the settings of a proxy. Get one from [NewBuilder], set
// what differs from the defaults, call [Builder.Build]. A wrong setting is
// kept and reported by Build, all of them together. A Builder is for one
// goroutine.
type Builder struct {
	settings settings
	errs     []error
}

// NewBuilder returns a Builder with the defaults: no configuration (one must
// be given), no decider, the system's resolver, and no log.
func NewBuilder() *Builder {
	return &Builder{settings: settings{
		http:           endpoint{name: "HTTP", key: keyProxyURL},
		admin:          endpoint{name: "Admin", key: keyAdminURL},
		socks:          endpoint{name: "SOCKS", key: keySOCKSURL},
		deciderTimeout: defaultDeciderTimeout,
		log:            slog.New(slog.DiscardHandler),
		environ:        os.Environ,
		hooks: hooks{
			unixSockets:      unixSocketsSupported,
			refusalStands:    udpRefusalStands,
			callbackPatience: hostcall.Patience,
			quiet:            filewatch.ShortQuiet,
		},
	}}
}

func (b *Builder) fail(format string, args ...any) *Builder {
	b.errs = append(b.errs, fmt.Errorf(format, args...))
	return b
}

// ConfigFile takes the configuration from a TOML file: its [network_proxy]
// table. Other tables are left alone, so it may be a larger program's file.
func (b *Builder) ConfigFile(path string) *Builder { return b.ConfigFiles(path) }

// ConfigFiles takes the configuration from several TOML files, a later one
// over an earlier one: tables are merged key by key, arrays are replaced.
func (b *Builder) ConfigFiles(paths ...string) *Builder {
	if len(paths) == 0 || slices.Contains(paths, "") {
		return b.fail("ConfigFiles: no file, or an empty path, was given")
	}
	b.settings.files = slices.Clone(paths)
	b.settings.sources++
	return b
}

// Config takes the configuration from a value. It is copied.
func (b *Builder) Config(c Config) *Builder {
	b.settings.config = c.clone()
	b.settings.sources++
	return b
}

// ConfigSource takes the configuration from the host's own function. Build
// calls it; so does every reload, on a goroutine of its own and never twice at
// a time. While it runs, another [Handle.Reload] returns
// [ErrReloading] at once, so that the function may call every method of the
// Handle. ctx ends with the context of the reload and when the proxy begins to
// stop; what the function returns after that is dropped. While it does not
// return, the policy in force stays, and everything but a reload works.
func (b *Builder) ConfigSource(load func(ctx context.Context) (Config, error)) *Builder {
	if load == nil {
		return b.fail("ConfigSource: the function is nil")
	}
	b.settings.source = load
	b.settings.sources++
	return b
}

// Requirements sets a file of managed limits: ceilings that no configuration,
// reload, run-time mode, session or decider may exceed. At the start a
// configuration that exceeds them is an error. Limits that are tightened while
// the proxy runs take force at once: what exceeds them is cut back, and the
// log, /health and [Handle.Warnings] say so.
func (b *Builder) Requirements(path string) *Builder {
	if path == "" {
		return b.fail("Requirements: the path is empty")
	}
	b.settings.requirements = path
	return b
}

// HTTPAddr overrides proxy_url: "127.0.0.1:3128", "[::1]:3128", a URL, or
// port 0 for any free one (see [Handle.HTTPAddr]). It is clamped to loopback
// like the key.
func (b *Builder) HTTPAddr(addr string) *Builder {
	b.settings.http.override = addr
	return b
}

// AdminAddr overrides admin_url, as HTTPAddr does proxy_url; "unix:///path" is
// a unix socket.
func (b *Builder) AdminAddr(addr string) *Builder {
	b.settings.admin.override = addr
	return b
}

// SOCKSAddr overrides socks_url, as HTTPAddr does proxy_url. The listener is
// opened only when enable_socks5 is true.
func (b *Builder) SOCKSAddr(addr string) *Builder {
	b.settings.socks.override = addr
	return b
}

// HTTPListener has the proxy serve a listener that the host has opened, in
// place of proxy_url. Run takes it over and the proxy closes it. One that is
// not on loopback is subject to the same clamp: it is closed, and loopback is
// listened on in its place.
func (b *Builder) HTTPListener(l net.Listener) *Builder { return b.provide(&b.settings.http, l) }

// AdminListener is HTTPListener for the admin API, in place of admin_url.
func (b *Builder) AdminListener(l net.Listener) *Builder { return b.provide(&b.settings.admin, l) }

// SOCKSListener is HTTPListener for the SOCKS5 proxy, in place of socks_url.
// While enable_socks5 is false, Run closes it.
func (b *Builder) SOCKSListener(l net.Listener) *Builder { return b.provide(&b.settings.socks, l) }

func (b *Builder) provide(ep *endpoint, l net.Listener) *Builder {
	if l == nil {
		return b.fail("%sListener: the listener is nil", ep.name)
	}
	ep.provided = l
	return b
}

// AdminToken makes the admin API demand "Authorization: Bearer <token>". It
// must be at least 16 bytes long.
func (b *Builder) AdminToken(token string) *Builder {
	if len(token) < 16 {
		return b.fail("AdminToken: a token of %d bytes can be guessed; use at least 16", len(token))
	}
	b.settings.adminToken = token
	return b
}

// AdminReadOnly makes the admin API read-only whatever admin_read_only says,
// also after a reload.
func (b *Builder) AdminReadOnly() *Builder {
	b.settings.adminReadOnly = true
	return b
}

// RequireSession refuses, with 407, what comes in by the shared listeners
// without the token of an open session: see [Session.Token]. The listeners of
// the sessions themselves are as they were.
func (b *Builder) RequireSession() *Builder {
	b.settings.requireSession = true
	return b
}

// ConnectHelper names the command by which a client without proxy support of
// its own is connected through the proxy: "networkproxy connect", or the
// host's own program if it has such a command. It is called with the
// arguments given here, a host and a port, finds the proxy in HTTPS_PROXY (a
// token has no place among arguments, which other users can read), and relays
// between that target and its standard input and output.
//
// [Session.Environ] sets GIT_SSH_COMMAND by it. Without one, ssh is left
// alone and connects by itself, or fails where a sandbox keeps it from that.
func (b *Builder) ConnectHelper(argv ...string) *Builder {
	if len(argv) == 0 || argv[0] == "" {
		return b.fail("ConnectHelper: no command was given")
	}
	b.settings.connectHelper = slices.Clone(argv)
	return b
}

// Observe lets allowlist misses pass and records them, in place of refusing
// them or asking the decider: for learning, once, what a piece of work needs.
// The denylist, the protection of local and private networks and the mode
// hold all the same. [Handle.Suggest] and GET /suggest then tell the allowlist
// that would have been enough. The log, /health and the warnings say that it
// is on.
func (b *Builder) Observe() *Builder {
	b.settings.observe = true
	return b
}

// PolicyDecider sets the function that is asked about allowlist misses.
// Without one they are refused.
func (b *Builder) PolicyDecider(d PolicyDecider) *Builder {
	b.settings.decider = d
	return b
}

// DeciderTimeout bounds one question to the decider; the default is 60 s, and
// at most 8760 h are possible.
func (b *Builder) DeciderTimeout(d time.Duration) *Builder {
	if d <= 0 {
		return b.fail("DeciderTimeout: %v is not a positive duration", d)
	}
	if d > maxTime {
		return b.fail("DeciderTimeout: %v is over the %v that are possible", d, maxTime)
	}
	b.settings.deciderTimeout = d
	return b
}

// Limits sets the limits and replaces those of an earlier call. A value that
// is negative, or over the limit's upper bound, is an error.
func (b *Builder) Limits(l Limits) *Builder {
	for _, f := range l.fields() {
		switch {
		case f.negative():
			b.fail("Limits: %s is negative; 0 stands for the default", f.name)
		case f.number != nil && *f.number > f.most():
			b.fail("Limits: %s is %d; at most %d is possible", f.name, *f.number, f.most())
		case f.time != nil && *f.time > maxTime:
			b.fail("Limits: %s is %v; at most %v is possible", f.name, *f.time, maxTime)
		}
	}
	b.settings.limits = l
	return b
}

// OnBlocked sets a function that is told of every refusal: one after the
// other, in order, from a goroutine of its own. No request waits for it. While
// it does not return, the next 1,024 refusals wait; those beyond are dropped,
// counted in /metrics and told in the log. A panic in it is logged. It may call
// every method of the Handle and of sessions; for Shutdown and Close see there.
func (b *Builder) OnBlocked(f func(BlockedRequest)) *Builder {
	b.settings.onBlocked = f
	return b
}

// Resolver replaces the system's resolver. A panic in it is a failed look-up.
func (b *Builder) Resolver(r Resolver) *Builder {
	if r == nil {
		return b.fail("Resolver: the resolver is nil")
	}
	b.settings.resolver = r
	return b
}

// Logger sets the log; the default discards. Refusals and changes of the
// policy are logged at level info, tunnels at debug, what needs attention at
// warn. Query strings, credentials and header values are never logged.
//
// The handler is called from a goroutine of its own, one line after the other,
// in order, so that a slow one holds up no request. While it does not return,
// the next 1,024 lines wait; those beyond are dropped, counted in /metrics and
// told in a later line. Shutdown and Close have the last lines written. A
// change of the handler's level is noticed within a tenth of a second. The
// handler may call every method of the Handle and of sessions, but what it
// causes to be logged comes back to it.
func (b *Builder) Logger(l *slog.Logger) *Builder {
	if l == nil {
		return b.fail("Logger: the logger is nil; leave it out to discard")
	}
	b.settings.log = slog.New(hostcall.SafeLogHandler(l.Handler()))
	return b
}

// UpstreamEnviron sets the environment, in the form of [os.Environ], in which
// allow_upstream_proxy looks for proxies; the default is that of the process.
// Build reads it once: HTTP_PROXY for plain HTTP, HTTPS_PROXY for CONNECT and
// SOCKS5, ALL_PROXY for what of the two is not set, and NO_PROXY; a lower-case
// name goes before the upper-case one. While allow_upstream_proxy is false
// none of it has any effect.
func (b *Builder) UpstreamEnviron(env []string) *Builder {
	env = slices.Clone(env)
	b.settings.environ = func() []string { return env }
	return b
}

// Build loads and checks the configuration and returns a proxy ready to run.
// Nothing is bound yet. The error joins everything that is wrong; those about
// the configuration are *[ConfigError] with file, line and column.
func (b *Builder) Build() (*NetworkProxy, error) {
	errs := slices.Clone(b.errs)
	switch b.settings.sources {
	case 1:
	case 0:
		if len(errs) == 0 {
			errs = append(errs, errors.New("no configuration: call ConfigFile, Config or ConfigSource"))
		}
	default:
		errs = append(errs, errors.New("the configuration has one source: call one of ConfigFile, ConfigFiles, Config and ConfigSource, once"))
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

var _ Resolver = (*net.Resolver)(nil)
var _ pindial.Resolver = Resolver(nil)
