// What an environment may say that would lead a client round the proxy, and
// how it is taken out.

package networkproxy

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// leadsElsewhere reports whether a variable, its name in upper case, names a
// proxy or the way round one.
func leadsElsewhere(upper string) bool {
	upper = strings.ReplaceAll(upper, "-", "_") // npm does not tell them apart
	if slices.Contains(routeVariables[:], upper) || upper == "NOPROXY" || strings.HasSuffix(upper, "_NOPROXY") {
		return true
	}
	for _, prefix := range routePrefixes {
		if strings.HasPrefix(upper, prefix) {
			return true
		}
	}
	for _, part := range proxyParts { // HTTP_PROXY_USER is for HTTP_PROXY
		upper = strings.TrimSuffix(upper, part)
	}
	before, ok := strings.CutSuffix(upper, "_PROXY")
	return ok && slices.Contains(proxySchemes[:], before[strings.LastIndexByte(before, '_')+1:])
}

// proxyParts follow the name of a proxy variable and hold a part of its URL:
// Ruby reads http_proxy_user and http_proxy_pass.
var proxyParts = [...]string{"_USER", "_USERNAME", "_PASS", "_PASSWORD", "_HOST", "_PORT"}

// routePrefixes begin the names of variables for programs and libraries that
// redirect connections, and for proxy settings with several parts.
var routePrefixes = [...]string{
	"PROXYCHAINS_", "PROXYBOUND_", "TSOCKS_", "TORSOCKS_", "CLOUDSDK_PROXY_", "CONDA_PROXY_SERVERS",
}

// proxySchemes are what stands before _PROXY, alone or behind the prefix of a
// tool: the schemes of curl, and words with a meaning of their own. Other
// words are no business of ours: TRUST_PROXY configures servers.
var proxySchemes = [...]string{
	"HTTP", "HTTPS", "FTP", "FTPS", "WS", "WSS", "ALL", "NO", "AUTO",
	"SOCKS", "SOCKS4", "SOCKS4A", "SOCKS5", "SOCKS5H", "GRPC", "RSYNC",
	"DICT", "GOPHER", "GOPHERS", "IMAP", "IMAPS", "LDAP", "LDAPS", "MQTT", "POP3", "POP3S",
	"RTMP", "RTMPS", "RTSP", "SCP", "SFTP", "SMB", "SMBS", "SMTP", "SMTPS", "TELNET", "TFTP",
}

// routeVariables are the others that say which way to go.
var routeVariables = [...]string{
	"NPM_CONFIG_PROXY", "PNPM_CONFIG_PROXY", "YARN_PROXY", "PIP_PROXY",
	"GLOBAL_AGENT_ENVIRONMENT_VARIABLE_NAMESPACE", // renames the variables that we set
	"NODE_USE_ENV_PROXY", "ELECTRON_GET_USE_PROXY", "PERL_LWP_ENV_PROXY",
	"SOCKS_SERVER", "SOCKS_VERSION", "SOCKS4_SERVER", "SOCKS5_SERVER", // Chromium, SOCKS libraries
	"SOCKS_CONF", "SOCKS_USERNAME", "SOCKS_PASSWORD", "SOCKS5_USER", "SOCKS5_PASSWORD", "SOCKS5_PASSWD", "HTTP_CONNECT_PROXY", "UPNP_IGD", // Dante and others
	"GIT_PROXY_COMMAND", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_HTTP_PROXY_AUTHMETHOD",
	"RSYNC_CONNECT_PROG", "RSYNC_RSH", "CVS_RSH", "SVN_SSH", "BZR_SSH", "BORG_RSH",
	"REQUEST_METHOD", "GATEWAY_INTERFACE", // clients that take themselves for CGI programs distrust HTTP_PROXY
}

// holdsOptions reports whether a variable, its name in upper case, holds
// options on a command line of some program: JDK_JAVA_OPTIONS, MAVEN_ARGS,
// CHROMIUM_FLAGS. Such options come after JAVA_TOOL_OPTIONS and win over it.
func holdsOptions(upper string) bool {
	for _, suffix := range [...]string{"OPTS", "OPTIONS", "ARGS", "ARGUMENTS", "FLAGS"} {
		if strings.HasSuffix(upper, suffix) {
			return true
		}
	}
	return false
}

