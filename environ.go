// The environment of a child process: what makes the clients that people use
// go through the proxy, and none of what would lead them round it.

package networkproxy

import (
	"net/url"
	"slices"
	"strings"
)

// Environ returns the environment for a process of this session, made of
// base, which is usually os.Environ() and is not changed. Nil stands for an
// empty one.
//
// What base says of proxies is left out, as is what would lead a client round
// them; the rest keeps its order, without what a later entry of the same name
// replaces; then come the settings, in a fixed order. docs/clients.md lists
// them by the client that reads them.
//
//   - Left out, in any mixture of case: http_proxy, no_proxy and their like
//     for every scheme, with or without a tool's prefix (npm_config_no_proxy,
//     YARN_HTTP_PROXY); the proxy settings of npm, pnpm, yarn, pip, cargo and
//     gcloud; SOCKS_SERVER; GIT_PROXY_COMMAND, GIT_SSH, GIT_SSH_COMMAND and
//     what GIT_CONFIG_* says of proxies and of ssh; RSYNC_CONNECT_PROG,
//     RSYNC_RSH, CVS_RSH, SVN_SSH and their like; the settings of proxychains,
//     tsocks and other wrappers; and REQUEST_METHOD and GATEWAY_INTERFACE, at
//     which clients take themselves for CGI programs and do not trust
//     HTTP_PROXY.
//   - Left out of NODE_OPTIONS, JAVA_TOOL_OPTIONS, CHROMIUM_FLAGS, and all
//     others whose names end in OPTS, OPTIONS, ARGS, ARGUMENTS or FLAGS: the
//     options of Java, Node.js and Chromium about proxies alone. Left out of
//     LD_PRELOAD and DYLD_INSERT_LIBRARIES: the wrappers alone.
//   - NO_PROXY is empty, so that local targets are judged too. Only while
//     allow_local_binding is on it is "localhost,127.0.0.1,::1": what listens
//     beside the command may not be in reach of the proxy.
//
// An environment is a request, not a fence: a client that does not read it,
// or reads something else first (a file in the home directory, a flag),
// connects by itself. A sandbox has to keep it from that.
func (s *Session) Environ(base []string) []string {
	proxy, err := url.Parse(s.ProxyURL())
	if err != nil { // it was put together from an address
		return slices.Clone(base)
	}
	return s.handle.environ(base, proxy)
}

// Environ is [Session.Environ] for a process that belongs to no session: it
// is led to the shared listener. With [Builder.RequireSession] that listener
// refuses it.
//
// Where the proxy was started with enabled = false, which is also the zero
// value of [Config], nothing listens. The environment is closed then: it leads
// every client to 127.0.0.1:9, the discard port (RFC 863), where a connection
// is refused, so that a command that needs the network fails in place of
// going round a proxy that somebody believes to be there. [Handle.Warnings]
// says that the proxy is off. A host that wants to run commands without a
// proxy passes on its own environment; [Handle.HTTPAddr] is empty then.
func (h *Handle) Environ(base []string) []string {
	addr := h.httpAddr
	if addr == "" {
		addr = discardAddr
	}
	return h.environ(base, &url.URL{Scheme: "http", Host: addr})
}

// discardAddr is where a closed environment leads. Nothing answers there: even
// a discard service sends nothing back.
const discardAddr = "127.0.0.1:9"

func (h *Handle) environ(base []string, proxy *url.URL) []string {
	c := childEnviron{
		proxy:  proxy,
		local:  h.httpAddr != "" && h.enforcer.current.Load().AllowLocal,
		helper: h.settings.connectHelper,
	}
	return c.over(base)
}

// childEnviron is what an environment is to say.
type childEnviron struct {
	proxy  *url.URL // the HTTP proxy, with credentials where they are needed
	local  bool     // allow_local_binding is on
	helper []string // the command that connects through the proxy; nil: none
}

