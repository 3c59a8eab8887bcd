package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"
)

// issued is a certificate with its key.
type issued struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issue returns a CA's certificate, changed by edit. It is signed by its own key if parent is nil. key is a new P-256 key if nil.
func issue(t testing.TB, parent *issued, key crypto.Signer, edit func(c *x509.Certificate)) *issued {
	t.Helper()
	if key == nil {
		key = newKey(t)
	}
	serial := newSerial()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Test CA " + serial.String()[:6]},
		NotBefore:             time.Now().Add(-30 * 24 * time.Hour),
		NotAfter:              time.Now().Add(365 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            -1,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	if edit != nil {
		edit(template)
	}
	by := &issued{template, key}
	if parent != nil {
		by = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, key}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newTestAuthority(t testing.TB) *Authority {
	t.Helper()
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNew(t *testing.T) {
	t.Parallel()
	a, other := newTestAuthority(t), newTestAuthority(t)
	c := a.chain[0]
	if c.Subject.String() == other.chain[0].Subject.String() || bytes.Equal(c.SubjectKeyId, other.chain[0].SubjectKeyId) || bytes.Equal(a.PEM(), other.PEM()) {
		t.Error("two authorities have the same name or key")
	}
	if !c.IsCA || c.MaxPathLen != 0 || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(c.SubjectKeyId) != 20 ||
		!bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId) || len(c.SerialNumber.Bytes()) != 15 {
		t.Errorf("the CA's certificate: %+v", c)
	}
	if early, late := time.Until(c.NotBefore), time.Until(c.NotAfter); early > -24*time.Hour || late < 365*24*time.Hour || !a.NotAfter().Equal(c.NotAfter) {
		t.Errorf("valid from %v to %v", early, late)
	}
	block, rest := pem.Decode(a.PEM())
	if block == nil || block.Type != "CERTIFICATE" || !bytes.Equal(block.Bytes, c.Raw) || len(rest) > 0 {
		t.Errorf("PEM: %q", a.PEM())
	}
}

// An authority may be printed by mistake. The key must not appear, in whatever form.
func TestAuthorityIsPrintedWithoutItsKey(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	scalar, err := a.key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	secret := new(big.Int).SetBytes(scalar)
	var out bytes.Buffer
	holder := struct {
		A *Authority
		a *Authority
	}{a, a}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%t"} {
		fmt.Fprintf(&out, verb+"\n"+verb+"\n", a, holder)
	}
	fmt.Fprintln(&out, a.String(), a.GoString(), (*Authority)(nil))
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "a", a, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "a", a, "holder", holder)
	if err := json.NewEncoder(&out).Encode(map[string]any{"a": a, "holder": holder}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.Count(text, `certificate authority`) < 20 || !strings.Contains(text, "no certificate authority") {
		t.Errorf("the text lacks the name of the authority: %s", text)
	}
	for _, form := range []string{secret.String(), secret.Text(16), fmt.Sprint(secret.Bytes()), fmt.Sprint(secret.Bits()), "PrivateKey"} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			t.Errorf("the text contains the key as %q:\n%s", form, text)
		}
	}
}

// remoteKey signs elsewhere, as a key of a security module does.
type remoteKey struct{ crypto.Signer }

type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { panic("no module") }

