// The origins of the workloads of TLS inspection: they send the same response to each
// request, over TLS or without it.

package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
)

// http1Origin is an origin of HTTP/1.1 with one goroutine for each connection, as
// crypto/tls needs.
type http1Origin struct {
	listener net.Listener
	config   *tls.Config // nil: no TLS
	response []byte
	mu       sync.Mutex
	conns    map[net.Conn]bool // nil after close
	serving  sync.WaitGroup
}

// startHTTP1Origin starts an origin that responds with n bytes.
func startHTTP1Origin(n int, config *tls.Config) (origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	header := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", n)
	a := &http1Origin{listener: l, config: config, response: append(header, text(n)...), conns: make(map[net.Conn]bool)}
	a.serving.Go(a.serve)
	return a, nil
}

// text returns n letters, digits and signs, always the same. A search for a secret finds
// the beginning of one now and then.
func text(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b) // never fails
	for i, c := range b {
		b[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_ "[c%64]
	}
	return b
}

func (a *http1Origin) addr() netip.AddrPort { return a.listener.Addr().(*net.TCPAddr).AddrPort() }

func (a *http1Origin) close() error {
	a.listener.Close()
	a.mu.Lock()
	for c := range a.conns {
		c.Close()
	}
	a.conns = nil
	a.mu.Unlock()
	a.serving.Wait()
	return nil
}

func (a *http1Origin) serve() {
	for {
		c, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.mu.Lock()
		if a.conns == nil {
			c.Close()
		} else {
			a.conns[c] = true
			a.serving.Go(func() { a.serveConn(c) })
		}
		a.mu.Unlock()
	}
}

func (a *http1Origin) serveConn(conn net.Conn) {
	defer func() {
		conn.Close()
		a.mu.Lock()
		delete(a.conns, conn)
		a.mu.Unlock()
	}()
	c := conn
	if a.config != nil {
		c = tls.Server(conn, a.config)
		defer c.Close() // sends close_notify
	}
	buf := make([]byte, 4<<10)
	for matched := 0; ; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		var requests int
		matched, requests = countHeaders(matched, buf[:n])
		for range requests {
			if _, err := c.Write(a.response); err != nil {
				return
			}
		}
		if requests > 0 && bytes.Contains(buf[:n], closeField) {
			return
		}
	}
}

// http2Origin is an origin of HTTP/2 over TLS.
type http2Origin struct {
	server *http.Server
	at     netip.AddrPort
	ended  chan error
}

// startHTTP2Origin starts an origin that responds with n bytes.
func startHTTP2Origin(n int, config *tls.Config) (origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	body := text(n)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	a := &http2Origin{at: l.Addr().(*net.TCPAddr).AddrPort(), ended: make(chan error, 1), server: &http.Server{
		TLSConfig: config.Clone(), Protocols: protocols, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", strconv.Itoa(n))
			w.Write(body)
		}),
	}}
	go func() { a.ended <- a.server.ServeTLS(l, "", "") }()
	return a, nil
}

func (a *http2Origin) addr() netip.AddrPort { return a.at }

func (a *http2Origin) close() error {
	err := a.server.Close()
	if ended := <-a.ended; err == nil && ended != http.ErrServerClosed {
		err = ended
	}
	return err
}
