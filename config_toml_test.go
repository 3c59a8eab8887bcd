package networkproxy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// loadText loads one file with the given text, under the name c.toml.
func loadText(t testing.TB, text string) (*sourcedConfig, error) {
	t.Helper()
	var errs errorList
	s := newSourcedConfig()
	s.apply(parseTOML("c.toml", []byte(text), &errs))
	s.checkValues(&errs)
	return s, errs.join()
}

// lines splits the text of a joined error.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func TestParseTOMLErrors(t *testing.T) {
	t.Parallel()
	const (
		np  = "[network_proxy]\n"
		pol = "[network_proxy.policy]\n"
	)
	tests := []struct {
		name string
		text string
		want []string
	}{
		// Unknown keys.
		{"misspelt key", pol + "denied_domain = [\"x.example\"]\n",
			[]string{`c.toml:2:1: network_proxy.policy.denied_domain: unknown key; did you mean "denied_domains"?`}},
		{"swapped letters", np + "\tmoed = \"full\"",
			[]string{`c.toml:2:2: network_proxy.moed: unknown key; did you mean "mode"?`}},
		{"other case", np + "enabled = true\n  Mode = \"limited\"\n",
			[]string{`c.toml:3:3: network_proxy.Mode: unknown key; did you mean "mode"? keys are lower-case`}},
		{"other case twice", np + "mode = \"full\"\nMODE = \"limited\"\n",
			[]string{`c.toml:3:1: network_proxy.MODE: unknown key; did you mean "mode"? keys are lower-case`}},
		{"hyphen", pol + "denied-domains = []\n",
			[]string{`c.toml:2:1: network_proxy.policy.denied-domains: unknown key; did you mean "denied_domains"?`}},
		{"right key, wrong table", np + "allowed_domains = []\n",
			[]string{`c.toml:2:1: network_proxy.allowed_domains: unknown key; did you mean "allowed_domains" in [network_proxy.policy]?`}},
		{"right key, wrong table, upwards", pol + "mode = \"full\"\n",
			[]string{`c.toml:2:1: network_proxy.policy.mode: unknown key; did you mean "mode" in [network_proxy]?`}},
		{"nothing like it", pol + "colour = 1\n",
			[]string{`c.toml:2:1: network_proxy.policy.colour: unknown key; the keys of [network_proxy.policy] are allowed_domains, denied_domains, allow_local_binding, allow_unix_sockets`}},
		{"quoted key", np + "\"a\\nb\" = 1\n",
			[]string{`c.toml:2:1: network_proxy."a\nb": unknown key; the keys of [network_proxy] are enabled, proxy_url, admin_url, admin_read_only, enable_socks5, socks_url, enable_socks5_udp, allow_upstream_proxy, dangerously_allow_non_loopback_proxy, dangerously_allow_non_loopback_admin, mode, sni_check, policy`}},
		{"dotted key from the top", "network_proxy.enable = true\n",
			[]string{`c.toml:1:15: network_proxy.enable: unknown key; did you mean "enabled"?`}},
		{"dotted key in the table", np + "policy . denyed_domains = []\n",
			[]string{`c.toml:2:10: network_proxy.policy.denyed_domains: unknown key; did you mean "denied_domains"?`}},
		{"inline table", "network_proxy = { enabled = true, polcy = { allowed_domains = [] } }\n",
			[]string{`c.toml:1:35: network_proxy.polcy: unknown key; did you mean "policy"?`}},
		{"inline table in an inline table", "network_proxy = { policy = { alowed_domains = [] } }\n",
			[]string{`c.toml:1:30: network_proxy.policy.alowed_domains: unknown key; did you mean "allowed_domains"?`}},
		{"unknown table, reported once", "[network_proxy.polices]\nallowed_domains = []\ndenied_domains = []\n[network_proxy.polices.more]\n",
			[]string{`c.toml:1:16: network_proxy.polices: unknown key; did you mean "policy"?`}},
		{"unknown table below policy", "[network_proxy.policy.extra]\n",
			[]string{`c.toml:1:23: network_proxy.policy.extra: unknown key; the keys of [network_proxy.policy] are allowed_domains, denied_domains, allow_local_binding, allow_unix_sockets`}},
		{"unknown array of tables", "[[network_proxy.rules]]\nhost = 1\n[[network_proxy.rules]]\n",
			[]string{`c.toml:1:17: network_proxy.rules: unknown key; the keys of [network_proxy] are enabled, proxy_url, admin_url, admin_read_only, enable_socks5, socks_url, enable_socks5_udp, allow_upstream_proxy, dangerously_allow_non_loopback_proxy, dangerously_allow_non_loopback_admin, mode, sni_check, policy`}},
		{"several at once", np + "enabld = true\nmode = 3\n" + pol + "x = 1\n",
			[]string{
				`c.toml:2:1: network_proxy.enabld: unknown key; did you mean "enabled"?`,
				`c.toml:3:8: network_proxy.mode: must be a string, not a number`,
				`c.toml:5:1: network_proxy.policy.x: unknown key; the keys of [network_proxy.policy] are allowed_domains, denied_domains, allow_local_binding, allow_unix_sockets`,
			}},

		// Wrong types.
		{"quoted boolean", np + "enabled = \"true\"\n",
			[]string{`c.toml:2:11: network_proxy.enabled: must be true or false, not a string: write true without quotes`}},
		{"number for a boolean", np + "enable_socks5   =   1 # yes\n",
			[]string{`c.toml:2:21: network_proxy.enable_socks5: must be true or false, not a number`}},
		{"array for a boolean", np + "enabled = # no\n",
			[]string{`c.toml:2:11: unexpected character U+0023 '#' at start of value`}},
		{"array for a string", np + "proxy_url =\t[\"a\"]\n",
			[]string{`c.toml:2:13: network_proxy.proxy_url: must be a string, not an array`}},
		{"boolean for a string", np + "mode = true\n",
			[]string{`c.toml:2:8: network_proxy.mode: must be a string, not a boolean`}},
		{"date for a string", np + "mode = 2020-01-01\n",
			[]string{`c.toml:2:8: network_proxy.mode: must be a string, not a date or time`}},
		{"string for an array", pol + "allowed_domains = \"x.example\"\n",
			[]string{`c.toml:2:19: network_proxy.policy.allowed_domains: must be an array of strings, not a string: write ["x.example"]`}},
		{"number in an array", pol + "denied_domains = [\n  \"a.example\", # 1\n  443,\n]\n",
			[]string{`c.toml:4:3: network_proxy.policy.denied_domains[1]: must be a string, not a number`}},
		{"array in an array", pol + "denied_domains = [ # [\n  \"a.example\", # [no]\n\n  [\"b.example\"],\n]\n",
			[]string{`c.toml:5:3: network_proxy.policy.denied_domains[1]: must be a string, not an array`}},
		{"array first in an array", pol + "denied_domains=[[\"b.example\"]]\n",
			[]string{`c.toml:2:17: network_proxy.policy.denied_domains[0]: must be a string, not an array`}},
		{"table in an array", pol + "allow_unix_sockets = [{path = \"/a\"}]\n",
			[]string{`c.toml:2:23: network_proxy.policy.allow_unix_sockets[0]: must be a string, not a table`}},
		{"value for our table", "network_proxy = true\n",
			[]string{`c.toml:1:17: network_proxy: must be a table, not a boolean: write [network_proxy] above its keys`}},
		{"array for our table", "network_proxy = []\n",
			[]string{`c.toml:1:17: network_proxy: must be a table, not an array: write [network_proxy] above its keys`}},
		{"value for the policy table", np + "policy = [\"x.example\"]\n",
			[]string{`c.toml:2:10: network_proxy.policy: must be a table, not an array: write [network_proxy.policy] above its keys`}},
		{"table for a value", "[network_proxy.mode]\nx = 1\n",
			[]string{`c.toml:1:16: network_proxy.mode: must be a string, not a table`}},
		{"dotted key through a value", np + "mode.x = 1\n",
			[]string{`c.toml:2:1: network_proxy.mode: must be a string, not a table`}},
		{"inline table for a value", pol + "denied_domains = {}\n",
			[]string{`c.toml:2:18: network_proxy.policy.denied_domains: must be an array of strings, not a table`}},
		{"array of our tables", "[[network_proxy]]\nenabled = true\nfoo = 1\n",
			[]string{`c.toml:1:3: network_proxy: must be one table, not an array of tables: write [network_proxy]`}},
		{"array of policy tables", np + "\n[[network_proxy.policy]]\nallowed_domains = []\n",
			[]string{`c.toml:3:17: network_proxy.policy: must be one table, not an array of tables: write [network_proxy.policy]`}},

		// A table that was meant to be ours.
		{"hyphen in the table", "[network-proxy]\nenabled = true\n",
			[]string{`c.toml:1:2: network-proxy: unknown table; did you mean [network_proxy]?`}},
		{"one word", "[networkproxy.policy]\n",
			[]string{`c.toml:1:2: networkproxy: unknown table; did you mean [network_proxy]?`}},
		{"capitals beside the real one", np + "[Network_Proxy.policy]\ndenied_domains = []\n",
			[]string{`c.toml:2:2: Network_Proxy: unknown table; did you mean [network_proxy]?`}},
		{"misspelt table", "a = 1\n[netwrok_proxy]\nenabled = true\n[netwrok_proxy.policy]\n",
			[]string{`c.toml:2:2: netwrok_proxy: unknown table; did you mean [network_proxy]?`}},
		{"quoted dot", np + "[\"network_proxy.policy\"]\n",
			[]string{`c.toml:2:2: "network_proxy.policy": unknown table; did you mean [network_proxy.policy]?`}},
		{"misspelt at the top, dotted", "network_prox.enabled = true\n",
			[]string{`c.toml:1:1: network_prox: unknown table; did you mean [network_proxy]?`}},

		// Not TOML.
		{"no end of table", "[network_proxy\nenabled = true\n",
			[]string{`c.toml:1:15: expected ']' to close table name`}},
		{"bare word", np + "mode = full\n",
			[]string{`c.toml:2:8: expected keyword "false", or a string in quotes`}},
		{"key twice", np + "mode = \"full\"\nmode = \"limited\"\n",
			[]string{`c.toml:3:1: key mode is already defined`}},
		{"table twice", np + np, []string{`c.toml:2:2: table network_proxy already exists`}},
		{"key twice in a foreign table", "[other]\nx = 1\nx = 2\n" + np, []string{`c.toml:3:1: key x is already defined`}},
		{"impossible date in a foreign table", "[other]\nx = 2020-13-01\n", []string{`c.toml:2:10: impossible date`}},
		{"lone carriage return", np + "enabled = true\rmode = 1\n", []string{"c.toml:2:15: expected newline but got U+000D"}},
		{"not UTF-8", np + "mode = \"\xff\"\n", []string{`c.toml:2:9: invalid UTF-8 character in basic string`}},
		{"UTF-16", "\xff\xfe[\x00", []string{`c.toml:1:1: the text is UTF-16: save the file as UTF-8`}},

		// Columns count bytes; line ends and a byte order mark do not shift them.
		{"after CRLF", "[network_proxy]\r\nenabled = true\r\n  mode = 1\r\n",
			[]string{`c.toml:3:10: network_proxy.mode: must be a string, not a number`}},
		{"after a byte order mark", "\xef\xbb\xbfnetwork_proxy.mode = 1\n",
			[]string{`c.toml:1:22: network_proxy.mode: must be a string, not a number`}},
		{"after a wide character", "network_proxy = { mode = \"full\", \"é\" = 1 }\n",
			[]string{`c.toml:1:34: network_proxy."é": unknown key; the keys of [network_proxy] are enabled, proxy_url, admin_url, admin_read_only, enable_socks5, socks_url, enable_socks5_udp, allow_upstream_proxy, dangerously_allow_non_loopback_proxy, dangerously_allow_non_loopback_admin, mode, sni_check, policy`}},

		// Right types, wrong values.
		{"mode", np + "mode = \"Limited\"\n",
			[]string{`c.toml:2:8: network_proxy.mode: unknown mode "Limited": use "full" or "limited"`}},
		{"empty mode", np + "mode = \"\"\n",
			[]string{`c.toml:2:8: network_proxy.mode: is empty: remove the line to get the default`}},
		{"SNI check", np + "sni_check = \"on\"\n",
			[]string{`c.toml:2:13: network_proxy.sni_check: unknown check "on": use "enforce" or "off"`}},
		{"SNI check by a boolean", np + "sni_check = false\n",
			[]string{`c.toml:2:13: network_proxy.sni_check: must be a string, not a boolean`}},
		{"empty URL", np + "proxy_url = ''\n",
			[]string{`c.toml:2:13: network_proxy.proxy_url: is empty: remove the line to get the default`}},
		{"URL", np + "\n admin_url = \"https://127.0.0.1:8080\"\n",
			[]string{`c.toml:3:14: network_proxy.admin_url = "https://127.0.0.1:8080": the admin API does not listen for "https://": use http://`}},
		{"relative socket", pol + "allow_unix_sockets = [\"/a\", \"b\"]\n",
			[]string{`c.toml:2:29: network_proxy.policy.allow_unix_sockets[1] = "b": not an absolute path: start it with "/"`}},
		{"unclean socket", pol + "allow_unix_sockets = [\n'/run/../a/']\n",
			[]string{`c.toml:3:1: network_proxy.policy.allow_unix_sockets[0] = "/run/../a/": not a clean path: write "/a"`}},
		{"home socket", pol + "allow_unix_sockets = ['~/a']\n",
			[]string{`c.toml:2:23: network_proxy.policy.allow_unix_sockets[0] = "~/a": ~ is not expanded here: write the absolute path`}},
		{"NUL in a socket", pol + "allow_unix_sockets = [\"/a\\u0000b\"]\n",
			[]string{`c.toml:2:23: network_proxy.policy.allow_unix_sockets[0] = "/a\x00b": a path cannot hold a NUL byte`}},
		{"root as a socket", pol + "allow_unix_sockets = ['/']\n",
			[]string{`c.toml:2:23: network_proxy.policy.allow_unix_sockets[0] = "/": names a directory: write the path of the socket`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := loadText(t, test.text)
			got := lines(err)
			if !reflect.DeepEqual(got, test.want) {
				t.Fatalf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			var cerr *ConfigError
			if !errors.As(err, &cerr) || cerr.Position.File != "c.toml" || cerr.Position.Line == 0 {
				t.Errorf("the first error carries no position: %#v", cerr)
			}
		})
	}
}

