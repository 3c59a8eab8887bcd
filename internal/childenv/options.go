// Variables that hold the command-line options of a program.

package childenv

import (
	"slices"
	"strings"
)

// isOptionsVariable reports whether a variable holds command-line options of a
// program: JDK_JAVA_OPTIONS, MAVEN_ARGS, CHROMIUM_FLAGS. Such options override
// JAVA_TOOL_OPTIONS. The argument is the name in upper case.
func isOptionsVariable(upper string) bool {
	for _, suffix := range [...]string{"OPTS", "OPTIONS", "ARGS", "ARGUMENTS", "FLAGS"} {
		if strings.HasSuffix(upper, suffix) {
			return true
		}
	}
	return false
}

// isProxyOption reports whether word is an option that chooses proxies, and
// whether next, the word after it, is its value.
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
	// JRuby and the tools of the JDK pass the rest of -J options to the JVM.
	return isJavaProxyOption(strings.TrimPrefix(word, "-J")) || isChromiumProxyOption(word) || isNodeProxyOption(word), false
}

// isChromiumProxyOption reports whether an option of Chromium, Electron or a
// program that embeds them chooses proxies.
func isChromiumProxyOption(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	switch strings.TrimLeft(name, "-") {
	case "no-proxy-server", "proxy-server", "proxy-bypass-list", "proxy-pac-url", "proxy-auto-detect":
		return strings.HasPrefix(name, "-")
	}
	return false
}

// isJavaProxyOption reports whether an option sets a system property with which
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

// isNodeProxyOption reports whether an option has the effect of
// NODE_USE_ENV_PROXY or the opposite one. Node.js accepts "_" for "-" in the
// names of options.
func isNodeProxyOption(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	name = strings.ReplaceAll(name, "_", "-")
	return name == "--no-use-env-proxy" || name == "--use-env-proxy"
}

// appendWithoutProxyOptions appends a variable without its options about
// proxies, or nothing if no option is left. A value without such options stays
// unchanged.
func appendWithoutProxyOptions(entries []string, name, value string) []string {
	rest, changed := withoutProxyOptions(value)
	switch {
	case !changed:
		return append(entries, name+"="+value)
	case rest == "":
		return entries
	}
	return append(entries, name+"="+rest)
}

// withoutProxyOptions returns a command line without the options about proxies,
// and reports whether there were any. It compares words without their quotes
// and backslashes, and keeps the other words as they are written.
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

// wordEnd returns the length of the first word of a line, which ends at a space
// outside quotes.
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
