// Connections of the host itself, under the policy of its commands.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"example.com/networkproxy/internal/childenv"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/trust"
)

// DialContext returns a dial function for connections of the host itself, which
// http.Transport, gRPC and database drivers can use. It judges each connection
// with attribution a as it would judge a CONNECT request. network must be "tcp".
// addr is host:port, where host must not be resolved yet, because the policy
// judges names. A refusal is an error that wraps *[RefusedError].
//
// The caller closes the connections. They are cut when a change of the policy
// refuses them, and when the proxy ends.
func (h *Handle) DialContext(a Attribution) func(ctx context.Context, network, addr string) (net.Conn, error) {
	t := &transport{gate: h.gate, from: gate.NewPrincipal(h.drain, a.internal())}
	return t.dialContext
}

func (t *transport) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("unsupported network %q; use \"tcp\"", network)
	}
	target, err := hostname.ParseTarget(addr)
	if err != nil {
		t.gate.Malformed(t.from, netip.AddrPort{}, ProtocolHTTPSConnect, err)
		return nil, err
	}
	req := t.request(ProtocolHTTPSConnect, target, http.MethodConnect)
	v, err := t.admit(ctx, req)
	if err != nil {
		return nil, err
	}
	live := new(gate.LiveRequest)
	conn, err := t.gate.Dial(ctx, req, &v, live)
	if err != nil {
		return nil, t.failedWith(req, err)
	}
	t.gate.Opened(req)
	t.gate.Allowed(req)
	return &dialedConn{TargetConn: gate.TargetConn{Conn: conn}, gate: t.gate, req: req, live: live}, nil
}

// dialedConn is a connection of the host. After the policy has cut it, its errors
// are the refusal.
type dialedConn struct {
	gate.TargetConn
	gate *gate.Gate
	req  *gate.Request
	live *gate.LiveRequest

	sent, received atomic.Int64 // bytes
	closed         atomic.Bool
}

func (c *dialedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, publicError(c.live.Cause(err))
}

func (c *dialedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, publicError(c.live.Cause(err))
}

func (c *dialedConn) Close() error {
	c.live.Leave() // not End, so that a Read after it can still return the reason
	c.live.Done()
	err := c.Conn.Close()
	if !c.closed.Swap(true) {
		c.gate.Ended(c.req, c.sent.Load(), c.received.Load())
	}
	return err
}

// targetOfURL returns the target of a URL, and the protocol of a request to
// a proxy for it.
func targetOfURL(u *url.URL) (Protocol, hostname.Target, error) {
	switch {
	case u == nil:
		return ProtocolHTTP, hostname.Target{}, errors.New("the request has no URL")
	case u.Scheme == "https":
		t, err := hostname.ParseTargetDefault(escapedHost(u), 443)
		return ProtocolHTTPSConnect, t, err
	case u.Scheme == "http":
		t, err := hostname.ParseTargetDefault(escapedHost(u), 80)
		return ProtocolHTTP, t, err
	}
	return ProtocolHTTP, hostname.Target{}, fmt.Errorf("unsupported scheme %.20q; use http or https", u.Scheme)
}

// escapedHost returns the host and port as in the text of the URL. net/url has
// decoded the escape before a zone.
func escapedHost(u *url.URL) string {
	if !strings.HasPrefix(u.Host, "[") {
		return u.Host
	}
	return strings.Replace(u.Host, "%", "%25", 1)
}

func (t *transport) request(protocol Protocol, target hostname.Target, method string) *gate.Request {
	if protocol == ProtocolHTTPSConnect {
		method = http.MethodConnect // as in a request to the proxy
	}
	return &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Method: method}, Principal: t.from}
}

// admit decides about a request. It records a refusal and returns it as the error.
func (t *transport) admit(ctx context.Context, req *gate.Request) (gate.Ruling, error) {
	if t.from.Context.Err() != nil {
		return gate.Ruling{}, ErrClosed
	}
	v := t.gate.Decide(ctx, req)
	if !v.Allowed {
		t.gate.Refused(req, v.Verdict)
		return v, publicError(gate.NewRefusedError(req, v.Verdict))
	}
	return v, nil
}

