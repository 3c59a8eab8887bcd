package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"example.com/networkproxy/internal/hostname"
)

func host(t testing.TB, text string) hostname.Host {
	t.Helper()
	h, err := hostname.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustLeaf(t testing.TB, a *Authority, name string) *tls.Certificate {
	t.Helper()
	cert, err := a.Leaf(host(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// checkServes fails unless a client that trusts a accepts a handshake with the certificate for name.
func checkServes(t *testing.T, a *Authority, name string) {
	t.Helper()
	leaf := mustLeaf(t, a, name)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.PEM())
	clientSide, serverSide := net.Pipe()
	defer clientSide.Close()
	defer serverSide.Close()
	done := make(chan error, 1)
	go func() {
		done <- tls.Server(serverSide, &tls.Config{Certificates: []tls.Certificate{*leaf}}).Handshake()
	}()
	client := tls.Client(clientSide, &tls.Config{RootCAs: roots, ServerName: name})
	err := client.Handshake()
	clientSide.Close() // lets the server end if the client refuses
	if err := <-done; err != nil && err != io.ErrClosedPipe {
		t.Errorf("%s: the server: %v", name, err)
	}
	if err != nil {
		t.Errorf("%s: the client: %v", name, err)
	}
}

func TestLeaf(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	label := strings.Repeat("a", 63)
	long := strings.Repeat(label+".", 3) + strings.Repeat("b", 61)
	for _, test := range []struct {
		name string
		host hostname.Host
		san  string // if not the host
		noCN bool
	}{
		{name: "a name", host: host(t, "api.example.com")},
		{name: "one label", host: host(t, "intranet")},
		{name: "an underscore", host: host(t, "my_bucket.s3.test")},
		{name: "hyphens at the ends", host: host(t, "-a-.b-.test")},
		{name: "an international name", host: host(t, "bücher.example"), san: "xn--bcher-kva.example"},
		{name: "64 bytes", host: host(t, label[:59]+".test")},
		{name: "65 bytes", host: host(t, label[:60]+".test"), noCN: true},
		{name: "the longest name", host: host(t, long), noCN: true},
		{name: "IPv4", host: host(t, "203.0.113.9")},
		{name: "IPv4 in IPv6", host: host(t, "::ffff:203.0.113.9"), san: "203.0.113.9"},
		{name: "IPv6", host: host(t, "[2001:db8::1]"), san: "2001:db8::1"},
		{name: "IPv6 with a zone", host: host(t, "fe80::1%eth0"), san: "fe80::1"},
		{name: "an address of this machine", host: hostname.FromAddr(netip.MustParseAddr("127.0.0.1"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cert, err := a.Leaf(test.host)
			if err != nil {
				t.Fatal(err)
			}
			san := test.san
			if san == "" {
				san = test.host.String()
			}
			c := parse(t, cert.Certificate[0])
			var names []string
			for _, ip := range c.IPAddresses {
				names = append(names, ip.String())
			}
			names = append(names, c.DNSNames...)
			if len(names) != 1 || names[0] != san || len(c.EmailAddresses)+len(c.URIs) > 0 {
				t.Errorf("the names are %q, want %q", names, san)
			}
			if want := map[bool]string{false: san, true: ""}[test.noCN]; c.Subject.CommonName != want {
				t.Errorf("the common name is %q, want %q", c.Subject.CommonName, want)
			}
			for _, e := range c.Extensions { // RFC 5280 section 4.2.1.6
				if e.Id.String() == "2.5.29.17" && e.Critical != test.noCN {
					t.Errorf("the name is critical: %v", e.Critical)
				}
			}
			checkLeaf(t, a, cert)
		})
	}
}

// checkLeaf checks what all certificates of servers have in common.
func checkLeaf(t *testing.T, a *Authority, cert *tls.Certificate) {
	t.Helper()
	c := parse(t, cert.Certificate[0])
	if len(cert.Certificate) != 1+len(a.chain) || !bytes.Equal(cert.Certificate[1], a.chain[0].Raw) {
		t.Error("the chain lacks the certificate of the CA")
	}
	if key, ok := cert.PrivateKey.(*ecdsa.PrivateKey); !ok || key.Curve != elliptic.P256() || !key.PublicKey.Equal(c.PublicKey) {
		t.Errorf("the key is %T", cert.PrivateKey)
	}
	if !bytes.Equal(c.AuthorityKeyId, a.chain[0].SubjectKeyId) || len(c.AuthorityKeyId) == 0 {
		t.Errorf("the identifier of the CA's key is %x", c.AuthorityKeyId)
	}
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("CA %v, usages %v, %v", c.IsCA, c.KeyUsage, c.ExtKeyUsage)
	}
	if whole := c.NotAfter.Sub(c.NotBefore); whole > 398*24*time.Hour || time.Since(c.NotBefore) < 24*time.Hour || time.Until(c.NotAfter) < 24*time.Hour {
		t.Errorf("valid from %v to %v", c.NotBefore, c.NotAfter)
	}
	if c.NotBefore.Before(a.notBefore) || c.NotAfter.After(a.notAfter) {
		t.Errorf("valid from %v to %v, outside of the CA's %v to %v", c.NotBefore, c.NotAfter, a.notBefore, a.notAfter)
	}
	if len(c.SerialNumber.Bytes()) != 15 {
		t.Errorf("the serial number is %v", c.SerialNumber)
	}
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLeafServes(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	for _, name := range []string{"a.test", "203.0.113.9", "2001:db8::1", strings.Repeat("a.", 100) + "test"} {
		checkServes(t, a, name)
	}
}

// A CA that is new, or ends soon, bounds the validity of what it issues.
func TestLeafStaysInsideTheCA(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, nil, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-time.Hour) })
	c := issue(t, root, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) })
	a, err := FromCertificate(tls.Certificate{Certificate: [][]byte{c.cert.Raw, root.cert.Raw}, PrivateKey: c.key})
	if err != nil {
		t.Fatal(err)
	}
	first := mustLeaf(t, a, "a.test")
	if !first.Leaf.NotBefore.Equal(root.cert.NotBefore) || !first.Leaf.NotAfter.Equal(c.cert.NotAfter) {
		t.Errorf("valid from %v to %v", first.Leaf.NotBefore, first.Leaf.NotAfter)
	}
	if mustLeaf(t, a, "a.test") != first {
		t.Error("a certificate that ends with the CA is made again for each connection")
	}
	checkServes(t, a, "b.test")
}

