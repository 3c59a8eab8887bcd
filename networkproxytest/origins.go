// Origin servers of a test that the proxy reaches by public names.

package networkproxytest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/pindial"
)

// Origins are the origin servers of a test. They run on loopback and have public
// names. Pass them to [networkproxy.Builder.Resolver] in place of a resolver. The
// proxy then looks names up in Origins only, and needs no network. Safe for
// concurrent use.
//
// A request passes every check of the proxy: the name must be allowed, and its
// address, which is public, is judged. Only the connection that follows leads to
// loopback, so the policy needs no allow_local_binding. All other addresses are
// connected to as usual.
//
// A server speaks HTTP at every port but 443, and HTTPS at port 443, where it
// supports HTTP/2. It does not serve UDP. Requests through an upstream proxy
// (allow_upstream_proxy) do not reach Origins, because that proxy looks names up
// itself.
type Origins struct {
	t         testing.TB
	authority *authority
	rootsFile string

	mu      sync.Mutex
	servers []originServer // the address of the i-th is addressOf(i)
}

var (
	_ networkproxy.Resolver = (*Origins)(nil)
	_ pindial.TestNetwork   = (*Origins)(nil)
)

// originServer is the server of one name.
type originServer struct {
	host          hostname.Host
	http, httpsAt netip.AddrPort
}

// Origin starts a server for name, such as "yes.test", until the end of the test.
// A proxy that uses the result as its Resolver reaches it as http://yes.test/ and
// https://yes.test/. [Origins.Add] adds servers with other names.
//
// Origin fails the test if name is not a valid host name, and panics outside of
// tests.
func Origin(t testing.TB, name string, handler http.Handler) *Origins {
	t.Helper()
	if !testing.Testing() {
		panic("networkproxytest: Origin was called outside of a test")
	}
	o := &Origins{t: t, authority: newAuthority(t)}
	o.rootsFile = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(o.rootsFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.authority.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Add(name, handler)
	return o
}

// Add starts a server for another name. It fails the test if the name is invalid
// or has a server.
func (o *Origins) Add(name string, handler http.Handler) {
	o.t.Helper()
	host, err := hostname.Parse(name)
	switch {
	case err != nil:
		o.t.Fatalf("the name of an origin server: %v", err)
	case host.IsIP() || host.IsLocalhost():
		o.t.Fatalf("the name of an origin server is %s, which is not a public name", host)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case slices.ContainsFunc(o.servers, func(s originServer) bool { return s.host == host }):
		o.t.Fatalf("there are two origin servers for %s", host)
	case len(o.servers) == maxServers:
		o.t.Fatalf("there are more than %d origin servers", maxServers)
	}
	o.servers = append(o.servers, originServer{
		host:    host,
		http:    o.start(handler, nil),
		httpsAt: o.start(handler, o.authority.certificate(o.t, host.Name())),
	})
}

// start starts a server on loopback, with TLS if cert is not nil.
func (o *Origins) start(handler http.Handler, cert *tls.Certificate) netip.AddrPort {
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(o.t.Output(), "origin server: ", 0)
	if cert != nil {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	o.t.Cleanup(func() {
		s.CloseClientConnections() // otherwise Close would wait for open requests
		s.Close()
	})
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// Roots returns the certificates that a client must trust to make HTTPS requests.
func (o *Origins) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(o.authority.cert)
	return pool
}

// RootsFile returns the path of a PEM file with the certificates of Roots, for
// commands: the value of CURL_CA_BUNDLE, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS or
// REQUESTS_CA_BUNDLE.
func (o *Origins) RootsFile() string { return o.rootsFile }

// LookupNetIP implements [networkproxy.Resolver]. It ignores the network. Names
// without a server do not exist.
func (o *Origins) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	host, err := hostname.Parse(name)
	if err == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if i := slices.IndexFunc(o.servers, func(s originServer) bool { return s.host == host }); i >= 0 {
			return []netip.Addr{addressOf(i)}, nil
		}
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// Redirect is for the proxy, which calls it to connect.
func (o *Origins) Redirect(to pindial.Vetted) (server netip.AddrPort, ok bool) {
	addr := netip.AddrPort(to)
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, s := range o.servers {
		switch {
		case addressOf(i) != addr.Addr():
		case addr.Port() == 443:
			return s.httpsAt, true
		default:
			return s.http, true
		}
	}
	return netip.AddrPort{}, false
}

// maxServers is the number of addresses that addressOf has.
const maxServers = 200

// addressOf returns the address of the i-th server. It is public, and belongs to
// an operator of test sites, so a connection that is not redirected by mistake
// does no harm.
func addressOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{93, 184, 216, byte(34 + i)}) }

// authority issues the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := new(authority)
	der, key := issue(t, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "networkproxytest"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}, a)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.key = cert, key
	return a
}

// certificate returns a certificate of a server.
func (a *authority) certificate(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	der, key := issue(t, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    []string{name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// issue makes a key and a certificate for it, which by signs. A zero by stands for
// the new certificate itself.
func issue(t testing.TB, template *x509.Certificate, by *authority) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := by.cert, by.key
	if parent == nil {
		parent, signer = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer); err != nil {
		t.Fatal(err)
	}
	return der, key
}
