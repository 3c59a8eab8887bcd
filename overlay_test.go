// Tests of overlays: a session's own rules add to the policy and never exceed the
// managed limits.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

func TestOverlayVerdicts(t *testing.T) {
	t.Parallel()
	config := allow("base.example", "both.example", "forbidden.example", "*.wild.example")
	config.Policy.DeniedDomains = []string{"never.example", "both.example"}
	var asked []string // one request at a time
	l := start(t, config, func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			asked = append(asked, req.Host)
			return networkproxy.Deny("asked"), nil
		})
	})
	for _, host := range []string{"base.example", "extra.example", "a.wild.example", "denied-by-address.example"} {
		l.origin(host, 80, func(w http.ResponseWriter, r *http.Request) {})
	}
	l.mapHost("base.example", 443, testnet.Echo(t).Addr())
	l.dns.Set("denied-by-address.example", testnet.Addrs("93.184.216.9"))
	local := testnet.Echo(t).AddrPort()
	l.net.Map(local, testnet.Echo(t).Addr())

	plain := l.command("plain")
	overlaid := l.open(networkproxy.SessionConfig{
		AllowedDomains: []string{"extra.example", "both.example", "never.example", local.String(), "denied-by-address.example"},
		DeniedDomains:  []string{"forbidden.example", "a.wild.example", "93.184.216.0/24"},
	})
	limited := l.open(networkproxy.SessionConfig{Mode: networkproxy.ModeLimited, AllowedDomains: []string{"extra.example"}})
	full := l.open(networkproxy.SessionConfig{Mode: networkproxy.ModeFull})

	const connect, get, post = "CONNECT", "GET", "POST"
	for _, test := range []struct {
		name         string
		session      *networkproxy.Session
		method, host string
		want         networkproxy.Reason // empty: allowed
		rule         string
	}{
		{"base, plain", plain, get, "base.example", "", ""},
		{"base, overlaid", overlaid, get, "base.example", "", ""},
		{"extra, plain", plain, get, "extra.example", "asked", ""},
		{"extra, overlaid", overlaid, get, "extra.example", "", ""},
		{"base deny over extra allow", overlaid, get, "never.example", "denied", "never.example"},
		{"base deny over both allows", overlaid, get, "both.example", "denied", "both.example"},
		{"extra deny over base allow", overlaid, get, "forbidden.example", "denied", "forbidden.example"},
		{"extra deny below a wildcard", overlaid, get, "a.wild.example", "denied", "a.wild.example"},
		{"the same, plain", plain, get, "a.wild.example", "", ""},
		{"extra deny of an address", overlaid, get, "denied-by-address.example", "denied", "93.184.216.0/24"},
		{"local by exact entry", overlaid, connect, local.String(), "", ""},
		{"local, plain", plain, connect, local.String(), "not_allowed_local", ""},
		{"limited reads", limited, get, "extra.example", "", ""},
		{"limited writes", limited, post, "extra.example", "method_not_allowed", "limited"},
		{"limited tunnels", limited, connect, "base.example:443", "method_not_allowed", "limited"},
		{"limited misses", limited, post, "other.example", "method_not_allowed", "limited"},
		{"full writes", full, post, "base.example", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked = nil
			before := len(test.session.Blocked())
			target := "http://" + test.host + "/"
			if test.method == connect {
				target = test.host
			}
			_, resp := sendRaw(t, "tcp", test.session.HTTPAddr(), fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n\r\n", test.method, target))
			if (test.want == "") != (resp.StatusCode == 200) {
				t.Fatalf("got %s, want the reason %q", resp.Status, test.want)
			}
			if test.want == "" {
				return
			}
			blocked := test.session.Blocked()
			if len(blocked) != before+1 {
				t.Fatalf("%d refusals are recorded, want %d", len(blocked), before+1)
			}
			if last := blocked[before]; last.Reason != test.want || last.Rule.Pattern != test.rule {
				t.Errorf("refused with the reason %s by the rule %+v, want %s by %q", last.Reason, last.Rule, test.want, test.rule)
			}
			if (len(asked) == 1) != (test.want == "asked") {
				t.Errorf("the decider was called for %q", asked)
			}
		})
	}
}

