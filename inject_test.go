// Tests of header fields that request rules remove and set.

package networkproxy_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/networkproxy"
)

const injectedSecret = "injected-secret-0123456789"

// injecting returns a configuration with a rule that sets Authorization below /v1, and
// rules that do not.
func injecting(t testing.TB) networkproxy.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(injectedSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := allow("example.com", "plain.example")
	c.MITM = true
	inject := []networkproxy.InjectedHeader{{Name: "authorization", Prefix: "Bearer ", SecretFile: file}}
	c.MITMHooks = []networkproxy.MITMHook{
		{Host: "example.com", Methods: []string{"GET"}, PathPrefixes: []string{"/v1/"}, InjectRequestHeaders: inject},
		{Host: "example.com", Methods: []string{"GET"}, PathPrefixes: []string{"/v1/strip"}, StripRequestHeaders: []string{"x-strip"}},
		{Host: "example.com", Methods: []string{"GET"}, PathPrefixes: []string{"/v2/"}, StripRequestHeaders: []string{"authorization"}},
		{Host: "example.com", Methods: []string{"GET"}, PathPrefixes: []string{"/v3/"}},
		{Host: "plain.example:80", Methods: []string{"GET"}, PathPrefixes: []string{"/"}, InjectRequestHeaders: inject},
	}
	return c
}

// TestInjectedHeaders checks what the origin server and the command see of the fields.
func TestInjectedHeaders(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		l := startBrokered(t, injecting(t), http2, nil)
		s := l.command("agent")
		c := l.agent(s, http2)
		masked := strings.Repeat("*", len(injectedSecret))
		for _, test := range []struct {
			path, field, value string
			seen, body         string
		}{
			{"/v1/", "X-Other", "1", "Bearer " + injectedSecret, "you sent Bearer " + masked + " to me"},
			{"/v1/", "Authorization", "of the command", "Bearer " + injectedSecret, "you sent Bearer " + masked + " to me"},
			{"/v2/", "Authorization", "of the command", "", "you sent  to me"},
			{"/v3/", "Authorization", "of the command", "of the command", "you sent of the command to me"},
		} {
			status, header, body := send(t, c, "https://example.com"+test.path, test.field, test.value)
			if status != 200 || body != test.body || strings.Contains(header.Get("X-Echo"), injectedSecret) {
				t.Errorf("HTTP/2 %v, %s: %d %q, %v", http2, test.path, status, body, header)
			}
			if seen := l.requests(); len(seen) != 1 || seen[0] != test.seen {
				t.Errorf("HTTP/2 %v, %s: the origin server saw %q, want %q", http2, test.path, seen, test.seen)
			}
		}
		if status, _, _ := send(t, c, "https://example.com/v4/", "X-Other", "1"); status != 403 {
			t.Errorf("HTTP/2 %v: a request that no rule allows: %d", http2, status)
		}
	}
}

// TestStrippedHeaders checks that all spellings of a field are removed that a server may
// read as the same, and that the rules' changes add up.
func TestStrippedHeaders(t *testing.T) {
	t.Parallel()
	c := injecting(t)
	c.MITMHooks = append(c.MITMHooks, networkproxy.MITMHook{
		Host: "plain.example:81", Methods: []string{"GET"}, PathPrefixes: []string{"/"}, StripRequestHeaders: []string{"x-strip", "cookie"},
	})
	l := start(t, c, nil)
	seen := make(chan http.Header, 1)
	l.origin("plain.example", 81, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })
	w := l.dialHTTP(t)
	w.get("http://plain.example:81/", "X-Strip: 1", "x-strip: 2", "X_Strip: 3", "Cookie: a=b", "X-Kept: 4")
	w.readResponse("GET")
	h := <-seen
	for name := range h {
		if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "x-strip") || name == "Cookie" {
			t.Errorf("%s reached the server", name)
		}
	}
	if h.Get("X-Kept") != "4" {
		t.Errorf("%v", h)
	}
}

// TestInjectionNeedsTLS: a secret is not sent in plain text, unless the configuration
// demands it.
func TestInjectionNeedsTLS(t *testing.T) {
	t.Parallel()
	for _, plaintext := range []bool{false, true} {
		c := injecting(t)
		c.DangerouslyAllowPlaintextCredentialInjection = plaintext
		l := start(t, c, nil)
		seen := make(chan string, 1)
		l.origin("plain.example", 80, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Authorization") })
		r := l.get("http://plain.example/")
		if plaintext {
			if got := <-seen; r.status != 200 || got != "Bearer "+injectedSecret {
				t.Errorf("%d, the server saw %q", r.status, got)
			}
			continue
		}
		if r.status != 403 || !strings.Contains(r.body, "plain text") || strings.Contains(r.body, injectedSecret) || len(seen) > 0 {
			t.Errorf("%d %s", r.status, r.body)
		}
		if b := l.Blocked(); len(b) != 1 || b[0].Reason != networkproxy.ReasonCredentialNotAllowed {
			t.Errorf("%+v", b)
		}
	}
}

// TestInjectionErrors checks the mistakes that are found when the configuration is loaded,
// and that the command does not get the variable with the secret.
func TestInjectionErrors(t *testing.T) {
	t.Parallel()
	build := func(h networkproxy.MITMHook) error {
		c := allow("example.com")
		c.Enabled, c.MITM, c.MITMHooks = true, true, []networkproxy.MITMHook{h}
		b := networkproxy.NewBuilder().Config(c)
		b.UpstreamEnviron([]string{"GOOD=" + injectedSecret, "BAD=two words"})
		_, err := b.Build()
		return err
	}
	hook := func(name, prefix, variable string) networkproxy.MITMHook {
		return networkproxy.MITMHook{Host: "example.com", Methods: []string{"GET"}, PathPrefixes: []string{"/"},
			InjectRequestHeaders: []networkproxy.InjectedHeader{{Name: name, Prefix: prefix, SecretEnvVar: variable}}}
	}
	if err := build(hook("X-Key", "", "GOOD")); err != nil {
		t.Error(err)
	}
	deny, strip, cookie := hook("X-Key", "", "GOOD"), hook("X-Key", "", "GOOD"), hook("X-Key", "", "GOOD")
	deny.Deny = true
	strip.StripRequestHeaders = []string{"Content-Length"}
	cookie.StripRequestHeaders = []string{"Cookie"}
	if err := build(cookie); err != nil {
		t.Error(err)
	}
	for want, h := range map[string]networkproxy.MITMHook{
		"inject_request_headers[0].name":           hook("Host", "", "GOOD"),
		"inject_request_headers[0].prefix":         hook("X-Key", "a\r\nb: ", "GOOD"),
		"inject_request_headers[0].secret_env_var": hook("X-Key", "", "MISSING"),
		"the value of the environment variable":    hook("X-Key", "", "BAD"),
		"has no secret":                            hook("X-Key", "", ""),
		"lets no request through":                  deny,
		"strip_request_headers[0]":                 strip,
	} {
		if err := build(h); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "two words") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
