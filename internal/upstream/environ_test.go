package upstream

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"example.com/networkproxy/internal/hostname"
)

func mustEnviron(t testing.TB, env ...string) *Proxies {
	t.Helper()
	p, err := FromEnviron(env, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustTarget(t testing.TB, s string) hostname.Target {
	t.Helper()
	target, err := hostname.ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// describe returns a text with all properties of a proxy.
func describe(p *Proxy) string {
	if p == nil {
		return ""
	}
	credentials, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.Authorization(), "Basic "))
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", p.Variable(), p, credentials))
}

func TestVariables(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		env         []string
		http, https string
	}{
		{"none", nil, "", ""},
		{"http", []string{"HTTP_PROXY=http://proxy.example:3128"}, "HTTP_PROXY http://proxy.example:3128", ""},
		{"https", []string{"HTTPS_PROXY=http://proxy.example:3128"}, "", "HTTPS_PROXY http://proxy.example:3128"},
		{"all", []string{"ALL_PROXY=http://proxy.example:3128"}, "ALL_PROXY http://proxy.example:3128", "ALL_PROXY http://proxy.example:3128"},
		{"all fills in", []string{"ALL_PROXY=a.example:1", "HTTPS_PROXY=b.example:2"}, "ALL_PROXY http://a.example:1", "HTTPS_PROXY http://b.example:2"},
		{"lower case first", []string{"HTTP_PROXY=a.example:1", "http_proxy=b.example:2", "https_proxy=c.example:3", "all_proxy=d.example:4"},
			"http_proxy http://b.example:2", "https_proxy http://c.example:3"},
		{"lower-case all", []string{"ALL_PROXY=a.example:1", "all_proxy=b.example:2"}, "all_proxy http://b.example:2", "all_proxy http://b.example:2"},
		{"empty is none", []string{"http_proxy=", "HTTP_PROXY=a.example:1", "HTTPS_PROXY= "}, "HTTP_PROXY http://a.example:1", ""},
		{"the last one counts", []string{"HTTP_PROXY=a.example:1", "HTTP_PROXY=b.example:2"}, "HTTP_PROXY http://b.example:2", ""},
		{"not variables", []string{"HTTP_PROXY", "=C:=x"}, "", ""},
		{"CGI, lower case", []string{"REQUEST_METHOD=GET", "http_proxy=a.example:1"}, "http_proxy http://a.example:1", ""},
		{"CGI, another variable", []string{"REQUEST_METHOD=GET", "HTTPS_PROXY=a.example:1"}, "", "HTTPS_PROXY http://a.example:1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := mustEnviron(t, test.env...)
			target := mustTarget(t, "origin.example:8080")
			if got := describe(p.ForHTTP(target)); got != test.http {
				t.Errorf("plain HTTP: %q, want %q", got, test.http)
			}
			if got := describe(p.ForTunnel(target)); got != test.https {
				t.Errorf("tunnels: %q, want %q", got, test.https)
			}
		})
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"proxy.example":                      "http://proxy.example:80",
		"http://proxy.example":               "http://proxy.example:80",
		"https://proxy.example":              "https://proxy.example:443",
		"HTTPS://Proxy.Example.:8443/":       "https://proxy.example:8443",
		"http://10.0.0.5:3128":               "http://10.0.0.5:3128",
		"http://[2001:db8::1]:3128":          "http://[2001:db8::1]:3128",
		"http://u:p@proxy.example:1":         "http://proxy.example:1 u:p",
		"u:p@proxy.example:1":                "http://proxy.example:1 u:p",
		"http://u@proxy.example:1":           "http://proxy.example:1 u:",
		"http://:p@proxy.example:1":          "http://proxy.example:1 :p",
		"http://@proxy.example:1":            "http://proxy.example:1",
		"http://u:p%40%3A%2f%c3%bc@h.test:1": "http://h.test:1 u:p@:/ü",
	} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			p := mustEnviron(t, "HTTP_PROXY="+value)
			if got := describe(p.ForHTTP(mustTarget(t, "origin.example:80"))); got != "HTTP_PROXY "+want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// TestInvalidValues checks error texts. They must not contain the word "secret"