func TestParseTOMLValues(t *testing.T) {
	t.Parallel()
	full := DefaultConfig()
	full.Enabled = true
	full.Mode = ModeLimited
	full.SOCKSURL = "socks5h://[::1]:0"
	full.Policy.AllowedDomains = []string{"a.example", "*.b.example"}
	full.Policy.AllowLocalBinding = true

	tests := []struct {
		name string
		text string
		want Config
	}{
		{"empty", "", DefaultConfig()},
		{"empty tables", "[network_proxy]\n[network_proxy.policy]\n", DefaultConfig()},
		{"tables", `
[network_proxy]
enabled = true
mode = "limited"
socks_url = "socks5h://[::1]:0"
[network_proxy.policy]
allowed_domains = ["a.example", "*.b.example"]
allow_local_binding = true
`, full},
		{"policy first", `
[network_proxy.policy]
allowed_domains = ["a.example", '*.b.example',]
allow_local_binding = true
[network_proxy]
enabled = true
mode = 'limited'
socks_url = """
socks5h://[::1]:0"""
`, full},
		{"dotted keys", `
network_proxy.enabled = true
network_proxy . "mode" = "limited"
network_proxy.socks_url = "socks5h://[::1]:0"
"network_proxy".policy.allowed_domains = ["a.example", "*.b.example"]
network_proxy.policy.allow_local_binding = true
`, full},
		{"inline tables", `network_proxy = { enabled = true, mode = "limited", socks_url = "socks5h://[::1]:0",
 policy.allow_local_binding = true, policy.allowed_domains = ["a.example", "\u002a.b.example"] }`, full},
		{"inside a larger program's file", `
model = "x"
enabled = 3
[policy]
allowed_domains = 3
[tools.network_proxy]
mode = 3
[[servers]]
Enabled = "x"
[network_proxy]
enabled = true
mode = "limited"
socks_url = "socks5h://[::1]:0"
policy = { allowed_domains = ["a.example", "*.b.example"], allow_local_binding = true }
[network]
proxy = 1
`, full},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, text := range []string{test.text, "\xef\xbb\xbf" + test.text, strings.ReplaceAll(test.text, "\n", "\r\n")} {
				s, err := loadText(t, text)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(s.Config, test.want) {
					t.Errorf("got %+v\nwant %+v", s.Config, test.want)
				}
			}
		})
	}
}

func TestParseTOMLWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want []string
	}{
		{"table", "[network_proxy]\n", nil},
		{"no table", "[other]\n", []string{"c.toml: no [network_proxy] table: nothing in this file configures the proxy, which is off by default"}},
		{"empty file", "", []string{"c.toml: no [network_proxy] table: nothing in this file configures the proxy, which is off by default"}},
		{"similar table beside ours", "[network_proxy]\n[network_proxy2]\n", []string{"c.toml:2:2: network_proxy2: unknown table; did you mean [network_proxy]?"}},
		{"similar table before ours", "[network_proxy2]\n[network_proxy]\nenabled = true\n", []string{"c.toml:1:2: network_proxy2: unknown table; did you mean [network_proxy]?"}},
		{"UDP alone", "[network_proxy]\nenable_socks5_udp = true\n",
			[]string{"network_proxy.enable_socks5_udp (c.toml:2:21) has no effect while enable_socks5 is false: nothing listens for SOCKS5"}},
		{"UDP and TCP", "[network_proxy]\nenable_socks5_udp = true\nenable_socks5 = true\n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := loadText(t, test.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.notices(); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q\nwant %q", got, test.want)
			}
		})
	}
}

// A file full of mistakes is reported in part.
func TestParseTOMLBoundsErrors(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("[network_proxy]\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "key_%d = 1\n", i)
	}
	_, err := loadText(t, b.String())
	got := lines(err)
	if len(got) != 21 || got[20] != "and 4980 more" || !strings.HasPrefix(got[19], "c.toml:21:1: ") {
		t.Errorf("%d lines, the last two:\n%s", len(got), strings.Join(got[max(0, len(got)-2):], "\n"))
	}
}

func TestParseTOMLLongNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 1<<20)
	_, err := loadText(t, "[network_proxy]\n"+long+" = 1\nmode = \""+long+"\"\n")
	if err == nil || len(err.Error()) > 2000 {
		t.Errorf("the error is %d bytes long", len(err.Error()))
	}
}

func TestItemOrigins(t *testing.T) {
	t.Parallel()
	s, err := loadText(t, "[network_proxy.policy]\n"+
		"allowed_domains = [\"a.example\", 'b.example', # one, \"two\"\n"+
		"\t\"c.example\",\n\n  \"\"\"d\\\n   .example\"\"\", \"e.example\"]\r\n"+
		"denied_domains = []\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"c.toml:2:20", "c.toml:2:33", "c.toml:3:2", "c.toml:5:3", "c.toml:6:17"}
	if got := s.Config.Policy.AllowedDomains; len(got) != len(want) || got[3] != "d.example" {
		t.Fatalf("patterns: %q", got)
	}
	for i, w := range want {
		if got := s.itemPosition(keyAllowedDomains, i).String(); got != w {
			t.Errorf("element %d stands at %s, want %s", i, got, w)
		}
	}
	for _, i := range []int{-1, len(want)} {
		if got := s.itemPosition(keyAllowedDomains, i); got != (Position{}) {
			t.Errorf("element %d stands at %s", i, got)
		}
	}
	if got := s.position(keyAllowedDomains).String(); got != "c.toml:2:19" {
		t.Errorf("the array stands at %s", got)
	}
	if got := s.itemPosition(keyMode, 0); got != (Position{}) {
		t.Errorf("an element of no array stands at %s", got)
	}
}

// The keys of Config's tags are the keys that the decoder knows.
func TestConfigTagsMatchKeys(t *testing.T) {
	t.Parallel()
	var c Config
	got := make(map[string]any)
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Tag.Get("toml") != f.Tag.Get("json") {
				t.Errorf("%s: TOML and JSON keys differ", f.Name)
			}
			key := prefix + "." + f.Tag.Get("toml")
			if f.Type.Kind() == reflect.Struct {
				walk(key, v.Field(i))
				continue
			}
			got[key] = v.Field(i).Addr().Interface()
		}
	}
	walk(keyRoot, reflect.ValueOf(&c).Elem())
	want := make(map[string]any)
	for _, f := range c.fields() {
		want[f.key] = f.value
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("tags: %v\nfields: %v", got, want)
	}
	for key, ptr := range got {
		if want[key] != ptr {
			t.Errorf("%s is paired with another field than its tag says", key)
		}
	}
}

