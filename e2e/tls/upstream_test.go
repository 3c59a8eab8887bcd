//go:build e2e && linux

// This file has an upstream proxy that logs what passes through it.

package tls

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// upstream is a proxy for CONNECT.
type upstream struct {
	addr string

	mu      sync.Mutex
	targets []string
	first   []byte // the first byte that each tunnel received
	methods []string
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{addr: lab.addr()}
	ln, err := net.Listen("tcp", u.addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: u}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.methods = append(u.methods, r.Method)
	u.targets = append(u.targets, r.Host)
	u.mu.Unlock()
	if r.Method != http.MethodConnect {
		http.Error(w, "this proxy has tunnels only", http.StatusMethodNotAllowed)
		return
	}
	origin, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer origin.Close()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		defer conn.Close()
		io.Copy(conn, origin)
	}()
	from := bufio.NewReader(io.MultiReader(io.LimitReader(buffered, int64(buffered.Reader.Buffered())), conn))
	if b, err := from.Peek(1); err == nil {
		u.mu.Lock()
		u.first = append(u.first, b[0])
		u.mu.Unlock()
	}
	io.Copy(origin, from)
}

// check checks that the proxy has seen tunnels to host, and TLS only.
func (u *upstream) check(t *testing.T, host string) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if !slices.Contains(u.targets, host+":443") {
		t.Errorf("the upstream proxy got requests for %q, want %s:443 among them", u.targets, host)
	}
	for i, method := range u.methods {
		if method != http.MethodConnect {
			t.Errorf("the upstream proxy got %s %s, want CONNECT only", method, u.targets[i])
		}
	}
	const handshake = 0x16 // the type of the first record
	for _, b := range u.first {
		if b != handshake {
			t.Errorf("a tunnel began with byte %#x, want TLS", b)
		}
	}
}