func TestOverlayErrors(t *testing.T) {
	t.Parallel()
	limits := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(limits, []byte("[network_proxy]\nmode = \"limited\"\n[network_proxy.policy]\nallowed_domains = [\"**.corp.example\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := allow("a.corp.example")
	config.Mode = networkproxy.ModeLimited
	l := start(t, config, func(b *networkproxy.Builder) { b.Requirements(limits) })
	for _, test := range []struct {
		name   string
		config networkproxy.SessionConfig
		want   string // part of the error; empty: none
		limit  bool
	}{
		{"within", networkproxy.SessionConfig{AllowedDomains: []string{"*.corp.example"}, DeniedDomains: []string{"x.example"}, Mode: networkproxy.ModeLimited}, "", false},
		{"beyond", networkproxy.SessionConfig{AllowedDomains: []string{"b.corp.example", "other.example"}}, `"other.example"`, true},
		{"wider", networkproxy.SessionConfig{AllowedDomains: []string{"*"}}, `"*"`, true},
		{"mode", networkproxy.SessionConfig{Mode: networkproxy.ModeFull}, `must be "limited"`, true},
		{"no such mode", networkproxy.SessionConfig{Mode: "open"}, `"open"`, false},
		{"no pattern", networkproxy.SessionConfig{AllowedDomains: []string{"http://corp.example/"}}, "corp.example", false},
		{"deny all", networkproxy.SessionConfig{DeniedDomains: []string{"*"}}, "refused anyway", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := l.OpenSession(context.Background(), test.config)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				s.Close()
				return
			}
			var limit *networkproxy.LimitError
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &limit) != test.limit {
				t.Errorf("got the error %v, want %q in it and a *LimitError: %t", err, test.want, test.limit)
			}
		})
	}
}

// TestOverlayUnderChangingLimits checks that an overlay outlives reloads, and that
// tightened limits apply to it at once and cut its open connections.
func TestOverlayUnderChangingLimits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	limits := filepath.Join(dir, "limits.toml")
	limit := func(allowed string) {
		t.Helper()
		if err := os.WriteFile(limits, []byte("[network_proxy.policy]\nallowed_domains = ["+allowed+"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	limit(`"**.corp.example"`)
	f := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = []\n")
	l := startFile(t, func(b *networkproxy.Builder) { b.Requirements(limits) }, f.path)
	l.mapHost("a.corp.example", 443, testnet.Echo(t).Addr())
	l.mapHost("b.corp.example", 443, testnet.Echo(t).Addr())
	// Both entries match a.corp.example, but only one exceeds the later limits.
	s := l.open(networkproxy.SessionConfig{AllowedDomains: []string{"*.corp.example", "a.corp.example"}})

	a := connectThrough(t, s.HTTPAddr(), "a.corp.example:443", "")
	b := connectThrough(t, s.HTTPAddr(), "b.corp.example:443", "")
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(echoes(a), echoes(b)); err != nil {
		t.Fatalf("a tunnel after a reload without changes: %v", err)
	}

	limit(`"a.corp.example"`)
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "a tunnel that the limits no longer hold", b)
	if err := echoes(a); err != nil {
		t.Errorf("a tunnel within the tightened limits: %v", err)
	}
	_, resp := sendRaw(t, "tcp", s.HTTPAddr(), "CONNECT b.corp.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp.StatusCode != 403 {
		t.Errorf("a host beyond the limits: got %s, want 403", resp.Status)
	}
	connectThrough(t, s.HTTPAddr(), "a.corp.example:443", "")

	limit(`"**.corp.example"`)
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	connectThrough(t, s.HTTPAddr(), "b.corp.example:443", "")
}
