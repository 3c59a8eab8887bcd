//go:build e2e && linux

// This file checks the origin servers and the clients without the proxy, so that only the
// proxy can be the cause of what other tests find.

package tls

import (
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

func TestWithoutTheProxy(t *testing.T) {
	t.Parallel()
	p := &proxy{pool: lab.ca.pool}
	host := lab.host("web")
	base := "https://" + host
	eachVersion(t, func(t *testing.T, version string) {
		c := p.clientBy(t, direct, version)
		if got := c.get(t, base+"/hello"); got.body != helloBody(host) {
			t.Errorf("/hello: %+v", got)
		}
		if got := c.send(t, "POST", base+"/v1/%7Eu?a=%20", "data").seen(t); got.URI != "/v1/%7Eu?a=%20" || !strings.HasPrefix(got.Body, "4 ") {
			t.Errorf("echo: %+v", got)
		}
		if got := c.get(t, base+"/early"); !slices.Equal(got.informational, []int{103}) || got.body != "late\n" {
			t.Errorf("/early: %+v", got)
		}
		checkTrailers(t, c, base)
		if version == http2 {
			for name, err := range map[string]error{"unary": unary(c.Client, base, "one"), "bidirectional": bidirectional(c.Client, base)} {
				if err != nil {
					t.Errorf("gRPC %s: %v", name, err)
				}
			}
		}
		if late := readEvents(t, c, base, 3); len(late) != 3 {
			t.Errorf("/sse: %d events, want 3", len(late))
		}
	})
	t.Run("websocket", func(t *testing.T) {
		conn, err := tls.Dial("tcp", host+":443", &tls.Config{RootCAs: lab.ca.pool, NextProtos: []string{http1}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		checkWebSocket(t, conn, host, "/ws")
	})
	t.Run("git", func(t *testing.T) {
		cmd := (&proxy{caFile: lab.ca.file}).command(t.Context(), t, "git", "ls-remote", base+"/git/project.git", "main")
		cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.Contains(strings.ToLower(v), "_proxy=") })
		if got := harness.Run(t, cmd).MustSucceed(t); !strings.Contains(got.Stdout, "refs/heads/main") {
			t.Errorf("git ls-remote: %+v", got)
		}
	})
}

// TestFaultyOrigins checks that each faulty origin server is faulty in the expected way.
func TestFaultyOrigins(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"expired": "expired", "wrongname": "not " + "n", "selfsigned": "unknown authority", "mutual": "certificate required",
	} {
		host := lab.host(kind)
		c := (&proxy{pool: lab.ca.pool}).clientBy(t, direct, http1)
		a, err := c.try(request(t, "GET", "https://"+host+"/hello", ""))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want an error with %q", kind, a, err, want)
		}
		wantNothing(t, host)
	}
	host := lab.host("h1")
	conn, err := tls.Dial("tcp", host+":443", &tls.Config{RootCAs: lab.ca.pool, NextProtos: []string{http2, http1}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != http1 {
		t.Errorf("the server for HTTP/1.1 alone selects %q", got)
	}
	if got, err := net.Dial("tcp", "127.0.0.1:443"); err == nil {
		got.Close()
		t.Error("a server listens on loopback, want none there")
	}
	if got := (&proxy{pool: lab.ca.pool}).clientBy(t, direct, http1).get(t, "https://"+address("web").String()+"/hello"); got.status != http.StatusOK {
		t.Errorf("by address: %+v", got)
	}
}
