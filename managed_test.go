package networkproxy

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/filewatch"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
)

func mustRequire(t *testing.T, text string) *requirements {
	t.Helper()
	r, _, err := parseRequirements("r.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRequirementsCheck(t *testing.T) {
	t.Parallel()
	const (
		np   = "[network_proxy]\n"
		mitm = "[network_proxy]\nmitm = true\n"
		pol  = "[network_proxy.policy]\n"
	)
	list := func(patterns string) string { return pol + "allowed_domains = [" + patterns + "]\n" }
	holds := func(col, value string) string {
		return `c.toml:2:` + col + `: network_proxy.policy.allowed_domains[0] = "` + value +
			`": exceeds a managed limit: must be within an entry of the allowed_domains there (r.toml:2:19)`
	}
	rule := func(host string) string {
		return "[[network_proxy.mitm_hooks]]\nhost = \"" + host + "\"\naccess = \"git-fetch\"\n"
	}
	tests := []struct {
		name   string
		limits string
		config string
		want   []string // violations
	}{
		{"no limits", np, np + "enabled = true\n" + list(`"*"`), nil},

		// Every boolean: false forbids true, true allows both.
		{"enable_socks5 obeys", np + "enable_socks5 = false", np, nil},
		{"enable_socks5 allowed", np + "enable_socks5 = true", np + "enable_socks5 = true", nil},
		{"enable_socks5 not needed", np + "enable_socks5 = true", np, nil},
		{"enable_socks5 violates", np + "enable_socks5 = false", np + "enable_socks5 = true",
			[]string{`c.toml:2:17: network_proxy.enable_socks5 = true: exceeds a managed limit: must be false (r.toml:2:17)`}},
		{"enable_socks5_udp violates", np + "enable_socks5_udp = false", np + "enable_socks5_udp = true",
			[]string{`c.toml:2:21: network_proxy.enable_socks5_udp = true: exceeds a managed limit: must be false (r.toml:2:21)`}},
		{"allow_upstream_proxy violates", np + "allow_upstream_proxy = false", np + "allow_upstream_proxy = true",
			[]string{`c.toml:2:24: network_proxy.allow_upstream_proxy = true: exceeds a managed limit: must be false (r.toml:2:24)`}},
		{"allow_upstream_proxy obeys", np + "allow_upstream_proxy = false", np + "allow_upstream_proxy = false", nil},
		{"dangerously, proxy", np + "dangerously_allow_non_loopback_proxy = false", np + "dangerously_allow_non_loopback_proxy = true",
			[]string{`c.toml:2:40: network_proxy.dangerously_allow_non_loopback_proxy = true: exceeds a managed limit: must be false (r.toml:2:40)`}},
		{"dangerously, admin", np + "dangerously_allow_non_loopback_admin = false", np + "dangerously_allow_non_loopback_admin = true",
			[]string{`c.toml:2:40: network_proxy.dangerously_allow_non_loopback_admin = true: exceeds a managed limit: must be false (r.toml:2:40)`}},
		{"dangerously, allowed", np + "dangerously_allow_non_loopback_proxy = true\ndangerously_allow_non_loopback_admin = true",
			np + "dangerously_allow_non_loopback_proxy = true\ndangerously_allow_non_loopback_admin = true", nil},
		{"allow_local_binding violates", pol + "allow_local_binding = false", pol + "allow_local_binding = true",
			[]string{`c.toml:2:23: network_proxy.policy.allow_local_binding = true: exceeds a managed limit: must be false (r.toml:2:23)`}},
		{"allow_local_binding obeys", pol + "allow_local_binding = false", pol, nil},

		// enabled is a state.
		{"enabled obeys", np + "enabled = true", np + "enabled = true", nil},
		{"turned off", np + "enabled = true", np + "enabled = false",
			[]string{`c.toml:2:11: network_proxy.enabled = false: exceeds a managed limit: must be true (r.toml:2:11)`}},
		{"left off", np + "enabled = true", np,
			[]string{`network_proxy.enabled = false: exceeds a managed limit: must be true (r.toml:2:11); source of the value: default`}},
		{"turned on", np + "enabled = false", np + "enabled = true",
			[]string{`c.toml:2:11: network_proxy.enabled = true: exceeds a managed limit: must be false (r.toml:2:11)`}},

		{"mode obeys", np + "mode = \"limited\"", np + "mode = \"limited\"", nil},
		{"mode full allows both", np + "mode = \"full\"", np + "mode = \"limited\"", nil},
		{"mode violates", np + "mode = \"limited\"", np + "mode = \"full\"",
			[]string{`c.toml:2:8: network_proxy.mode = "full": exceeds a managed limit: must be "limited" (r.toml:2:8)`}},
		{"mode violates by default", np + "mode = \"limited\"", np,
			[]string{`network_proxy.mode = "full": exceeds a managed limit: must be "limited" (r.toml:2:8); source of the value: default`}},

		{"sni_check obeys", np + "sni_check = \"enforce\"", np, nil},
		{"sni_check off allows both", np + "sni_check = \"off\"", np + "sni_check = \"enforce\"", nil},
		{"sni_check unlimited", np, np + "sni_check = \"off\"", nil},
		{"sni_check violates", np + "sni_check = \"enforce\"", np + "sni_check = \"off\"",
			[]string{`c.toml:2:13: network_proxy.sni_check = "off": exceeds a managed limit: must be "enforce" (r.toml:2:13)`}},

		{"allowed: equal", list(`"a.example"`), list(`"a.example"`), nil},
		{"allowed: none", list(`"a.example"`), np, nil},
		{"allowed: another", list(`"a.example"`), list(`"b.example"`), []string{holds("20", "b.example")}},
		{"allowed: below", list(`"*.a.example"`), list(`"x.a.example:443", "*.b.a.example", "x.y.a.example"`), nil},
		{"allowed: the apex is not below", list(`"*.a.example"`), list(`"a.example"`), []string{holds("20", "a.example")}},
		{"allowed: apex and below", list(`"**.a.example"`), list(`"a.example", "*.a.example", "**.a.example", "**.b.a.example"`), nil},
		{"allowed: wider", list(`"*.a.example"`), list(`"**.a.example"`), []string{holds("20", "**.a.example")}},
		{"allowed: a suffix that is not a label", list(`"*.a.example"`), list(`"xa.example"`), []string{holds("20", "xa.example")}},
		{"allowed: case and dot do not matter", list(`"A.example."`), list(`"a.EXAMPLE"`), nil},
		{"allowed: every port under one", list(`"a.example:443"`), list(`"a.example"`), []string{holds("20", "a.example")}},
		{"allowed: one port under every", list(`"a.example"`), list(`"a.example:443"`), nil},
		{"allowed: another port", list(`"a.example:443"`), list(`"a.example:80"`), []string{holds("20", "a.example:80")}},
		{"allowed: inside a label", list(`"region*.v2.a.example"`), list(`"region-1.v2.a.example"`), nil},
		{"allowed: a wildcard below a wildcard", list(`"region*.v2.a.example"`), list(`"region-*.v2.a.example"`), nil},
		{"allowed: everything", list(`"*"`), list(`"*", "a.example", "*.com:443", "198.41.0.4"`), nil},
		{"allowed: everything but local", list(`"*"`), list(`"127.0.0.1"`), []string{holds("20", "127.0.0.1")}},
		{"allowed: localhost", list(`"*"`), list(`"localhost:8000"`), []string{holds("20", "localhost:8000")}},
		{"allowed: below localhost", list(`"*.localhost"`), list(`"x.localhost"`), []string{holds("20", "x.localhost")}},
		{"allowed: a private block", list(`"*"`), list(`"10.0.0.0/8"`), []string{holds("20", "10.0.0.0/8")}},
		{"allowed: local, spelt out", list(`"localhost", "10.0.0.0/8", "[::1]:3000"`), list(`"localhost:1", "10.1.2.3", "10.1.0.0/16", "[::1]:3000"`), nil},
		{"allowed: addresses", list(`"192.0.2.0/24"`), list(`"192.0.3.1"`), []string{holds("20", "192.0.3.1")}},
		{"allowed: several do not add up", list(`"a.example", "*.a.example"`), list(`"**.a.example"`), []string{holds("20", "**.a.example")}},
		{"allowed: an empty limit", list(``), list(`"a.example"`), []string{holds("20", "a.example")}},
		{"allowed: each violation in its place", list(`"a.example"`), pol + "allowed_domains = [\n \"b.example\",\n \"a.example\",\n \"c.example\",\n]\n", []string{
			`c.toml:3:2: network_proxy.policy.allowed_domains[0] = "b.example": exceeds a managed limit: must be within an entry of the allowed_domains there (r.toml:2:19)`,
			`c.toml:5:2: network_proxy.policy.allowed_domains[2] = "c.example": exceeds a managed limit: must be within an entry of the allowed_domains there (r.toml:2:19)`,
		}},
		{"allowed: no pattern", list(`"*"`), list(`"https://a.example/"`),
			[]string{`c.toml:2:20: network_proxy.policy.allowed_domains[0] = "https://a.example/": it is a URL, but patterns are hosts; write "a.example"`}},

		{"denied: equal", pol + `denied_domains = ["a.example"]`, pol + `denied_domains = ["x.example", "a.example"]`, nil},
		{"denied: within a wider one", pol + `denied_domains = ["*.a.example", "10.1.0.0/16"]`, pol + `denied_domains = ["**.a.example", "10.0.0.0/8"]`, nil},
		{"denied: narrower", pol + `denied_domains = ["**.a.example"]`, pol + `denied_domains = ["*.a.example"]`,
			[]string{`c.toml:2:18: network_proxy.policy.denied_domains: exceeds a managed limit: must contain "**.a.example" (r.toml:2:19)`}},
		{"denied: one port only", pol + `denied_domains = ["a.example"]`, pol + `denied_domains = ["a.example:443"]`,
			[]string{`c.toml:2:18: network_proxy.policy.denied_domains: exceeds a managed limit: must contain "a.example" (r.toml:2:19)`}},
		{"denied: missing", pol + "denied_domains = [\"a.example\",\n\"b.example\"]", pol + `denied_domains = ["a.example"]`,
			[]string{`c.toml:2:18: network_proxy.policy.denied_domains: exceeds a managed limit: must contain "b.example" (r.toml:3:1)`}},
		{"denied: nothing", pol + `denied_domains = ["a.example"]`, np,
			[]string{`network_proxy.policy.denied_domains: exceeds a managed limit: must contain "a.example" (r.toml:2:19); source of the value: default`}},
		{"denied: nothing required", pol + `denied_domains = []`, np, nil},

		{"sockets: equal", pol + `allow_unix_sockets = ["/a", "/b"]`, pol + `allow_unix_sockets = ["/b"]`, nil},
		{"sockets: none", pol + `allow_unix_sockets = []`, pol, nil},
		{"sockets: another", pol + `allow_unix_sockets = ["/a"]`, pol + `allow_unix_sockets = ["/a", "/a/b"]`,
			[]string{`c.toml:2:29: network_proxy.policy.allow_unix_sockets[1] = "/a/b": exceeds a managed limit: must be in the allow_unix_sockets there (r.toml:2:22)`}},
		{"sockets: none allowed", pol + `allow_unix_sockets = []`, pol + `allow_unix_sockets = ["/a"]`,
			[]string{`c.toml:2:23: network_proxy.policy.allow_unix_sockets[0] = "/a": exceeds a managed limit: must be in the allow_unix_sockets there (r.toml:2:22)`}},

		{"mitm obeys", np + "mitm = false", np, nil},
		{"mitm allows both", np + "mitm = true", np, nil},
		{"mitm violates", np + "mitm = false", mitm,
			[]string{`c.toml:2:8: network_proxy.mitm = true: exceeds a managed limit: must be false (r.toml:2:8)`}},
		{"opened: equal", np + "mitm_domains = [\"a.example\"]\nmitm = true", mitm + "mitm_domains = [\"a.example\"]", nil},
		{"opened: within a wider one", np + "mitm_domains = [\"a.example\"]", mitm + "mitm_domains = [\"*\"]", nil},
		{"opened: missing", np + "mitm_domains = [\"a.example\", \"b.example\"]", mitm + "mitm_domains = [\"b.example\"]",
			[]string{`c.toml:3:16: network_proxy.mitm_domains: exceeds a managed limit: must contain "a.example" (r.toml:2:17)`}},
		{"exempt: equal", np + "mitm_exempt_domains = [\"a.example\"]", mitm + "mitm_exempt_domains = [\"a.example\"]", nil},
		{"exempt: fewer", np + "mitm_exempt_domains = [\"a.example\"]", mitm, nil},
		{"exempt: narrower", np + "mitm_exempt_domains = [\"*.a.example\"]", mitm + "mitm_exempt_domains = [\"x.a.example:443\"]", nil},
		{"exempt: another", np + "mitm_exempt_domains = [\"a.example\"]", mitm + "mitm_exempt_domains = [\"a.example\", \"b.example\"]",
			[]string{`c.toml:3:37: network_proxy.mitm_exempt_domains[1] = "b.example": exceeds a managed limit: must be within an entry of the mitm_exempt_domains there (r.toml:2:23)`}},
		{"exempt: none allowed", np + "mitm_exempt_domains = []", mitm + "mitm_exempt_domains = [\"a.example\"]",
			[]string{`c.toml:3:24: network_proxy.mitm_exempt_domains[0] = "a.example": exceeds a managed limit: must be within an entry of the mitm_exempt_domains there (r.toml:2:23)`}},
		{"exempt: all, but not a host with a rule", np + "mitm_exempt_domains = [\"*\"]\n" + rule("a.example"), mitm + "mitm_exempt_domains = [\"b.example\"]\n" + rule("a.example"), nil},
		{"rules: equal", np + rule("a.example"), mitm + rule("b.example") + rule("A.example:443"), nil},
		{"rules: none required", np + "mitm_hooks = []", mitm, nil},
		{"rules: missing", np + rule("a.example") + rule("b.example"), mitm + rule("b.example"),
			[]string{`c.toml:3:17: network_proxy.mitm_hooks: exceeds a managed limit: must contain the rule "git-fetch a.example" (r.toml:2:17)`}},
		{"rules: another", np + rule("a.example"), mitm + strings.Replace(rule("a.example"), "fetch", "push", 1),
			[]string{`c.toml:3:17: network_proxy.mitm_hooks: exceeds a managed limit: must contain the rule "git-fetch a.example" (r.toml:2:17)`}},
		{"rules: none", np + rule("a.example"), np,
			[]string{`network_proxy.mitm_hooks: exceeds a managed limit: must contain the rule "git-fetch a.example" (r.toml:2:17); source of the value: default`}},

		{"several", np + "enabled = true\nmode = \"limited\"\n" + pol + "denied_domains = [\"a.example\"]", "", []string{
			`network_proxy.enabled = false: exceeds a managed limit: must be true (r.toml:2:11); source of the value: default`,
			`network_proxy.mode = "full": exceeds a managed limit: must be "limited" (r.toml:3:8); source of the value: default`,
			`network_proxy.policy.denied_domains: exceeds a managed limit: must contain "a.example" (r.toml:5:19); source of the value: default`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := mustRequire(t, test.limits)
			s, err := loadText(t, test.config)
			if err != nil {
				t.Fatal(err)
			}
			err = r.check(s)
			if got := lines(err); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if err := (*requirements)(nil).check(s); err != nil {
				t.Errorf("without limits: %v", err)
			}
		})
	}
}

// The limits apply to every boolean, also in a configuration from Go.
func TestRequirementsOnConfigFromGo(t *testing.T) {
	t.Parallel()
	var limits strings.Builder
	var c Config
	n := 0
	for _, f := range c.fields() {
		if f.value.Text() == "false" && f.key != keyAdminReadOnly {
			limits.WriteString(f.key + " = false\n")
			on := true
			f.value.Copy(tomltable.Bool(&on))
			n++
		}
	}
	err := mustRequire(t, limits.String()).check(sourcedFromGo(c))
	if got := lines(err); len(got) != n || n != 11 {
		t.Errorf("%d booleans, errors:\n%s", n, strings.Join(got, "\n"))
	}
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != "must be false" || limit.Position != (Position{"r.toml", 1, 25}) {
		t.Errorf("got %+v", limit)
	}
	if want := "network_proxy.enabled = true: exceeds a managed limit: must be false (r.toml:1:25); source of the value: set from Go"; lines(err)[0] != want {
		t.Errorf("got  %s\nwant %s", lines(err)[0], want)
	}
}

func TestRequirementsAtRunTime(t *testing.T) {
	t.Parallel()
	r := mustRequire(t, "[network_proxy]\nmode = \"limited\"\n[network_proxy.policy]\nallowed_domains = [\"*.a.example\"]\n")
	open := mustRequire(t, "[network_proxy]\nmode = \"full\"\n")
	pattern := func(s string) domain.Pattern {
		p, err := domain.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"lower mode", r.checkMode(ModeLimited), ""},
		{"higher mode", r.checkMode(ModeFull), `network_proxy.mode = "full": exceeds a managed limit: must be "limited" (r.toml:2:8)`},
		{"a mode that is none", r.checkMode("fuller"), `network_proxy.mode = "fuller": exceeds a managed limit: must be "limited" (r.toml:2:8)`},
		{"no limit of the mode", open.checkMode(ModeFull), ""},
		{"no limits, mode", (*requirements)(nil).checkMode(ModeFull), ""},
		{"host within", r.checkAllowed(pattern("x.a.example:443")), ""},
		{"host outside", r.checkAllowed(pattern("a.example")), `network_proxy.policy.allowed_domains = "a.example": exceeds a managed limit: must be within an entry of the allowed_domains there (r.toml:4:19)`},
		{"no limit of the hosts", open.checkAllowed(pattern("a.example")), ""},
		{"no limits, host", (*requirements)(nil).checkAllowed(pattern("a.example")), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got string
			if test.err != nil {
				got = test.err.Error()
				if !errors.As(test.err, new(*LimitError)) {
					t.Error("errors.As finds no LimitError")
				}
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestLoadRequirements(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := writeFile(t, dir, "good.toml", "[network_proxy]\nmode = \"limited\"\n")
	if r, err := loadRequirements(good); err != nil || r.checkMode(ModeFull) == nil {
		t.Errorf("got %v, %v", r, err)
	}
	if _, err := loadRequirements(dir); err == nil {
		t.Error("a directory gives no error")
	}

	tests := []struct {
		name string
		text string
		want []string
	}{
		{"no table", "[other]\n", []string{`r.toml: no [network_proxy] table: these requirements limit nothing; add the table, or do not name the file`}},
		{"misspelt table", "[network_prox]\n", []string{`r.toml:1:2: network_prox: unknown table; did you mean [network_proxy]?`}},
		{"misspelt key", "[network_proxy]\nmodes = \"limited\"\n", []string{`r.toml:2:1: network_proxy.modes: unknown key; did you mean "mode"?`}},
		{"wrong mode", "[network_proxy]\nmode = \"none\"\n", []string{`r.toml:2:8: network_proxy.mode: unknown mode "none": use "full" or "limited"`}},
		{"addresses", "[network_proxy]\nproxy_url = \"127.0.0.1:1\"\nadmin_url = \"127.0.0.1:2\"\nsocks_url = \"127.0.0.1:3\"\n", []string{
			`r.toml:2:13: network_proxy.proxy_url = "127.0.0.1:1": an address cannot be limited: remove it, and use network_proxy.dangerously_allow_non_loopback_proxy = false`,
			`r.toml:3:13: network_proxy.admin_url = "127.0.0.1:2": an address cannot be limited: remove it, and use network_proxy.dangerously_allow_non_loopback_admin = false`,
			`r.toml:4:13: network_proxy.socks_url = "127.0.0.1:3": an address cannot be limited: remove it, and use network_proxy.dangerously_allow_non_loopback_proxy = false`,
		}},
		{"files of TLS inspection", "[network_proxy]\nmitm_ca_cert = \"/a\"\nmitm_ca_key = \"/b\"\n", []string{
			`r.toml:2:16: network_proxy.mitm_ca_cert: cannot be limited: remove it`,
			`r.toml:3:15: network_proxy.mitm_ca_key: cannot be limited: remove it`,
		}},
		{"rules without TLS inspection", "[network_proxy]\nmitm = false\nmitm_hooks = [{ host = \"a.example\", access = \"git-fetch\" }]\n", []string{
			`r.toml:3:14: network_proxy.mitm_hooks: has no effect while mitm is false (r.toml:2:8), because the proxy does not see the requests: set mitm = true`,
		}},
		{"mistakes in rules", "[network_proxy]\nmitm_exempt_domains = [\"a/\"]\nmitm_hooks = [{ host = \"*\", access = \"git-fetch\" }]\n", []string{
			`r.toml:3:24: network_proxy.mitm_hooks[0].host: the host "*" has a wildcard; a rule is for one host, so write one rule for each`,
			`r.toml:2:24: network_proxy.mitm_exempt_domains[0] = "a/": it has a path, but patterns are hosts; write "a"`,
		}},
		{"patterns", "[network_proxy.policy]\nallowed_domains = [\"a.example/\"]\ndenied_domains = [\"x.example\", \"*\"]\n", []string{
			`r.toml:2:20: network_proxy.policy.allowed_domains[0] = "a.example/": it has a path, but patterns are hosts; write "a.example"`,
			`r.toml:3:32: network_proxy.policy.denied_domains[1] = "*": hosts that allowed_domains does not list are refused anyway: remove this entry`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := parseRequirements("r.toml", []byte(test.text), nil)
			if got := lines(err); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// loadRequirements loads managed limits as at the start.
func loadRequirements(path string) (*requirements, error) {
	r := filewatch.ReadOnce(path, true)
	if r.Err != nil {
		return nil, readError(r.Err)
	}
	limits, _, err := parseRequirements(path, r.Data, nil)
	return limits, err
}

func BenchmarkRequirementsCheck(b *testing.B) {
	const n = 100_000
	limits, config := newSourcedConfig(), DefaultConfig()
	for i := range n {
		limits.Config.Policy.AllowedDomains = append(limits.Config.Policy.AllowedDomains, fmt.Sprintf("*.host-%d.example", i))
		config.Policy.AllowedDomains = append(config.Policy.AllowedDomains, fmt.Sprintf("www.host-%d.example", i))
	}
	limits.override(keyAllowedDomains)
	var errs errorList
	r := &requirements{limits: limits, allowed: policy.NewBounds(limits.patterns(keyAllowedDomains, &errs))}
	s := sourcedFromGo(config)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.check(s); err != nil {
			b.Fatal(err)
		}
	}
}
