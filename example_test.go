// Examples for the Go documentation. They run on loopback only.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.com/networkproxy"
)

// proxied returns a client that uses the proxy, as a command with HTTP_PROXY does.
func proxied(handle *networkproxy.Handle) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: handle.HTTPAddr()}),
		DisableKeepAlives: true,
	}}
}

// runOnFreePorts runs a proxy with config. The first example shows the steps.
func runOnFreePorts(config networkproxy.Config) (*networkproxy.Handle, error) {
	proxy, err := networkproxy.NewBuilder().Config(config).HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").Build()
	if err != nil {
		return nil, err
	}
	return proxy.Run(context.Background())
}

// Builds, runs, uses and shuts down a proxy.
func Example() {
	// A web server on this machine stands in for the internet. Its loopback address
	// is on the allowlist.
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	}))
	defer origin.Close()

	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.AllowedDomains = []string{"127.0.0.1", "*.example.com"}
	config.Policy.DeniedDomains = []string{"ads.example.com"}

	proxy, err := networkproxy.NewBuilder().
		Config(config).
		HTTPAddr("127.0.0.1:0"). // any free port
		AdminAddr("127.0.0.1:0").
		Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	handle, err := proxy.Run(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, target := range []string{origin.URL, "http://ads.example.com/", "http://elsewhere.example/", "http://10.0.0.1/"} {
		resp, err := proxied(handle).Get(target)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Printf("%d %q\n", resp.StatusCode, resp.Header.Get("x-proxy-error"))
	}

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	fmt.Println("shut down:", handle.Shutdown(ctx))

	// Output:
	// 200 ""
	// 403 "blocked-by-denylist"
	// 403 "blocked-by-allowlist"
	// 403 "blocked-by-allowlist"
	// shut down: <nil>
}

// A decider decides about hosts on no list.
func ExampleBuilder_PolicyDecider() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.DeniedDomains = []string{"docs.evil.example"}

	proxy, err := networkproxy.NewBuilder().
		Config(config).
		HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		PolicyDecider(func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			fmt.Printf("asked about %s %s:%d\n", req.Method, req.Host, req.Port)
			if strings.HasPrefix(req.Host, "upload.") {
				return networkproxy.Ask("uploads need your consent"), nil
			}
			return networkproxy.Deny("not needed for this task"), nil
		}).
		Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	handle, err := proxy.Run(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()

	for _, target := range []string{"http://upload.example/", "http://games.example/", "http://docs.evil.example/"} {
		resp, err := proxied(handle).Get(target)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
	}
	for _, b := range handle.Blocked() {
		fmt.Printf("%s: %s (%s, by %s)\n", b.Host, b.Decision, b.Reason, b.Source)
	}

	// Output:
	// asked about GET upload.example:80
	// asked about GET games.example:80
	// upload.example: ask (uploads need your consent, by decider)
	// games.example: deny (not needed for this task, by decider)
	// docs.evil.example: deny (denied, by baseline_policy)
}

// A conversation runs many commands, each in a session of its own. The user's answer
// applies to all of them.
func ExampleDecision_ForGroup() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	proxy, err := networkproxy.NewBuilder().
		Config(config).
		HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		PolicyDecider(func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			fmt.Printf("%s wants to reach %s\n", req.Command, req.Host)
			return networkproxy.Deny("the user said no").ForGroup(), nil
		}).
		Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	handle, err := proxy.Run(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()

	for _, command := range []string{"npm test", "npm install"} {
		session, err := handle.OpenSession(context.Background(), networkproxy.SessionConfig{
			Group:       "conversation 7",
			Attribution: networkproxy.Attribution{Command: command},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		proxyURL, err := url.Parse(session.ProxyURL()) // a command gets it from session.Environ
		if err != nil {
			fmt.Println(err)
			return
		}
		client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxyURL), DisableKeepAlives: true}}
		resp, err := client.Get("http://telemetry.example/")
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(command+":", resp.Status)
		session.Close()
	}
	if err := handle.CloseGroup("conversation 7"); err != nil {
		fmt.Println(err)
	}

	// Output:
	// npm test wants to reach telemetry.example
	// npm test: 403 Forbidden
	// npm install: 403 Forbidden
}