// over lays the settings over an environment.
func (c *childEnviron) over(base []string) []string {
	var kept []string
	var java string
	var git gitConfig
	for _, entry := range withoutReplaced(base) {
		name, value := splitEntry(entry)
		upper := strings.ToUpper(name)
		switch {
		case leadsElsewhere(upper):
		case git.take(name, value):
		case upper == "JAVA_TOOL_OPTIONS":
			java, _ = withoutProxyOptions(value)
		case upper == "LD_PRELOAD", upper == "DYLD_INSERT_LIBRARIES":
			kept = appendWithoutWrappers(kept, name, value)
		case holdsOptions(upper):
			kept = appendWithout(kept, name, value)
		default:
			kept = append(kept, entry)
		}
	}
	proxy := c.proxy.String()
	for _, name := range proxyVariables {
		kept = append(kept, name+"="+proxy)
	}
	for _, name := range directVariables {
		kept = append(kept, name+"="+c.direct())
	}
	kept = append(kept, switches[:]...)
	kept = append(kept,
		"RSYNC_PROXY="+strings.TrimPrefix(proxy, c.proxy.Scheme+"://"), // host:port without a scheme
		"JAVA_TOOL_OPTIONS="+strings.TrimSpace(java+" "+c.javaOptions()))
	git.set("http.proxy", proxy) // a file's http.proxy would win over the variables
	kept = append(kept, git.entries()...)
	if c.proxy.User != nil {
		// By default git waits for a 407 before it sends credentials, and a
		// listener that needs none for some has no reason to send one.
		kept = append(kept, "GIT_HTTP_PROXY_AUTHMETHOD=basic")
	}
	if c.helper != nil {
		kept = append(kept, "GIT_SSH_COMMAND="+c.sshCommand())
	}
	return kept
}

// proxyVariables hold the proxy's URL.
var proxyVariables = [...]string{
	// Most clients; curl reads http_proxy in lower case only, and ws_proxy,
	// ftp_proxy by the scheme of the URL.
	"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy",
	"WS_PROXY", "ws_proxy", "WSS_PROXY", "wss_proxy", "FTP_PROXY", "ftp_proxy",
	"npm_config_proxy", "npm_config_https_proxy", // npm, pnpm, yarn 1, over .npmrc
	"YARN_HTTP_PROXY", "YARN_HTTPS_PROXY", // yarn 2 and later, which reads no others
	"PIP_PROXY",        // over pip.conf
	"CARGO_HTTP_PROXY", // over config.toml, and for its git
	"DOCKER_HTTP_PROXY", "DOCKER_HTTPS_PROXY",
	"BUNDLE_HTTP_PROXY", "BUNDLE_HTTPS_PROXY",
	"grpc_proxy", "GRPC_PROXY",
	"GLOBAL_AGENT_HTTP_PROXY", "GLOBAL_AGENT_HTTPS_PROXY", // Electron's downloads, and others
}

// directVariables hold the hosts that are reached without a proxy. There is
// none for yarn: yarn 2 and later end at a YARN_ variable that they do not
// know.
var directVariables = [...]string{"NO_PROXY", "no_proxy", "npm_config_noproxy"}

// switches make clients look at the variables above.
var switches = [...]string{
	"NODE_USE_ENV_PROXY=1", // Node.js from 22.21 and 24.5
	"ELECTRON_GET_USE_PROXY=true",
	"PERL_LWP_ENV_PROXY=1",
}

// direct is the value of directVariables.
func (c *childEnviron) direct() string {
	if c.local {
		return "localhost,127.0.0.1,::1"
	}
	return ""
}

// javaOptions are the system properties that the JVM's clients go by. They
// have none for credentials.
func (c *childEnviron) javaOptions() string {
	host, port := c.proxy.Hostname(), c.proxy.Port()
	options := []string{
		"-Dhttp.proxyHost=" + host, "-Dhttp.proxyPort=" + port,
		"-Dhttps.proxyHost=" + host, "-Dhttps.proxyPort=" + port,
	}
	if !c.local {
		options = append(options, "-Dhttp.nonProxyHosts=") // its default is this machine; it is for https too
	}
	return strings.Join(options, " ")
}

// sshCommand has ssh connect through the helper. An option on ssh's command
// line wins over its files; a connection that another ssh keeps open is not
// to be shared, for it was made outside.
func (c *childEnviron) sshCommand() string {
	words := make([]string, len(c.helper))
	for i, word := range c.helper {
		words[i] = shellQuote(strings.ReplaceAll(word, "%", "%%")) // ssh expands "%"
	}
	through := "ProxyCommand=" + strings.Join(words, " ") + " %h %p"
	return "ssh -o " + shellQuote(through) + " -o ControlMaster=no -o ControlPath=none"
}
