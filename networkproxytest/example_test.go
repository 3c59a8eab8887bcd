package networkproxytest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/networkproxytest"
)

// In a test of an agent, a command reaches a public name without a network and
// without allow_local_binding. In a real test, t is that of the test function, and
// startAgent is the program's own.
func ExampleOrigin() {
	var t *testing.T

	origins := networkproxytest.Origin(t, "yes.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	}))
	agent := startAgent(t, networkproxy.NewBuilder().Resolver(origins))

	out := agent.runTool("curl", "-sS", "--cacert", origins.RootsFile(), "https://yes.test/")
	if !strings.Contains(out, "hello") {
		t.Errorf("the tool printed %q", out)
	}
}

// The corpus is sent by a command in a fence. In a real test, t is that of the test
// function, and startOurProxy starts the proxy like the program does.
func ExampleFence() {
	var t *testing.T

	networkproxytest.Fence(t, startOurProxy, networkproxytest.FenceOptions{})
}

func startOurProxy(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
	t.Helper()
	proxy, err := networkproxy.NewBuilder().Config(c).Resolver(networkproxytest.Resolver{}).Build()
	if err != nil {
		t.Fatal(err)
	}
	handle, err := proxy.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return handle
}

// agent is the program under test.
type agent struct{ handle *networkproxy.Handle }

func startAgent(t *testing.T, b *networkproxy.Builder) *agent {
	config := networkproxy.DefaultConfig()
	config.Policy.AllowedDomains = []string{"yes.test"}
	proxy, err := b.Config(config).Embedded().Build()
	if err != nil {
		t.Fatal(err)
	}
	handle, err := proxy.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { handle.Close() })
	return &agent{handle}
}

// runTool runs a command and returns its output with the report of its session.
func (a *agent) runTool(argv ...string) string {
	session, err := a.handle.OpenSession(context.Background(), networkproxy.SessionConfig{})
	if err != nil {
		return err.Error()
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = session.Environ(os.Environ())
	out, err := cmd.CombinedOutput()
	session.Close()
	if err != nil {
		out = fmt.Appendln(out, err)
	}
	return string(out) + session.Report()
}
