//go:build e2e && linux

// This file tests single forwarded requests: methods, headers, and unreachable
// origins.

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
)

func TestLimitedMode(t *testing.T) {
	t.Parallel()
	p := start(t, config{Mode: "limited", Allowed: []string{"allowed.example"}})
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "get"} {
		want := http.StatusForbidden
		if slices.Contains([]string{"GET", "HEAD", "OPTIONS"}, method) {
			want = http.StatusOK
		}
		if got := fetchMethod(t, p, method, "http://allowed.example/hello"); got != want {
			t.Errorf("%s: status %d, want %d", method, got, want)
		}
	}
	got := fetchCurl(t, p, "https://allowed.example/hello")
	if got.status != http.StatusForbidden || got.proxyError != "blocked-by-method-policy" {
		t.Errorf("CONNECT: status %d, x-proxy-error %q; want 403, blocked-by-method-policy", got.status, got.proxyError)
	}
}

// TestForwardedHeaders checks the request that the origin receives.
func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example"}})
	res := p.run(t, "curl", "-sS", "--user-agent", "", "--proxy-header", "Proxy-Secret: eDp5",
		"-H", "X-Kept: 1", "-H", "X-Dropped: 1", "-H", "Connection: x-dropped",
		"http://allowed.example/headers?a=1&b=%2f;c").MustSucceed(t)
	var got struct {
		URI     string
		Host    string
		Headers http.Header
	}
	if err := json.Unmarshal([]byte(res.Stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Host != "allowed.example" || got.URI != "/headers?a=1&b=%2f;c" {
		t.Errorf("host %q, URI %q; want allowed.example, /headers?a=1&b=%%2f;c", got.Host, got.URI)
	}
	if want := []string{"Accept", "X-Kept"}; !slices.Equal(slices.Sorted(maps.Keys(got.Headers)), want) {
		t.Errorf("headers %v, want only %v", got.Headers, want)
	}
}

// TestUnreachable requests an allowed host without a listener, and one without an
// address.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"unreachable.example", "absent.example"}})
	for _, target := range []string{"unreachable.example:81", "absent.example:80"} {
		for _, form := range requestForms {
			t.Run(form.name+" "+target, func(t *testing.T) {
				t.Parallel()
				if resp := rawRoundTrip(t, p, fmt.Sprintf(form.format, target)); resp.StatusCode != http.StatusBadGateway {
					t.Errorf("status %d, want 502", resp.StatusCode)
				}
			})
		}
	}
}
