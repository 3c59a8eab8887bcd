package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"example.com/networkproxy"
)

// The user says "always". The entry is in force at once, and in later runs, because
// the proxy keeps it in a file.
func ExampleHandle_Remember() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	proxy, err := networkproxy.NewBuilder().
		Config(networkproxy.Config{Enabled: true}).
		HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		LearnedFile(filepath.Join(dir, "learned.toml")).
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
	ctx := context.Background()

	err = handle.Remember(ctx, networkproxy.Amendment{
		Action: networkproxy.AmendAllow, Pattern: "api.example.com", Comment: "approved in conversation 7",
	})
	if errors.Is(err, networkproxy.ErrNotSaved) {
		fmt.Println("in force, but the next run asks again:", err)
	}
	explanation, err := handle.ExplainURL(ctx, "https://api.example.com/", "", false)
	fmt.Println(explanation.Message, err)

	err = handle.Forget(ctx, "api.example.com")
	fmt.Println(handle.Config().Policy.AllowedDomains, err)
	// Output:
	// networkproxy would let api.example.com:443 pass. <nil>
	// [] <nil>
}

// A request is refused, the user approves its host, and the command tries again.
func ExampleSession_Allow() {
	origin := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.Method, r.URL) }))
	defer origin.Close()
	handle, err := runOnFreePorts(networkproxy.Config{Enabled: true})
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

	curl(session, origin.URL)
	refused := session.Blocked()[0]
	fmt.Println(refused.Reason)
	if err := session.Allow(refused.Host); err != nil { // the user has approved it
		fmt.Println(err)
	}
	curl(session, origin.URL)
	// Output:
	// not_allowed_local
	// GET /
}
