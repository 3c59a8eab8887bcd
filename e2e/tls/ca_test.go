//go:build e2e && linux

// This file issues the certificates of the origin servers.

package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"os"
	"sync"
	"time"
)

// certificateKind is what is wrong with the certificates of an origin server.
type certificateKind int

const (
	certValid certificateKind = iota
	certExpired
	certWrongName
	certSelfSigned
)

// authority is a certificate authority. It issues a certificate for each name once.
type authority struct {
	file string         // its certificate
	pool *x509.CertPool // its certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	issued map[certificateFor]*tls.Certificate
}

type certificateFor struct {
	host string
	kind certificateKind
}

// newAuthority makes a certificate authority and writes its certificate to a file.
func newAuthority(name, file string) (*authority, error) {
	a := &authority{file: file, pool: x509.NewCertPool(), issued: make(map[certificateFor]*tls.Certificate)}
	now := time.Now()
	var err error
	a.cert, a.key, err = issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	if err != nil {
		return nil, err
	}
	a.pool.AddCert(a.cert)
	return a, os.WriteFile(file, certificatePEM(a.cert), 0o644)
}

// issue issues a certificate for a new key. Without an issuer it is self-signed.
func issue(template, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if issuer == nil {
		issuer, issuerKey = template, key
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func certificatePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// certificate returns the certificate of a name or address.
func (a *authority) certificate(host string, kind certificateKind) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cert := a.issued[certificateFor{host, kind}]; cert != nil {
		return cert, nil
	}
	now := time.Now()
	template := &x509.Certificate{
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(20 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
	} else {
		template.DNSNames = []string{host}
	}
	issuer, issuerKey := a.cert, a.key
	switch kind {
	case certExpired:
		template.NotBefore, template.NotAfter = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
	case certWrongName:
		template.DNSNames = []string{"elsewhere.test"}
	case certSelfSigned:
		issuer, issuerKey = nil, nil
	}
	leaf, key, err := issue(template, issuer, issuerKey)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	a.issued[certificateFor{host, kind}] = cert
	return cert, nil
}

// parseCertificates parses a PEM file.
func parseCertificates(text []byte) (certs []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificates")
	}
	return certs, nil
}
