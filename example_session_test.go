// Examples of sessions, of what they report, and of the host's own requests.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"

	"example.com/networkproxy"
)

// curl makes a GET request in a session, like a command with the session's
// environment.
func curl(session *networkproxy.Session, target string) {
	proxy, err := url.Parse(session.ProxyURL())
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}}
	resp, err := client.Get(target)
	if err != nil {
		fmt.Println(err)
		return
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// Each tool call of an agent runs in a session of its own. Its result has the
// report of the session, so that the language model learns what was refused.
func ExampleHandle_OpenSession() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.AllowedDomains = []string{"proxy.golang.org", "sum.golang.org"}
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()

	runTool := func(ctx context.Context, argv ...string) (result string, err error) {
		session, err := handle.OpenSession(ctx, networkproxy.SessionConfig{
			Attribution: networkproxy.Attribution{Command: strings.Join(argv, " ")},
		})
		if err != nil {
			return "", err
		}
		defer session.Close()
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = session.Environ(os.Environ())
		out, err := cmd.CombinedOutput()
		session.Close() // cuts the connections of processes that the command left behind
		return string(out) + session.Report(), err
	}
	_ = runTool // for example runTool(ctx, "go", "test", "./...")
}

// Environ replaces the proxy settings of the host by those of the session.
func ExampleSession_Environ() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()
	session, err := handle.OpenSession(context.Background(), networkproxy.SessionConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()

	env := session.Environ([]string{"PATH=/usr/bin", "http_proxy=http://proxy.corp.example:3128", "NO_PROXY=*"})
	fmt.Println(slices.Contains(env, "PATH=/usr/bin"))
	fmt.Println(slices.Contains(env, "http_proxy="+session.ProxyURL()))
	fmt.Println(slices.Contains(env, "NO_PROXY="))

	// Output:
	// true
	// true
	// true
}

// The report goes into the result of the agent's tool.
func ExampleSession_Report() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()
	session, err := handle.OpenSession(context.Background(), networkproxy.SessionConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	curl(session, "http://registry.example/")
	curl(session, "http://registry.example/")
	curl(session, "http://169.254.169.254/latest/meta-data")
	session.Close()
	fmt.Print(session.Report())

	// Output:
	// The network proxy refused 3 requests of this command:
	// - registry.example:80: the host is not on the allowlist. (2 requests)
	//   The user can add "registry.example" to allowed_domains in [network_proxy.policy].
	// - 169.254.169.254:80: 169.254.169.254 is not a public address (Link Local, RFC 3927).
	//   To make it reachable, the user can add exactly "169.254.169.254" to allowed_domains (wildcards do not cover local addresses), or set allow_local_binding = true.
}

// The outcome says whether the user refused requests of the session.
func ExampleSession_Outcome() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.DeniedDomains = []string{"ads.example"}
	proxy, err := networkproxy.NewBuilder().
		Config(config).
		HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		PolicyDecider(func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			return networkproxy.Deny("the user said no"), nil
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
	session, err := handle.OpenSession(context.Background(), networkproxy.SessionConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()

	fmt.Println(session.Outcome())
	curl(session, "http://ads.example/")
	fmt.Println(session.Outcome())
	curl(session, "http://new.example/")
	fmt.Println(session.Outcome())

	// Output:
	// nothing_refused
	// refused_by_policy
	// refused_by_user
}

// The summary shows what a command did with the network.
func ExampleSession_Summary() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	}))
	defer origin.Close()
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.AllowedDomains = []string{"127.0.0.1"}
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()
	session, err := handle.OpenSession(context.Background(), networkproxy.SessionConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	curl(session, origin.URL)
	curl(session, "http://new.example/")
	session.Close()

	sum := session.Summary()
	fmt.Println(sum.Allowed, "allowed,", sum.Refused, "refused,", sum.Failed, "failed")
	for _, h := range sum.Hosts {
		fmt.Println(h.Host, h.Allowed)
	}

	// Output:
	// 1 allowed, 1 refused, 0 failed
	// 127.0.0.1 1
}

// A host lists the commands that have access to the network.
func ExampleHandle_Sessions() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()
	for _, command := range []string{"npm install", "npm test"} {
		session, err := handle.OpenSession(context.Background(), networkproxy.SessionConfig{
			Attribution: networkproxy.Attribution{Command: command},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer session.Close()
		curl(session, "http://new.example/")
	}
	for _, session := range handle.Sessions() {
		fmt.Println(session.ID(), session.Outcome())
	}

	// Output:
	// s1 refused_by_policy
	// s2 refused_by_policy
}

// The host's own tools, such as one that fetches a page, are under the same
// policy as its commands.
func ExampleHandle_Transport() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()

	client := &http.Client{Transport: handle.Transport(networkproxy.Attribution{Command: "the tool fetch"})}
	_, err = client.Get("https://new.example/")
	var refused *networkproxy.RefusedError
	if errors.As(err, &refused) {
		fmt.Println(refused.Host, refused.Port, refused.Verdict.Reason)
	}

	// Output:
	// new.example 443 not_allowed
}