// isProxyOption reports whether an option chooses proxies. more reports
// whether the word behind it is a part of it.
func isProxyOption(word, next string) (drop, more bool) {
	switch word {
	case "-D", "--define", "--system-prop": // Maven, Gradle
		more = isJavaProxyOption("-D" + next)
		return more, more
	}
	for _, long := range [...]string{"--define=", "--system-prop="} {
		if property, ok := strings.CutPrefix(word, long); ok {
			return isJavaProxyOption("-D" + property), false
		}
	}
	// JRuby and the tools of the JDK hand what follows -J to the JVM.
	return isJavaProxyOption(strings.TrimPrefix(word, "-J")) || isChromiumProxyOption(word) || isNodeProxyOption(word), false
}

// isChromiumProxyOption reports whether an option of Chromium, Electron and
// what embeds them chooses proxies.
func isChromiumProxyOption(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	switch strings.TrimLeft(name, "-") {
	case "no-proxy-server", "proxy-server", "proxy-bypass-list", "proxy-pac-url", "proxy-auto-detect":
		return strings.HasPrefix(name, "-")
	}
	return false
}

// isJavaProxyOption reports whether an option sets a system property by which
// the JVM chooses proxies.
func isJavaProxyOption(word string) bool {
	property, ok := strings.CutPrefix(word, "-D")
	if !ok {
		return false
	}
	property, _, _ = strings.Cut(property, "=")
	for _, scheme := range [...]string{"http.", "https.", "ftp.", ""} {
		rest, ok := strings.CutPrefix(property, scheme)
		if ok && slices.Contains(javaProxyProperties[:], rest) {
			return true
		}
	}
	return property == "java.net.useSystemProxies"
}

var javaProxyProperties = [...]string{
	"proxyHost", "proxyPort", "proxySet", "proxyUser", "proxyPassword", "nonProxyHosts",
	"socksProxyHost", "socksProxyPort", "socksProxyVersion", "socksNonProxyHosts",
}

// isNodeProxyOption reports whether an option turns off what
// NODE_USE_ENV_PROXY turns on, or says the same again. Node.js takes "_" for
// "-" in the names of options.
func isNodeProxyOption(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	name = strings.ReplaceAll(name, "_", "-")
	return name == "--no-use-env-proxy" || name == "--use-env-proxy"
}

// appendWithout appends a variable without its options about proxies; not one
// that is left with nothing to say. A value without such options stays as it
// is.
func appendWithout(entries []string, name, value string) []string {
	rest, changed := withoutProxyOptions(value)
	switch {
	case !changed:
		return append(entries, name+"="+value)
	case rest == "":
		return entries
	}
	return append(entries, name+"="+rest)
}

