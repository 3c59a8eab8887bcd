// The code of README.md, compiled and run.

package networkproxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"example.com/networkproxy"
)

// runNPM is the code of README.md, as it is there. It passes the result on.
func runNPM(ctx, shutdownCtx context.Context, to *string) error {
	proxy, err := networkproxy.NewBuilder().
		ConfigFile("config.toml").
		Embedded(). // on free ports of loopback, for sessions only, without an admin API
		PolicyDecider(func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			if req.Host == "docs.example.com" && req.Port == 443 {
				return networkproxy.Allow(), nil
			}
			return networkproxy.Deny("policy_denied"), nil
		}).
		Build()
	if err != nil {
		return err // names the file, line and key
	}
	handle, err := proxy.Run(ctx) // the context of the program, not of a request
	if err != nil {
		return err
	}
	defer handle.Shutdown(shutdownCtx) // let requests finish, then cut

	// For each tool call:
	session, err := handle.OpenSession(ctx, networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "npm test"}})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "npm", "test")
	cmd.Env = session.Environ(os.Environ())
	output, err := cmd.CombinedOutput()
	session.Close()                             // cuts what is still open
	result := string(output) + session.Report() // what was refused, for the language model
	*to = result
	return err
}

// connectVariable makes the test program a command that sends CONNECT for each target in it
// to the proxy, and prints the statuses.
const connectVariable = "NETWORKPROXY_TEST_CONNECT"

func connectAll(targets []string) (exit int) {
	proxy, err := url.Parse(os.Getenv("HTTPS_PROXY"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, target := range targets {
		conn, err := net.Dial("tcp", proxy.Host)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(target, resp.StatusCode)
		conn.Close()
	}
	return 0
}

// TestReadmeCode runs the code of README.md. Its decider allows one host on one port.
func TestReadmeCode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a symbolic link needs a privilege on Windows")
	}
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```go\n")
	block, _, _ = strings.Cut(block, "\n```\n")
	indented := strings.ReplaceAll("\t"+strings.ReplaceAll(block, "\n", "\n\t"), "\n\t\n", "\n\n")
	if block == "" || !strings.Contains(string(source), "error {\n"+indented+"\n\t*to = result\n") {
		t.Errorf("the code of README.md is not that of this file:\n%s", block)
	}

	// An upstream proxy stands in for the internet.
	upstream := listen(t, "127.0.0.1:0")
	go http.Serve(upstream, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "") }))
	t.Setenv("HTTPS_PROXY", "http://"+upstream.Addr().String())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Symlink(self, filepath.Join(dir, "npm")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if err := os.WriteFile("config.toml", []byte("[network_proxy]\nenabled = true\nallow_upstream_proxy = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(connectVariable, "docs.example.com:443 docs.example.com:8443 www.example.com:443 docs.example.com.evil.example:443")
	var result string
	if err := runNPM(t.Context(), t.Context(), &result); err != nil {
		t.Fatalf("%v:\n%s", err, result)
	}
	const want = "docs.example.com:443 200\ndocs.example.com:8443 403\nwww.example.com:443 403\ndocs.example.com.evil.example:443 403\n" +
		"The network proxy refused 3 requests of this command:\n"
	if !strings.HasPrefix(result, want) {
		t.Errorf("got the result\n%s\nwant at first\n%s", result, want)
	}
}