func TestLeafErrors(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	if cert, err := a.Leaf(hostname.Host{}); cert != nil || err == nil {
		t.Errorf("no host: %v, %v", cert, err)
	}
	c := issue(t, nil, nil, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"corp.test"}, true
		_, all, _ := net.ParseCIDR("0.0.0.0/0")
		c.ExcludedIPRanges = []*net.IPNet{all}
	})
	a, err := FromCertificate(tls.Certificate{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key})
	if err != nil {
		t.Fatal(err)
	}
	checkServes(t, a, "git.corp.test")
	for _, name := range []string{"a.test", "203.0.113.9"} {
		if cert, err := a.Leaf(host(t, name)); cert != nil || err == nil || !strings.Contains(err.Error(), "for "+name+": the CA does not permit it") {
			t.Errorf("%s: got %v, %v", name, cert, err)
		}
	}
}

func TestLeafIsKept(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	first := mustLeaf(t, a, "a.test")
	if mustLeaf(t, a, "A.test.") != first {
		t.Error("another spelling of a host has another certificate")
	}
	if mustLeaf(t, a, "fe80::1%eth0") != mustLeaf(t, a, "fe80::1%eth1") {
		t.Error("an address has a certificate for each zone")
	}
	if mustLeaf(t, a, "b.test") == first {
		t.Error("two hosts have one certificate")
	}
}

// countingKey counts signatures. Each waits for the others for a while.
type countingKey struct {
	crypto.Signer
	signed  *atomic.Int32
	release <-chan struct{}
}

func (k countingKey) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.signed.Add(1)
	<-k.release
	return k.Signer.Sign(r, digest, opts)
}

func countingAuthority(t testing.TB, release <-chan struct{}) (*Authority, *atomic.Int32) {
	t.Helper()
	c, signed := issue(t, nil, nil, nil), new(atomic.Int32)
	a, err := FromCertificate(tls.Certificate{Certificate: [][]byte{c.cert.Raw}, PrivateKey: countingKey{c.key, signed, release}})
	if err != nil {
		t.Fatal(err)
	}
	return a, signed
}

func TestFirstRequestsShareOneCertificate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		a, signed := countingAuthority(t, release)
		certs := make([]*tls.Certificate, 200)
		var wg sync.WaitGroup
		for i := range certs {
			wg.Go(func() { certs[i] = mustLeaf(t, a, "a.test") })
		}
		synctest.Wait() // all wait for the first
		wg.Go(func() { mustLeaf(t, a, "b.test") })
		synctest.Wait()
		if n := signed.Load(); n != 2 {
			t.Errorf("%d signatures have begun, want one for each host", n)
		}
		close(release)
		wg.Wait()
		mustLeaf(t, a, "a.test")
		if n := signed.Load(); n != 2 {
			t.Errorf("%d signatures, want 2", n)
		}
		for i, c := range certs {
			if c == nil || c != certs[0] {
				t.Fatalf("request %d got %p, the first %p", i, c, certs[0])
			}
		}
	})
}