// withoutProxyOptions leaves out the options about proxies in a command line.
// The others stay as they are written. What a word says is what is left
// without its quotes and backslashes.
func withoutProxyOptions(line string) (rest string, changed bool) {
	var words []string
	for line = strings.TrimLeft(line, " \t\r\n"); line != ""; line = strings.TrimLeft(line, " \t\r\n") {
		end := wordEnd(line)
		words = append(words, line[:end])
		line = line[end:]
	}
	unquote := strings.NewReplacer(`"`, "", `'`, "", `\`, "")
	var kept []string
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = unquote.Replace(words[i+1])
		}
		drop, more := isProxyOption(unquote.Replace(words[i]), next)
		if !drop {
			kept = append(kept, words[i])
			continue
		}
		changed = true
		if more {
			i++
		}
	}
	return strings.Join(kept, " "), changed
}

// appendWithoutWrappers appends a variable that lists libraries to preload,
// without those that redirect connections.
func appendWithoutWrappers(entries []string, name, value string) []string {
	separator := func(r rune) bool { return r == ':' || r == ' ' }
	libraries := strings.FieldsFunc(value, separator)
	n := len(libraries)
	libraries = slices.DeleteFunc(libraries, isProxyWrapper)
	switch {
	case len(libraries) == n:
		return append(entries, name+"="+value)
	case len(libraries) == 0:
		return entries
	}
	return append(entries, name+"="+strings.Join(libraries, ":"))
}

// isProxyWrapper reports whether a library redirects the connections of the
// program that it is preloaded into.
func isProxyWrapper(path string) bool {
	base := strings.ToLower(path[strings.LastIndexByte(path, '/')+1:])
	for _, part := range [...]string{"proxychains", "proxybound", "proxyresolv", "tsocks", "torsocks", "dsocks", "libsocks", "socksify"} {
		if strings.Contains(base, part) {
			return true
		}
	}
	return false
}

// wordEnd is the length of a line's first word: to a space outside quotes.
func wordEnd(line string) int {
	var quote byte
	for i := range len(line) {
		switch c := line[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case strings.IndexByte(" \t\r\n", c) >= 0:
			return i
		}
	}
	return len(line)
}

// gitConfig is the configuration that GIT_CONFIG_COUNT and its companions
// hold (git-config(1)), which wins over that of files.
type gitConfig struct {
	count  int
	keys   map[string]string // by the number behind GIT_CONFIG_KEY_
	values map[string]string
	added  [][2]string
}

// take takes a variable of the environment in, if it is one of these.
func (g *gitConfig) take(name, value string) bool {
	if g.keys == nil {
		g.keys, g.values = make(map[string]string), make(map[string]string)
	}
	if name == "GIT_CONFIG_COUNT" {
		g.count, _ = strconv.Atoi(value) // git does nothing at all with one that is no number
		return true
	}
	if n, ok := strings.CutPrefix(name, "GIT_CONFIG_KEY_"); ok {
		g.keys[n] = value
		return true
	}
	if n, ok := strings.CutPrefix(name, "GIT_CONFIG_VALUE_"); ok {
		g.values[n] = value
		return true
	}
	// What "git -c" leaves for the commands that it starts. It is quoted in
	// ways of its own, so it is taken or left whole.
	return name == "GIT_CONFIG_PARAMETERS" && (containsFold(value, "proxy") || containsFold(value, "ssh"))
}

func (g *gitConfig) set(key, value string) { g.added = append(g.added, [2]string{key, value}) }

// entries are the variables again, less what is about proxies and ssh, with
// what was added.
func (g *gitConfig) entries() []string {
	var pairs [][2]string
	for i := range min(g.count, len(g.keys)) {
		n := strconv.Itoa(i)
		if key, ok := g.keys[n]; ok && !isGitRoute(key) {
			pairs = append(pairs, [2]string{key, g.values[n]})
		}
	}
	pairs = append(pairs, g.added...)
	entries := []string{"GIT_CONFIG_COUNT=" + strconv.Itoa(len(pairs))}
	for i, pair := range pairs {
		n := strconv.Itoa(i)
		entries = append(entries, "GIT_CONFIG_KEY_"+n+"="+pair[0], "GIT_CONFIG_VALUE_"+n+"="+pair[1])
	}
	return entries
}

// isGitRoute reports whether a key says by which way git connects:
// http.proxy, http.<url>.proxy, remote.<name>.proxy, core.gitProxy,
// core.sshCommand, ssh.variant and their companions.
func isGitRoute(key string) bool {
	switch strings.ToLower(key[strings.LastIndexByte(key, '.')+1:]) {
	case "proxy", "proxyauthmethod", "gitproxy", "sshcommand":
		return true
	}
	return strings.EqualFold(key, "ssh.variant")
}

func containsFold(s, part string) bool { return strings.Contains(strings.ToLower(s), part) }

// withoutReplaced is an environment without the entries that a later one of
// the same name replaces, as os/exec takes it.
func withoutReplaced(base []string) []string {
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

// shellQuote is a word as a POSIX shell reads it.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("%+,-./:=@_", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
