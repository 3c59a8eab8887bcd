// The connect command: standard input and output become a tunnel through the
// proxy, which is what ssh wants of a ProxyCommand.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"example.com/networkproxy/internal/hostname"
)

func (p *program) connect(ctx context.Context, args []string) error {
	f := p.newFlagSet("connect", "networkproxy connect [-proxy URL] host:port")
	proxy := f.String("proxy", "", "`URL` of the proxy, http:// or socks5h:// (default: $ALL_PROXY, then $HTTPS_PROXY)")
	if err := parseFlags(f, args); err != nil {
		return err
	}
	var hostport string
	switch f.NArg() {
	case 1:
		hostport = f.Arg(0)
	case 2: // as nc takes them, which needs no brackets for IPv6: ssh gives %h %p
		hostport = net.JoinHostPort(f.Arg(0), f.Arg(1))
	default:
		fmt.Fprintln(p.stderr, "networkproxy: name one target, as host:port")
		f.Usage()
		return errUsage
	}
	target, err := hostname.ParseTarget(hostport)
	if err != nil {
		return err
	}
	through, err := p.chooseProxy(*proxy)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ssh ends its ProxyCommand with SIGHUP
		select {
		case <-p.hangup:
			cancel()
		case <-ctx.Done():
		}
	}()
	conn, err := through.open(ctx, target)
	if err != nil {
		return fmt.Errorf("connect %s: %w", target, err)
	}
	defer conn.Close()
	return p.relay(ctx, conn)
}

// carry copies standard input to conn, whose end it passes on as such, and
// what is received to standard output. The tunnel ends with what is received,
// or with ctx.
//
// A read from standard input cannot be interrupted. The goroutine that waits
// in one is left to the end of the process.
func (p *program) relay(ctx context.Context, conn *net.TCPConn) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		io.Copy(conn, p.stdin) // what goes wrong with conn, the other direction meets too
		conn.CloseWrite()
	}()
	_, err := io.Copy(p.stdout, conn)
	if errors.Is(err, net.ErrClosed) {
		return nil // by ctx
	}
	return err
}
