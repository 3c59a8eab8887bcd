// The serve command runs the proxy until a signal.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"example.com/networkproxy"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	*configFlags
	check              bool
	http, admin, socks string
	drain              time.Duration
}

func (p *program) serve(f *flag.FlagSet) func(context.Context) error {
	s := &serveFlags{configFlags: addConfigFlags(p, f)}
	s.addLimitFlag(f)
	s.addTokenFlag(f)
	s.addAuditFlag(f)
	s.addAskFlags(f, "ask about hosts that no list names, on the page of the admin API", askPage, askPage)
	f.BoolVar(&s.check, "check", false, "check the configuration and exit")
	f.StringVar(&s.http, "http", "", "listen `address` of the HTTP proxy, instead of proxy_url")
	f.StringVar(&s.admin, "admin", "", "listen `address` of the admin API, instead of admin_url")
	f.StringVar(&s.socks, "socks", "", "listen `address` of the SOCKS5 proxy, instead of socks_url (needs enable_socks5 = true)")
	s.drain = 5 * time.Second
	f.Var((*timeFlag)(&s.drain), "drain", "`time` for requests and tunnels to finish after SIGINT or SIGTERM")
	return func(ctx context.Context) error {
		if err := noOperands(f); err != nil {
			return err
		}
		return p.serveProxy(ctx, s)
	}
}

// serveProxy serves until ctx is done or the proxy ends.
func (p *program) serveProxy(ctx context.Context, s *serveFlags) error {
	b, err := p.builder(s.configFlags)
	if err != nil {
		return err
	}
	proxy, err := build(ctx, b.HTTPAddr(s.http).AdminAddr(s.admin).SOCKSAddr(s.socks))
	if err != nil {
		return err
	}
	if s.check {
		_, err := fmt.Fprintf(p.stdout, "%s: ok\n", s.source())
		return err
	}
	if err := s.audit.open(); err != nil {
		return err
	}
	defer s.audit.close() // its error is ignored, because it is about lines written long before
	p.held.hold()
	defer p.held.release()
	handle, err := proxy.Run(context.WithoutCancel(ctx)) // the end of ctx starts the drain, and must not end the proxy at once
	if err != nil {
		return err
	}
	if handle.HTTPAddr() == "" {
		p.report(slog.LevelInfo, fmt.Sprintf("network_proxy.enabled is false in %s, so there is nothing to serve", s.source()))
		p.held.release(handle.Warnings()...)
		return handle.Close()
	}
	p.announce(handle, s.ask.value != "" && s.tokenFile == "" || isTerminal(p.stderr))
	p.held.release(handle.Warnings()...)
	return p.serveUntil(ctx, handle, s)
}

// announce prints the addresses of the listeners, and shell commands that point
// clients at them. link adds a link to the page of the admin API, which is a secret
// until it is used.
func (p *program) announce(h *networkproxy.Handle, link bool) {
	admin := "http://" + h.AdminAddr()
	if filepath.IsAbs(h.AdminAddr()) {
		admin = "unix://" + h.AdminAddr()
	}
	socks := h.SOCKSAddr() != ""
	if p.json {
		addresses := []slog.Attr{slog.String("http_proxy", "http://"+h.HTTPAddr()), slog.String("admin_api", admin)}
		if socks {
			addresses = append(addresses, slog.String("socks5_proxy", "socks5h://"+h.SOCKSAddr()), slog.Bool("socks5_udp", h.Config().EnableSOCKS5UDP))
		}
		if url := h.PageURL(); link && url != "" {
			addresses = append(addresses, slog.String("page", url))
		}
		p.record(slog.LevelInfo, "serving", append(addresses, slog.String("mode", string(h.Mode())))...)
		p.printWarnings(h)
		return
	}
	p.report(slog.LevelInfo, fmt.Sprintf("HTTP proxy on http://%s   mode %s", h.HTTPAddr(), h.Mode()))
	p.report(slog.LevelInfo, "admin API  on "+admin)
	if url := h.PageURL(); link && url != "" {
		p.report(slog.LevelInfo, "page       on "+url+"   (can be used once)")
	}
	if socks {
		protocols := "TCP"
		if h.Config().EnableSOCKS5UDP {
			protocols = "TCP and UDP"
		}
		p.report(slog.LevelInfo, fmt.Sprintf("SOCKS5     on socks5h://%s   %s", h.SOCKSAddr(), protocols))
	}
	p.printWarnings(h)
	p.report(slog.LevelInfo, fmt.Sprintf("to use it: export HTTP_PROXY=http://%[1]s HTTPS_PROXY=http://%[1]s http_proxy=http://%[1]s https_proxy=http://%[1]s", h.HTTPAddr()))
	if socks {
		p.report(slog.LevelInfo, fmt.Sprintf("for other protocols: export ALL_PROXY=socks5h://%[1]s all_proxy=socks5h://%[1]s", h.SOCKSAddr()))
	}
}

// printWarnings prints the warnings about the configuration.
func (p *program) printWarnings(h *networkproxy.Handle) {
	for _, warning := range h.Warnings() {
		p.report(slog.LevelWarn, warning)
	}
}

// serveUntil waits until the proxy ends or ctx is done. When ctx is done, it shuts the
// proxy down and gives requests and tunnels s.drain to finish. On SIGHUP, it opens the
// audit log again and reloads the configuration.
func (p *program) serveUntil(ctx context.Context, h *networkproxy.Handle, s *serveFlags) error {
	drain := s.drain
	for {
		select {
		case <-p.hangup:
			if err := s.audit.open(); err != nil {
				p.report(slog.LevelError, fmt.Sprintf("%v; the audit log continues in the file that is open", err))
			}
			p.held.hold()
			err := h.Reload(ctx)
			if err == nil {
				p.held.release()
				continue
			}
			p.report(slog.LevelError, err.Error())
			p.held.release(err.Error())
		case <-h.Done():
			return h.Wait()
		case <-ctx.Done():
			p.report(slog.LevelInfo, fmt.Sprintf("stopping: open requests and tunnels have up to %v to finish (signal again to stop now)", drain))
			drainCtx, cancel := context.WithTimeout(context.Background(), drain)
			defer cancel()
			if err := h.Shutdown(drainCtx); errors.Is(err, context.DeadlineExceeded) {
				p.report(slog.LevelInfo, "cut the requests and tunnels that were still open")
			} else if err != nil {
				return err
			}
			return nil
		}
	}
}
