//go:build e2e && linux

// This file has the origin servers of the allowed hosts, for HTTP and HTTPS.

package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"

	"example.com/networkproxy/e2e/harness"
)

// origins serves the same handler on all public addresses (HTTP on ports 80 and 8000,
// HTTPS on port 443) and, with HTTP, on localServer.
type origins struct {
	servers []*http.Server
	groups  barrier
	holds   holds
}

func listenOrigins(dir string, ca *authority) (*origins, error) {
	o := &origins{
		groups: barrier{waiting: make(map[string]*group)},
		holds:  holds{byName: make(map[string]*hold)},
	}
	git, err := newGitServer(dir)
	if err != nil {
		return nil, err
	}
	handler := o.handler(git)
	plain := []string{localServer}
	var secure []string
	for _, addr := range []netip.Addr{publicA, publicB, public6} {
		plain = append(plain, netip.AddrPortFrom(addr, 80).String(), netip.AddrPortFrom(addr, 8000).String())
		secure = append(secure, netip.AddrPortFrom(addr, 443).String())
	}
	for _, addr := range plain {
		if err := o.listen(addr, handler, nil); err != nil {
			o.close()
			return nil, err
		}
	}
	for _, addr := range secure {
		if err := o.listen(addr, handler, &tls.Config{Certificates: []tls.Certificate{ca.leaf}}); err != nil {
			o.close()
			return nil, err
		}
	}
	return o, nil
}

func (o *origins) listen(addr string, handler http.Handler, config *tls.Config) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, TLSConfig: config}
	o.servers = append(o.servers, server)
	if config == nil {
		go server.Serve(ln)
	} else {
		go server.ServeTLS(ln, "", "")
	}
	return nil
}

func (o *origins) close() {
	for _, server := range o.servers {
		server.Close()
	}
}

func (o *origins) handler(git http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", serveHello)
	mux.HandleFunc("/headers", serveHeaders)
	mux.HandleFunc("GET /stream/{size}", serveStream)
	mux.HandleFunc("PUT /digest", serveDigest)
	mux.HandleFunc("GET /group/{name}/{size}/{item}", o.serveGroup)
	mux.HandleFunc("GET /hold/{name}", o.serveHold)
	mux.HandleFunc("GET /websocket", harness.ServeWebSocket)
	mux.Handle("/git/", git)
	mux.Handle("/npm/", newRegistry())
	mux.Handle("/simple/", newIndex())
	mux.Handle("/crates/", newCrates())
	return mux
}

// helloBody returns the body of /hello. It names the requested host.
func helloBody(host string) string { return "hello from " + host + "\n" }

func serveHello(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, helloBody(r.Host))
}

// serveHeaders responds with the received request as JSON.
func serveHeaders(w http.ResponseWriter, r *http.Request) {
	json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "host": r.Host, "uri": r.RequestURI, "headers": r.Header,
	})
}

// serveStream sends stream(size).
func serveStream(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(r.PathValue("size"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	copyStream(w, stream(size))
}

// serveDigest responds with the length and the SHA-256 sum of the request body.
func serveDigest(w http.ResponseWriter, r *http.Request) {
	digest, err := digestOf(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	io.WriteString(w, digest+"\n")
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

// copyStream is io.Copy with a large buffer, so that copying does not dominate the time
// of a transfer of 1 GiB.
func copyStream(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 1<<20))
}

// barrier delays the responses to a group of requests until all have arrived. This
// proves that they were in flight at the same time.
type barrier struct {
	mu      sync.Mutex
	waiting map[string]*group
}

type group struct {
	arrived  int
	complete chan struct{}
}

// join waits until size requests have joined the group called name.
func (b *barrier) join(ctx context.Context, name string, size int) error {
	b.mu.Lock()
	g := b.waiting[name]
	if g == nil {
		g = &group{complete: make(chan struct{})}
		b.waiting[name] = g
	}
	if g.arrived++; g.arrived == size {
		close(g.complete)
	}
	b.mu.Unlock()

	select {
	case <-g.complete:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *origins) serveGroup(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.Atoi(r.PathValue("size"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := o.groups.join(r.Context(), r.PathValue("name"), size); err != nil {
		return
	}
	io.WriteString(w, groupBody(r.PathValue("name"), r.PathValue("item")))
}

func groupBody(name, item string) string { return "item " + item + " of " + name + "\n" }

// holds are requests whose handlers have sent the first half of the response and wait
// for the test before they send the second.
type holds struct {
	mu     sync.Mutex
	byName map[string]*hold
}

type hold struct {
	release chan struct{} // closed by the test
	ended   chan struct{} // closed when the handler returns
}

const (
	holdFirst = "the first half\n"
	holdRest  = "the second half\n"
)

// named returns the hold for GET /hold/name. Use each name for one request only.
func (h *holds) named(name string) *hold {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byName[name] == nil {
		h.byName[name] = &hold{release: make(chan struct{}), ended: make(chan struct{})}
	}
	return h.byName[name]
}

func (o *origins) serveHold(w http.ResponseWriter, r *http.Request) {
	hold := o.holds.named(r.PathValue("name"))
	defer close(hold.ended)
	io.WriteString(w, holdFirst)
	http.NewResponseController(w).Flush()
	select {
	case <-hold.release:
		io.WriteString(w, holdRest)
	case <-r.Context().Done():
	}
}
