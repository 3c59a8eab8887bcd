// The connect command opens a tunnel through a proxy and connects it to standard
// input and output, as ssh expects of a ProxyCommand.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"

	"example.com/networkproxy/internal/hostname"
)

func (p *program) connect(f *flag.FlagSet) func(context.Context) error {
	proxyURL := f.String("proxy", "", "`URL` of the proxy, http:// or socks5h:// (default: $ALL_PROXY, then $HTTPS_PROXY)")
	return func(ctx context.Context) error { return p.openTunnel(ctx, *proxyURL, f.Args()) }
}

// openTunnel opens a tunnel to the target that args names.
func (p *program) openTunnel(ctx context.Context, proxyURL string, args []string) error {
	var hostport string
	switch len(args) {
	case 1:
		hostport = args[0]
	case 2: // as for nc; ssh's %h has no brackets around IPv6 addresses
		hostport = net.JoinHostPort(args[0], args[1])
	default:
		return usagef("name one target, as host:port")
	}
	target, err := hostname.ParseTarget(hostport)
	if err != nil {
		return err
	}
	proxy, err := p.chooseProxy(proxyURL)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ssh sends SIGHUP to end its ProxyCommand
		select {
		case <-p.hangup:
			cancel()
		case <-ctx.Done():
		}
	}()
	conn, err := proxy.open(ctx, target)
	if err != nil {
		return fmt.Errorf("connect %s: %w", target, err)
	}
	defer conn.Close()
	return p.relay(ctx, conn)
}

// relay copies standard input to conn and conn to standard output. At the end of
// standard input it closes conn for writing only. It returns when conn ends or ctx
// is done.
//
// A read from standard input cannot be interrupted, so the goroutine that copies
// it may run until the process exits.
func (p *program) relay(ctx context.Context, conn *net.TCPConn) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		io.Copy(conn, p.stdin) // the other direction reports errors of conn
		conn.CloseWrite()
	}()
	_, err := io.Copy(p.stdout, conn)
	if errors.Is(err, net.ErrClosed) {
		return nil // closed when ctx ended
	}
	return err
}