func TestFromCertificate(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, nil, nil)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	between := issue(t, root, nil, nil)
	ca := issue(t, between, nil, func(c *x509.Certificate) { c.MaxPathLenZero, c.MaxPathLen = true, 0 })
	shallow := issue(t, nil, nil, func(c *x509.Certificate) { c.MaxPathLenZero, c.MaxPathLen = true, 0 })
	onlyKey := func(key crypto.Signer) []*issued { return []*issued{issue(t, nil, key, nil)} }
	one := func(edit func(c *x509.Certificate)) []*issued { return []*issued{issue(t, nil, nil, edit)} }
	for _, test := range []struct {
		name  string
		chain []*issued
		key   any    // instead of the first one's
		want  string // in the error; none if empty
	}{
		{name: "P-256", chain: onlyKey(nil)},
		{name: "P-384", chain: onlyKey(p384)},
		{name: "RSA", chain: onlyKey(rsa2048)},
		{name: "a chain", chain: []*issued{ca, between, root}},
		{name: "a chain without its root", chain: []*issued{ca, between}},
		{name: "a key elsewhere", chain: []*issued{root}, key: remoteKey{root.key}},
		{name: "for servers", chain: one(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
		{name: "P-224", chain: onlyKey(p224), want: "on P-224"},
		{name: "a short RSA key", chain: onlyKey(rsa1024), want: "1024 bits"},
		{name: "Ed25519", chain: onlyKey(edwards), want: "ed25519.PublicKey"},
		{name: "no certificate", key: root.key, want: "there is no certificate"},
		{name: "no key", chain: []*issued{root}, key: struct{}{}, want: "no crypto.Signer"},
		{name: "another key", chain: []*issued{root}, key: newKey(t), want: "does not belong to the certificate"},
		{name: "the key of the second", chain: []*issued{ca, between}, key: between.key, want: "belongs to certificate 2"},
		{name: "expired", chain: one(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), want: "expired at "},
		{name: "early", chain: one(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), want: "is not valid before "},
		{name: "no CA", chain: one(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }), want: "is not a CA"},
		{name: "no certSign", chain: one(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), want: "keyCertSign"},
		{name: "no key usage", chain: one(func(c *x509.Certificate) { c.KeyUsage = 0 }), want: "keyCertSign"},
		{name: "for clients", chain: one(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), want: "incompatible key usage"},
		{name: "a critical extension", chain: one(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), want: "unhandled critical extension"},
		{name: "the wrong order", chain: []*issued{ca, root, between}, want: "was not issued by certificate 2"},
		{name: "an expired root", chain: func() []*issued {
			old := issue(t, nil, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
			return []*issued{issue(t, old, nil, nil), old}
		}(), want: "certificate 2, "},
		{name: "too deep", chain: []*issued{issue(t, shallow, nil, nil), shallow}, want: "allows at most 0 CAs"},
		{name: "too long", chain: bytesOf(root, maxChain+1), want: "at most 8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var given tls.Certificate
			for i, c := range test.chain {
				if i == 0 {
					given.PrivateKey = c.key
				}
				given.Certificate = append(given.Certificate, c.cert.Raw)
			}
			if test.key != nil {
				given.PrivateKey = test.key
			}
			a, err := FromCertificate(given)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("got %v, want %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkServes(t, a, "a.test")
			if n := bytes.Count(a.PEM(), []byte("BEGIN CERTIFICATE")); n != len(test.chain) {
				t.Errorf("PEM has %d certificates, want %d", n, len(test.chain))
			}
		})
	}
	if _, err := FromCertificate(tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: root.key}); err == nil || !strings.Contains(err.Error(), "certificate 1 of the chain") {
		t.Errorf("a damaged certificate: %v", err)
	}
}

func bytesOf(c *issued, n int) []*issued {
	chain := make([]*issued, n)
	for i := range chain {
		chain[i] = c
	}
	return chain
}

// The key of a host may panic. A handshake then fails, and no other.
func TestPanicOfAKey(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, nil, nil)
	a, err := FromCertificate(tls.Certificate{Certificate: [][]byte{root.cert.Raw}, PrivateKey: brokenKey{root.key}})
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := a.Leaf(host(t, "a.test")); cert != nil || err == nil || !strings.Contains(err.Error(), "a.test: the key of the CA panicked: no module") {
		t.Errorf("got %v, %v", cert, err)
	}
}

func TestSerialNumbers(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 1000 {
		n := newSerial()
		if n.Cmp(big.NewInt(0)) <= 0 || len(n.Bytes()) != 15 || seen[n.String()] {
			t.Fatalf("serial number %v", n)
		}
		seen[n.String()] = true
	}
}
