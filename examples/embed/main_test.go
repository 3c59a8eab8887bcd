package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
	"example.com/networkproxy/networkproxytest"
)

// childEnv makes this binary act as the command, which requests its arguments.
const childEnv = "EMBED_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(fetch(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// fetch requests URLs and prints the responses. It fails if one is not 200.
func fetch(urls []string) (status int) {
	for _, url := range urls {
		resp, err := http.Get(url)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		io.Copy(os.Stdout, io.LimitReader(resp.Body, 6))
		fmt.Println()
		if resp.StatusCode != http.StatusOK {
			status = 1
		}
		resp.Body.Close()
	}
	return status
}

// TestRun runs commands and compares the results.
func TestRun(t *testing.T) {
	t.Setenv(childEnv, "1")
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	tests := []struct {
		name string
		argv []string
		want string
	}{
		{"allowed", []string{os.Args[0], "http://example.com/", "http://www.example.com/"}, "hello\nhello\n"},
		{"refused", []string{os.Args[0], "http://example.com/", "http://tracker.example/"},
			"hello\n{\"stat\nthe command failed: exit status 1\n" +
				"The network proxy refused 1 request of this command:\n" +
				"- tracker.example:80: the host is not on the allowlist.\n" +
				"  The user can add \"tracker.example\" to allowed_domains in [network_proxy.policy].\n"},
		{"not found", []string{"no-such-command"}, "the command failed: exec: \"no-such-command\": executable file not found in $PATH\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			origins := networkproxytest.Origin(t, "example.com", hello)
			origins.Add("www.example.com", hello)
			got := testnet.CaptureStdout(t, func(ctx context.Context) error {
				return run(ctx, networkproxy.NewBuilder().Resolver(origins), tt.argv)
			})
			if got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}