func TestManyHostsStayBounded(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	used := mustLeaf(t, a, "used.test")
	n := 5000
	if testing.Short() {
		n = maxLeaves + 100
	}
	for i := range n {
		mustLeaf(t, a, fmt.Sprintf("host%d.test", i))
		if i%500 == 0 && mustLeaf(t, a, "used.test") != used {
			t.Fatalf("after %d others, the certificate of a host in use was removed", i)
		}
	}
	if n, m := len(a.leaves.byHost), a.leaves.byUse.Len(); n != maxLeaves || m != maxLeaves {
		t.Errorf("the cache has %d and %d entries, want %d", n, m, maxLeaves)
	}
	if newest := host(t, fmt.Sprintf("host%d.test", n-1)); a.leaves.get(newest, time.Now()) == nil {
		t.Error("the newest certificate was removed")
	}
	if oldest := host(t, "host0.test"); a.leaves.get(oldest, time.Now()) != nil {
		t.Error("the oldest certificate is still there")
	}
}

// A machine that sleeps, or whose clock is set, gets certificates that are valid now.
func TestLeafFollowsTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuthority(t)
		first := mustLeaf(t, a, "a.test")
		time.Sleep(leafLifetime - renewBefore - time.Minute)
		if mustLeaf(t, a, "a.test") != first {
			t.Error("a certificate was replaced early")
		}
		time.Sleep(2 * time.Minute)
		second := mustLeaf(t, a, "a.test")
		if second == first {
			t.Error("a certificate was not replaced before its end")
		}
		checkLeaf(t, a, second)
		time.Sleep(200 * 24 * time.Hour)
		checkLeaf(t, a, mustLeaf(t, a, "a.test"))
		if n, m := len(a.leaves.byHost), a.leaves.byUse.Len(); n != 1 || m != 1 {
			t.Errorf("the cache has %d and %d entries for one host", n, m)
		}
		back := first.Leaf.NotBefore.Add(-time.Hour)
		if cert := a.leaves.get(host(t, "a.test"), back); cert != nil {
			t.Error("after the clock was set back, a certificate that is not valid yet is used")
		}
		if _, err := a.mint(host(t, "a.test"), back); err == nil || !strings.Contains(err.Error(), "not valid before") {
			t.Errorf("before the validity of the CA: %v", err)
		}
		time.Sleep(memoryLifetime)
		if cert, err := a.Leaf(host(t, "a.test")); cert != nil || err == nil || !strings.Contains(err.Error(), "the CA expired at ") {
			t.Errorf("after the end of the CA: %v, %v", cert, err)
		}
	})
}

// While the machine sleeps, the monotonic clock of a process stands still. Times
// that are kept must not have a monotonic reading.
func TestKeptTimesAreOfTheWallClock(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	l, err := a.mint(host(t, "a.test"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []time.Time{l.notBefore, l.renew} {
		if strings.Contains(kept.String(), " m=") {
			t.Errorf("%s has a monotonic reading", kept)
		}
	}
}

func TestLeafFromManyGoroutines(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				mustLeaf(t, a, fmt.Sprintf("h%d.test", (i*7+g)%50))
			}
		})
	}
	wg.Wait()
	if n := len(a.leaves.byHost); n != 50 {
		t.Errorf("the cache has %d entries, want 50", n)
	}
}

// The cache must not keep the buffer alive that a name was parsed from.
func TestLeafKeepsNoTextOfTheClient(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	text := strings.Repeat("x", 100) + "kept.test"
	h := host(t, text[100:])
	if _, err := a.Leaf(h); err != nil {
		t.Fatal(err)
	}
	for kept := range a.leaves.byHost {
		if kept != h || unsafe.StringData(kept.Name()) == unsafe.StringData(h.Name()) {
			t.Errorf("the cache keeps %s", kept)
		}
	}
}

func BenchmarkLeaf(b *testing.B) {
	b.Run("cold", func(b *testing.B) {
		a := newTestAuthority(b)
		for i := range b.N {
			mustLeaf(b, a, fmt.Sprintf("host%d.test", i))
		}
	})
	b.Run("hit", func(b *testing.B) {
		a, h := newTestAuthority(b), host(b, "api.example.com")
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Leaf(h); err != nil {
				b.Fatal(err)
			}
		}
	})
}
