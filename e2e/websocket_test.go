//go:build e2e && linux

// This file tests WebSocket (RFC 6455) with an echo server, by Upgrade and through
// CONNECT.

package e2e

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// upgradeRequest returns a WebSocket request in absolute-form. Browsers no longer send
// it, but plain HTTP clients may.
func upgradeRequest(host string) string {
	return harness.UpgradeRequest("http://"+host+"/websocket", host)
}

func TestWebSocketByUpgrade(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"full", "limited"} {
		p := start(t, config{Mode: mode, Allowed: []string{"allowed.example"}})
		t.Run(mode+" refused", func(t *testing.T) {
			t.Parallel()
			resp := rawRoundTrip(t, p, upgradeRequest("other.example"))
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("status %d, want 403", resp.StatusCode)
			}
		})
		t.Run(mode+" allowed", func(t *testing.T) {
			t.Parallel()
			conn := p.connect(t)
			if _, err := io.WriteString(conn, upgradeRequest("allowed.example")); err != nil {
				t.Fatal(err)
			}
			reader := bufio.NewReader(conn)
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if mode == "limited" {
				if resp.StatusCode != http.StatusForbidden || resp.Header.Get("X-Proxy-Error") != "blocked-by-method-policy" {
					t.Errorf("status %d, x-proxy-error %q; want 403, blocked-by-method-policy", resp.StatusCode, resp.Header.Get("X-Proxy-Error"))
				}
				return
			}
			harness.CheckWebSocket(t, resp, conn, reader)
		})
	}
}

func TestWebSocketThroughConnect(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example"}})
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme+" allowed", func(t *testing.T) {
			t.Parallel()
			cmd := p.command(t.Context(), python, "testdata/websocket.py", p.proxy, scheme+"://allowed.example/websocket")
			messages := "one\ntwo\n" + strings.Repeat("three ", 20000) + "\n"
			cmd.Stdin = strings.NewReader(messages)
			if got := harness.Run(t, cmd).MustSucceed(t).Stdout; got != messages {
				t.Errorf("the echo has %d bytes, want %d", len(got), len(messages))
			}
		})
		t.Run(scheme+" refused", func(t *testing.T) {
			t.Parallel()
			cmd := p.command(t.Context(), python, "testdata/websocket.py", p.proxy, scheme+"://other.example/websocket")
			res := harness.Run(t, cmd)
			if res.Exit == 0 || !strings.Contains(res.Stderr, "403") {
				t.Errorf("exit %d, want a failure that says 403: %s", res.Exit, res.Stderr)
			}
		})
	}
}

// TestCurlOffersHTTP2 checks that curl's offer of h2c (RFC 7540 section 3.2) gets an
// ordinary response, also in the limited mode, and that the origin does not receive it.
func TestCurlOffersHTTP2(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"full", "limited"} {
		p := start(t, config{Allowed: []string{"allowed.example"}, Mode: mode})
		got := p.run(t, "curl", "-sS", "--fail", "--http2", "http://allowed.example/headers").MustSucceed(t).Stdout
		if strings.Contains(got, "Upgrade") || strings.Contains(got, "Http2-Settings") {
			t.Errorf("%s: the origin received the offer: %s", mode, got)
		}
	}
}
