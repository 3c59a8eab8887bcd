// Goproxy is a minimal proxy that opens TLS, made of github.com/elazarl/goproxy. It is
// a peer of the load program: go run ./bench -inspection builds and measures it.
//
//	goproxy ADDRESS
//
// It makes a certificate authority at its start, and verifies origin servers with the
// roots of the system or of SSL_CERT_FILE. It has no policy, log, counters or limits.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: goproxy ADDRESS")
		os.Exit(2)
	}
	proxy, err := newProxy()
	if err == nil {
		server := &http.Server{Addr: os.Args[1], Handler: proxy, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second}
		err = server.ListenAndServe()
	}
	fmt.Fprintln(os.Stderr, "goproxy:", err)
	os.Exit(1)
}

// newProxy returns a proxy that opens the TLS of every tunnel.
func newProxy() (*goproxy.ProxyHttpServer, error) {
	authority, err := newAuthority()
	if err != nil {
		return nil, err
	}
	proxy := goproxy.NewProxyHttpServer()
	proxy.AllowHTTP2 = true
	proxy.CertStore = &certificates{byHost: make(map[string]*tls.Certificate)} // or each connection would get a new one
	proxy.Tr = &http.Transport{
		TLSClientConfig:     new(tls.Config), // verifies, which goproxy does not by default
		MaxIdleConnsPerHost: 256,             // as the base of the load program
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
		ForceAttemptHTTP2:   true,
	}
	action := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(authority)}
	proxy.OnRequest().HandleConnectFunc(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		return action, host
	})
	return proxy, nil
}

// newAuthority returns a certificate authority with a P-256 key, as networkproxy has.
func newAuthority() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "goproxy"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, nil
}

// certificates keeps the certificate of each host. It is safe for concurrent use.
type certificates struct {
	mu     sync.Mutex
	byHost map[string]*tls.Certificate
}

// Fetch implements goproxy.CertStorage. It makes the certificate of a host once.
func (c *certificates) Fetch(host string, make func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cert := c.byHost[host]; cert != nil {
		return cert, nil
	}
	cert, err := make()
	if err == nil {
		c.byHost[host] = cert
	}
	return cert, err
}
