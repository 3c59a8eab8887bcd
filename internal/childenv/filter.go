// Variables that would make a client bypass the proxy.

package childenv

import (
	"runtime"
	"slices"
	"strings"
)

// bypassesProxy reports whether a variable names another proxy, or makes a
// client bypass its proxy. The argument is the name in upper case.
func bypassesProxy(upper string) bool {
	upper = strings.ReplaceAll(upper, "-", "_") // npm treats them alike
	if slices.Contains(routeVariables[:], upper) || upper == "NOPROXY" || strings.HasSuffix(upper, "_NOPROXY") {
		return true
	}
	for _, prefix := range routePrefixes {
		if strings.HasPrefix(upper, prefix) {
			return true
		}
	}
	for _, part := range proxyParts { // HTTP_PROXY_USER belongs to HTTP_PROXY
		upper = strings.TrimSuffix(upper, part)
	}
	before, ok := strings.CutSuffix(upper, "_PROXY")
	return ok && slices.Contains(proxySchemes[:], before[strings.LastIndexByte(before, '_')+1:])
}

// proxyParts are suffixes of the name of a proxy variable that stand for a part
// of its URL: Ruby reads http_proxy_user and http_proxy_pass.
var proxyParts = [...]string{"_USER", "_USERNAME", "_PASS", "_PASSWORD", "_HOST", "_PORT"}

// routePrefixes are prefixes of variables that configure programs and libraries
// which redirect connections, and of proxy settings in several variables.
var routePrefixes = [...]string{
	"PROXYCHAINS_", "PROXYBOUND_", "TSOCKS_", "TORSOCKS_", "CLOUDSDK_PROXY_", "CONDA_PROXY_SERVERS",
}

// proxySchemes are the words before _PROXY in proxy variables, with or without
// the prefix of a tool: the schemes of curl, and words with a special meaning.
// Variables with other words are kept: TRUST_PROXY configures servers.
var proxySchemes = [...]string{
	"HTTP", "HTTPS", "FTP", "FTPS", "WS", "WSS", "ALL", "NO", "AUTO",
	"SOCKS", "SOCKS4", "SOCKS4A", "SOCKS5", "SOCKS5H", "GRPC", "RSYNC",
	"DICT", "GOPHER", "GOPHERS", "IMAP", "IMAPS", "LDAP", "LDAPS", "MQTT", "POP3", "POP3S",
	"RTMP", "RTMPS", "RTSP", "SCP", "SFTP", "SMB", "SMBS", "SMTP", "SMTPS", "TELNET", "TFTP",
}

// routeVariables are other variables that choose how to connect.
var routeVariables = [...]string{
	"NPM_CONFIG_PROXY", "PNPM_CONFIG_PROXY", "YARN_PROXY", "PIP_PROXY",
	"GLOBAL_AGENT_ENVIRONMENT_VARIABLE_NAMESPACE", // renames the variables that this package sets
	"NODE_USE_ENV_PROXY", "ELECTRON_GET_USE_PROXY", "PERL_LWP_ENV_PROXY",
	"SOCKS_SERVER", "SOCKS_VERSION", "SOCKS4_SERVER", "SOCKS5_SERVER", // Chromium, SOCKS libraries
	"SOCKS_CONF", "SOCKS_USERNAME", "SOCKS_PASSWORD", "SOCKS5_USER", "SOCKS5_PASSWORD", "SOCKS5_PASSWD", "HTTP_CONNECT_PROXY", "UPNP_IGD", // Dante and others
	"GIT_PROXY_COMMAND", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_HTTP_PROXY_AUTHMETHOD",
	"RSYNC_CONNECT_PROG", "RSYNC_RSH", "CVS_RSH", "SVN_SSH", "BZR_SSH", "BORG_RSH",
	"REQUEST_METHOD", "GATEWAY_INTERFACE", // clients that find these assume that they are CGI programs, and ignore HTTP_PROXY
}

// appendWithoutProxyLibraries appends a variable that lists libraries to
// preload, without the libraries that redirect connections. It appends nothing
// if no library is left.
func appendWithoutProxyLibraries(entries []string, name, value string) []string {
	separator := func(r rune) bool { return r == ':' || r == ' ' }
	libraries := strings.FieldsFunc(value, separator)
	n := len(libraries)
	libraries = slices.DeleteFunc(libraries, isProxyLibrary)
	switch {
	case len(libraries) == n:
		return append(entries, name+"="+value)
	case len(libraries) == 0:
		return entries
	}
	return append(entries, name+"="+strings.Join(libraries, ":"))
}

// isProxyLibrary reports whether a library redirects the connections of the
// program that preloads it.
func isProxyLibrary(path string) bool {
	base := strings.ToLower(path[strings.LastIndexByte(path, '/')+1:])
	for _, part := range [...]string{"proxychains", "proxybound", "proxyresolv", "tsocks", "torsocks", "dsocks", "libsocks", "socksify"} {
		if strings.Contains(base, part) {
			return true
		}
	}
	return false
}

// withoutOverridden returns base without the entries that a later one of the
// same name overrides, as os/exec does.
func withoutOverridden(base []string) []string {
	seen := make(map[string]bool, len(base))
	var kept []string
	for _, entry := range slices.Backward(base) {
		name, _ := splitEntry(entry)
		if runtime.GOOS == "windows" {
			name = strings.ToUpper(name)
		}
		if entry == "" || seen[name] {
			continue
		}
		seen[name] = true
		kept = append(kept, entry)
	}
	slices.Reverse(kept)
	return kept
}

// splitEntry splits name=value. On Windows a name may begin with "=".
func splitEntry(entry string) (name, value string) {
	if entry == "" {
		return "", ""
	}
	if i := strings.IndexByte(entry[1:], '='); i >= 0 {
		return entry[:i+1], entry[i+2:]
	}
	return entry, ""
}
