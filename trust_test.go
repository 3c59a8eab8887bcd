// Tests of the certificates that the clients of a session trust, and of the authority
// that issues the proxy's.

package networkproxy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/ca"
)

// trustVariables are some of the variables with which clients find certificates.
var trustVariables = []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "WGETRC"}

// variable returns the value of a variable, or "".
func variable(env []string, name string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// testRoots returns the certificates of servers of httptest, whose name is example.com,
// and a file with them.
func testRoots(t testing.TB) (*x509.CertPool, string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	path := filepath.Join(t.TempDir(), "parent.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool, path
}

// inspecting returns a configuration that opens TLS to example.com.
func inspecting() networkproxy.Config {
	c := allow("example.com")
	c.MITM, c.MITMDomains = true, []string{"example.com"}
	return c
}

// issuerSeen returns the name of the authority whose certificate a client of s gets from
// example.com. The client trusts what the file at roots holds.
func (l *lab) issuerSeen(s *networkproxy.Session, roots string) (string, error) {
	l.t.Helper()
	text, err := os.ReadFile(roots)
	if err != nil {
		l.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	proxy, err := url.Parse(s.ProxyURL())
	if err != nil {
		l.t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://example.com/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.TLS.PeerCertificates[0].Issuer.CommonName, err
}

func TestSessionTrustsTheProxy(t *testing.T) {
	t.Parallel()
	pool, parent := testRoots(t)
	l := start(t, inspecting(), func(b *networkproxy.Builder) { b.UpstreamRoots(pool) })
	l.secure("example.com", func(http.ResponseWriter, *http.Request) {})
	s := l.command("a")
	env := s.Environ([]string{"SSL_CERT_FILE=" + parent, "SSL_CERT_DIR=/none", "A=b"})
	bundle := variable(env, "SSL_CERT_FILE")
	if variable(env, "A") != "b" || variable(env, "HTTPS_PROXY") != s.ProxyURL() || variable(env, "SSL_CERT_DIR") != "" {
		t.Errorf("the environment is %q", env)
	}
	if issuer, err := l.issuerSeen(s, bundle); err != nil || !strings.HasPrefix(issuer, "networkproxy CA ") {
		t.Errorf("with the bundle: issuer %q, %v", issuer, err)
	}
	if issuer, err := l.issuerSeen(s, parent); err == nil {
		t.Errorf("with the parent's certificates alone, the client accepts %q", issuer)
	}
	if own := variable(env, "NODE_EXTRA_CA_CERTS"); !bytes.Equal(readFile(t, own), l.CACertificate()) {
		t.Errorf("%s has other certificates", own)
	}
	if text := readFile(t, bundle); !bytes.Contains(text, l.CACertificate()) || !bytes.Contains(text, readFile(t, parent)) || bytes.Contains(text, []byte("PRIVATE")) {
		t.Error("the bundle lacks a certificate, or has a key")
	}
	handle := variable(l.Environ([]string{"SSL_CERT_FILE=" + parent}), "SSL_CERT_FILE")
	if issuer, err := l.issuerSeen(s, handle); err != nil || handle == bundle {
		t.Errorf("with the bundle of the proxy: %s, issuer %q, %v", handle, issuer, err)
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(bundle)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end of the session, its directory: %v", err)
	}
	if env := s.Environ([]string{"SSL_CERT_FILE=" + parent}); variable(env, "SSL_CERT_FILE") != parent {
		t.Error("a session that has ended makes files")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(filepath.Dir(handle))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end of the proxy, its directory: %v", err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The bundle for flags and settings has the certificates of this process and the
// system.
func TestCABundle(t *testing.T) {
	_, parent := testRoots(t)
	t.Setenv("SSL_CERT_FILE", parent)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	l := start(t, inspecting(), nil)
	s := l.command("a")
	path, err := s.CABundle()
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.CABundle()
	if text := readFile(t, path); !bytes.Contains(text, l.CACertificate()) || !bytes.Contains(text, readFile(t, parent)) || again != path || err != nil {
		t.Errorf("%s, %s (%v) lack a certificate", path, again, err)
	}
	if filepath.Base(path) != "bundle.pem" || runtime.GOOS != "windows" && !strings.HasPrefix(path, temp) {
		t.Errorf("the path is %s", path)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestBundleDir(t *testing.T) {
	t.Parallel()
	_, parent := testRoots(t)
	dir := t.TempDir()
	l := start(t, inspecting(), nil)
	s := l.open(networkproxy.SessionConfig{BundleDir: dir})
	env := s.Environ([]string{"SSL_CERT_FILE=" + parent})
	for _, name := range trustVariables {
		if path := variable(env, name); !strings.HasPrefix(path, dir+string(os.PathSeparator)) {
			t.Errorf("%s=%s", name, path)
		}
	}
	s.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// While TLS inspection is off, nothing is touched. The authority stays the same when it is
// turned off and on.
func TestTrustFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	_, parent := testRoots(t)
	off := allow("example.com")
	source := newSource(off)
	l := startSource(t, source.builder, nil)
	s := l.command("a")
	check := func(on bool) (certificate []byte) {
		t.Helper()
		env := s.Environ([]string{"SSL_CERT_FILE=" + parent, "SSL_CERT_DIR=/mine"})
		bundle, err := s.CABundle()
		certificate = l.CACertificate()
		shown := l.admin("GET", "/ca.pem", "")
		if !on {
			if variable(env, "SSL_CERT_FILE") != parent || variable(env, "SSL_CERT_DIR") != "/mine" || variable(env, "GIT_SSL_CAINFO") != "" {
				t.Errorf("while it is off, the environment is %q", env)
			}
			if bundle != "" || err != nil || certificate != nil || shown.status != http.StatusNotFound || !strings.Contains(shown.body, "mitm = false") {
				t.Errorf("while it is off: %q, %v, %q, %v", bundle, err, certificate, shown)
			}
			return nil
		}
		for _, name := range trustVariables {
			if path := variable(env, name); path == parent || len(readFile(t, path)) == 0 {
				t.Errorf("%s=%s", name, path)
			}
		}
		if shown.status != http.StatusOK || shown.body != string(certificate) || shown.header.Get("Content-Type") != "application/x-pem-file" {
			t.Errorf("GET /ca.pem: %v", shown)
		}
		if block, rest := pem.Decode(certificate); block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
			t.Errorf("the certificate is %q", certificate)
		}
		return certificate
	}
	check(false)
	var first []byte
	for i, on := range []bool{true, false, true} {
		source.set(func(c *networkproxy.Config) { c.MITM = on })
		if err := l.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		certificate := check(on)
		if i == 0 {
			first = certificate
		} else if on && !bytes.Equal(certificate, first) {
			t.Error("the authority has changed in a run")
		}
	}
}

func TestAdminShowsTheCertificateReadOnly(t *testing.T) {
	t.Parallel()
	l := start(t, inspecting(), func(b *networkproxy.Builder) { b.AdminReadOnly() })
	if got := l.admin("GET", "/ca.pem", ""); got.status != http.StatusOK || got.body != string(l.CACertificate()) || strings.Contains(got.body, "PRIVATE") {
		t.Errorf("got %v", got)
	}
	other := start(t, inspecting(), nil)
	if bytes.Equal(l.CACertificate(), other.CACertificate()) {
		t.Error("two proxies have one authority")
	}
}

// Without files, clients refuse the proxy's certificates. They never trust a bundle that
// lacks something.
func TestEnvironWithoutFiles(t *testing.T) {
	t.Parallel()
	l := start(t, inspecting(), nil)
	for _, test := range []struct{ name, dir, file, log string }{
		{"no directory", filepath.Join(t.TempDir(), "none"), "", "no such file"},
		{"a broken bundle of the parent", "", os.DevNull, "SSL_CERT_FILE names"},
	} {
		s := l.open(networkproxy.SessionConfig{BundleDir: test.dir})
		env := s.Environ([]string{"SSL_CERT_FILE=" + test.file, "SSL_CERT_DIR="})
		for _, name := range trustVariables[1:] {
			if v := variable(env, name); v != "" {
				t.Errorf("%s: %s=%s", test.name, name, v)
			}
		}
		if variable(env, "SSL_CERT_FILE") != test.file || variable(env, "HTTPS_PROXY") == "" {
			t.Errorf("%s: the environment is %q", test.name, env)
		}
		if runtime.GOOS != "windows" {
			l.waitLogged(t, test.log)
		}
		if _, err := s.CABundle(); (err == nil) != (test.dir == "") {
			t.Errorf("%s: CABundle: %v", test.name, err)
		}
	}
}

// The files of an authority are read once: at the start if TLS inspection is on, or else
// when a reload turns it on, which fails if they cannot be used.
func TestAuthorityOfFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair, err := ca.WritePair(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, key := readFile(t, pair.CertFile), readFile(t, pair.KeyFile)
	keys := "mitm_ca_cert = '" + pair.CertFile + "'\nmitm_ca_key = '" + pair.KeyFile + "'\n"
	on := newConfigFile(t, "mitm = true\n"+keys)
	l := startFile(t, nil, on.path)
	if !bytes.Equal(l.CACertificate(), want) {
		t.Error("the authority is another one")
	}
	off := newConfigFile(t, keys)
	later := startFile(t, nil, off.path)
	if err := os.Remove(pair.KeyFile); err != nil {
		t.Fatal(err)
	}
	if err := l.Reload(t.Context()); err != nil || !bytes.Equal(l.CACertificate(), want) {
		t.Errorf("after the key was removed: %v", err)
	}

	off.replace("mitm = true\n" + keys)
	var fault *networkproxy.ConfigError
	if err := later.Reload(t.Context()); !errors.As(err, &fault) || fault.Position.File != off.path || !strings.Contains(err.Error(), pair.KeyFile+": ") {
		t.Errorf("a reload without the key: %v", err)
	}
	if later.CACertificate() != nil {
		t.Error("the reload had an effect")
	}
	if err := os.WriteFile(pair.KeyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := later.Reload(t.Context()); err != nil || !bytes.Equal(later.CACertificate(), want) {
		t.Errorf("after the key is back: %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(pair.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := networkproxy.NewBuilder().ConfigFile(on.path).Build(); !errors.As(err, &fault) || !strings.Contains(err.Error(), "chmod 600") || fault.Key != "network_proxy.mitm_ca_cert" {
		t.Errorf("a key that others can read: %v", err)
	}
}

// shortAuthority returns a CA that is valid for a time.
func shortAuthority(t testing.TB, lifetime time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the host's CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestAuthorityOfTheHost(t *testing.T) {
	t.Parallel()
	for lifetime, warned := range map[time.Duration]bool{24 * time.Hour: true, 60 * 24 * time.Hour: false} {
		authority := shortAuthority(t, lifetime)
		l := start(t, inspecting(), func(b *networkproxy.Builder) { b.MITMCA(authority) })
		if block, _ := pem.Decode(l.CACertificate()); block == nil || !bytes.Equal(block.Bytes, authority.Certificate[0]) {
			t.Error("the authority is another one")
		}
		if got := strings.Contains(strings.Join(l.Warnings(), "\n"), "authority of TLS inspection expires at "); got != warned {
			t.Errorf("valid for %v: the warnings are %q", lifetime, l.Warnings())
		}
	}
	for name, bad := range map[string]tls.Certificate{"empty": {}, "expired": shortAuthority(t, -time.Minute)} {
		if _, err := networkproxy.NewBuilder().Config(inspecting()).MITMCA(bad).Build(); err == nil || !strings.Contains(err.Error(), "MITMCA: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEnvironDuringClose(t *testing.T) {
	t.Parallel()
	_, parent := testRoots(t)
	l := start(t, inspecting(), nil)
	var wg sync.WaitGroup
	for range 8 {
		s := l.command("a")
		for range 3 {
			wg.Go(func() {
				s.Environ([]string{"SSL_CERT_FILE=" + parent})
				l.Environ(nil)
			})
		}
		wg.Go(func() { s.Close() })
	}
	wg.Go(func() { l.Close() })
	wg.Wait()
}
