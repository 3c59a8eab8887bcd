// Embed runs the proxy inside a Go program and sends requests through it, some
// allowed and some refused. It prints the refused ones at the end.
//
//	go run ./examples/embed
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"time"

	"example.com/networkproxy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	// A local web server replaces the internet, so that the example runs
	// anywhere. The allowlist must name its loopback address exactly.
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello from the origin")
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
		return err
	}
	handle, err := proxy.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Println("proxy on", handle.HTTPAddr())

	client := &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: handle.HTTPAddr()}),
	}}
	for _, target := range []string{origin.URL, "http://ads.example.com/", "http://elsewhere.example/", "http://10.0.0.1/"} {
		resp, err := client.Get(target)
		if err != nil {
			return err
		}
		resp.Body.Close()
		fmt.Printf("%-28s %s %s\n", target, resp.Status, resp.Header.Get("x-proxy-error"))
	}
	client.CloseIdleConnections()

	fmt.Println("refused:")
	for _, b := range handle.Blocked() {
		fmt.Printf("  %s:%d (%s)\n", b.Host, b.Port, b.Reason)
	}
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return handle.Shutdown(end)
}
