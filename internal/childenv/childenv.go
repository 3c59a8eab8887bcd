// Package childenv builds the environment that makes the clients in a child process connect through an HTTP proxy.
//
// It removes the variables, and the parts of variables, that would make a client connect another way, and sets those that make
// the common clients use the proxy. It enforces nothing: a client that ignores its environment connects directly. The package
// reads no environment and starts no process.
package childenv

import (
	"net/url"
	"strings"
)

// Settings says how the clients of a child process connect. It may be used again.
type Settings struct {
	Proxy       *url.URL // the HTTP proxy, with credentials if it needs them
	DirectLocal bool     // clients connect to localhost without the proxy

	// ConnectCommand connects its standard input and output to a host and port,
	// its last two arguments, through the proxy. ssh uses it. Nil means none.
	ConnectCommand []string
}

// Apply returns base, an environment in the form of [os.Environ], with the
// settings in place of those that it held before. It does not change base.
func (s *Settings) Apply(base []string) []string {
	var kept []string
	var java string
	var git gitConfig
	for _, entry := range withoutOverridden(base) {
		name, value := splitEntry(entry)
		upper := strings.ToUpper(name)
		switch {
		case bypassesProxy(upper):
		case git.take(name, value):
		case upper == "JAVA_TOOL_OPTIONS":
			java, _ = withoutProxyOptions(value)
		case upper == "LD_PRELOAD", upper == "DYLD_INSERT_LIBRARIES":
			kept = appendWithoutProxyLibraries(kept, name, value)
		case isOptionsVariable(upper):
			kept = appendWithoutProxyOptions(kept, name, value)
		default:
			kept = append(kept, entry)
		}
	}
	proxy := s.Proxy.String()
	for _, name := range proxyVariables {
		kept = append(kept, name+"="+proxy)
	}
	for _, name := range noProxyVariables {
		kept = append(kept, name+"="+s.noProxy())
	}
	kept = append(kept, switches[:]...)
	kept = append(kept,
		"RSYNC_PROXY="+strings.TrimPrefix(proxy, s.Proxy.Scheme+"://"), // host:port without a scheme
		"JAVA_TOOL_OPTIONS="+strings.TrimSpace(java+" "+s.javaOptions()))
	git.set("http.proxy", proxy) // http.proxy of a file would override the variables
	kept = append(kept, git.entries()...)
	if s.Proxy.User != nil {
		// By default git sends credentials after a 407 only, and a listener that
		// also serves clients without credentials sends none.
		kept = append(kept, "GIT_HTTP_PROXY_AUTHMETHOD=basic")
	}
	if s.ConnectCommand != nil {
		kept = append(kept, "GIT_SSH_COMMAND="+s.sshCommand())
	}
	return kept
}

// proxyVariables are set to the proxy's URL.
var proxyVariables = [...]string{
	// Most clients. curl reads http_proxy in lower case only, and ws_proxy and
	// ftp_proxy for URLs of those schemes.
	"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy",
	"WS_PROXY", "ws_proxy", "WSS_PROXY", "wss_proxy", "FTP_PROXY", "ftp_proxy",
	"npm_config_proxy", "npm_config_https_proxy", // npm, pnpm, yarn 1; override .npmrc
	"YARN_HTTP_PROXY", "YARN_HTTPS_PROXY", // yarn 2 and later read only these
	"PIP_PROXY",        // overrides pip.conf
	"CARGO_HTTP_PROXY", // overrides config.toml; its git reads it too
	"DOCKER_HTTP_PROXY", "DOCKER_HTTPS_PROXY",
	"BUNDLE_HTTP_PROXY", "BUNDLE_HTTPS_PROXY",
	"grpc_proxy", "GRPC_PROXY",
	"GLOBAL_AGENT_HTTP_PROXY", "GLOBAL_AGENT_HTTPS_PROXY", // Electron's downloads, and others
}

// noProxyVariables name the hosts that clients reach without the proxy. There
// is none for yarn, because yarn 2 and later exit at an unknown YARN_ variable.
var noProxyVariables = [...]string{"NO_PROXY", "no_proxy", "npm_config_noproxy"}

// switches make clients read the variables above.
var switches = [...]string{
	"NODE_USE_ENV_PROXY=1", // Node.js from 22.21 and 24.5
	"ELECTRON_GET_USE_PROXY=true",
	"PERL_LWP_ENV_PROXY=1",
}

// noProxy returns the value of noProxyVariables.
func (s *Settings) noProxy() string {
	if s.DirectLocal {
		return "localhost,127.0.0.1,::1"
	}
	return ""
}

// javaOptions returns the system properties that clients in the JVM read. There
// is no property for credentials.
func (s *Settings) javaOptions() string {
	host, port := s.Proxy.Hostname(), s.Proxy.Port()
	options := []string{
		"-Dhttp.proxyHost=" + host, "-Dhttp.proxyPort=" + port,
		"-Dhttps.proxyHost=" + host, "-Dhttps.proxyPort=" + port,
	}
	if !s.DirectLocal {
		options = append(options, "-Dhttp.nonProxyHosts=") // for http and https; the default exempts this machine
	}
	return strings.Join(options, " ")
}

// sshCommand returns a command with which ssh connects through ConnectCommand.
// An option on ssh's command line overrides its files. ssh must not share a
// connection of another ssh process, because that may bypass the proxy.
func (s *Settings) sshCommand() string {
	words := make([]string, len(s.ConnectCommand))
	for i, word := range s.ConnectCommand {
		words[i] = shellQuote(strings.ReplaceAll(word, "%", "%%")) // ssh expands %
	}
	option := "ProxyCommand=" + strings.Join(words, " ") + " %h %p"
	return "ssh -o " + shellQuote(option) + " -o ControlMaster=no -o ControlPath=none"
}

// shellQuote returns word quoted for a POSIX shell.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("%+,-./:=@_", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
