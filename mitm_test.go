// Tests of the configuration of TLS inspection.

package networkproxy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"example.com/networkproxy/internal/hostname"
)

const (
	mitmOn = "[network_proxy]\nmitm = true\n"

	// hookOf begins a rule whose other keys follow at line 6.
	hookOf = mitmOn + "[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\naccess = \"read-only\"\n"
)

// loadMITM loads a file in the way of mergeFiles.
func loadMITM(t testing.TB, text string) (*sourcedConfig, error) {
	t.Helper()
	path := writeFile(t, t.TempDir(), "c.toml", text)
	s, err := loadFiles([]string{path})
	if err != nil {
		err = fmt.Errorf("%s", strings.ReplaceAll(err.Error(), path, "c.toml"))
	}
	return s, err
}

func TestMITMErrors(t *testing.T) {
	t.Parallel()
	const hook = "network_proxy.mitm_hooks[0]"
	for _, test := range []struct {
		name, text string
		want       []string // beginnings of lines
	}{
		// mitm is off.
		{"rules and domains while it is off", "[network_proxy]\nmitm_domains = [\"x.example\"]\n[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\naccess = \"read-only\"\n", []string{
			`c.toml:2:16: network_proxy.mitm_domains: has no effect while mitm is false (default), because the proxy does not see the requests: set mitm = true`,
			`c.toml:3:17: network_proxy.mitm_hooks: has no effect while mitm is false (default), `,
		}},
		{"the place where it is turned off", "[network_proxy]\nmitm = false\nmitm_domains = [\"x.example\"]\n", []string{
			`c.toml:3:16: network_proxy.mitm_domains: has no effect while mitm is false (c.toml:2:8), `,
		}},
		{"exemptions and files while it is off", "[network_proxy]\nmitm_exempt_domains = [\"x.example\"]\nmitm_ca_cert = \"/a\"\nmitm_ca_key = \"/b\"\nmitm_domains = []\nmitm_hooks = []\n", nil},

		// Patterns.
		{"patterns", "[network_proxy]\nmitm = true\nmitm_domains = [\"*\", \"https://x.example/\"]\nmitm_exempt_domains = [\"*\", \"a b\"]\nmode = \"x\"\n", []string{
			`c.toml:5:8: network_proxy.mode: `,
			`c.toml:3:22: network_proxy.mitm_domains[1] = "https://x.example/": it is a URL, but patterns are hosts; write "x.example"`,
			`c.toml:4:29: network_proxy.mitm_exempt_domains[1] = "a b": `,
		}},
		{"a pattern in the wrong list", "[network_proxy.policy]\nmitm_domains = []\n", []string{
			`c.toml:2:1: network_proxy.policy.mitm_domains: unknown key; did you mean "mitm_domains" in [network_proxy]?`,
		}},

		// The certificate authority.
		{"a certificate alone", mitmOn + "mitm_ca_cert = \"/ca.pem\"\n", []string{
			`c.toml:3:16: network_proxy.mitm_ca_cert = "/ca.pem": needs mitm_ca_key as well: set both, or neither for a certificate authority in memory`,
		}},
		{"a key alone", mitmOn + "mitm_ca_key = \"/key.pem\"\n", []string{`c.toml:3:15: network_proxy.mitm_ca_key = "/key.pem": needs mitm_ca_cert as well: `}},
		{"an empty path", mitmOn + "mitm_ca_key = \"\"\nmitm_ca_cert = \"/ca.pem\"\n", []string{
			`c.toml:3:15: network_proxy.mitm_ca_key: is empty: remove the line to get the default`,
			`c.toml:4:16: network_proxy.mitm_ca_cert = "/ca.pem": needs mitm_ca_key as well: `,
		}},
		{"relative paths", mitmOn + "mitm_ca_cert = \"ca.pem\"\nmitm_ca_key = \"~/key.pem\"\n", []string{
			`c.toml:3:16: network_proxy.mitm_ca_cert = "ca.pem": is not an absolute path, `, `c.toml:4:15: network_proxy.mitm_ca_key = "~/key.pem": is not an absolute path, `,
		}},
		{"control characters in a path", mitmOn + "mitm_ca_cert = \"/ca\\u0000.pem\"\nmitm_ca_key = \"/\\u001b[31mkey\"\n", []string{
			`c.toml:3:16: network_proxy.mitm_ca_cert = "/ca\x00.pem": has a control character`, `c.toml:4:15: network_proxy.mitm_ca_key = "/\x1b[31mkey": has a control character`,
		}},

		// Keys of rules.
		{"a misspelt table", mitmOn + "[[network_proxy.mitm_hook]]\nhost = \"a.example\"\n", []string{`c.toml:3:17: network_proxy.mitm_hook: unknown key; did you mean "mitm_hooks"?`}},
		{"a table in the wrong place", mitmOn + "[[network_proxy.policy.mitm_hooks]]\nhost = \"a.example\"\n", []string{`c.toml:3:24: network_proxy.policy.mitm_hooks: unknown key; did you mean "mitm_hooks" in [network_proxy]?`}},
		{"one table", mitmOn + "[network_proxy.mitm_hooks]\nhost = \"a.example\"\n", []string{`c.toml:3:16: network_proxy.mitm_hooks: must be an array of tables, not one table: write [[network_proxy.mitm_hooks]]`}},
		{"dotted keys", mitmOn + "mitm_hooks.host = \"a.example\"\n", []string{`c.toml:3:1: network_proxy.mitm_hooks: must be an array of tables, not a table: write [[network_proxy.mitm_hooks]]`}},
		{"a key of a rule outside", mitmOn + "methods = [\"GET\"]\n", []string{`c.toml:3:1: network_proxy.methods: unknown key; did you mean "methods" in [network_proxy.mitm_hooks]?`}},
		{"a misspelt key is not also missing", mitmOn + "[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\nmethod = [\"GET\"]\npath_prefixes = [\"/\"]\n", []string{`c.toml:5:1: ` + hook + `.method: unknown key; did you mean "methods"?`}},
		{"a key in capitals", hookOf + "DENY = true\n", []string{`c.toml:6:1: ` + hook + `.DENY: unknown key; did you mean "deny"? keys are lower-case`}},
		{"a value of another type", hookOf + "path_prefixes = \"/v1\"\n", []string{`c.toml:6:17: ` + hook + `.path_prefixes: must be an array of strings, not a string: write ["/v1"]`}},
		{"a table in place of a string", mitmOn + "[[network_proxy.mitm_hooks]]\nhost = { name = \"a.example\" }\n", []string{`c.toml:4:8: ` + hook + `.host: must be a string, not a table`}},
		{"deep tables", hookOf + "query = { a = { b = { c = 1 } } }\n", []string{`c.toml:6:15: ` + hook + `.query.a: must be an array of strings, not a table`}},

		// Values of rules.
		{"nothing in a rule", mitmOn + "[[network_proxy.mitm_hooks]]\n", []string{
			`c.toml:3:17: ` + hook + `.host: the host is missing; `, `c.toml:3:17: ` + hook + `.methods: methods is missing or empty; `, `c.toml:3:17: ` + hook + `.path_prefixes: path_prefixes is missing; `,
		}},
		{"the second rule", hookOf + "[[network_proxy.mitm_hooks]]\nhost = \"b.example\"\nmethods = [\"GET\",\n  \"get\"]\npath_prefixes = [\"/\", \"v1\"]\n", []string{
			`c.toml:9:3: network_proxy.mitm_hooks[1].methods[1]: "get" is not the method GET`, `c.toml:10:23: network_proxy.mitm_hooks[1].path_prefixes[1]: "v1" `,
		}},
		{"an inline array", mitmOn + "mitm_hooks = [\n  { host = \"a.example\", access = \"read-only\" },\n  { host = \"*.example\", access = \"git-fetsh\" },\n]\n", []string{
			`c.toml:5:12: network_proxy.mitm_hooks[1].host: the host "*.example" has a wildcard; `, `c.toml:5:34: network_proxy.mitm_hooks[1].access: "git-fetsh" is not a kind of access, did you mean "git-fetch"?`,
		}},
		{"a URL", mitmOn + "mitm_hooks = [{ host = \"https://a.example/v1\", access = \"read-only\" }]\n", []string{`c.toml:3:24: ` + hook + `.host: the host "https://a.example/v1" is a URL; write "a.example"`}},
		{"a path in the host", mitmOn + "mitm_hooks = [{ host = \"a.example:8443/v1\", access = \"read-only\" }]\n", []string{`c.toml:3:24: ` + hook + `.host: the host "a.example:8443/v1" has a path; write "a.example:8443"`}},
		{"values of conditions", hookOf + "query = { \"s t\" = [\"a\", \"pattern:\\\\x\"], u = [] }\n", []string{
			`c.toml:6:25: ` + hook + `.query."s t"[1]: "pattern:\\x" has a backslash; `, `c.toml:6:45: ` + hook + `.query.u: "u" has no values, `,
		}},
		{"control characters", mitmOn + "mitm_hooks = [{ host = \"a\\u001b[31m\", methods = [\"G\\u0000\"], path_prefixes = [\"/\\u0000\"], query = { \"\\u001b[31m\" = [] }, headers = { \"\\u0007\" = [\"\\u001b\"] } }]\n", []string{
			`c.toml:3:24: ` + hook + `.host: invalid host "a\x1b[31m": `, `c.toml:3:50: ` + hook + `.methods[0]: "G\x00" `, `c.toml:3:79: ` + hook + `.path_prefixes[0]: "/\x00" `,
			`c.toml:3:116: ` + hook + `.query."\x1b[31m": "\x1b[31m" has no values, `, `c.toml:3:145: ` + hook + `.headers."\a": "\a" is not the name of a header field`,
		}},

		// Hosts that are exempt.
		{"a rule for an exempt host", hookOf + "[[network_proxy.mitm_hooks]]\nhost = \"x.pinned.example\"\naccess = \"read-only\"\n[network_proxy.policy]\n", nil},
		{"a rule for an exempt host", strings.Replace(hookOf, "mitm = true", "mitm = true\nmitm_exempt_domains = [\"b.example\", \"*.example\"]", 1), []string{
			`c.toml:5:8: ` + hook + `.host = "a.example": cannot have rules, because mitm_exempt_domains has "*.example" (c.toml:3:37), so that its TLS is never opened: remove one of them`,
		}},
		{"a rule for another port", strings.Replace(hookOf, "mitm = true", "mitm = true\nmitm_exempt_domains = [\"a.example:8443\"]", 1), nil},
		{"a domain that is exempt", "[network_proxy]\nmitm = true\nmitm_domains = [\"*\"]\nmitm_exempt_domains = [\"a.example\"]\n", nil},
		{"two equal rules", hookOf + "[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\naccess = \"read-only\"\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := loadMITM(t, test.text)
			got := lines(err)
			if len(got) != len(test.want) {
				t.Fatalf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			for i, want := range test.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("got  %s\nwant %s", got[i], want)
				}
				if strings.ContainsFunc(got[i], unicode.IsControl) {
					t.Errorf("the error has a control character: %q", got[i])
				}
			}
		})
	}
}

