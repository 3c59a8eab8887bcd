//go:build e2e && linux

// This file defines the addresses and hosts inside the namespace and starts its
// servers.

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"
)

// The addresses of the namespace. The first three are public, the next two are not.
var (
	publicA  = netip.MustParseAddr("93.184.215.14")
	publicB  = netip.MustParseAddr("93.184.215.15")
	public6  = netip.MustParseAddr("2606:2800:21f::1")
	private  = netip.MustParseAddr("10.0.0.1")
	metadata = netip.MustParseAddr("169.254.169.254")

	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.IPv6Loopback()

	deviceAddrs = []netip.Addr{publicA, publicB, public6, private, metadata}
)

// hosts is the zone of the DNS server. The names other.example and denied.example are
// for refusals. No test may reach them through the program, and there must be no
// query for them.
var hosts = map[string][]netip.Addr{
	"allowed.example":       {publicA},
	"direct.example":        {publicA},
	"sub.wild.example":      {publicB},
	"v6.example":            {public6},
	"dual.example":          {publicA, public6},
	"git.example":           {publicB},
	"other.example":         {publicB},
	"denied.example":        {publicB},
	"leak.other.example":    {publicB},
	"inner.example":         {private},
	"metadata.example":      {metadata},
	"mixed.example":         {publicA, private},
	"self.example":          {loopback4},
	"rebind.example":        {publicA}, // every other answer; see dnsServer
	"reload.example":        {publicA},
	"unreachable.example":   {publicB},
	"xn--bcher-kva.example": {publicA},
}

// sessionNames are names without DNS records. Only the resolver of the embedding host
// in this process maps them to publicA. A client that bypasses the host's proxy cannot
// reach them, and its DNS query shows the bypass.
var sessionNames = []string{"*.session.example", "*.refused.example"}

// localServer is the address of a developer's own server: on loopback, and reachable
// only if the policy names it.
const localServer = "127.0.0.1:3000"

// laboratory holds the servers and the files of the namespace.
type laboratory struct {
	dir     string // holds the program and the files of the run
	dns     *dnsServer
	ca      *authority
	origins *origins
	traps   *traps
	ports   atomic.Int32
	names   atomic.Int32
}

// openLaboratory starts all servers. It also checks that the traps are reachable
// without the proxy.
func openLaboratory(dir string) (*laboratory, error) {
	l := &laboratory{dir: dir}
	// Below the range of ephemeral ports.
	l.ports.Store(20000)

	var err error
	if l.ca, err = newAuthority(filepath.Join(dir, "ca.pem")); err != nil {
		return nil, err
	}
	if l.dns, err = listenDNS(hosts); err != nil {
		return nil, err
	}
	if l.origins, err = listenOrigins(dir, l.ca); err != nil {
		return nil, err
	}
	if l.traps, err = listenTraps(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *laboratory) close() {
	l.traps.close()
	l.origins.close()
	l.dns.Close()
}

// program returns the path of the program under test.
func (l *laboratory) program() string { return filepath.Join(l.dir, "networkproxy") }

// addr returns an unused loopback address. It counts ports instead of probing them,
// because no other program uses this namespace.
func (l *laboratory) addr() string {
	return fmt.Sprintf("127.0.0.1:%d", l.ports.Add(1))
}

// unique returns a name that is unique in this process, also with -count.
func (l *laboratory) unique(prefix string) string {
	return fmt.Sprintf("%s-%d", prefix, l.names.Add(1))
}

// traps are servers that no connection through the proxy may reach.
type traps struct {
	servers []*http.Server
	count   atomic.Int64
}

func listenTraps() (*traps, error) {
	tr := new(traps)
	addrs := []netip.Addr{loopback4, loopback6, private, metadata}
	for _, addr := range addrs {
		if err := tr.listen(netip.AddrPortFrom(addr, 80).String()); err != nil {
			tr.close()
			return nil, fmt.Errorf("trap: %w", err)
		}
	}
	if hits := tr.count.Swap(0); hits != int64(len(addrs)) {
		tr.close()
		return nil, fmt.Errorf("%d traps counted %d direct connections", len(addrs), hits)
	}
	return tr, nil
}

// listen opens one trap and connects to it once, to check that it is reachable.
func (tr *traps) listen(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "trap\n") }),
		// Count connections, not requests: a bare connection is a hit.
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				tr.count.Add(1)
			}
		},
	}
	tr.servers = append(tr.servers, server)
	go server.Serve(ln)

	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + addr + "/")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (tr *traps) hits() int64 { return tr.count.Load() }

func (tr *traps) close() {
	for _, server := range tr.servers {
		server.Close()
	}
}
