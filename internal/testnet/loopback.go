package testnet

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
)

var loopbacks atomic.Uint32 // number of addresses that UnusedLoopback has returned in this process

// UnusedLoopback returns a loopback address whose ports no other test uses, so that a port stays closed after its listener
// was closed. On macOS, which has one IPv4 loopback address only, it returns 127.0.0.1, where another test may soon get the
// same port.
func UnusedLoopback() string {
	if runtime.GOOS == "darwin" {
		return "127.0.0.1"
	}
	n, pid := loopbacks.Add(1), os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>8%250, pid%256, 1+n%254)
}

// ClosedPort returns an address on which nobody listens.
func ClosedPort(tb testing.TB) netip.AddrPort {
	tb.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(UnusedLoopback(), "0"))
	if err != nil {
		tb.Fatalf("find a closed port: %v", err)
	}
	ln.Close()
	return addrPort(ln.Addr())
}
