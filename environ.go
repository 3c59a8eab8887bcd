// The environment of a child process, which makes its clients use the proxy.

package networkproxy

import (
	"net/url"
	"slices"

	"example.com/networkproxy/internal/childenv"
)

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
//     allow_local_binding is on, it is "localhost,127.0.0.1,::1", because the
//     proxy may be unable to reach servers that run beside the command.
//
// The environment asks a client to use the proxy and does not force it. A client
// that does not read the environment, or that reads something else first, such
// as a file in the home directory or a flag, connects directly. Use a sandbox
// to prevent that.
func (s *Session) Environ(base []string) []string {
	proxy, err := url.Parse(s.ProxyURL())
	if err != nil { // impossible: ProxyURL formats an address
		return slices.Clone(base)
	}
	return s.handle.environ(base, proxy)
}

// Environ is [Session.Environ] for a process that belongs to no session. It
// names the shared listener, which refuses such a process if
// [Builder.RequireSession] is set.
//
// If the proxy was started with enabled = false, which is also the zero value
// of [Config], nothing listens. Environ then directs every client to
// 127.0.0.1:9, the discard port (RFC 863), where connections are refused: a
// command that needs the network fails, and does not bypass a proxy that its
// user believes to be there. [Handle.Warnings] says that the proxy is off.
// [Handle.HTTPAddr] is empty then. A host that wants to run commands without a
// proxy passes on its own environment.
func (h *Handle) Environ(base []string) []string {
	addr := h.httpAddr
	if addr == "" {
		addr = discardAddr
	}
	return h.environ(base, &url.URL{Scheme: "http", Host: addr})
}

// discardAddr is the proxy's address in the environment while nothing listens.
// Even if a discard service runs there, it sends nothing back.
const discardAddr = "127.0.0.1:9"

func (h *Handle) environ(base []string, proxy *url.URL) []string {
	s := childenv.Settings{
		Proxy:          proxy,
		DirectLocal:    h.httpAddr != "" && h.gate.Policy().AllowLocal,
		ConnectCommand: h.settings.connectHelper,
	}
	return s.Apply(base)
}
