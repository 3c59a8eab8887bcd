// The base of all ratios: a simple but tuned proxy made of net/http, and go-socks5's
// own relay.

package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/things-go/go-socks5"
)

// serveBase is the first argument with which this program runs as the base. The full
// arguments are serve-base HTTP-ADDRESS SOCKS-ADDRESS ALLOWED-NAMES-FILE.
const serveBase = "serve-base"

func runBase(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: bench %s HTTP-ADDRESS SOCKS-ADDRESS ALLOWED-NAMES-FILE", serveBase)
	}
	p := newBaseProxy()
	names, err := os.Open(args[2])
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(names); lines.Scan(); {
		p.allowed[strings.TrimSpace(lines.Text())] = true
	}
	names.Close()

	failed := make(chan error, 2)
	go func() {
		quiet := socks5.NewLogger(log.New(io.Discard, "", 0))
		failed <- socks5.NewServer(socks5.WithLogger(quiet)).ListenAndServe("tcp", args[1])
	}()
	go func() {
		server := &http.Server{Addr: args[0], Handler: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second}
		failed <- server.ListenAndServe()
	}()
	return <-failed
}

// baseProxy is a forward proxy with an allowlist.
type baseProxy struct {
	allowed  map[string]bool
	upstream *http.Transport
}

func newBaseProxy() *baseProxy {
	return &baseProxy{allowed: make(map[string]bool), upstream: &http.Transport{
		MaxIdleConnsPerHost: 256, // Go's default of 2 doubles the cost under load
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}}
}

func (p *baseProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !p.allowed[r.URL.Hostname()]:
		http.Error(w, r.URL.Hostname()+" is not allowed", http.StatusForbidden)
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	default:
		p.forward(w, r)
	}
}

func (p *baseProxy) forward(w http.ResponseWriter, r *http.Request) {
	r.Header.Del("Connection")
	r.Header.Del("Proxy-Connection")
	response, err := p.upstream.RoundTrip(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	header := w.Header()
	for name, values := range response.Header {
		header[name] = values
	}
	header.Del("Connection")
	w.WriteHeader(response.StatusCode)
	io.Copy(w, response.Body)
}

func (p *baseProxy) connect(w http.ResponseWriter, r *http.Request) {
	target, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer target.Close()
	client, early, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	if n := early.Reader.Buffered(); n > 0 {
		io.CopyN(target, early, int64(n))
	}
	copyBothWays(client.(*net.TCPConn), target.(*net.TCPConn), func(to, from *net.TCPConn) { io.Copy(to, from) })
}

// copyBothWays copies until both directions have ended.
func copyBothWays(a, b *net.TCPConn, copyAll func(to, from *net.TCPConn)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyAll(b, a)
		b.CloseWrite()
	}()
	copyAll(a, b)
	a.CloseWrite()
	<-done
}
