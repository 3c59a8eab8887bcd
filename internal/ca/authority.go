// Package ca is the certificate authority of TLS inspection. It issues the certificates that the proxy shows to clients in place
// of those of the origin servers.
//
// An [Authority] holds the key of the CA in memory. No method returns the key, and every form of printing leaves it out. By default
// each run has an authority of its own, whose key ends with the process ([New]). [Load] reads one from files, and [WritePair] makes
// such files.
package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// clockSkew is how long before its creation a certificate becomes valid, for clients whose clock is slow. Clocks of virtual
	// machines are days behind after a pause.
	clockSkew = 7 * 24 * time.Hour

	// memoryLifetime is how long the certificate of an authority in memory is valid. It bounds the time that a proxy can run
	// without a restart.
	memoryLifetime = 3 * 365 * 24 * time.Hour
)

// Authority is a certificate authority. It never changes; safe for concurrent use.
//
// Printing an Authority in any way shows its name and fingerprint only.
type Authority struct {
	chain       []*x509.Certificate // the CA's certificate, and those above it
	der         [][]byte            // of chain
	key         crypto.Signer
	constrained bool // a certificate of chain restricts names

	// All certificates of chain are valid from notBefore to notAfter.
	notBefore, notAfter time.Time

	minting singleflight.Group
	leaves  leafCache
}

// New returns an authority with a new P-256 key, which exists in the memory of this process only. Its certificate has a name of
// its own, because clients that keep certificates by name would use the one of an earlier run.
func New() (*Authority, error) {
	der, key, err := generate(memoryLifetime)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate authority: %w", err)
	}
	return newAuthority([]*x509.Certificate{cert}, key), nil
}

// FromCertificate returns an authority with the certificate and key of the host. cert.Certificate holds the CA's certificate,
// followed by those that issued it, if any, each before its issuer. cert.PrivateKey is a [crypto.Signer] for an ECDSA key on P-256
// or P-384, or for an RSA key of at least 2048 bits. It may keep its key elsewhere. Calls of its Sign may be concurrent.
//
// The error says why the certificate cannot issue certificates of servers now.
func FromCertificate(cert tls.Certificate) (*Authority, error) {
	var chain []*x509.Certificate
	for i, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", i+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate: set Certificate to that of the CA")
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the private key is a %T, which is no crypto.Signer: set PrivateKey to the key of the CA", cert.PrivateKey)
	}
	if err := checkKey(key.Public()); err != nil {
		return nil, fmt.Errorf("the private key: %w", err)
	}
	if at := indexOfKey(chain, key.Public()); at != 0 {
		return nil, mismatch("PrivateKey", "Certificate", at)
	}
	if err := checkChain(chain, time.Now()); err != nil {
		return nil, err
	}
	return newAuthority(chain, key), nil
}

// newAuthority returns the authority with a chain and a key that were checked.
func newAuthority(chain []*x509.Certificate, key crypto.Signer) *Authority {
	a := &Authority{chain: chain, key: key, notBefore: chain[0].NotBefore, notAfter: chain[0].NotAfter}
	for _, c := range chain {
		a.der = append(a.der, c.Raw)
		a.constrained = a.constrained || restrictsNames(c)
		if c.NotBefore.After(a.notBefore) {
			a.notBefore = c.NotBefore
		}
		if c.NotAfter.Before(a.notAfter) {
			a.notAfter = c.NotAfter
		}
	}
	return a
}

// restrictsNames reports whether c has name constraints (RFC 5280 section 4.2.1.10) for names or addresses.
func restrictsNames(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges) > 0
}

// generate returns a new CA certificate, in DER, and its P-256 key.
func generate(lifetime time.Duration) ([]byte, *ecdsa.PrivateKey, error) {
	fail := func(err error) ([]byte, *ecdsa.PrivateKey, error) {
		return nil, nil, fmt.Errorf("cannot make a certificate authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	serial := newSerial()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "networkproxy CA " + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // issues certificates of servers only
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	// CreateCertificate adds the identifiers of the subject's and the issuer's key, but the latter only for another issuer.
	if template.SubjectKeyId, err = keyID(key); err != nil {
		return fail(err)
	}
	template.AuthorityKeyId = template.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fail(err)
	}
	return der, key, nil
}

// keyID returns an identifier of a public key: 160 bits of the SHA-256 of its encoding (RFC 7093 section 2, method 1).
func keyID(key *ecdsa.PrivateKey) ([]byte, error) {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(point)
	return sum[:20], nil
}

// newSerial returns a random serial number of 120 bits. Its first byte is not zero, so that all have the same length.
func newSerial() *big.Int {
	b := make([]byte, 15)
	rand.Read(b) // never fails
	b[0] |= 0x40
	return new(big.Int).SetBytes(b)
}

// PEM returns the certificates that clients need to trust the authority: that of the CA and, if it has issuers, those above it. It
// contains no key.
func (a *Authority) PEM() []byte {
	var text bytes.Buffer
	for _, der := range a.der {
		pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a bytes.Buffer returns no error
	}
	return text.Bytes()
}

// NotAfter returns when the authority expires. After that, Leaf fails.
func (a *Authority) NotAfter() time.Time { return a.notAfter }

// String returns the name and the fingerprint of the CA's certificate.
func (a *Authority) String() string {
	if a == nil {
		return "no certificate authority"
	}
	sum := sha256.Sum256(a.der[0])
	return fmt.Sprintf("certificate authority %q, SHA-256 %s", a.chain[0].Subject.String(), hex.EncodeToString(sum[:]))
}

// GoString returns String.
func (a *Authority) GoString() string { return a.String() }

// Format writes String for every verb.
func (a *Authority) Format(f fmt.State, _ rune) { io.WriteString(f, a.String()) }

// LogValue returns String.
func (a *Authority) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalJSON returns String as a JSON string.
func (a *Authority) MarshalJSON() ([]byte, error) { return json.Marshal(a.String()) }
