// Decider shows a policy decider: a function of the host that is asked about hosts
// on neither list, and allows, denies, or demands the user's approval.
//
//	go run ./examples/decider
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/networkproxy"
)

// decide decides by the host's name and port. A real host would ask its user.
func decide(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
	fmt.Printf("  asked about %s:%d (%s %s)\n", req.Host, req.Port, req.Protocol, req.Method)
	switch {
	case req.Host == "docs.example.com" && req.Port == 443:
		return networkproxy.Allow(), nil
	case strings.HasPrefix(req.Host, "upload."):
		return networkproxy.Ask("uploads need the user's approval"), nil
	}
	return networkproxy.Deny("this task does not need " + req.Host), nil
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.DeniedDomains = []string{"docs.evil.example"}

	proxy, err := networkproxy.NewBuilder().
		Config(config).
		HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		PolicyDecider(decide).
		DeciderTimeout(30 * time.Second).
		Build()
	if err != nil {
		return err
	}
	handle, err := proxy.Run(ctx)
	if err != nil {
		return err
	}
	defer handle.Close()

	client := &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: handle.HTTPAddr()}),
	}}
	defer client.CloseIdleConnections()
	for _, target := range []string{
		"http://upload.example/",    // asked about: needs approval
		"http://games.example/",     // asked about: denied
		"http://docs.evil.example/", // on the denylist: the decider is not asked
		"http://192.168.0.1/",       // local: the decider is not asked
	} {
		fmt.Println(target)
		resp, err := client.Get(target)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		fmt.Printf("  %s\n  %s\n", resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
