// Checks of a certificate authority that somebody else made.

package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"
)

const (
	// minRSABits is the length of the shortest RSA key that clients accept.
	minRSABits = 2048

	// maxChain is the largest number of certificates of an authority. Every handshake sends them.
	maxChain = 8
)

// checkKey returns an error unless clients accept signatures of the key.
func checkKey(key crypto.PublicKey) error {
	const use = "use an ECDSA key on P-256 or P-384, or an RSA key of at least 2048 bits"
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return fmt.Errorf("it is an ECDSA key on %s, which not all clients accept: %s", key.Curve.Params().Name, use)
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits {
			return fmt.Errorf("it is an RSA key of %d bits, which is too short: %s", bits, use)
		}
	default:
		return fmt.Errorf("it is of a kind (%T) that not all clients accept: %s", key, use)
	}
	return nil
}

// indexOfKey returns the index of the certificate for a public key, or -1.
func indexOfKey(chain []*x509.Certificate, key crypto.PublicKey) int {
	comparable, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	for i, c := range chain {
		if ok && comparable.Equal(c.PublicKey) {
			return i
		}
	}
	return -1
}

// mismatch returns the error for a key that is not the one of the first certificate, but of the one at an index, or of none if it
// is -1.
func mismatch(key, certs string, at int) error {
	if at > 0 {
		return fmt.Errorf("the key in %s belongs to certificate %d in %s: put the CA's certificate first, and then those that issued it", key, at+1, certs)
	}
	return fmt.Errorf("the key in %s does not belong to the certificate in %s: give the two that were made together", key, certs)
}

// checkChain returns an error unless chain[0] is a CA that can issue certificates of servers now, and each certificate was issued
// by the next one.
func checkChain(chain []*x509.Certificate, now time.Time) error {
	if len(chain) > maxChain {
		return fmt.Errorf("there are %d certificates: leave only that of the CA and those that issued it, at most %d", len(chain), maxChain)
	}
	for i, c := range chain {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("certificate %d, %q, %w", i+1, c.Subject.String(), fmt.Errorf(format, args...))
		}
		switch {
		case now.Before(c.NotBefore):
			return fail("is not valid before %s: check the clock of this machine", date(c.NotBefore))
		case now.After(c.NotAfter):
			return fail("expired at %s: make a new one", date(c.NotAfter))
		case !c.BasicConstraintsValid || !c.IsCA:
			return fail("is not a CA: its basic constraints do not say CA:TRUE, so no client accepts what it issues")
		case c.KeyUsage&x509.KeyUsageCertSign == 0:
			return fail("may not issue certificates: its key usage does not contain keyCertSign")
		case c.MaxPathLen >= 0 && i > c.MaxPathLen:
			return fail("allows at most %d CAs below it, but there are %d", c.MaxPathLen, i)
		}
		if i+1 < len(chain) {
			if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
				return fail("was not issued by certificate %d, %q (%w): put each certificate before the one that issued it", i+2, chain[i+1].Subject.String(), err)
			}
		}
	}
	// The rest: extended key usages, and extensions that this program does not know.
	roots, intermediates := pools(chain)
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("certificate 1, %q, cannot issue certificates of servers: %w", chain[0].Subject.String(), err)
	}
	return nil
}

// pools returns the last certificate of a chain as root, and the others.
func pools(chain []*x509.Certificate) (roots, intermediates *x509.CertPool) {
	roots, intermediates = x509.NewCertPool(), x509.NewCertPool()
	last := len(chain) - 1
	roots.AddCert(chain[last])
	for _, c := range chain[:last] {
		intermediates.AddCert(c)
	}
	return roots, intermediates
}

// date returns a time as errors show it.
func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }
