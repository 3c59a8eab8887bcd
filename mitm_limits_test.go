// Tests of TLS inspection whose configuration changes while the proxy runs.

package networkproxy_test

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy"
)

// opens reports whether the proxy would see the requests of an https:// URL: then the
// explanation has the checks of a request inside the tunnel.
func (l *lab) opens(url string) bool {
	l.t.Helper()
	x, err := l.ExplainURL(context.Background(), url, "GET", false)
	if err != nil {
		l.t.Fatal(err)
	}
	return x.Request.Protocol == networkproxy.ProtocolHTTPS
}

// TestTightenedLimitsOfInspection: limits that the configuration does not obey never
// make the proxy relay unseen what they demand to be seen.
func TestTightenedLimitsOfInspection(t *testing.T) {
	t.Parallel()
	const (
		allow = "policy.allowed_domains = [\"*.example\"]\n"
		lists = "mitm_domains = [\"domain.example\"]\nmitm_exempt_domains = [\"exempt.example\", \"other.example\"]\n"
		rules = "[[network_proxy.mitm_hooks]]\nhost = \"rule.example\"\naccess = \"read-only\"\n"
		on    = "enabled = true\nmitm = true\n" + lists + allow + rules
		off   = "enabled = true\n" + allow
	)
	type verdict struct {
		url   string
		want  networkproxy.Reason
		opens bool
	}
	required := networkproxy.ReasonMITMRequired
	for _, test := range []struct {
		name, config, limits, key string
		verdicts                  []verdict
		check                     func(t *testing.T, l *managedLab)
	}{
		{"mitm is forbidden", on, "mitm = false\n", "network_proxy.mitm", []verdict{
			{"https://rule.example/", required, false}, {"https://domain.example/", "", false}, {"https://exempt.example/", "", false}, {"https://plain.example/", "", false},
		}, func(t *testing.T, l *managedLab) {
			if c := l.Config(); c.MITM || len(c.MITMDomains) > 0 || len(c.MITMHooks) != 1 || l.CACertificate() != nil {
				t.Errorf("got %+v", c)
			}
		}},
		{"a rule for an exempt host", on, "[[network_proxy.mitm_hooks]]\nhost = \"exempt.example\"\naccess = \"git-fetch\"\n", "network_proxy.mitm_hooks", []verdict{
			{"https://exempt.example/", required, false}, {"https://other.example/", "", false}, {"https://rule.example/", "", true}, {"https://exempt.example:8443/", "", false},
		}, func(t *testing.T, l *managedLab) {
			x, err := l.ExplainURL(context.Background(), "https://exempt.example/", "", false)
			if err != nil || x.Rule.Position.File != l.limits || x.Rule.Position.Line != 2 || x.Rule.Pattern != "git-fetch exempt.example" {
				t.Errorf("got %+v, %v", x.Rule, err)
			}
			if !strings.Contains(x.Message, "managed limits") {
				t.Errorf("the message: %s", x.Message)
			}
		}},
		{"a rule without mitm", off, rules, "network_proxy.mitm_hooks", []verdict{
			{"https://rule.example/", required, false}, {"https://domain.example/", "", false},
		}, func(t *testing.T, l *managedLab) {
			if c := l.Config(); c.MITM || len(c.MITMHooks) != 1 || c.MITMHooks[0].Host != "rule.example" {
				t.Errorf("got %+v", c)
			}
		}},
		{"a domain without mitm", off, "mitm_domains = [\"domain.example\"]\n", "network_proxy.mitm_domains", []verdict{
			{"https://domain.example/", required, false}, {"https://plain.example/", "", false},
		}, nil},
		{"a domain", on, "mitm_domains = [\"plain.example\"]\n", "network_proxy.mitm_domains", []verdict{
			{"https://plain.example/", "", true}, {"https://domain.example/", "", true},
		}, nil},
		{"no exemptions", on, "mode = \"limited\"\nmitm_exempt_domains = [\"other.example\"]\n", "mitm_exempt_domains[0]", []verdict{
			{"https://exempt.example/", "", true}, {"https://other.example/", required, false},
		}, func(t *testing.T, l *managedLab) {
			if got := l.Config().MITMExemptDomains; !slices.Equal(got, []string{"other.example"}) {
				t.Errorf("got %q", got)
			}
		}},
	} {
		for _, broken := range []bool{false, true} {
			t.Run(test.name+map[bool]string{false: "", true: ", and the configuration is broken"}[broken], func(t *testing.T) {
				t.Parallel()
				l := startManaged(t, test.config, "", nil)
				l.write(t, l.limits, test.limits)
				if broken {
					l.write(t, l.config, "mode = ")
				}
				if err := l.Reload(context.Background()); (err != nil) != broken {
					t.Errorf("Reload: got the error %v, want an error: %t", err, broken)
				}
				for _, v := range test.verdicts {
					if got, opens := l.reason(v.url), l.opens(v.url); got != v.want || opens != v.opens {
						t.Errorf("%s: %q, opened %t; want %q, %t", v.url, got, opens, v.want, v.opens)
					}
				}
				if test.check != nil {
					test.check(t, l)
				}
				if got := strings.Join(l.Warnings(), "\n"); !strings.Contains(got, test.key) || !strings.Contains(got, "limits.toml:") {
					t.Errorf("Warnings does not report %s: %s", test.key, got)
				}

				l.write(t, l.limits, "mode = \"full\"\n")
				if broken {
					l.write(t, l.config, test.config)
				}
				if err := l.Reload(context.Background()); err != nil {
					t.Fatal(err)
				}
				if got, want := l.reason("https://rule.example/"), networkproxy.Reason(""); got != want || l.opens("https://rule.example/") != (test.config == on) {
					t.Errorf("after the limits were loosened: %q", got)
				}
			})
		}
	}
}

