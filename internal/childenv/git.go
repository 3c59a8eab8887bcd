// The configuration that git reads from its environment.

package childenv

import (
	"strconv"
	"strings"
)

// gitConfig is the configuration in GIT_CONFIG_COUNT, GIT_CONFIG_KEY_<n> and
// GIT_CONFIG_VALUE_<n> (git-config(1)). It overrides the configuration files.
type gitConfig struct {
	count  int
	keys   map[string]string // by n
	values map[string]string
	added  [][2]string
}

// take reports whether to remove a variable from the environment: one that
// belongs to the configuration, which entries returns again, or one that
// chooses how git connects.
func (g *gitConfig) take(name, value string) bool {
	if g.keys == nil {
		g.keys, g.values = make(map[string]string), make(map[string]string)
	}
	if name == "GIT_CONFIG_COUNT" {
		g.count, _ = strconv.Atoi(value) // git ignores the configuration if this is not a number
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
	// "git -c" sets GIT_CONFIG_PARAMETERS for the commands that it starts. Its
	// quoting is special, so it is kept or removed as a whole.
	return name == "GIT_CONFIG_PARAMETERS" && (containsFold(value, "proxy") || containsFold(value, "ssh"))
}

func (g *gitConfig) set(key, value string) { g.added = append(g.added, [2]string{key, value}) }

// entries returns the variables for the configuration with the added keys, and
// without the keys that choose how git connects.
func (g *gitConfig) entries() []string {
	var pairs [][2]string
	for i := range min(g.count, len(g.keys)) {
		n := strconv.Itoa(i)
		if key, ok := g.keys[n]; ok && !isGitRouteKey(key) {
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

// isGitRouteKey reports whether a key chooses how git connects: http.proxy,
// http.<url>.proxy, remote.<name>.proxy, core.gitProxy, core.sshCommand,
// ssh.variant and the keys that belong to them.
func isGitRouteKey(key string) bool {
	switch strings.ToLower(key[strings.LastIndexByte(key, '.')+1:]) {
	case "proxy", "proxyauthmethod", "gitproxy", "sshcommand":
		return true
	}
	return strings.EqualFold(key, "ssh.variant")
}

func containsFold(s, part string) bool { return strings.Contains(strings.ToLower(s), part) }
