//go:build e2e && linux

// This file prepares the namespaces and starts the origin servers.

package tls

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"example.com/networkproxy/e2e/harness"
)

// lab holds the servers in the namespace. TestMain sets it before any test runs.
var lab *laboratory

// laboratory holds the origin servers and the files of the namespace.
type laboratory struct {
	dir     string // holds the programs and the files of the run
	ca      *authority
	origins *origins
	ports   atomic.Int32
	names   atomic.Int32
}

func TestMain(m *testing.M) {
	suite := harness.Namespaces{
		Suite: "e2e/tls",
		Build: build,
		Files: map[string]string{
			"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
			"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
			"/etc/resolv.conf":   "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n",
		},
		Run: func(dir string) int { return run(m, dir) },
	}
	for _, k := range kinds {
		suite.Addrs = append(suite.Addrs, k.addr)
	}
	os.Exit(suite.Main())
}

// build builds the program with and without the race detector, and the client in Go. The
// program without it is for tests that measure memory.
func build(dir string) error {
	client := exec.Command("go", "build", "-o", filepath.Join(dir, "fetch"), "../testdata/fetch.go")
	client.Env = append(os.Environ(), "CGO_ENABLED=0")
	client.Stderr = os.Stderr
	return errors.Join(
		harness.BuildProgram(filepath.Join(dir, "networkproxy"), true),
		harness.BuildProgram(filepath.Join(dir, "networkproxy-fast"), false),
		client.Run(),
	)
}

// lookup returns the address of a name: NAME.KIND.test is an origin server of the kind, and
// the names below flood.test, those without a kind and presetHost are ordinary ones.
func lookup(name string, _ dnsmessage.Type) ([]netip.Addr, bool) {
	rest, ok := strings.CutSuffix(name, ".test")
	if !ok && name != presetHost {
		return nil, false
	}
	suffix := rest[strings.LastIndexByte(rest, '.')+1:]
	for _, k := range kinds {
		if k.name == suffix {
			return []netip.Addr{k.addr}, true
		}
	}
	return []netip.Addr{kinds[0].addr}, true
}

func run(m *testing.M, dir string) int {
	l := &laboratory{dir: dir}
	l.ports.Store(20000) // below the range of ephemeral ports
	dns, err := harness.ListenDNS(lookup)
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e/tls: start the name server: %v\n", err)
		return 1
	}
	defer dns.Close()
	if l.ca, err = newAuthority("end-to-end origins", filepath.Join(dir, "origins-ca.pem")); err == nil {
		l.origins, err = listenOrigins(dir, l.ca)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e/tls: start the origin servers: %v\n", err)
		return 1
	}
	defer l.origins.close()
	lab = l
	return m.Run()
}

// addr returns an unused loopback address. It counts ports instead of probing them,
// because no other program uses this namespace.
func (l *laboratory) addr() string { return fmt.Sprintf("127.0.0.1:%d", l.ports.Add(1)) }

// host returns a name that no other test uses, of an origin server of the kind.
func (l *laboratory) host(kind string) string {
	return fmt.Sprintf("n%d.%s.test", l.names.Add(1), kind)
}

// kind is a kind of origin server, at an address of its own.
type kind struct {
	name   string
	addr   netip.Addr
	alpn   []string
	cert   certificateKind
	mutual bool // requires a certificate of the client
	idle   bool // closes idle connections soon
}

var kinds = []kind{
	{name: "web", addr: netip.MustParseAddr("93.184.215.10"), alpn: []string{"h2", "http/1.1"}},
	{name: "h1", addr: netip.MustParseAddr("93.184.215.11"), alpn: []string{"http/1.1"}},
	{name: "expired", addr: netip.MustParseAddr("93.184.215.12"), alpn: []string{"h2", "http/1.1"}, cert: certExpired},
	{name: "wrongname", addr: netip.MustParseAddr("93.184.215.13"), alpn: []string{"h2", "http/1.1"}, cert: certWrongName},
	{name: "selfsigned", addr: netip.MustParseAddr("93.184.215.14"), alpn: []string{"h2", "http/1.1"}, cert: certSelfSigned},
	{name: "mutual", addr: netip.MustParseAddr("93.184.215.15"), alpn: []string{"h2", "http/1.1"}, mutual: true},
	{name: "idle", addr: netip.MustParseAddr("93.184.215.16"), alpn: []string{"h2", "http/1.1"}, idle: true},
	{name: "reserved", addr: netip.MustParseAddr("203.0.113.9"), alpn: []string{"h2", "http/1.1"}}, // TEST-NET-3, which is not public
}

// address returns the address of a kind of origin server.
func address(name string) netip.Addr {
	for _, k := range kinds {
		if k.name == name {
			return k.addr
		}
	}
	panic("no kind of origin server is called " + name)
}
