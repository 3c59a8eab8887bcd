// The client of the workloads of TLS inspection. It has one goroutine for each
// connection, as crypto/tls needs.

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
)

// session is the work of a client on each of its connections.
type session struct {
	to      netip.AddrPort
	tunnel  []byte            // a CONNECT request to send first; empty for none
	secure  bool              // TLS
	http2   bool              // HTTP/2, with TLS
	opened  bool              // the certificate must not be that of the origin; else it must be
	origin  *x509.Certificate // the certificate of the origin
	request []byte            // for HTTP/1.1
	url     string            // for HTTP/2
	header  http.Header       // for HTTP/2; more fields
	streams int               // for HTTP/2: requests at a time in a connection; 0 means 1
	fresh   bool              // use a new connection for each request
	bytes   bool              // count bytes of bodies, not responses
}

// sessionClient runs a session on several connections.
type sessionClient struct {
	session
	done atomic.Int64 // complete responses, or bytes of bodies

	mu      sync.Mutex
	conns   map[net.Conn]bool // nil after the end
	err     error             // the first one
	running sync.WaitGroup
}

// start starts n connections.
func (s session) start(n int) *sessionClient {
	c := &sessionClient{session: s, conns: make(map[net.Conn]bool)}
	for range n {
		c.running.Go(func() {
			c.end(c.run())
		})
	}
	return c
}

// stop ends all connections. It returns the first error from before that.
func (c *sessionClient) stop() error {
	c.end(nil)
	c.running.Wait()
	return c.err
}

// end closes all connections, unless the client has already ended.
func (c *sessionClient) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		return
	}
	c.err = err
	for conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// errEnded means that the client has ended.
var errEnded = errors.New("the client has ended")

// run uses one connection after another until the client ends.
func (c *sessionClient) run() error {
	for {
		if err := c.connection(); err != nil {
			return err
		}
	}
}

// connection uses one connection: for one request if each is to have a new one, else
// until an error.
func (c *sessionClient) connection() error {
	conn, err := net.Dial("tcp", c.to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	c.mu.Lock()
	ended := c.conns == nil
	if !ended {
		c.conns[conn] = true
	}
	c.mu.Unlock()
	if ended {
		return errEnded
	}
	defer func() {
		c.mu.Lock()
		delete(c.conns, conn)
		c.mu.Unlock()
	}()
	if conn, err = c.establish(conn); err != nil {
		return err
	}
	if c.secure {
		defer conn.Close() // sends close_notify
	}
	if c.http2 {
		return c.exchange2(conn)
	}
	return c.exchange(conn)
}

// establish performs CONNECT and the handshake of TLS.
func (c *sessionClient) establish(conn net.Conn) (net.Conn, error) {
	if len(c.tunnel) > 0 {
		if err := sendConnect(conn, c.tunnel); err != nil {
			return nil, err
		}
	}
	if !c.secure {
		return conn, nil
	}
	config := &tls.Config{
		ServerName: loopback.String(), NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, // check looks at the certificate
		VerifyConnection:   c.check,
	}
	if c.http2 {
		config.NextProtos = []string{"h2"}
	}
	secured := tls.Client(conn, config)
	return secured, secured.Handshake()
}

// check fails unless the connection leads to the proxy or to the origin, as it should.
func (c *sessionClient) check(s tls.ConnectionState) error {
	if opened := !s.PeerCertificates[0].Equal(c.origin); opened != c.opened {
		return fmt.Errorf("TLS was opened: %t, want %t", opened, c.opened)
	}
	return nil
}

// exchange sends requests of HTTP/1.1 and reads the responses.
func (c *sessionClient) exchange(conn net.Conn) error {
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		if _, err := conn.Write(c.request); err != nil {
			return err
		}
		if err := c.response(r); err != nil {
			return err
		}
		if !c.bytes {
			c.done.Add(1)
		}
		if c.fresh {
			return nil
		}
	}
}

// response reads a response.
func (c *sessionClient) response(r *bufio.Reader) error {
	if _, err := r.Peek(1); err != nil { // so that Buffered is not 0
		return err
	}
	b, _ := r.Peek(r.Buffered()) // no error: that many bytes are there
	h, size, err := parseHeader(b, false)
	for err == nil && size == 0 {
		if _, err = r.Peek(len(b) + 1); err != nil {
			return err
		}
		b, _ = r.Peek(r.Buffered())
		h, size, err = parseHeader(b, false)
	}
	switch {
	case err != nil:
		return err
	case h.status != http.StatusOK:
		return fmt.Errorf("status %d, want 200: %.400q", h.status, b)
	case h.length == untilClose:
		return errors.New("the response has no Content-Length")
	}
	r.Discard(size) // no error: that many bytes are buffered
	for left := h.length; left > 0; {
		if _, err := r.Peek(1); err != nil {
			return err
		}
		n, _ := r.Discard(int(min(left, int64(r.Buffered()))))
		left -= int64(n)
		if c.bytes {
			c.done.Add(int64(n))
		}
	}
	return nil
}

// exchange2 sends requests of HTTP/2 and reads the responses, in each of the streams one
// at a time.
func (c *sessionClient) exchange2(conn net.Conn) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols, DisableCompression: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodGet, c.url, nil)
	if err != nil {
		return err
	}
	maps.Copy(r.Header, c.header)
	client, err := transport.NewClientConn(context.Background(), "https", r.URL.Host)
	if err != nil {
		return err
	}
	defer client.Close()
	n := max(c.streams, 1)
	failed := make(chan error, n)
	for range n {
		go func() {
			failed <- c.stream(client, r)
			client.Close() // ends the other streams
		}()
	}
	err = <-failed
	for range n - 1 {
		<-failed
	}
	return err
}

// stream sends requests one at a time until an error.
func (c *sessionClient) stream(client *http.ClientConn, r *http.Request) error {
	for {
		resp, err := client.RoundTrip(r.Clone(context.Background()))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d, want 200", resp.StatusCode)
		}
		c.done.Add(1)
	}
}
