//go:build e2e && linux

// This file has the origin servers. They log every request.

package tls

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/networkproxy/e2e/harness"
)

// seen is a request as an origin server has received it. The server sends it back as JSON
// for all paths that mean nothing else.
type seen struct {
	Method, URI, Host, Proto string
	ServerName               string // in the TLS handshake
	Header, Trailer          http.Header
	Body                     string // length and SHA-256 of the content
}

// origins are the origin servers: HTTPS on port 443 and 8443, HTTP on port 80, and a
// server that reads bytes on port 22.
type origins struct {
	servers []*http.Server
	raw     []net.Listener
	git     http.Handler
	private http.Handler // the repositories of git, for servePrivate
	ech     echKeys      // all servers have the same keys

	mu       sync.Mutex
	requests map[string][]seen // by server name and by Host
	bytes    int               // received on port 22
}

func listenOrigins(dir string, ca *authority) (*origins, error) {
	o := &origins{requests: make(map[string][]seen)}
	var err error
	if o.git, err = newRepositories(dir); err != nil {
		return nil, err
	}
	if o.private, err = harness.GitBackend("/private", filepath.Join(dir, "git"), dir); err != nil {
		return nil, err
	}
	for _, k := range kinds {
		if err := o.listen(k, ca); err != nil {
			o.close()
			return nil, err
		}
	}
	return o, nil
}

func (o *origins) listen(k kind, ca *authority) error {
	for _, port := range []uint16{443, 8443, 80} {
		ln, err := net.Listen("tcp", netip.AddrPortFrom(k.addr, port).String())
		if err != nil {
			return err
		}
		server := &http.Server{
			Handler: o, TLSConfig: o.tlsConfig(k, ca), Protocols: new(http.Protocols),
			ErrorLog: log.New(io.Discard, "", 0),
		}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetHTTP2(len(k.alpn) > 1)
		if k.idle {
			server.IdleTimeout = 200 * time.Millisecond
		}
		o.servers = append(o.servers, server)
		if port == 80 {
			go server.Serve(ln)
		} else {
			go server.ServeTLS(ln, "", "")
		}
	}
	ln, err := net.Listen("tcp", netip.AddrPortFrom(k.addr, 22).String())
	if err != nil {
		return err
	}
	o.raw = append(o.raw, ln)
	go o.count(ln)
	return nil
}

func (o *origins) tlsConfig(k kind, ca *authority) *tls.Config {
	config := &tls.Config{
		NextProtos: k.alpn,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			host := hello.ServerName
			if host == "" {
				host = k.addr.String()
			}
			return ca.certificate(host, k.cert)
		},
		GetEncryptedClientHelloKeys: func(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
			return o.ech.list(), nil
		},
	}
	if k.mutual {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs = ca.pool
	}
	return config
}

func (o *origins) close() {
	for _, server := range o.servers {
		server.Close()
	}
	for _, ln := range o.raw {
		ln.Close()
	}
}

// count counts the bytes that arrive on a listener. It sends nothing.
func (o *origins) count(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for b := make([]byte, 1024); ; {
				n, err := conn.Read(b)
				o.mu.Lock()
				o.bytes += n
				o.mu.Unlock()
				if err != nil {
					return
				}
			}
		}()
	}
}

// received returns the requests that named host in the TLS handshake or in Host.
func (o *origins) received(host string) []seen {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]seen(nil), o.requests[host]...)
}

func (o *origins) receivedBytes() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// log records a request before its content is read, so that one without an end counts.
func (o *origins) log(r *http.Request) seen {
	s := seen{Method: r.Method, URI: r.RequestURI, Host: r.Host, Proto: r.Proto, Header: r.Header.Clone()}
	if r.TLS != nil {
		s.ServerName = r.TLS.ServerName
	}
	host := strings.ToLower(strings.TrimSuffix(r.Host, "."))
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !strings.Contains(host, ".flood.") {
		o.requests[host] = append(o.requests[host], s)
		if s.ServerName != "" && s.ServerName != host {
			o.requests[s.ServerName] = append(o.requests[s.ServerName], s)
		}
	}
	return s
}