// of the values.
func TestInvalidValues(t *testing.T) {
	t.Parallel()
	tests := []struct{ entry, want string }{
		{"HTTP_PROXY=socks5://secret:secret@proxy.example:1080", "HTTP_PROXY names a socks5:// proxy"},
		{"https_proxy=SOCKS5H://secret", "https_proxy names a socks5h:// proxy"},
		{"ALL_PROXY=socks4://secret", "ALL_PROXY names a socks4:// proxy"},
		{"HTTP_PROXY=ftp://secret", "HTTP_PROXY has a scheme that is neither"},
		{"HTTP_PROXY=secret://x", "HTTP_PROXY has a scheme that is neither"},
		{"HTTP_PROXY=://secret", "HTTP_PROXY has a scheme that is neither"},
		{"HTTP_PROXY=http://", "HTTP_PROXY has an invalid host or port"},
		{"HTTP_PROXY=http://u:secret@", "HTTP_PROXY has an invalid host or port"},
		{"HTTP_PROXY=http://u:secret@h:0", "HTTP_PROXY has an invalid host or port"},
		{"HTTP_PROXY=http://u:secret@h:", "HTTP_PROXY has an invalid host or port"},
		{"HTTP_PROXY=http://u:se/secret@h:1", "HTTP_PROXY is not a URL"},
		{"HTTP_PROXY=http://u:1/secret@h:1", ""}, // user u, port 1: indistinguishable from a path
		{"HTTP_PROXY=http://u:secret#x@h:1", "HTTP_PROXY is not a URL"},
		{"HTTP_PROXY=http://u:%zzsecret@h:1", "HTTP_PROXY is not a URL"},
		{"HTTP_PROXY=http://u:se cret@h:1", "HTTP_PROXY is not a URL"},
		{"HTTP_PROXY=http://u%3asecret:x@h:1", "HTTP_PROXY has a user name with a colon"},
		{"HTTP_PROXY=http://u:secret%0d%0aX-Injected:%20y@h:1", "control characters"},
		{"HTTP_PROXY=http://secret%00:x@h:1", "control characters"},
		{"HTTP_PROXY=http://0x7f.1:3128", "HTTP_PROXY has an invalid host or port"},
	}
	for _, test := range tests {
		t.Run(test.entry, func(t *testing.T) {
			t.Parallel()
			_, err := FromEnviron([]string{test.entry}, nil)
			if (err == nil) != (test.want == "") {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			if err == nil {
				return
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want %q in it", err, test.want)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "cret") {
				t.Errorf("the error quotes the value: %q", err)
			}
			if strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("one mistake is reported twice: %q", err)
			}
		})
	}
	_, err := FromEnviron([]string{"REQUEST_METHOD=GET", "HTTP_PROXY=a.example:1"}, nil)
	if err == nil || !strings.Contains(err.Error(), "CGI") {
		t.Errorf("HTTP_PROXY of a CGI program: %v", err)
	}
	_, err = FromEnviron([]string{"HTTP_PROXY=ftp://x", "HTTPS_PROXY=socks5://x"}, nil)
	if err == nil || !strings.Contains(err.Error(), "HTTP_PROXY has") || !strings.Contains(err.Error(), "HTTPS_PROXY names") {
		t.Errorf("two mistakes: %v", err)
	}
}

// TestNeverThroughAProxy checks targets that mean other hosts to the proxy.
func TestNeverThroughAProxy(t *testing.T) {
	t.Parallel()
	p := mustEnviron(t, "ALL_PROXY=proxy.example:3128")
	for _, target := range []string{
		"localhost:80", "LOCALHOST:80", "app.localhost:80", "127.0.0.1:80", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80",
		"0.0.0.0:80", "[::]:80", "169.254.169.254:80", "[fe80::1]:80",
	} {
		if p.ForHTTP(mustTarget(t, target)) != nil || p.ForTunnel(mustTarget(t, target)) != nil {
			t.Errorf("%s goes through the proxy", target)
		}
	}
	for _, target := range []string{"localhost.example:80", "10.0.0.1:80", "8.8.8.8:80", "[fd00::1]:80"} {
		if p.ForHTTP(mustTarget(t, target)) == nil || p.ForTunnel(mustTarget(t, target)) == nil {
			t.Errorf("%s does not go through the proxy", target)
		}
	}
}

func TestNilNamesNone(t *testing.T) {
	t.Parallel()
	target := mustTarget(t, "origin.example:80")
	for _, p := range []*Proxies{nil, new(Proxies)} {
		if p.ForHTTP(target) != nil || p.ForTunnel(target) != nil || len(p.List()) != 0 {
			t.Errorf("%v has a proxy", p)
		}
	}
}

