// The serve command: run the proxy until a signal.

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
	f := p.newFlagSet("serve", "networkproxy [serve] -config FILE [flags]")
	config := addConfigFlags(f)
	check := f.Bool("check", false, "check the configuration and exit")
	http := f.String("http", "", "listen `address` of the HTTP proxy, in place of proxy_url")
	admin := f.String("admin", "", "listen `address` of the admin API, in place of admin_url")
	socks := f.String("socks", "", "listen `address` of the SOCKS5 proxy, in place of socks_url (enable_socks5 = true turns it on)")
	drain := f.Duration("drain", 5*time.Second, "how long requests and tunnels may finish after SIGINT or SIGTERM")
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
		fmt.Fprintf(p.stdout, "%s: ok\n", &config.files)
		return nil
	}
	p.held.hold()
	defer p.held.release()
	handle, err := proxy.Run(context.WithoutCancel(ctx)) // the drain outlives the signal
	if err != nil {
		return err
	}
	if handle.HTTPAddr() == "" {
		fmt.Fprintf(p.stderr, "networkproxy: network_proxy.enabled is false in %s: nothing to serve\n", &config.files)
		p.held.release("the proxy is disabled and binds nothing")
		return handle.Close()
	}
	announce(p.stderr, handle)
	p.held.release(handle.Warnings()...)
	return p.serveUntil(ctx, handle, *drain)
}

// announce says what listens where, in words that can be pasted.
func announce(w io.Writer, h *networkproxy.Handle) {
	fmt.Fprintf(w, "networkproxy: HTTP proxy on http://%s   mode %s\n", h.HTTPAddr(), h.Mode())
	admin := "http://" + h.AdminAddr()
	if filepath.IsAbs(h.AdminAddr()) {
		admin = "unix://" + h.AdminAddr()
	}
	fmt.Fprintf(w, "networkproxy: admin API  on %s\n", admin)
	if h.SOCKSAddr() != "" {
		carries := "TCP"
		if h.Config().EnableSOCKS5UDP {
			carries = "TCP and UDP"
		}
		fmt.Fprintf(w, "networkproxy: SOCKS5     on socks5h://%s   %s\n", h.SOCKSAddr(), carries)
	}
	printWarnings(w, h)
	fmt.Fprintf(w, "networkproxy: to use it: export HTTP_PROXY=http://%[1]s HTTPS_PROXY=http://%[1]s http_proxy=http://%[1]s https_proxy=http://%[1]s\n", h.HTTPAddr())
	if h.SOCKSAddr() != "" {
		fmt.Fprintf(w, "networkproxy: for other protocols: export ALL_PROXY=socks5h://%[1]s all_proxy=socks5h://%[1]s\n", h.SOCKSAddr())
	}
}

// printWarnings prints what in the configuration is odd.
func printWarnings(w io.Writer, h *networkproxy.Handle) {
	for _, warning := range h.Warnings() {
		fmt.Fprintf(w, "networkproxy: warning: %s\n", warning)
	}
}

// until serves until a signal or the proxy's own end, reloading at SIGHUP.
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
			fmt.Fprintf(p.stderr, "networkproxy: stopping; up to %v for what is open (again to stop at once)\n", drain)
			end, cancel := context.WithTimeout(context.Background(), drain)
			defer cancel()
			if err := h.Shutdown(end); errors.Is(err, context.DeadlineExceeded) {
				fmt.Fprintln(p.stderr, "networkproxy: what was still open has been cut")
			} else if err != nil {
				return err
			}
			return nil
		}
	}
}