// failedWith records that an allowed request has failed, and returns the error for
// the host.
func (t *transport) failedWith(req *gate.Request, err error) error {
	var refused *gate.RefusedError
	if errors.As(err, &refused) { // because of its addresses, or by a later policy
		t.gate.Refused(req, refused.Verdict)
		return publicError(refused)
	}
	t.gate.Failed(req, err)
	if t.from.Context.Err() != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// Environ returns the environment for a process of this session. base is the
// environment to start from, usually os.Environ(); it is not changed, and nil
// means an empty one.
//
// Environ removes every variable of base that names a proxy, or that would make
// a client bypass it. The other variables keep their order, without those that
// a later entry of the same name overrides. The settings follow in a fixed
// order. docs/clients.md lists them by client.
//
//   - Removed, in upper, lower and mixed case: http_proxy, no_proxy and the
//     same for every scheme, with or without a tool's prefix
//     (npm_config_no_proxy, YARN_HTTP_PROXY); the proxy settings of npm, pnpm,
//     yarn, pip, cargo and gcloud; SOCKS_SERVER; GIT_PROXY_COMMAND, GIT_SSH,
//     GIT_SSH_COMMAND, and the keys of GIT_CONFIG_* about proxies and ssh;
//     RSYNC_CONNECT_PROG, RSYNC_RSH, CVS_RSH, SVN_SSH and similar ones; the
//     settings of proxychains, tsocks and other wrappers; and REQUEST_METHOD
//     and GATEWAY_INTERFACE, because clients that find these assume that
//     they are CGI programs, and ignore HTTP_PROXY.
//   - Removed from NODE_OPTIONS, JAVA_TOOL_OPTIONS, CHROMIUM_FLAGS, and all
//     others whose names end in OPTS, OPTIONS, ARGS, ARGUMENTS or FLAGS: only
//     the options of Java, Node.js and Chromium about proxies. Removed from
//     LD_PRELOAD and DYLD_INSERT_LIBRARIES: only the wrappers.
//   - NO_PROXY is empty, so that the policy also applies to local targets. While
//     allow_local_binding is on and ask_local is off, it is
//     "localhost,127.0.0.1,::1", because the proxy may be unable to reach servers
//     that run beside the command.
//
// While TLS inspection is on ([Config.MITM]), Environ also writes files with the
// certificates that clients trust and that of the proxy, and sets the variables with
// which clients find them: SSL_CERT_FILE, CURL_CA_BUNDLE, GIT_SSL_CAINFO,
// NODE_EXTRA_CA_CERTS, WGETRC, JAVA_TOOL_OPTIONS and others. What base makes a client
// trust remains trusted. SSL_CERT_DIR is removed. If the files cannot be written, the
// log says so, none of these variables is set, and clients refuse the certificates of
// the proxy. The files are removed when the session ends. See also [Session.CABundle].
//
// The variables of credential providers ([CredentialProvider]) get placeholders of this
// session, which are worthless once it has ended. No secret of a provider remains.
//
// The environment asks a client to use the proxy and does not force it. A client
// that does not read the environment, or that reads something else first, such
// as a file in the home directory or a flag, connects directly. [Session.Fence]
// prevents that; see [Fence.Environ] for the environment of its command.
func (s *Session) Environ(base []string) []string { return s.environ(base, s.handle.directLocal()) }

func (s *Session) environ(base []string, directLocal bool) []string {
	proxy, err := url.Parse(s.ProxyURL())
	if err != nil { // impossible: ProxyURL formats an address
		return slices.Clone(base)
	}
	return s.handle.environ(base, proxy, directLocal, s.principal, s.trusted)
}

// CABundle returns the path of a PEM file with the certificates that the commands of the
// session need: those that SSL_CERT_FILE and SSL_CERT_DIR of this process name, those of
// the system, and that of the proxy. The file is made by the first call, in a directory
// of the session's own, and removed when the session ends. It is for clients that
// need a flag or a setting; Environ sets the variables that most clients read.
//
// The path is empty while TLS inspection is off. The error is about a file that cannot be
// read or written, or says that this system has no certificates.
func (s *Session) CABundle() (string, error) {
	if !s.handle.opensTLS() {
		return "", nil
	}
	return s.trusted.Bundle(os.Environ())
}

// Environ is [Session.Environ] for the command of the fence. NO_PROXY names the loopback
// addresses, because those inside the fence are the command's own. With FenceBest it is
// as in Session.Environ, because there may be no fence.
func (f *Fence) Environ(base []string) []string {
	return f.session.environ(base, f.config.Accept != FenceBest || f.session.handle.directLocal())
}

// Environ is [Session.Environ] for a process that belongs to no session. It
// names the shared listener, which refuses such a process if
// [Builder.RequireSession] is set.
//
// If the proxy was started with enabled = false, which is also the zero value
// of [Config] without [Builder.Embedded], nothing listens. Environ then directs
// every client to 127.0.0.1:9, the discard port (RFC 863), where connections are
// refused: a command that needs the network fails, and does not bypass a proxy
// that its user believes to be there. [Handle.Warnings] says that the proxy is
// off and how to turn it on. [Handle.HTTPAddr] is empty then. A host that wants
// to run commands without a proxy passes on its own environment.
func (h *Handle) Environ(base []string) []string {
	addr := h.httpAddr
	if addr == "" {
		addr = discardAddr
	}
	return h.environ(base, &url.URL{Scheme: "http", Host: addr}, h.directLocal(), h.shared, h.trusted)
}

// discardAddr is the proxy's address in the environment while nothing listens.
// Even if a discard service runs there, it sends nothing back.
const discardAddr = "127.0.0.1:9"

// directLocal reports whether clients connect to localhost without the proxy.
func (h *Handle) directLocal() bool {
	p := h.gate.Policy()
	return h.httpAddr != "" && p.AllowLocal && !p.AskLocal
}

// opensTLS reports whether clients may get certificates of the proxy.
func (h *Handle) opensTLS() bool { return h.httpAddr != "" && h.active.current().Config.MITM }

// environ returns the environment for a process of p that connects through proxy. files
// make its clients trust the certificates of the proxy.
func (h *Handle) environ(base []string, proxy *url.URL, directLocal bool, p *gate.Principal, files *trust.Files) []string {
	s := childenv.Settings{Proxy: proxy, DirectLocal: directLocal, ConnectCommand: h.settings.connectHelper}
	env := h.withPlaceholders(s.Apply(base), p)
	if !h.opensTLS() {
		return env
	}
	trusting, err := files.Environ(env)
	if err != nil {
		h.log.Error("clients of a command will not trust the certificates of the proxy", "session", p.ID, "error", err)
		return env
	}
	return trusting
}

// withPlaceholders returns env with placeholders in place of the secrets of the credential
// providers.
func (h *Handle) withPlaceholders(env []string, p *gate.Principal) []string {
	loaded := h.active.current()
	secrets := secretVariables(&loaded.Config)
	env, problems := p.Credentials.Environ(h.drain, env, loaded.credentials, secrets, loaded.Config.CredentialBroker && h.httpAddr != "")
	for _, err := range problems {
		h.log.Warn("a command runs without a credential", "session", p.ID, "error", err)
	}
	return env
}

// secretVariables returns the variables of the proxy's environment that hold secrets.
func secretVariables(c *Config) (names []string) {
	for _, p := range c.CredentialProviders {
		names = append(names, p.SecretEnvVar)
	}
	for i := range c.MITMHooks {
		for _, h := range c.MITMHooks[i].InjectRequestHeaders {
			names = append(names, h.SecretEnvVar)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// certificates returns the certificates that clients must trust, in PEM.
func (h *Handle) certificates() ([]byte, error) {
	a, err := h.authority()
	if err != nil {
		return nil, err
	}
	return a.PEM(), nil
}
