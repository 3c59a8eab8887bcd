package tomltable

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// config is a table with a subtable and values of every type.
type config struct {
	Enabled   bool   `toml:"enabled"`
	ProxyURL  string `toml:"proxy_url"`
	AdminURL  string `toml:"admin_url"`
	ReadOnly  bool   `toml:"admin_read_only"`
	SOCKS     bool   `toml:"enable_socks5"`
	SOCKSURL  string `toml:"socks_url"`
	UDP       bool   `toml:"enable_socks5_udp"`
	Upstream  bool   `toml:"allow_upstream_proxy"`
	OpenProxy bool   `toml:"dangerously_allow_non_loopback_proxy"`
	OpenAdmin bool   `toml:"dangerously_allow_non_loopback_admin"`
	Mode      mode   `toml:"mode"`
	SNICheck  string `toml:"sni_check"`
	Policy    policy `toml:"policy"`
}

type policy struct {
	AllowedDomains    []string `toml:"allowed_domains"`
	DeniedDomains     []string `toml:"denied_domains"`
	AllowLocalBinding bool     `toml:"allow_local_binding"`
	AllowUnixSockets  []string `toml:"allow_unix_sockets"`
}

type mode string

func defaults() config {
	return config{ProxyURL: "a", AdminURL: "b", SOCKSURL: "c", Mode: "full", SNICheck: "enforce", Policy: policy{
		AllowedDomains: []string{}, DeniedDomains: []string{}, AllowUnixSockets: []string{},
	}}
}

const table = "network_proxy"

func (c *config) fields() []Field {
	return []Field{
		{"network_proxy.enabled", Bool(&c.Enabled)},
		{"network_proxy.proxy_url", String(&c.ProxyURL)},
		{"network_proxy.admin_url", String(&c.AdminURL)},
		{"network_proxy.admin_read_only", Bool(&c.ReadOnly)},
		{"network_proxy.enable_socks5", Bool(&c.SOCKS)},
		{"network_proxy.socks_url", String(&c.SOCKSURL)},
		{"network_proxy.enable_socks5_udp", Bool(&c.UDP)},
		{"network_proxy.allow_upstream_proxy", Bool(&c.Upstream)},
		{"network_proxy.dangerously_allow_non_loopback_proxy", Bool(&c.OpenProxy)},
		{"network_proxy.dangerously_allow_non_loopback_admin", Bool(&c.OpenAdmin)},
		{"network_proxy.mode", String(&c.Mode)},
		{"network_proxy.sni_check", String(&c.SNICheck)},
		{keyAllowed, Strings(&c.Policy.AllowedDomains)},
		{keyDenied, Strings(&c.Policy.DeniedDomains)},
		{"network_proxy.policy.allow_local_binding", Bool(&c.Policy.AllowLocalBinding)},
		{"network_proxy.policy.allow_unix_sockets", Strings(&c.Policy.AllowUnixSockets)},
	}
}

const (
	keyAllowed = "network_proxy.policy.allowed_domains"
	keyDenied  = "network_proxy.policy.denied_domains"
)

// readResult is the result of reading a file.
type readResult struct {
	config config
	table  *Table
	places Provenance
}

// readText reads a file of the given text, under the name c.toml.
func readText(text string) (*readResult, []*Error) {
	r := &readResult{config: defaults()}
	var errs []*Error
	r.table = Read("c.toml", []byte(text), table, r.config.fields(), func(e *Error) { errs = append(errs, e) })
	r.places.Add(r.table)
	return r, errs
}

// texts returns the texts of errors.
func texts(errs []*Error) (list []string) {
	for _, e := range errs {
		list = append(list, e.Error())
	}
	return list
}

func TestReadErrors(t *testing.T) {
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

		// Empty strings.
		{"empty mode", np + "mode = \"\"\n",
			[]string{`c.toml:2:8: network_proxy.mode: is empty: remove the line to get the default`}},
		{"empty URL", np + "proxy_url = ''\n",
			[]string{`c.toml:2:13: network_proxy.proxy_url: is empty: remove the line to get the default`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, errs := readText(test.text)
			got := texts(errs)
			if !reflect.DeepEqual(got, test.want) {
				t.Fatalf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if first := errs[0]; first.Position.File != "c.toml" || first.Position.Line == 0 {
				t.Errorf("the first error has no position: %#v", first)
			}
		})
	}
}

// Arrays that are nested too deeply are an error. Without a bound, a file of a few
// megabytes would overflow the stack, which ends the process. The bound is that
// of go-toml since v2.4.3.
func TestReadBoundsNesting(t *testing.T) {
	t.Parallel()
	const depth = 100_000
	for _, text := range []string{
		"a = " + strings.Repeat("[", depth) + strings.Repeat("]", depth),
		"[network_proxy]\nmode = " + strings.Repeat("[", depth),
		"a = " + strings.Repeat("{a = ", depth) + "1" + strings.Repeat("}", depth),
	} {
		_, errs := readText(text)
		if got := texts(errs); len(got) != 1 || !strings.Contains(got[0], "nested") {
			t.Errorf("%.40s…: got the errors %.200q, want one about nesting", text, got)
		}
	}
}

