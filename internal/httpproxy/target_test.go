// Tests for the parsing of request-targets.

package httpproxy

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"example.com/networkproxy/internal/policy"
)

// FuzzTarget checks that an accepted request-target has exactly one reading: it
// contains no user information and no escapes, and its host is not changed.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"http://a.example/", "http://a.example:8080/x?y#z", "http://[::1]:80/", "a.example:443", "http://u@a.example/",
		"http://a.example\\@b.example/", "http://a%2eexample/", "https://a.example/", "//a.example/", "*", ":443", "http:a.example",
	} {
		f.Add(false, s)
		f.Add(true, s)
	}
	f.Fuzz(func(t *testing.T, connect bool, text string) {
		method := "GET"
		if connect {
			method = "CONNECT"
		}
		if strings.ContainsAny(text, " \r\n") {
			return // not a single request-target
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + text + " HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil {
			return
		}
		protocol, target, err := targetOf(r)
		if err != nil {
			return
		}
		authority := text
		defaultPort := "80"
		if scheme, ok := map[policy.Protocol]string{policy.ProtocolHTTP: "http://", policy.ProtocolHTTPS: "https://"}[protocol]; ok {
			if !strings.EqualFold(text[:len(scheme)], scheme) {
				t.Fatalf("target %q is accepted as an %s URL", text, scheme)
			}
			if protocol == policy.ProtocolHTTPS {
				defaultPort = "443"
			}
			authority, _, _ = strings.Cut(text[len(scheme):], "/")
			authority, _, _ = strings.Cut(authority, "?")
			authority, _, _ = strings.Cut(authority, "#")
		}
		if strings.ContainsAny(authority, "@\\/?#\"<>|^`{}\x00") || target.Host.IsZero() || target.Port == 0 {
			t.Fatalf("target %q is accepted as %v, want an error", text, target)
		}
		// The host of a plain target is not changed.
		host, port, _ := strings.Cut(authority, ":")
		if plain := strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-."); plain == "" && !strings.HasSuffix(host, ".") && !strings.Contains(host, "xn--") {
			if port == "" {
				port = defaultPort
			}
			if got := target.String(); got != host+":"+port {
				t.Fatalf("target %q is parsed as %s, want %s", text, got, host+":"+port)
			}
		}
	})
}
