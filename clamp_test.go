package networkproxy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParseListenAddr(t *testing.T) {
	t.Parallel()
	tests := []struct {
		key  string
		raw  string
		want string // an address, or the error behind "key = value: "
	}{
		{keyProxyURL, "http://127.0.0.1:3128", "127.0.0.1:3128"},
		{keyProxyURL, "http://127.0.0.1:3128/", "127.0.0.1:3128"},
		{keyProxyURL, "HTTP://127.0.0.1:1", "127.0.0.1:1"},
		{keyProxyURL, "127.0.0.1:9000", "127.0.0.1:9000"},
		{keyProxyURL, "http://127.0.0.1", "127.0.0.1:3128"},
		{keyProxyURL, "127.0.0.1", "127.0.0.1:3128"},
		{keyAdminURL, "http://127.0.0.1", "127.0.0.1:8080"},
		{keySOCKSURL, "http://127.0.0.1", "127.0.0.1:8081"},
		{keySOCKSURL, "socks5://127.0.0.1", "127.0.0.1:8081"},
		{keySOCKSURL, "socks5h://[::1]:1080", "[::1]:1080"},
		{keyProxyURL, "http://127.0.0.1:80", "127.0.0.1:80"},
		{keyProxyURL, "127.0.0.1:0", "127.0.0.1:0"},
		{keyProxyURL, "localhost", "127.0.0.1:3128"},
		{keyProxyURL, "http://LocalHost:8", "127.0.0.1:8"},
		{keyProxyURL, "[::1]", "[::1]:3128"},
		{keyProxyURL, "http://[::1]:8", "[::1]:8"},
		{keyProxyURL, "[::ffff:127.0.0.1]:8", "127.0.0.1:8"},
		{keyProxyURL, "0.0.0.0:8", "0.0.0.0:8"},
		{keyProxyURL, "192.0.2.1:65535", "192.0.2.1:65535"},
		{keyProxyURL, "[fe80::1%eth0]:8", "[fe80::1%eth0]:8"},
		{keyProxyURL, "http://[fe80::1%25eth0]:8", "[fe80::1%eth0]:8"},

		{keyProxyURL, "", `no address: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, "https://127.0.0.1:3128", `the HTTP proxy does not listen for "https://": use http://`},
		{keyAdminURL, "unix:///run/x", `the admin API does not listen for "unix://": use http://`},
		{keyProxyURL, "socks5://127.0.0.1:1", `the HTTP proxy does not listen for "socks5://": use http://`},
		{keySOCKSURL, "socks4://127.0.0.1:1", `the SOCKS5 proxy does not listen for "socks4://": use http:// or socks5:// or socks5h://`},
		{keyProxyURL, "://127.0.0.1", `the HTTP proxy does not listen for "://": use http://`},
		{keyProxyURL, "http://127.0.0.1:1/x", `a listener has no path: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, "http://127.0.0.1:1//", `a listener has no path: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, "127.0.0.1/", `a listener has no path: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, "http://127.0.0.1:1?x", `a listener has no query: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, "http://127.0.0.1:1#x", `a listener has no fragment: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, "http://u:p@127.0.0.1:1", `a listener has no user name: write it like "http://127.0.0.1:3128"`},
		{keyAdminURL, "proxy.example:80", `the host "proxy.example" is neither an IP address nor localhost: write it like "http://127.0.0.1:8080"`},
		{keyProxyURL, "localhost.:80", `the host "localhost." is neither an IP address nor localhost: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, "127.1:80", `the host "127.1" is neither an IP address nor localhost: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, "2130706433:80", `the host "2130706433" is neither an IP address nor localhost: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, " 127.0.0.1:80", `the host " 127.0.0.1" is neither an IP address nor localhost: write it like "http://127.0.0.1:3128"`},
		{keyProxyURL, ":80", `no host: write 127.0.0.1 or localhost before the port`},
		{keyProxyURL, "http://", `no host: write 127.0.0.1 or localhost before the port`},
		{keyProxyURL, "::1", `more than one colon: put an IPv6 address in brackets, like [::1]:3128`},
		{keyProxyURL, "::1:3128", `more than one colon: put an IPv6 address in brackets, like [::1]:3128`},
		{keyProxyURL, "[::1", `no "]" after the IPv6 address`},
		{keyProxyURL, "[127.0.0.1]:80", `"127.0.0.1" in brackets is not an IPv6 address: leave the brackets out`},
		{keyProxyURL, "[::1]80", `the port "80" is not a number from 0 to 65535`},
		{keyProxyURL, "127.0.0.1:", `the port "" is not a number from 0 to 65535`},
		{keyProxyURL, "127.0.0.1:http", `the port "http" is not a number from 0 to 65535`},
		{keyProxyURL, "127.0.0.1:65536", `the port "65536" is not a number from 0 to 65535`},
		{keyProxyURL, "127.0.0.1:-1", `the port "-1" is not a number from 0 to 65535`},
		{keyProxyURL, "127.0.0.1:+1", `the port "+1" is not a number from 0 to 65535`},
	}
	for _, test := range tests {
		t.Run(test.key+" "+test.raw, func(t *testing.T) {
			t.Parallel()
			at := Position{"c.toml", 2, 3}
			addr, err := parseListenAddr(test.key, test.raw, at)
			if err == nil {
				if addr.String() != test.want {
					t.Errorf("got %s, want %s", addr, test.want)
				}
				return
			}
			var cerr *ConfigError
			if !errors.As(err, &cerr) || cerr.Position != at || cerr.Key != test.key || cerr.Value != test.raw {
				t.Fatalf("got %#v", err)
			}
			if got := cerr.Err.Error(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func FuzzParseListenAddr(f *testing.F) {
	for _, seed := range []string{"http://127.0.0.1:3128", "localhost", "[::1]:0", "[fe80::1%25a]", "::1", "://", "http://[::ffff:1.2.3.4]:5/", "a@b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, key := range []string{keyProxyURL, keyAdminURL, keySOCKSURL} {
			addr, err := parseListenAddr(key, raw, Position{})
			if err != nil {
				if err.Error() == "" || strings.Contains(err.Error(), "\n") {
					t.Errorf("%q: error %q", raw, err)
				}
				continue
			}
			if !addr.IsValid() || addr.Addr().Is4In6() {
				t.Errorf("%q gives %s", raw, addr)
			}
			if again, err := parseListenAddr(key, addr.String(), Position{}); err != nil || again != addr {
				t.Errorf("%q gives %s, which gives %s, %v", raw, addr, again, err)
			}
		}
	})
}

func TestClampAddr(t *testing.T) {
	t.Parallel()
	const (
		exposeProxy = 1 << iota
		exposeAdmin
		sockets
	)
	tests := []struct {
		name    string
		kind    listenerKind
		asked   string
		flags   int
		want    string
		warning []string // what the warning names; nil for none
	}{
		{"loopback", proxyListener, "127.0.0.1:3128", 0, "127.0.0.1:3128", nil},
		{"loopback with the flag", proxyListener, "127.0.0.1:3128", exposeProxy, "127.0.0.1:3128", nil},
		{"loopback with everything", proxyListener, "[::1]:3128", exposeProxy | sockets, "[::1]:3128", nil},
		{"another loopback address", adminListener, "127.9.9.9:80", 0, "127.9.9.9:80", nil},
		{"mapped loopback", proxyListener, "[::ffff:127.0.0.1]:1", 0, "127.0.0.1:1", nil},
		{"any port", proxyListener, "127.0.0.1:0", 0, "127.0.0.1:0", nil},

		{"every address", proxyListener, "0.0.0.0:3128", 0, "127.0.0.1:3128", []string{keyNonLoopbackProxy, "0.0.0.0:3128", "127.0.0.1:3128"}},
		{"every IPv6 address", socksListener, "[::]:8081", 0, "127.0.0.1:8081", []string{keyNonLoopbackProxy, "SOCKS5"}},
		{"one address", adminListener, "192.0.2.1:8080", 0, "127.0.0.1:8080", []string{keyNonLoopbackAdmin, "192.0.2.1:8080"}},
		{"mapped address", proxyListener, "[::ffff:192.0.2.1]:8", 0, "127.0.0.1:8", []string{keyNonLoopbackProxy}},
		{"a zone", proxyListener, "[fe80::1%eth0]:8", 0, "127.0.0.1:8", []string{keyNonLoopbackProxy}},
		{"the port is kept", proxyListener, "0.0.0.0:80", 0, "127.0.0.1:80", []string{keyNonLoopbackProxy}},
		{"the other flag", proxyListener, "0.0.0.0:1", exposeAdmin, "127.0.0.1:1", []string{keyNonLoopbackProxy}},
		{"the other flag, admin", adminListener, "0.0.0.0:1", exposeProxy, "127.0.0.1:1", []string{keyNonLoopbackAdmin}},
		{"no flag, sockets", proxyListener, "0.0.0.0:1", sockets, "127.0.0.1:1", []string{keyNonLoopbackProxy}},

		{"with the flag", proxyListener, "0.0.0.0:1", exposeProxy, "0.0.0.0:1", []string{keyNonLoopbackProxy, "other machines"}},
		{"with the flag, SOCKS", socksListener, "[2001:db8::1]:1", exposeProxy, "[2001:db8::1]:1", []string{keyNonLoopbackProxy}},
		{"with the flag, admin", adminListener, "192.0.2.1:1", exposeAdmin, "192.0.2.1:1", []string{keyNonLoopbackAdmin}},

		{"with the flag and sockets", proxyListener, "0.0.0.0:1", exposeProxy | sockets, "127.0.0.1:1", []string{keyNonLoopbackProxy, keyAllowUnixSockets}},
		{"with the flag and sockets, SOCKS", socksListener, "[::]:1", exposeProxy | sockets, "127.0.0.1:1", []string{keyNonLoopbackProxy, keyAllowUnixSockets}},
		{"with the flag and sockets, admin", adminListener, "0.0.0.0:1", exposeAdmin | sockets, "127.0.0.1:1", []string{keyNonLoopbackAdmin, keyAllowUnixSockets}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := DefaultConfig()
			c.DangerouslyAllowNonLoopbackProxy = test.flags&exposeProxy != 0
			c.DangerouslyAllowNonLoopbackAdmin = test.flags&exposeAdmin != 0
			if test.flags&sockets != 0 {
				c.Policy.AllowUnixSockets = []string{"/run/x"}
			}
			got, warning := clampAddr(netip.MustParseAddrPort(test.asked), test.kind, &c)
			if got.String() != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if (warning == "") != (test.warning == nil) {
				t.Errorf("got the warning %q, want one: %t", warning, test.warning != nil)
			}
			for _, part := range test.warning {
				if !strings.Contains(warning, part) {
					t.Errorf("the warning %q does not name %s", warning, part)
				}
			}
		})
	}
}

func TestCheckListeners(t *testing.T) {
	t.Parallel()
	const np = "[network_proxy]\n"
	tests := []struct {
		name      string
		text      string
		overrides map[string]string
		handed    []string
		want      string // the error; empty for none
	}{
		{"defaults", np, nil, nil, ""},
		{"same address and port", np + "proxy_url = \"127.0.0.1:8080\"", nil, nil,
			`network_proxy.admin_url = "http://127.0.0.1:8080": the admin API would listen on 127.0.0.1:8080, and so would the HTTP proxy on 127.0.0.1:8080 by network_proxy.proxy_url = "127.0.0.1:8080" (c.toml:2:13): give one of them another port`},
		{"same port, another address", np + "proxy_url = \"127.0.0.2:8080\"", nil, nil, ""},
		{"same port, another family", np + "proxy_url = \"[::1]:8080\"", nil, nil, ""},
		{"any port twice", np + "proxy_url = \"127.0.0.1:0\"\nadmin_url = \"127.0.0.1:0\"", nil, nil, ""},
		{"SOCKS is off", np + "socks_url = \"127.0.0.1:3128\"", nil, nil, ""},
		{"SOCKS is on", np + "enable_socks5 = true\nsocks_url = \"127.0.0.1:3128\"", nil, nil,
			`c.toml:3:13: network_proxy.socks_url = "127.0.0.1:3128": the SOCKS5 proxy would listen on 127.0.0.1:3128, and so would the HTTP proxy on 127.0.0.1:3128 by network_proxy.proxy_url = "http://127.0.0.1:3128" (default): give one of them another port`},
		{"the clamp makes them one", np + "proxy_url = \"192.0.2.1:7\"\nadmin_url = \"192.0.2.2:7\"", nil, nil,
			`c.toml:3:13: network_proxy.admin_url = "192.0.2.2:7": the admin API would listen on 127.0.0.1:7, and so would the HTTP proxy on 127.0.0.1:7 by network_proxy.proxy_url = "192.0.2.1:7" (c.toml:2:13): give one of them another port`},
		{"one takes in the other", np + "dangerously_allow_non_loopback_proxy = true\nproxy_url = \"0.0.0.0:8080\"", nil, nil,
			`network_proxy.admin_url = "http://127.0.0.1:8080": the admin API would listen on 127.0.0.1:8080, and so would the HTTP proxy on 0.0.0.0:8080 by network_proxy.proxy_url = "0.0.0.0:8080" (c.toml:3:13): give one of them another port`},
		{"IPv6 takes in IPv4", np + "dangerously_allow_non_loopback_proxy = true\nproxy_url = \"[::]:8080\"", nil, nil,
			`network_proxy.admin_url = "http://127.0.0.1:8080": the admin API would listen on 127.0.0.1:8080, and so would the HTTP proxy on [::]:8080 by network_proxy.proxy_url = "[::]:8080" (c.toml:3:13): give one of them another port`},
		{"IPv4 does not take in IPv6", np + "dangerously_allow_non_loopback_proxy = true\nproxy_url = \"0.0.0.0:8080\"\nadmin_url = \"[::1]:8080\"", nil, nil, ""},
		{"an override helps", np + "proxy_url = \"127.0.0.1:8080\"", map[string]string{keyProxyURL: "127.0.0.1:1"}, nil, ""},
		{"an empty override is none", np, map[string]string{keyProxyURL: ""}, nil, ""},
		{"an override collides", np, map[string]string{keyAdminURL: "127.0.0.1:3128"}, nil,
			`network_proxy.admin_url = "127.0.0.1:3128": the admin API would listen on 127.0.0.1:3128, and so would the HTTP proxy on 127.0.0.1:3128 by network_proxy.proxy_url = "http://127.0.0.1:3128" (default): give one of them another port`},
		{"an override that is not an address", np, map[string]string{keyAdminURL: "x.example"}, nil,
			`network_proxy.admin_url = "x.example": the host "x.example" is neither an IP address nor localhost: write it like "http://127.0.0.1:8080"`},
		{"a handed listener is elsewhere", np + "proxy_url = \"127.0.0.1:8080\"", nil, []string{keyAdminURL}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := loadText(t, test.text)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			if err := s.checkListeners(test.overrides, test.handed...); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