func TestReadValues(t *testing.T) {
	t.Parallel()
	full := defaults()
	full.Enabled = true
	full.Mode = "limited"
	full.SOCKSURL = "socks5h://[::1]:0"
	full.Policy.AllowedDomains = []string{"a.example", "*.b.example"}
	full.Policy.AllowLocalBinding = true

	tests := []struct {
		name string
		text string
		want config
	}{
		{"empty", "", defaults()},
		{"empty tables", "[network_proxy]\n[network_proxy.policy]\n", defaults()},
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
				f, errs := readText(text)
				if len(errs) > 0 {
					t.Fatal(texts(errs))
				}
				if !reflect.DeepEqual(f.config, test.want) {
					t.Errorf("got %+v\nwant %+v", f.config, test.want)
				}
			}
		})
	}
}

func TestReadWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		text    string
		present bool
		want    []string
	}{
		{"table", "[network_proxy]\n", true, nil},
		{"no table", "[other]\n", false, nil},
		{"empty file", "", false, nil},
		{"similar table beside ours", "[network_proxy]\n[network_proxy2]\n", true, []string{"c.toml:2:2: network_proxy2: unknown table; did you mean [network_proxy]?"}},
		{"similar table before ours", "[network_proxy2]\n[network_proxy]\nenabled = true\n", true, []string{"c.toml:1:2: network_proxy2: unknown table; did you mean [network_proxy]?"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, errs := readText(test.text)
			if len(errs) > 0 {
				t.Fatal(texts(errs))
			}
			if got := r.table.Warnings; !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q\nwant %q", got, test.want)
			}
			if got := r.table.Present; got != test.present {
				t.Errorf("Present is %t, want %t", got, test.present)
			}
		})
	}
}

// A file full of unknown keys reports each of them, but only the first with a
// hint.
func TestReadBoundsHints(t *testing.T) {
	t.Parallel()
	const unknown = 5000
	var text strings.Builder
	text.WriteString("[network_proxy]\n")
	for i := range unknown {
		fmt.Fprintf(&text, "key_%d = 1\n", i)
	}
	_, errs := readText(text.String())
	if len(errs) != unknown {
		t.Fatalf("%d errors, want %d", len(errs), unknown)
	}
	for i, e := range errs {
		if got, want := strings.Contains(e.Problem, "; "), i < maxHints; got != want {
			t.Fatalf("error %d: %v", i, e)
		}
	}
}

func TestReadLongNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 1<<20)
	_, errs := readText("[network_proxy]\n" + long + " = 1\nenabled = \"" + long + "\"\n")
	if len(errs) != 2 {
		t.Fatal(texts(errs))
	}
	for _, e := range errs {
		if n := len(e.Error()); n > 1000 {
			t.Errorf("an error is %d bytes long", n)
		}
	}
}

func TestItemPositions(t *testing.T) {
	t.Parallel()
	r, errs := readText("[network_proxy.policy]\n" +
		"allowed_domains = [\"a.example\", 'b.example', # one, \"two\"\n" +
		"\t\"c.example\",\n\n  \"\"\"d\\\n   .example\"\"\", \"e.example\"]\r\n" +
		"denied_domains = []\n")
	if len(errs) > 0 {
		t.Fatal(texts(errs))
	}
	want := []string{"c.toml:2:20", "c.toml:2:33", "c.toml:3:2", "c.toml:5:3", "c.toml:6:17"}
	if got := r.config.Policy.AllowedDomains; len(got) != len(want) || got[3] != "d.example" {
		t.Fatalf("patterns: %q", got)
	}
	for i, w := range want {
		if got := r.places.ItemPosition(keyAllowed, i).String(); got != w {
			t.Errorf("element %d is at %s, want %s", i, got, w)
		}
	}
	for _, i := range []int{-1, len(want)} {
		if got := r.places.ItemPosition(keyAllowed, i); got != (Position{}) {
			t.Errorf("element %d is at %s", i, got)
		}
	}
	if got := r.places.Position(keyAllowed).String(); got != "c.toml:2:19" {
		t.Errorf("the array is at %s", got)
	}
	if got := r.places.ItemPosition("network_proxy.mode", 0); got != (Position{}) {
		t.Errorf("an element of no array is at %s", got)
	}
}

func FuzzRead(f *testing.F) {
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
		r, errs := readText(string(data))
		for _, err := range errs {
			if err.Position.File != "c.toml" || err.Error() == "" {
				t.Fatalf("an error without a position: %#v", err)
			}
		}
		if len(errs) > 0 {
			return
		}

		// go-toml's own decoding, which knows no positions, reads the same
		// values out of a file that has no mistakes.
		ref := struct {
			Proxy config `toml:"network_proxy"`
		}{defaults()}
		if err := toml.Unmarshal(bytes.TrimPrefix(data, []byte("\uFEFF")), &ref); err != nil {
			t.Fatalf("accepted, but go-toml says: %v", err)
		}
		if !reflect.DeepEqual(r.config, ref.Proxy) {
			t.Fatalf("got  %+v\nwant %+v", r.config, ref.Proxy)
		}

		// And writing it out changes nothing.
		text, err := toml.Marshal(map[string]any{"network_proxy": r.config})
		if err != nil {
			t.Fatal(err)
		}
		again, errs := readText(string(text))
		if len(errs) > 0 {
			t.Fatalf("%v\nin\n%s", texts(errs), text)
		}
		if !reflect.DeepEqual(again.config, r.config) {
			t.Fatalf("written and read again:\ngot  %+v\nwant %+v", again.config, r.config)
		}
	})
}
