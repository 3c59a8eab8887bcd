// Opening a tunnel through a proxy: HTTP CONNECT (RFC 9110 section 9.3.6) or
// SOCKS5 (RFC 1928). The name goes to the proxy as it is: looking it up here
// would tell it to a name server before the proxy has allowed it.

package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/proxy"
)

// maxAnswer bounds the header of a proxy's answer, and the text of a refusal.
const maxAnswer = 64 << 10

// tunnelProxy is a proxy that opens tunnels.
type tunnelProxy struct {
	url  *url.URL
	open func(ctx context.Context, target string) (conn *net.TCPConn, received io.Reader, err error)
}

// chooseProxy is the proxy that a flag names, or else the environment.
func (p *program) chooseProxy(flag string) (*tunnelProxy, error) {
	if flag != "" {
		return newTunnelProxy("-proxy", flag)
	}
	for _, name := range []string{"ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"} {
		if value := p.getenv(name); value != "" {
			return newTunnelProxy(name, value)
		}
	}
	return nil, errors.New("no proxy is named: give -proxy, or set ALL_PROXY or HTTPS_PROXY")
}

// newTunnelProxy reads the URL of a proxy; a host:port alone stands for HTTP.
// from says where it was found. Errors do not repeat the URL: it may hold a
// password.
func newTunnelProxy(from, raw string) (*tunnelProxy, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Port() == "" {
		return nil, fmt.Errorf("%s is not the URL of a proxy: write http://host:port or socks5h://host:port", from)
	}
	t := &tunnelProxy{url: u}
	switch u.Scheme {
	case "http":
		t.open = t.openHTTP
	case "socks5", "socks5h":
		t.open = t.openSOCKS
	default:
		return nil, fmt.Errorf("%s: a proxy of the scheme %q is not spoken to here: use http:// or socks5h://", from, u.Scheme)
	}
	return t, nil
}

// dial connects to the proxy itself.
func (t *tunnelProxy) dial(ctx context.Context) (*net.TCPConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.url.Host)
	if err != nil {
		return nil, fmt.Errorf("the proxy is out of reach: %w", err)
	}
	return conn.(*net.TCPConn), nil
}

// openHTTP opens a tunnel with CONNECT.
func (t *tunnelProxy) openHTTP(ctx context.Context, target string) (*net.TCPConn, io.Reader, error) {
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	received, err := t.askHTTP(conn, target)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, received, nil
}

// askHTTP sends the request and reads the answer. What it returns reads on
// where a successful answer ends.
func (t *tunnelProxy) askHTTP(conn net.Conn, target string) (io.Reader, error) {
	request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if user := t.url.User; user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		request += "Proxy-Authorization: Basic " + credentials + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn, N: maxAnswer}
	received := bufio.NewReader(limited)
	// No request is given: a refused CONNECT has content like any other answer.
	answer, err := http.ReadResponse(received, nil)
	if err != nil {
		return nil, fmt.Errorf("the proxy's answer is not HTTP: %w", err)
	}
	if answer.StatusCode/100 != 2 {
		return nil, errors.New(refusal(answer))
	}
	limited.N = math.MaxInt64
	return received, nil
}

// refusal is what a proxy says of a CONNECT that it refuses, without what
// would do something to a terminal.
func refusal(answer *http.Response) string {
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body) // what there is of it
	said := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(text), "")))
	if said == "" {
		return "the proxy answered " + answer.Status
	}
	return said
}

// openSOCKS opens a tunnel with SOCKS5.
func (t *tunnelProxy) openSOCKS(ctx context.Context, target string) (*net.TCPConn, io.Reader, error) {
	var auth *proxy.Auth
	if user := t.url.User; user != nil {
		auth = &proxy.Auth{User: user.Username()}
		auth.Password, _ = user.Password()
	}
	// The dialer hides the connection, which then cannot be half-closed.
	own := &ownDialer{tunnelProxy: t}
	dialer, err := proxy.SOCKS5("tcp", t.url.Host, auth, own)
	if err != nil {
		return nil, nil, err
	}
	if _, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", target); err != nil {
		return nil, nil, socksError(err)
	}
	return own.conn, own.conn, nil
}

// ownDialer connects to the proxy and keeps the connection.
type ownDialer struct {
	*tunnelProxy
	conn *net.TCPConn
}

func (d *ownDialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

func (d *ownDialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	var err error
	d.conn, err = d.dial(ctx)
	return d.conn, err
}

// socksError takes the addresses out of an error that is told with them, and
// says what the proxy meant: SOCKS5 has a number where HTTP has words.
func socksError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "socks connect" {
		err = op.Err
	}
	if strings.HasSuffix(err.Error(), "connection not allowed by ruleset") {
		return errors.New("the proxy refused it by policy; its log says why, and so does an answer over http://")
	}
	return err
}