// A decision that lasts is a grant, which the user can see and revoke.
func ExampleHandle_Grants() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	proxy, err := networkproxy.NewBuilder().
		Config(config).
		HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		Resolver(noNames{}).
		PolicyDecider(func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			return networkproxy.Allow().For(10 * time.Minute).Subdomains(), nil
		}).
		Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	handle, err := proxy.Run(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()

	resp, err := proxied(handle).Get("http://api.example/")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	for _, g := range handle.Grants() {
		fmt.Printf("%s, port %d, for %v\n", g.Host, g.Port, g.Expires.Sub(g.Created).Round(time.Second))
		if err := handle.Revoke(g.ID); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(len(handle.Grants()), "grants are left")

	// Output:
	// **.api.example, port 80, for 10m0s
	// 0 grants are left
}

// noNames is a resolver that knows no names, so that examples send nothing.
type noNames struct{}

func (noNames) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

// The record of refusals answers "why did that not work?"
func ExampleHandle_Blocked() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()

	resp, err := proxied(handle).Post("http://telemetry.example:8080/v1", "text/plain", strings.NewReader("data"))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	for _, b := range handle.Blocked() {
		fmt.Println(b.Protocol, b.Method, b.Host, b.Port, b.Reason)
	}

	// Output:
	// http POST telemetry.example 8080 not_allowed
}

// The environment makes a command use the proxy.
func ExampleHandle_HTTPAddr() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()

	address := "http://" + handle.HTTPAddr()
	env := append(os.Environ(), "HTTP_PROXY="+address, "http_proxy="+address, "HTTPS_PROXY="+address, "https_proxy="+address)
	_ = env // of an exec.Cmd
}

// A ConfigError has the position of the mistake.
func ExampleConfigError() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "config.toml")
	text := "[network_proxy]\nenabled = true\n\n[network_proxy.policy]\nallowed_domains = [\"https://api.example.com/v1\"]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	_, err = networkproxy.NewBuilder().ConfigFile(path).Build()
	var wrong *networkproxy.ConfigError
	if errors.As(err, &wrong) {
		fmt.Println("line", wrong.Position.Line, "column", wrong.Position.Column)
		fmt.Println(wrong.Key)
		fmt.Println(wrong.Problem)
	}

	// Output:
	// line 5 column 20
	// network_proxy.policy.allowed_domains[0]
	// it is a URL, but patterns are hosts; write "api.example.com"
}

// Explains the policy before the proxy runs.
func ExampleNetworkProxy_ExplainURL() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.AllowedDomains = []string{"*.example.com"}
	proxy, err := networkproxy.NewBuilder().Config(config).Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, target := range []string{"https://api.example.com/v1", "https://example.com/", "http://169.254.169.254/"} {
		x, err := proxy.ExplainURL(context.Background(), target, "", false)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(x.Allowed, x.Reason, x.Message)
	}

	// Output:
	// true  networkproxy would let api.example.com:443 pass.
	// false not_allowed networkproxy blocked example.com:443: the host is not on the allowlist.
	// false not_allowed_local networkproxy blocked 169.254.169.254:80: 169.254.169.254 is not a public address (Link Local, RFC 3927).
}

// Changes the mode of a running proxy. Open requests that the new mode forbids are
// cut.
func ExampleHandle_SetMode() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.AllowedDomains = []string{"api.example.com"}
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()

	if err := handle.SetMode(networkproxy.ModeLimited); err != nil {
		fmt.Println(err)
		return
	}
	resp, err := proxied(handle).Post("http://api.example.com/v1", "text/plain", strings.NewReader("data"))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(handle.Mode(), resp.Status, resp.Header.Get("x-proxy-error"))

	// Output:
	// limited 403 Forbidden blocked-by-method-policy
}

// A host shows what its commands do. The iterator ends with the proxy.
func ExampleHandle_Events() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.DeniedDomains = []string{"ads.example"}
	proxy, err := networkproxy.NewBuilder().Config(config).HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	handle, err := proxy.Run(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	events := handle.Events(context.Background()) // from now on

	client := &http.Client{Transport: handle.Transport(networkproxy.Attribution{Command: "fetch"})}
	client.Get("http://ads.example/")
	handle.Close()

	for e := range events {
		fmt.Printf("%s %q %s %s %s\n", e.Kind, e.Command, e.Host, e.Decision, e.Reason)
	}
	// Output: refused "fetch" ads.example deny denied
}
