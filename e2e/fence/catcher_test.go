//go:build e2e && linux

package fence

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// catcher records the packets that arrive from the laboratory. A record is like
// "tcp 192.0.2.1:80".
type catcher struct {
	mu      sync.Mutex
	seen    []string // without repetitions
	arrived *sync.Cond
}

// theCatcher is started by the first test that needs it.
var theCatcher = sync.OnceValue(func() *catcher {
	c := new(catcher)
	c.arrived = sync.NewCond(&c.mu)
	go c.run(os.NewFile(catcherFD, "catcher"))
	return c
})

func (c *catcher) run(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		panic(err)
	}
	b := make([]byte, 64<<10)
	for {
		err := raw.Read(func(fd uintptr) bool {
			n, _, err := syscall.Recvfrom(int(fd), b, 0)
			if err == syscall.EAGAIN {
				return false
			}
			if err == nil {
				c.record(describe(b[:n]))
			}
			return true
		})
		if err != nil {
			return
		}
	}
}

func (c *catcher) record(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.seen, s) {
		c.seen = append(c.seen, s)
		c.arrived.Broadcast()
	}
}

// describe names the target of an IP packet.
func describe(p []byte) string {
	names := map[byte]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp", 136: "udplite"}
	name := func(protocol byte) string {
		if n, ok := names[protocol]; ok {
			return n
		}
		return fmt.Sprintf("protocol %d", protocol)
	}
	var protocol byte
	var dst netip.Addr
	var rest []byte
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		protocol, dst, rest = p[9], netip.AddrFrom4([4]byte(p[16:])), p[int(p[0]&15)*4:]
	case len(p) >= 40 && p[0]>>4 == 6:
		protocol, dst, rest = p[6], netip.AddrFrom16([16]byte(p[24:])), p[40:]
	default:
		return fmt.Sprintf("packet %x", p[:min(len(p), 40)])
	}
	if (protocol == 6 || protocol == 17 || protocol == 132 || protocol == 136) && len(rest) >= 4 {
		return name(protocol) + " " + netip.AddrPortFrom(dst, binary.BigEndian.Uint16(rest[2:])).String()
	}
	return name(protocol) + " " + dst.String()
}

// wait waits until one of the packets has arrived.
func (c *catcher) wait(t *testing.T, packets ...string) {
	t.Helper()
	late := false
	timer := time.AfterFunc(timeout, func() {
		c.mu.Lock()
		late = true
		c.mu.Unlock()
		c.arrived.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	arrived := func(packet string) bool { return slices.Contains(c.seen, packet) }
	for !slices.ContainsFunc(packets, arrived) && !late {
		c.arrived.Wait()
	}
	if late {
		t.Errorf("%s has not arrived; the catcher saw:\n%s", strings.Join(packets, " or "), strings.Join(c.seen, "\n"))
	}
}

// forget makes the catcher forget a packet.
func (c *catcher) forget(packet string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = slices.DeleteFunc(c.seen, func(s string) bool { return s == packet })
}

func (c *catcher) has(packet string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.seen, packet)
}
