// Certificates of servers, and the cache of them.

package ca

import (
	"container/list"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"example.com/networkproxy/internal/hostname"
)

const (
	// leafLifetime and clockSkew together are far below 398 days, the longest validity that clients accept.
	leafLifetime = 30 * 24 * time.Hour

	// renewBefore is how long before its end a certificate is replaced. Connections, and clients whose clock is fast, may
	// still use it for that long.
	renewBefore = 10 * 24 * time.Hour

	// maxLeaves is the number of certificates in the cache.
	maxLeaves = 1024

	// maxCommonName is the length of the longest common name (RFC 5280, ub-common-name).
	maxCommonName = 64
)

// leaf is a certificate in the cache.
type leaf struct {
	host            hostname.Host
	cert            *tls.Certificate
	notBefore       time.Time
	renew           time.Time // from when a new one is needed
	placeInEviction *list.Element
}

// fresh reports whether clients can use the certificate at a time. The clock may have been set back since it was made, or the
// machine may have slept.
func (l *leaf) fresh(now time.Time) bool { return !now.Before(l.notBefore) && now.Before(l.renew) }

// leafCache holds the maxLeaves certificates that were used last. The zero value is empty; safe for concurrent use.
type leafCache struct {
	mu     sync.Mutex
	byHost map[hostname.Host]*leaf
	byUse  list.List // of *leaf; the one that was used last is at the front
}

// get returns the certificate for a host, or nil if there is none that clients can use at a time.
func (c *leafCache) get(h hostname.Host, now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.byHost[h]
	if l == nil || !l.fresh(now) {
		return nil
	}
	c.byUse.MoveToFront(l.placeInEviction)
	return l.cert
}

// add adds a certificate in place of the older one for the same host. It removes the one that was not used for the longest time if
// there are too many.
func (c *leafCache) add(l *leaf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byHost == nil {
		c.byHost = make(map[hostname.Host]*leaf)
	}
	if old := c.byHost[l.host]; old != nil {
		c.byUse.Remove(old.placeInEviction)
	} else if len(c.byHost) >= maxLeaves {
		oldest := c.byUse.Remove(c.byUse.Back()).(*leaf)
		delete(c.byHost, oldest.host)
	}
	c.byHost[l.host] = l
	l.placeInEviction = c.byUse.PushFront(l)
}

// Leaf returns the certificate of a server at h, followed by the certificates of the authority. Its only name is h: the name, or
// the address without its zone. The caller must not change it.
//
// The first call for a host makes a certificate, and concurrent calls for the same host wait for it. Later calls return the same
// one for weeks. Every returned certificate is valid for 24 hours or more, unless the authority itself ends before. Use Leaf for
// hosts that the policy allows only, so that a client cannot displace the certificates of other hosts.
//
// The error says that the authority has expired, that it may not issue certificates for h, or that h cannot be in a certificate.
func (a *Authority) Leaf(h hostname.Host) (*tls.Certificate, error) {
	if h.IsZero() {
		return nil, errors.New("cannot issue a certificate without a host")
	}
	if h.IsIP() {
		h = hostname.FromAddr(h.Addr()) // a certificate cannot name a zone
	}
	if cert := a.leaves.get(h, time.Now()); cert != nil {
		return cert, nil
	}
	cert, err, _ := a.minting.Do(h.String(), func() (any, error) {
		now := time.Now()
		if cert := a.leaves.get(h, now); cert != nil {
			return cert, nil // made after the look-up above
		}
		l, err := a.mint(hostname.Target{Host: h}.Clone().Host, now)
		if err != nil {
			return (*tls.Certificate)(nil), fmt.Errorf("cannot issue a certificate for %s: %w", h, err)
		}
		a.leaves.add(l)
		return l.cert, nil
	})
	return cert.(*tls.Certificate), err
}

// mint returns a new certificate for h.
func (a *Authority) mint(h hostname.Host, now time.Time) (l *leaf, err error) {
	switch {
	case now.After(a.notAfter):
		return nil, fmt.Errorf("the CA expired at %s: restart the proxy, with a new CA if it has one of its own", date(a.notAfter))
	case now.Before(a.notBefore):
		return nil, fmt.Errorf("the CA is not valid before %s: check the clock of this machine", date(a.notBefore))
	}
	defer func() {
		if r := recover(); r != nil { // the key may be code of the host
			l, err = nil, fmt.Errorf("the key of the CA panicked: %v", r)
		}
	}()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, renew := a.template(h, now)
	der, err := x509.CreateCertificate(rand.Reader, template, a.chain[0], key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if a.constrained {
		roots, intermediates := pools(a.chain)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now}); err != nil {
			return nil, fmt.Errorf("the CA does not permit it: %w", err)
		}
	}
	chain := append([][]byte{der}, a.der...)
	return &leaf{
		host:      h,
		cert:      &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: cert},
		notBefore: cert.NotBefore,
		renew:     renew,
	}, nil
}

// template returns what a certificate for h says, and when it must be replaced. CreateCertificate adds the identifier of the CA's
// key, and makes the name critical if there is no common name (RFC 5280 section 4.2.1.6).
func (a *Authority) template(h hostname.Host, now time.Time) (template *x509.Certificate, renew time.Time) {
	now = now.UTC().Truncate(time.Second) // drops the monotonic clock, which stands still while the machine sleeps
	template = &x509.Certificate{
		SerialNumber:          newSerial(),
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(leafLifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	name := h.String()
	if h.IsIP() {
		template.IPAddresses = []net.IP{h.Addr().AsSlice()}
		name = h.Addr().String()
	} else {
		template.DNSNames = []string{name}
	}
	if len(name) <= maxCommonName {
		template.Subject.CommonName = name
	}
	if template.NotBefore.Before(a.notBefore) {
		template.NotBefore = a.notBefore
	}
	renew = template.NotAfter.Add(-renewBefore)
	if template.NotAfter.After(a.notAfter) { // a new one would end at the same time
		template.NotAfter, renew = a.notAfter, a.notAfter
	}
	return template, renew
}