func TestNoProxy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		noProxy, target string
		direct          bool
	}{
		{"origin.example", "origin.example:80", true},
		{"origin.example", "sub.origin.example:80", true},
		{"origin.example", "myorigin.example:80", false},
		{".origin.example", "origin.example:80", false},
		{"*.origin.example", "sub.origin.example:80", true},
		{"ORIGIN.example", "origin.example:80", true},
		{"bücher.example", "xn--bcher-kva.example:80", true},
		{"origin.example:81", "origin.example:80", false},
		{"origin.example:80", "origin.example:80", true},
		{"a.example, origin.example", "origin.example:80", true},
		{"*", "origin.example:80", true},
		{"10.0.0.0/8", "10.1.2.3:80", true},
		{"10.0.0.0/8", "11.1.2.3:80", false},
		{"2001:db8::/32", "[2001:db8::1]:80", true},
		{"10.1.2.3", "[::ffff:10.1.2.3]:80", true},
		{"3.4", "1.2.3.4:80", false}, // a name does not match an address
	}
	for _, test := range tests {
		t.Run(test.noProxy+" "+test.target, func(t *testing.T) {
			t.Parallel()
			for _, name := range []string{"NO_PROXY", "no_proxy"} {
				p := mustEnviron(t, "ALL_PROXY=proxy.example:3128", name+"="+test.noProxy)
				if direct := p.ForHTTP(mustTarget(t, test.target)) == nil; direct != test.direct {
					t.Errorf("plain HTTP: direct is %t, want %t", direct, test.direct)
				}
				if direct := p.ForTunnel(mustTarget(t, test.target)) == nil; direct != test.direct {
					t.Errorf("tunnels: direct is %t, want %t", direct, test.direct)
				}
			}
		})
	}
}

// TestNoProxyOracle compares a naive model of NO_PROXY with random lists and
// targets.
func TestNoProxyOracle(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	entries := []string{"a.example", ".a.example", "*.b.example", "example", "a.example:80", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "10.1.2.3:443"}
	hosts := []string{"a.example", "x.a.example", "aa.example", "b.example", "y.x.b.example", "example", "10.1.2.3", "10.9.9.9", "11.0.0.1"}
	direct := func(list []string, host, port string) bool {
		for _, entry := range list {
			entry, wantPort, _ := strings.Cut(entry, ":")
			if wantPort != "" && wantPort != port {
				continue
			}
			if addr, err := netip.ParseAddr(host); err == nil {
				prefix, err := netip.ParsePrefix(entry)
				if err == nil && prefix.Contains(addr) || entry == host {
					return true
				}
				continue
			}
			below, _ := strings.CutPrefix(entry, "*")
			if !strings.HasPrefix(below, ".") {
				if host == below {
					return true
				}
				below = "." + below
			}
			if strings.HasSuffix(host, below) {
				return true
			}
		}
		return false
	}
	for range 5000 {
		var list []string
		for range r.IntN(4) {
			list = append(list, pick(entries))
		}
		host, port := pick(hosts), pick([]string{"80", "443"})
		p := mustEnviron(t, "ALL_PROXY=proxy.example:3128", "NO_PROXY="+strings.Join(list, ","))
		want := direct(list, host, port)
		if got := p.ForTunnel(mustTarget(t, host+":"+port)) == nil; got != want {
			t.Fatalf("NO_PROXY=%q, %s:%s: direct is %t, want %t", list, host, port, got, want)
		}
	}
}

func FuzzFromEnviron(f *testing.F) {
	for _, value := range []string{
		"http://user:password@proxy.example:3128/", "https://[2001:db8::1]", "proxy.example", "socks5://x", "http://u:p%40@h:1",
		"http://u:p/w@h:1", "http://\x00", "http://%zz@h", "://", "http://user:pa:ss@h:1", "",
	} {
		f.Add(value, "origin.example,10.0.0.0/8")
	}
	f.Fuzz(func(t *testing.T, value, noProxy string) {
		p, err := FromEnviron([]string{"HTTP_PROXY=" + value, "NO_PROXY=" + noProxy}, nil)
		if err != nil {
			// Errors do not quote the value, except for schemes that have their
			// own message.
			if rest, ok := strings.CutPrefix(err.Error(), "HTTP_PROXY names a socks"); ok && strings.Contains(value, "://") {
				_, _, ok = strings.Cut(rest, "://")
				if ok {
					return
				}
			}
			for _, known := range []string{"HTTP_PROXY is not a URL", "HTTP_PROXY has a"} {
				if strings.HasPrefix(err.Error(), known) {
					return
				}
			}
			t.Fatalf("unknown error text: %q", err)
		}
		proxy := p.ForHTTP(mustTarget(t, "target.test:80"))
		if proxy == nil {
			return
		}
		if strings.ContainsAny(proxy.Authorization(), "\r\n\x00") {
			t.Fatalf("invalid field value: %q", proxy.Authorization())
		}
		again := mustEnviron(t, "HTTP_PROXY="+proxy.String()).http
		if again.String() != proxy.String() || again.Authorization() != "" {
			t.Fatalf("parsing %s again returned %s", proxy, again)
		}
	})
}
