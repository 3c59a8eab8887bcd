//go:build e2e && linux

package fence

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"example.com/networkproxy/internal/fence"
)

// timeout is how long a test waits for anything.
const timeout = 30 * time.Second

// host serves a room: names that end in .test have addresses, and every HTTP request gets the
// address that it was sent to.
type host struct {
	mu    sync.Mutex
	names map[netip.Addr]string
	asked []string // DNS queries: type, name, name server
	tcp   []string // targets of connections
}

func newHost() *host { return &host{names: make(map[netip.Addr]string)} }

func (h *host) serve(r *fence.Room) {
	for _, ln := range r.TCP {
		type targetKey struct{}
		s := http.Server{
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, targetKey{}, r.Target(c))
			},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				addr := req.Context().Value(targetKey{}).(netip.AddrPort)
				target := fmt.Sprintf("%s:%d", h.name(addr.Addr()), addr.Port())
				h.mu.Lock()
				h.tcp = append(h.tcp, target)
				h.mu.Unlock()
				fmt.Fprintf(w, "captured %s\n", target)
			}),
		}
		go s.Serve(ln)
	}
	for i, ln := range r.Listeners {
		go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "listener %d\n", i) }))
	}
	go h.serveDNS(r.DNS)
	go h.serveDNSStreams(r.DNSStreams)
}

func (h *host) name(a netip.Addr) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if name, ok := h.names[a]; ok {
		return name
	}
	return a.String()
}

func (h *host) serveDNS(d *fence.Datagrams) {
	b := make([]byte, 4096)
	for {
		n, client, target, err := d.Receive(b)
		if err != nil {
			return
		}
		if a := h.answer(b[:n], target); a != nil {
			d.Send(a, target, client)
		}
	}
}

func (h *host) serveDNSStreams(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 4096)
			n, err := c.Read(b) // one segment is enough for a test
			if err != nil || n < 2 {
				return
			}
			a := h.answer(b[2:n], c.LocalAddr().(*net.TCPAddr).AddrPort())
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
		}()
	}
}

func (h *host) answer(query []byte, server netip.AddrPort) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, fmt.Sprintf("%v %s %s", q.Type, q.Name, server.Addr().Unmap()))
	name := strings.TrimSuffix(q.Name.String(), ".")
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: header.ID, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
	resource := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
	switch {
	case !strings.HasSuffix(name, ".test"):
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		a := [4]byte{198, 18, 1, byte(len(name))}
		h.names[netip.AddrFrom4(a)] = name
		m.Answers = []dnsmessage.Resource{{Header: resource, Body: &dnsmessage.AResource{A: a}}}
	case q.Type == dnsmessage.TypeAAAA:
		a := [16]byte{0: 0xfd, 2: 0x6e, 3: 0x70, 14: 1, 15: byte(len(name))}
		h.names[netip.AddrFrom16(a)] = name
		m.Answers = []dnsmessage.Resource{{Header: resource, Body: &dnsmessage.AAAAResource{AAAA: a}}}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// runInRoom runs a command in a room and returns its output.
func runInRoom(t *testing.T, h *host, config fence.Config, args ...string) string {
	t.Helper()
	out, err := tryInRoom(t, h, config, command(t, args...))
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, args[0], args[1:]...)
}

func tryInRoom(t *testing.T, h *host, config fence.Config, cmd *exec.Cmd) (string, error) {
	t.Helper()
	var out bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &out
	}
	room, err := fence.Start(cmd, config)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	defer room.Close()
	h.serve(room)
	err = cmd.Wait()
	return out.String(), err
}

func TestCurlByName(t *testing.T) {
	t.Parallel()
	h := newHost()
	got := runInRoom(t, h, fence.Config{}, "curl", "-sS", "--noproxy", "*", "http://hello.test/")
	if got != "captured hello.test:80\n" {
		t.Errorf("curl prints %q", got)
	}
}
