// Tests of the whole proxy: start, forwarding, refusal and shutdown.

package networkproxy_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

func TestForwardAllowedAndRefused(t *testing.T) {
	t.Parallel()
	l := start(t, allow("allowed.example"), nil)
	l.origin("allowed.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello "+r.Host+r.URL.RequestURI()) })

	resp, err := l.client().Get("http://allowed.example/a%2Fb?q=1%20;2")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(body) != "hello allowed.example/a%2Fb?q=1%20;2" {
		t.Errorf("body of the allowed request: got %q, %v; want %q", body, err, "hello allowed.example/a%2Fb?q=1%20;2")
	}

	resp, err = l.client().Get("http://other.example/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 || resp.Header.Get("x-proxy-error") != "blocked-by-allowlist" {
		t.Errorf("refused request: got %s, x-proxy-error %q; want 403, blocked-by-allowlist", resp.Status, resp.Header.Get("x-proxy-error"))
	}
	if got := l.dns.Queries(); len(got) != 1 || got[0] != "allowed.example" {
		t.Errorf("DNS queries %q, want one for allowed.example only", got)
	}
}

func TestShutdownLeavesNothing(t *testing.T) {
	testnet.CheckLeaks(t)
	l := start(t, allow("allowed.example"), nil)
	l.origin("allowed.example", 80, func(w http.ResponseWriter, r *http.Request) {})
	c := l.client()
	resp, err := c.Get("http://allowed.example/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	c.CloseIdleConnections()
	for range 2 {
		if err := l.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