// TestReloadOfInspection: all keys but the files of the certificate authority take
// effect at a reload, and a mistake in a rule changes nothing.
func TestReloadOfInspection(t *testing.T) {
	t.Parallel()
	const allow = "policy.allowed_domains = [\"*.example\"]\n"
	f := newConfigFile(t, allow)
	l := startFile(t, func(b *networkproxy.Builder) { networkproxy.SetQuiet(b, 0) }, f.path)
	reload := func(text string) error {
		f.replace(text)
		return l.Reload(context.Background())
	}
	check := func(when, url string, want networkproxy.Reason, opens bool) {
		t.Helper()
		x, err := l.ExplainURL(context.Background(), url, "GET", false)
		if err != nil || x.Reason != want || l.opens(url) != opens {
			t.Errorf("%s: %s: %q, %v; want %q, opened %t", when, url, x.Reason, err, want, opens)
		}
	}
	check("at the start", "https://a.example/v1/x", "", false)
	const rule = "[[network_proxy.mitm_hooks]]\nhost = \"a.example\"\nmethods = [\"GET\"]\npath_prefixes = [\"/v1\"]\n"
	for _, step := range []struct {
		name, text string
		opens      bool   // the host
		other      string // reason for a path that the rule does not permit
	}{
		{"on", "mitm = true\n" + allow, false, ""},
		{"a domain", "mitm = true\nmitm_domains = [\"a.example\"]\n" + allow, true, ""},
		{"an exempt domain", "mitm = true\nmitm_domains = [\"*\"]\nmitm_exempt_domains = [\"a.example\"]\n" + allow, false, ""},
		{"a rule", "mitm = true\n" + allow + rule, true, "mitm_hook_denied"},
		{"another rule", "mitm = true\n" + allow + strings.Replace(rule, "/v1", "/", 1), true, ""},
		{"a rule for another host", "mitm = true\n" + allow + strings.Replace(rule, "a.example", "b.example", 1), false, ""},
		{"a rule that denies", "mitm = true\n" + allow + strings.Replace(rule, "/v1", "/", 1) + strings.Replace(rule, "/v1", "/v2", 1) + "deny = true\n", true, "mitm_hook_denied"},
		{"off", allow, false, ""},
	} {
		if err := reload(step.text); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		check(step.name, "https://a.example/v1/x", "", step.opens)
		check(step.name, "https://a.example/v2", networkproxy.Reason(step.other), step.opens)
		if got := l.CACertificate() != nil; got != strings.Contains(step.text, "mitm = true") {
			t.Errorf("%s: CACertificate returns one: %t", step.name, got)
		}
	}

	if err := reload("mitm = true\n" + allow + rule); err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string]string{
		"an invalid rule":    "mitm = true\n" + allow + strings.Replace(rule, "GET", "get", 1),
		"rules without mitm": allow + rule,
		"an exempt host":     "mitm = true\nmitm_exempt_domains = [\"*\"]\n" + allow + rule,
		"a header alone":     "mitm = true\n" + allow + "[[network_proxy.mitm_hooks]]\n",
	} {
		if err := reload(broken); err == nil || !strings.Contains(err.Error(), f.path+":") {
			t.Errorf("%s: %v", name, err)
		}
		check(name, "https://a.example/v2", "mitm_hook_denied", true)
		if name == "a header alone" && !strings.Contains(l.Reload(context.Background()).Error(), "the file ends in the header [[network_proxy.mitm_hooks]], and the keys that were below it are gone") {
			t.Errorf("%s: %v", name, l.Reload(context.Background()))
		}
	}
}

// TestRejudgeReadsNoReusedHeader: a policy change judges open requests by their headers
// while clients reuse their connections, whose next request overwrites the header. The
// race detector fails this test if the two overlap.
func TestRejudgeReadsNoReusedHeader(t *testing.T) {
	t.Parallel()
	c := allow("plain.example")
	c.MITM = true
	c.MITMHooks = []networkproxy.MITMHook{{Host: "plain.example:80", Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Headers: map[string][]string{"X-Kind": {"a"}}}}
	l := start(t, c, nil)
	l.origin("plain.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Kind")) })
	client := l.client()
	due := make(chan struct{}, 1) // changes are made at the pace of the requests, but do not delay them
	var changes sync.WaitGroup
	changes.Go(func() {
		for range due {
			for range 8 {
				if err := cmp.Or(l.AllowDomain("other.example"), l.RemoveDomain("other.example")); err != nil {
					t.Error(err)
				}
			}
		}
	})
	defer changes.Wait()
	defer close(due)
	for range scaled(300) {
		select {
		case due <- struct{}{}:
		default:
		}
		r, err := http.NewRequest("GET", "http://plain.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Kind", "a")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "a" {
			t.Fatalf("%q, %v", body, err)
		}
	}
}