func FuzzParseTOML(f *testing.F) {
	for _, seed := range []string{
		"", "\xef\xbb\xbf[network_proxy]\r\nenabled = true\r\n",
		"[network_proxy]\nmode = \"limited\"\n[network_proxy.policy]\nallowed_domains = [ # x\n\"a\", ['b'], 3, {c = 1}]\n",
		"network_proxy = { policy = { denied_domains = [\"*.example\"] }, enabled = tru }",
		"network_proxy.policy.allow_unix_sockets = ['/a']\n[[network_proxy]]\n",
		"[Network_Proxy]\n[network-proxy]\n[\"network_proxy.policy\"]\n\"\" = 1\n",
		"[network_proxy]\nMode = 1\nmode = 2020-01-01T00:00:00Z\nproxy_url = \"http://localhost\"\n",
		"[network_proxy]\nmode.x.y = []\npolicy = [[],[1]]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var errs errorList
		l := parseTOML("f.toml", data, &errs)
		for _, err := range errs.list {
			var cerr *ConfigError
			if !errors.As(err, &cerr) || cerr.Position.File != "f.toml" || cerr.Error() == "" {
				t.Fatalf("an error without a place: %#v", err)
			}
		}
		if len(errs.list) > 0 {
			return
		}
		s := newSourcedConfig()
		s.apply(l)

		// go-toml's own decoding, which knows no positions, reads the same
		// values out of a file that has no mistakes.
		ref := struct {
			Proxy Config `toml:"network_proxy"`
		}{DefaultConfig()}
		if err := toml.Unmarshal(data[bomLen(data):], &ref); err != nil {
			t.Fatalf("accepted, but go-toml says: %v", err)
		}
		if !reflect.DeepEqual(s.Config, ref.Proxy) {
			t.Fatalf("got  %+v\nwant %+v", s.Config, ref.Proxy)
		}

		// And writing it out changes nothing.
		text, err := toml.Marshal(map[string]any{"network_proxy": s.Config})
		if err != nil {
			t.Fatal(err)
		}
		again := newSourcedConfig()
		again.apply(parseTOML("again.toml", text, &errs))
		if err := errs.join(); err != nil {
			t.Fatalf("%v\nin\n%s", err, text)
		}
		if !reflect.DeepEqual(again.Config, s.Config) {
			t.Fatalf("written and read again:\ngot  %+v\nwant %+v", again.Config, s.Config)
		}
	})
}

func bomLen(data []byte) int {
	if strings.HasPrefix(string(data), "\uFEFF") {
		return 3
	}
	return 0
}

// writeFile writes a file into dir and returns its path.
func writeFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func BenchmarkLoadFiles(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var text strings.Builder
			text.WriteString("[network_proxy]\nenabled = true\n[network_proxy.policy]\nallowed_domains = [\n")
			for i := range n {
				fmt.Fprintf(&text, "  \"host-%d.example.com\",\n", i)
			}
			text.WriteString("]\n")
			path := writeFile(b, b.TempDir(), "c.toml", text.String())
			b.SetBytes(int64(text.Len()))
			b.ReportAllocs()
			for b.Loop() {
				s, err := loadFiles([]string{path})
				if err != nil || len(s.Config.Policy.AllowedDomains) != n {
					b.Fatal(err)
				}
			}
		})
	}
}
