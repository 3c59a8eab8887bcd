// The serve command runs the proxy until a signal.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"example.com/networkproxy"
)

func (p *program) serve(ctx context.Context, args []string) error {
	f := p.newFlagSet("serve", "networkproxy [serve] [-config FILE] [-allow PATTERN]... [flags]")
	config := addConfigFlags(f)
	check := f.Bool("check", false, "check the configuration and exit")
	http := f.String("http", "", "listen `address` of the HTTP proxy, instead of proxy_url")
	admin := f.String("admin", "", "listen `address` of the admin API, instead of admin_url")
	socks := f.String("socks", "", "listen `address` of the SOCKS5 proxy, instead of socks_url (needs enable_socks5 = true)")
	drain := f.Duration("drain", 5*time.Second, "time for requests and tunnels to finish after SIGINT or SIGTERM")
	if err := parseFlags(f, args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return p.usageError(f, fmt.Sprintf("unexpected argument %q", f.Arg(0)))
	}
	b, err := p.builder(f, config)
	if err != nil {
		return err
	}
	proxy, err := build(ctx, b.HTTPAddr(*http).AdminAddr(*admin).SOCKSAddr(*socks))
	if err != nil {
		return err
	}
	if *check {
		fmt.Fprintf(p.stdout, "%s: ok\n", config.source())
		return nil
	}
	p.held.hold()
	defer p.held.release()
	handle, err := proxy.Run(context.WithoutCancel(ctx)) // the signal starts the drain
	if err != nil {
		return err
	}
	if handle.HTTPAddr() == "" {
		fmt.Fprintf(p.stderr, "networkproxy: network_proxy.enabled is false in %s, so there is nothing to serve\n", config.source())
		p.held.release("the proxy is disabled and opens no listeners")
		return handle.Close()
	}
	announce(p.stderr, handle)
	p.held.release(handle.Warnings()...)
	return p.serveUntil(ctx, handle, *drain)
}

// announce prints the addresses of the listeners, and shell commands that point
// clients at them.
func announce(w io.Writer, h *networkproxy.Handle) {
	fmt.Fprintf(w, "networkproxy: HTTP proxy on http://%s   mode %s\n", h.HTTPAddr(), h.Mode())
	admin := "http://" + h.AdminAddr()
	if filepath.IsAbs(h.AdminAddr()) {
		admin = "unix://" + h.AdminAddr()
	}
	fmt.Fprintf(w, "networkproxy: admin API  on %s\n", admin)
	if h.SOCKSAddr() != "" {
		protocols := "TCP"
		if h.Config().EnableSOCKS5UDP {
			protocols = "TCP and UDP"
		}
		fmt.Fprintf(w, "networkproxy: SOCKS5     on socks5h://%s   %s\n", h.SOCKSAddr(), protocols)
	}
	printWarnings(w, h)
	fmt.Fprintf(w, "networkproxy: to use it: export HTTP_PROXY=http://%[1]s HTTPS_PROXY=http://%[1]s http_proxy=http://%[1]s https_proxy=http://%[1]s\n", h.HTTPAddr())
	if h.SOCKSAddr() != "" {
		fmt.Fprintf(w, "networkproxy: for other protocols: export ALL_PROXY=socks5h://%[1]s all_proxy=socks5h://%[1]s\n", h.SOCKSAddr())
	}
}

// printWarnings prints the warnings about the configuration.
func printWarnings(w io.Writer, h *networkproxy.Handle) {
	for _, warning := range h.Warnings() {
		fmt.Fprintf(w, "networkproxy: warning: %s\n", warning)
	}
}

// serveUntil reloads on SIGHUP until the proxy ends or ctx is done. In the second
// case it shuts the proxy down and gives requests and tunnels drain to finish.
func (p *program) serveUntil(ctx context.Context, h *networkproxy.Handle, drain time.Duration) error {
	for {
		select {
		case <-p.hangup:
			p.held.hold()
			err := h.Reload(ctx)
			if err == nil {
				p.held.release()
				continue
			}
			fmt.Fprintf(p.stderr, "networkproxy: %v\n", err)
			p.held.release(err.Error())
		case <-h.Done():
			return h.Wait()
		case <-ctx.Done():
			fmt.Fprintf(p.stderr, "networkproxy: stopping: open requests and tunnels have up to %v to finish (signal again to stop now)\n", drain)
			end, cancel := context.WithTimeout(context.Background(), drain)
			defer cancel()
			if err := h.Shutdown(end); errors.Is(err, context.DeadlineExceeded) {
				fmt.Fprintln(p.stderr, "networkproxy: cut the requests and tunnels that were still open")
			} else if err != nil {
				return err
			}
			return nil
		}
	}
}
