//go:build e2e && linux

// This file names the addresses and hosts inside the namespace and starts what
// answers there.

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

// The addresses of the namespace. The first three are public as far as the
// program can tell; the last two are not.
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

// hosts is what the DNS server knows. The names other.example and
// denied.example are kept for refusals: no test may allow them, and nobody may
// ever ask the DNS server for them.
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
	"rebind.example":        {publicA}, // every other answer: see dnsServer.
	"reload.example":        {publicA},
	"unreachable.example":   {publicB},
	"xn--bcher-kva.example": {publicA},
}

// sessionNames are names that no DNS server knows. The resolver of a host in
// this process has them at publicA, so that a client which did not go through
// that host's proxy could not get there, and would be seen to ask.
var sessionNames = []string{"*.session.example", "*.refused.example"}

// localServer is where a developer's own server would be: on loopback, and
// reachable only when the policy names it.
const localServer = "127.0.0.1:3000"

// laboratory is everything that the tests find in the namespace.
type laboratory struct {
	dir     string // holds the program and the files of the run
	dns     *dnsServer
	ca      *authority
	origins *origins
	traps   *traps
	ports   atomic.Int32
	names   atomic.Int32
}

// openLaboratory starts every server and checks that the traps are reachable
// without the proxy, so that a trap nobody reached proves something.
func openLaboratory(dir string) (*laboratory, error) {
	l := &laboratory{dir: dir}
	// Below the range from which the kernel picks ephemeral ports.
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
	l.dns.close()
}

// program is the path of the program under test.
func (l *laboratory) program() string { return filepath.Join(l.dir, "networkproxy") }

// addr is an unused loopback address. Ports are handed out, not probed: in
// this namespace nobody else takes them.
func (l *laboratory) addr() string {
	return fmt.Sprintf("127.0.0.1:%d", l.ports.Add(1))
}

// unique is a name that nobody else uses, in this run of the tests or, with
// -count, in another.
func (l *laboratory) unique(prefix string) string {
	return fmt.Sprintf("%s-%d", prefix, l.names.Add(1))
}

// traps are servers where no connection may ever arrive.
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
		return nil, fmt.Errorf("%d traps counted %d connections", len(addrs), hits)
	}
	return tr, nil
}

// listen opens one trap and steps into it.
func (tr *traps) listen(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "trap\n") }),
		// Connections count, not requests: a bare connect is a hit.
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
