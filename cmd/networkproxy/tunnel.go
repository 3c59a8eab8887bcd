// The client side of connect: a tunnel through a proxy by HTTP CONNECT (RFC 9110
// section 9.3.6) or SOCKS5 (RFC 1928). Host names are sent to the proxy and not
// looked up here, because a lookup would disclose the name to a name server before
// the proxy has allowed it.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/proxy"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/upstream"
)

// tunnelProxy opens tunnels through the proxy at url.
type tunnelProxy struct {
	url  *url.URL
	open func(ctx context.Context, target hostname.Target) (*net.TCPConn, error)
}

// chooseProxy returns the proxy named by flag or, if flag is empty, by the
// environment.
func (p *program) chooseProxy(flag string) (*tunnelProxy, error) {
	if flag != "" {
		return newTunnelProxy("-proxy", flag)
	}
	for _, name := range []string{"ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"} {
		if value := p.env(name); value != "" {
			return newTunnelProxy(name, value)
		}
	}
	return nil, errors.New("no proxy: use -proxy, or set ALL_PROXY or HTTPS_PROXY")
}

// newTunnelProxy parses the URL of a proxy. A host:port without a scheme is an
// HTTP proxy. Errors name the flag or variable from, and not the URL, because it
// may contain a password.
func newTunnelProxy(from, raw string) (*tunnelProxy, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Port() == "" {
		return nil, fmt.Errorf("%s is not a proxy URL: use http://host:port or socks5h://host:port", from)
	}
	t := &tunnelProxy{url: u}
	switch u.Scheme {
	case "http":
		t.open = t.openHTTP
	case "socks5", "socks5h":
		t.open = t.openSOCKS
	default:
		return nil, fmt.Errorf("%s: unsupported proxy scheme %q: use http:// or socks5h://", from, u.Scheme)
	}
	return t, nil
}

// dial connects to the proxy itself.
func (t *tunnelProxy) dial(ctx context.Context) (*net.TCPConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.url.Host)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the proxy: %w", err)
	}
	return conn.(*net.TCPConn), nil
}

// openHTTP opens a tunnel with CONNECT.
func (t *tunnelProxy) openHTTP(ctx context.Context, target hostname.Target) (*net.TCPConn, error) {
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = t.requestHTTP(conn, target)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// requestHTTP sends CONNECT on conn and returns an error if that opens no tunnel.
func (t *tunnelProxy) requestHTTP(conn net.Conn, target hostname.Target) error {
	var authorization string
	if user := t.url.User; user != nil {
		password, _ := user.Password()
		authorization = upstream.BasicAuth(user.Username(), password)
	}
	resp, err := upstream.Connect(conn, target, authorization)
	switch {
	case err != nil:
		return fmt.Errorf("proxy: %w", err)
	case resp.StatusCode/100 != 2:
		return refusal(resp)
	}
	return nil
}

// refusal returns the text of the proxy's refusal as an error. It leaves out
// control characters, because the text goes to a terminal.
func refusal(resp *http.Response) error {
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // after an error, the part that was read
	text := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(body), "")))
	if text == "" {
		return fmt.Errorf("proxy: %w", &upstream.StatusError{Status: resp.StatusCode})
	}
	return errors.New(text)
}

// openSOCKS opens a tunnel with SOCKS5.
func (t *tunnelProxy) openSOCKS(ctx context.Context, target hostname.Target) (*net.TCPConn, error) {
	var auth *proxy.Auth
	if user := t.url.User; user != nil {
		auth = &proxy.Auth{User: user.Username()}
		auth.Password, _ = user.Password()
	}
	// The SOCKS5 dialer returns a connection that cannot be half-closed, so keep
	// the TCP connection.
	forward := &capturingDialer{tunnelProxy: t}
	dialer, err := proxy.SOCKS5("tcp", t.url.Host, auth, forward)
	if err != nil {
		return nil, err
	}
	if _, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", target.String()); err != nil {
		return nil, socksError(err)
	}
	return forward.conn, nil
}

// capturingDialer connects to the proxy and keeps the TCP connection in conn.
type capturingDialer struct {
	*tunnelProxy
	conn *net.TCPConn
}

func (d *capturingDialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

func (d *capturingDialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	var err error
	d.conn, err = d.dial(ctx)
	return d.conn, err
}

// socksError removes the addresses from err, because connect names the target
// itself. It explains a refusal, for which SOCKS5 has only a number.
func socksError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "socks connect" {
		err = op.Err
	}
	if strings.HasSuffix(err.Error(), "connection not allowed by ruleset") {
		return errors.New("the proxy's policy refused the target; to see the reason, read the proxy's log or use an http:// proxy URL")
	}
	return err
}