// ServeHTTP chooses by the path as it was sent, because http.ServeMux redirects some paths.
func (o *origins) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := o.log(r)
	path, _, _ := strings.Cut(r.RequestURI, "?")
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case first == "hello":
		io.WriteString(w, helloBody(r.Host))
	case first == "stream":
		serveStream(w, rest)
	case first == "sse":
		serveEvents(r.Context(), w)
	case first == "early":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		io.WriteString(w, "late\n")
	case first == "trailers":
		serveTrailers(w, r)
	case first == "ws" || strings.HasSuffix(path, "/ws"):
		if auth := r.Header.Get("Authorization"); auth != "" {
			w.Header().Set("X-Echo", auth)
		}
		harness.ServeWebSocket(w, r)
	case first == "grpc.test.Echo":
		serveGRPC(w, r, rest)
	case strings.HasSuffix(path, "/info/lfs/objects/batch"):
		w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
		io.WriteString(w, `{"objects":[]}`)
	case first == "git":
		o.git.ServeHTTP(w, r)
	case first == "private":
		o.servePrivate(w, r)
	case first == "npm":
		serveRegistry(w, r)
	case strings.HasSuffix(path, "/echo"):
		serveEcho(w, r)
	case strings.HasSuffix(path, "/redirect"):
		http.Redirect(w, r, "https://"+r.URL.RawQuery, http.StatusFound)
	default:
		s.reply(w, r)
	}
}

// reply sends the request back.
func (s seen) reply(w http.ResponseWriter, r *http.Request) {
	body, err := digestOf(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.Body, s.Trailer = body, r.Trailer
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Alt-Svc", `h3=":443"`)
	json.NewEncoder(w).Encode(s)
}

// helloBody returns the body of /hello. It names the requested host.
func helloBody(host string) string { return "hello from " + host + "\n" }

// serveStream sends stream(size).
func serveStream(w http.ResponseWriter, text string) {
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", text)
	copyStream(w, stream(size))
}

// stream returns a reader of size pseudo-random bytes, the same in each call.
func stream(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{}), size)
}

// digestOf reads r to its end and returns its length and SHA-256 sum as text.
func digestOf(r io.Reader) (string, error) {
	hash := sha256.New()
	n, err := copyStream(hash, r)
	return fmt.Sprintf("%d %s", n, hex.EncodeToString(hash.Sum(nil))), err
}

// copyStream is io.Copy with a large buffer, so that copying does not dominate the time of
// a large transfer.
func copyStream(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 1<<20))
}

// The event stream has one event every eventInterval. Each has the time at which it was
// sent, in nanoseconds.
const (
	eventInterval = 500 * time.Millisecond
	eventCount    = 40
)

func serveEvents(ctx context.Context, w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	tick := time.NewTicker(eventInterval)
	defer tick.Stop()
	for range eventCount {
		fmt.Fprintf(w, "data: %d\n\n", time.Now().UnixNano())
		if control.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// serveTrailers sends the trailer of the request back as its own.
func serveTrailers(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	control.EnableFullDuplex() // an error means HTTP/2, where it is always so
	w.Header().Set("Trailer", "X-Checksum")
	w.WriteHeader(http.StatusOK)
	control.Flush()
	digest, err := digestOf(r.Body)
	if err != nil {
		return
	}
	io.WriteString(w, digest)
	w.Header().Set("X-Checksum", "from the client: "+r.Trailer.Get("X-Checksum"))
}

// newRepositories makes a repository with many commits, and returns a handler that serves
// it as /git/project.git. A client that has only the first commit then fetches with a
// long list, which git compresses.
func newRepositories(dir string) (http.Handler, error) {
	root, work := filepath.Join(dir, "git"), filepath.Join(dir, "git-work")
	if err := errors.Join(os.MkdirAll(root, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return nil, err
	}
	bare := filepath.Join(root, "project.git")
	commands := [][]string{{"init", "-q", "-b", "main", work}}
	for i := range 20 {
		commands = append(commands, []string{"-C", work, "commit", "-q", "--allow-empty", "-m", fmt.Sprintf("Commit %d", i)})
	}
	commands = append(commands,
		[]string{"clone", "-q", "--bare", work, bare},
		[]string{"-C", bare, "config", "http.receivepack", "true"})
	if err := harness.Git(dir, commands...); err != nil {
		return nil, err
	}
	return harness.GitBackend("/git", root, dir)
}