// TestMITMErrorsFromGo: each mistake in a Config is reported once.
func TestMITMErrorsFromGo(t *testing.T) {
	t.Parallel()
	_, err := NewBuilder().Config(Config{
		MITM: true, MITMDomains: []string{"a/"}, MITMExemptDomains: []string{"b.example"},
		MITMHooks: []MITMHook{{Host: "a.example"}, {Host: "b.example", Access: "read-only"}},
	}).Build()
	want := []string{
		`network_proxy.mitm_hooks[0].methods: methods is missing or empty; `,
		`network_proxy.mitm_hooks[0].path_prefixes: path_prefixes is missing; `,
		`network_proxy.mitm_hooks[1].host = "b.example": cannot have rules, because mitm_exempt_domains has "b.example" (set from Go), `,
		`network_proxy.mitm_domains[0] = "a/": `,
	}
	got := lines(err)
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestMITMByTheBuilder: Builder.MITM counts before the files are checked, and the
// managed limits hold for it.
func TestMITMByTheBuilder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := writeFile(t, dir, "c.toml", "[network_proxy]\nmitm = false\nmitm_domains = [\"a.example\"]\n[[network_proxy.mitm_hooks]]\nhost = \"b.example\"\naccess = \"read-only\"\n")
	limits := writeFile(t, dir, "r.toml", "[network_proxy]\nmitm = false\n")
	proxy, err := NewBuilder().ConfigFile(file).MITM().Build()
	if err != nil {
		t.Fatal(err)
	}
	if c := proxy.first; !c.Config.MITM || c.describe(keyMITM) != "set from Go" || c.inspection == nil || c.inspection.Forbidden {
		t.Errorf("mitm is %v, %s", c.Config.MITM, c.describe(keyMITM))
	}
	if _, err := NewBuilder().ConfigFile(file).Build(); len(lines(err)) != 2 {
		t.Errorf("without MITM: %v", err)
	}
	_, err = NewBuilder().ConfigFile(file).MITM().Requirements(limits).Build()
	if want := "network_proxy.mitm = true: exceeds a managed limit: must be false (" + limits + ":2:8); source of the value: set from Go"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestMITMLayers: the rules of a later file replace those of earlier ones, with their
// positions.
func TestMITMLayers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base := writeFile(t, dir, "base.toml", mitmOn+"mitm_domains = [\"a.example\"]\n[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\naccess = \"read-only\"\n[[network_proxy.mitm_hooks]]\nhost = \"b.example\"\naccess = \"git-fetch\"\n")
	over := writeFile(t, dir, "over.toml", "[network_proxy]\nmitm_exempt_domains = [\"b.example\"]\nmitm_hooks = [ { host = \"c.example\", access = \"git-push\" } ]\n")
	none := writeFile(t, dir, "none.toml", "[network_proxy]\nmitm_hooks = []\n")
	off := writeFile(t, dir, "off.toml", "[network_proxy]\nmitm = false\n")
	for _, test := range []struct {
		name   string
		files  []string
		hosts  []string
		origin string // of the rules
		second string // position of the second rule's host
	}{
		{"one file", []string{base}, []string{"a.example", "b.example"}, base + ":4:17", base + ":8:8"},
		{"an inline array over tables", []string{base, over}, []string{"c.example"}, over + ":3:14", ""},
		{"tables over an inline array", []string{over, base, none, base}, nil, "", ""}, // contradicts over's exemption
		{"none", []string{base, none}, []string{}, none + ":2:14", ""},
		{"none, and then some", []string{none, base}, []string{"a.example", "b.example"}, base + ":4:17", base + ":8:8"},
		{"off, without what needs it", []string{off, none}, []string{}, none + ":2:14", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := loadFiles(test.files)
			if test.hosts == nil {
				if want := base + `:8:8: network_proxy.mitm_hooks[1].host = "b.example": cannot have rules, because mitm_exempt_domains has "b.example" (` + over + `:2:24), so that its TLS is never opened: remove one of them`; err == nil || err.Error() != want {
					t.Errorf("got  %v\nwant %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			hosts := []string{}
			for _, h := range s.Config.MITMHooks {
				hosts = append(hosts, h.Host)
			}
			if !slices.Equal(hosts, test.hosts) || s.describe(keyMITMHooks) != test.origin {
				t.Errorf("got %q from %s, want %q from %s", hosts, s.describe(keyMITMHooks), test.hosts, test.origin)
			}
			if got := s.position(hookKey(1, "host")).String(); got != test.second {
				t.Errorf("the second rule's host is at %q, want %q", got, test.second)
			}
		})
	}
	if _, err := loadFiles([]string{base, off}); err == nil || !strings.Contains(err.Error(), base+":4:17: network_proxy.mitm_hooks: has no effect while mitm is false ("+off+":2:8)") {
		t.Errorf("turned off by a later file: %v", err)
	}
}

// TestMITMHookKeys: the tags, the fields and the pages agree, and every field reaches
// the rule and a clone.
func TestMITMHookKeys(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	var tags, keys []string
	hook := reflect.TypeFor[MITMHook]()
	for i := range hook.NumField() {
		tag := hook.Field(i).Tag
		name, _, _ := strings.Cut(tag.Get("json"), ",")
		if name != tag.Get("toml") {
			t.Errorf("%s: the tags differ", hook.Field(i).Name)
		}
		tags = append(tags, name)
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("docs/rules.md has no row for %s", name)
		}
	}
	full := fullHook()
	for _, f := range full.fields() {
		keys = append(keys, f.Key)
		if f.Value.Unset() || f.Value.Text() == "false" {
			t.Errorf("%s is not set in the rule of this test", f.Key)
		}
	}
	if !slices.Equal(tags, keys) {
		t.Errorf("tags: %q\nfields: %q", tags, keys)
	}

	spec := reflect.ValueOf(*full.spec())
	for i := range hook.NumField() {
		name := hook.Field(i).Name
		if strings.HasSuffix(name, "RequestHeaders") {
			continue // not a condition; compileEdits has them
		}
		if got := spec.FieldByName(name); !got.IsValid() || !reflect.DeepEqual(got.Interface(), reflect.ValueOf(full).FieldByName(name).Interface()) {
			t.Errorf("%s does not reach the compiled rule", name)
		}
	}
	c := Config{MITMHooks: []MITMHook{full}}
	clone := c.clone()
	if !reflect.DeepEqual(clone, c) {
		t.Errorf("got %+v\nwant %+v", clone, c)
	}
	clone.MITMHooks[0].Methods[0], clone.MITMHooks[0].PathPrefixes[0] = "x", "x"
	clone.MITMHooks[0].Query["q"][0], clone.MITMHooks[0].Headers["h"][0] = "x", "x"
	clone.MITMHooks[0].Query["x"] = nil
	clone.MITMHooks[0].StripRequestHeaders[0], clone.MITMHooks[0].InjectRequestHeaders[0].Name = "x", "x"
	if !reflect.DeepEqual(c.MITMHooks[0], fullHook()) {
		t.Errorf("a change of the clone changed the original: %+v", c)
	}
}

// fullHook returns a rule with every field set. It is not valid.
func fullHook() MITMHook {
	return MITMHook{
		Host: "a.example", Methods: []string{"GET"}, PathPrefixes: []string{"/v1"}, Query: map[string][]string{"q": {"1"}}, QueryOnly: true,
		Headers: map[string][]string{"h": {"2"}}, Access: "read-only", Deny: true, AllowEncodedSlash: true,
		StripRequestHeaders: []string{"cookie"}, InjectRequestHeaders: []InjectedHeader{{Name: "authorization", Prefix: "Bearer ", SecretEnvVar: "V", SecretFile: "/f"}},
	}
}

// TestMITMHookJSON: /config shows the rules under the keys of the file.
func TestMITMHookJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal([]MITMHook{fullHook(), {Host: "b.example", Access: "git-fetch"}})
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"host":"a.example","methods":["GET"],"path_prefixes":["/v1"],"query":{"q":["1"]},"query_only":true,"headers":{"h":["2"]},"access":"read-only","deny":true,"allow_encoded_slash":true,"strip_request_headers":["cookie"],"inject_request_headers":[{"name":"authorization","prefix":"Bearer ","secret_env_var":"V","secret_file":"/f"}]},` +
		`{"host":"b.example","access":"git-fetch"}]`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if text, _ := json.Marshal(DefaultConfig()); !strings.Contains(string(text), `"mitm":false,"mitm_domains":[],"mitm_exempt_domains":[],"mitm_ca_cert":"","mitm_ca_key":"","mitm_hooks":[]`) {
		t.Errorf("the default: %s", text)
	}
}

func TestMITMHookMeaning(t *testing.T) {
	t.Parallel()
	base := MITMHook{Host: "a.example", Methods: []string{"GET", "HEAD"}, PathPrefixes: []string{"/v1", "/v2"}, Headers: map[string][]string{"x-api": {"1", "2"}}}
	for _, test := range []struct {
		name   string
		change func(h *MITMHook)
		want   bool
	}{
		{"equal", func(*MITMHook) {}, true},
		{"another order", func(h *MITMHook) { h.Methods, h.PathPrefixes = []string{"HEAD", "GET", "GET"}, []string{"/v2", "/v1"} }, true},
		{"another spelling of the host", func(h *MITMHook) { h.Host = "A.EXAMPLE.:443" }, true},
		{"another spelling of a field", func(h *MITMHook) { h.Headers = map[string][]string{"X-API": {"2", "1"}} }, true},
		{"an empty table", func(h *MITMHook) { h.Query = map[string][]string{} }, true},
		{"another port", func(h *MITMHook) { h.Host = "a.example:8443" }, false},
		{"another host", func(h *MITMHook) { h.Host = "b.example" }, false},
		{"one method more", func(h *MITMHook) { h.Methods = []string{"GET", "HEAD", "POST"} }, false},
		{"one path less", func(h *MITMHook) { h.PathPrefixes = []string{"/v1"} }, false},
		{"a method in place of a path", func(h *MITMHook) { h.Methods, h.PathPrefixes = h.PathPrefixes, h.Methods }, false},
		{"no condition", func(h *MITMHook) { h.Headers = nil }, false},
		{"a condition of the query", func(h *MITMHook) { h.Headers, h.Query = nil, h.Headers }, false},
		{"another value", func(h *MITMHook) { h.Headers = map[string][]string{"x-api": {"1"}} }, false},
		{"deny", func(h *MITMHook) { h.Deny = true }, false},
		{"query_only", func(h *MITMHook) { h.QueryOnly = true }, false},
		{"allow_encoded_slash", func(h *MITMHook) { h.AllowEncodedSlash = true }, false},
		{"access", func(h *MITMHook) { h.Access = "read-only" }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			other := base
			test.change(&other)
			if (base.meaning() == other.meaning()) != test.want {
				t.Errorf("got %v", !test.want)
			}
		})
	}
}

// TestManyPathsInOneRule: a rule may be long, and its compiled form finds each path.
func TestManyPathsInOneRule(t *testing.T) {
	t.Parallel()
	var paths []string
	for i := range 10_000 {
		paths = append(paths, fmt.Sprintf(`"/p%d"`, i))
	}
	s, err := loadMITM(t, mitmOn+"[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\nmethods = [\"GET\"]\npath_prefixes = ["+strings.Join(paths, ",\n")+"]\n")
	if err != nil {
		t.Fatal(err)
	}
	var errs errorList
	in := compileInspection(s, nil, &errs)
	if err := errs.join(); err != nil || len(in.Hooks.Entries) != 1 || in.Hooks.Entries[0] != "GET a.example/p0 and 9999 more" {
		t.Errorf("got %q, %v", in.Hooks.Entries, err)
	}
	if got := s.itemPosition(hookKey(0, "path_prefixes"), 9_999); got.Line != 10_005 {
		t.Errorf("the last path is at %v", got)
	}
	if target, _ := hostname.ParseTargetDefault("a.example", 443); in.Rules.For(target) == nil {
		t.Error("no rule binds the host")
	}
}

// TestRulesPageIsValid: the configuration in docs/rules.md can be loaded.
func TestRulesPageIsValid(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("docs", "rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```toml\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	for _, m := range blocks {
		if _, err := loadMITM(t, mitmOn+m[1]); err != nil {
			t.Errorf("%v\nin\n%s", err, m[1])
		}
	}
	if len(blocks) == 0 {
		t.Error("docs/rules.md has no example")
	}
}

// TestEveryKeyIsDescribed: docs/configuration.md has a row for every key.
func TestEveryKeyIsDescribed(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, keys, _ := strings.Cut(string(page), "## Keys")
	keys, _, _ = strings.Cut(keys, "\n## ")
	for _, f := range new(Config).fields() {
		if name := strings.TrimPrefix(f.key, keyRoot+"."); !regexp.MustCompile("(?m)^\\| [^|]*`" + regexp.QuoteMeta(name) + "`").MatchString(keys) {
			t.Errorf("docs/configuration.md has no row for %s", name)
		}
	}
}
