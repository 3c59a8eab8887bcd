//go:build e2e && linux

// This file tests when TLS is opened, the certificates that clients get, and what happens
// if those of an origin server are not valid.

package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy/e2e/harness"
)

func TestOpening(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"tls-off-spliced", testOffSpliced},
		{"tls-full-no-hooks", testFullNoHooks},
		{"tls-domains", testDomains},
		{"tls-limited-get", testLimitedGet},
		{"tls-limited-post", testLimitedPost},
		{"tls-limited-mitm-off", testLimitedOff},
		{"tls-leaf-shape", testLeafShape},
		{"tls-strict-verify", testStrictVerify},
		{"tls-ip-target", testIPTarget},
		{"tls-ca-fresh", testCAFresh},
		{"tls-ca-own", testCAOwn},
		{"tls-ca-command", testCACommand},
		{"tls-ca-mismatch", testCAMismatch},
		{"tls-upstream-expired", func(t *testing.T) { testUpstreamCertificate(t, "expired", "expired") }},
		{"tls-upstream-wrong-name", func(t *testing.T) { testUpstreamCertificate(t, "wrongname", "elsewhere.test") }},
		{"tls-upstream-self-signed", func(t *testing.T) { testUpstreamCertificate(t, "selfsigned", "unknown authority") }},
		{"tls-upstream-client-cert", testUpstreamClientCert},
		{"tls-exempt-full", testExemptFull},
		{"tls-exempt-limited", testExemptLimited},
		{"tls-distrust-curl", testDistrustCurl},
		{"tls-distrust-clients", testDistrustClients},
		{"tls-old-version", testOldVersion},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// wantSpliced checks that the client gets the certificate of the origin server, and may
// send any method.
func wantSpliced(t *testing.T, p *proxy, host string) {
	t.Helper()
	eachVersion(t, func(t *testing.T, version string) {
		got := p.client(t, version).send(t, "POST", "https://"+host+"/v2/x", "data").wantStatus(t, http.StatusOK)
		if got.opened(p) || got.leaf.CheckSignatureFrom(lab.ca.cert) != nil {
			t.Errorf("the certificate is issued by %s, want that of the origin server", got.leaf.Issuer)
		}
	})
}

func testOffSpliced(t *testing.T) {
	host := lab.host("web")
	p := start(t, config{Off: true, Allowed: []string{host}})
	wantSpliced(t, p, host)
	if status, _ := p.call("GET", "/ca.pem", ""); status == http.StatusOK {
		t.Error("GET /ca.pem has status 200 although mitm is off")
	}
}

func testFullNoHooks(t *testing.T) {
	host := lab.host("web")
	wantSpliced(t, start(t, full("", host)), host)
}

func testDomains(t *testing.T) {
	host := lab.host("web")
	p := start(t, config{Allowed: []string{host}, Domains: []string{"*.web.test"}})
	eachVersion(t, func(t *testing.T, version string) {
		if got := p.client(t, version).send(t, "POST", "https://"+host+"/v2/x", "data").wantStatus(t, http.StatusOK); !got.opened(p) {
			t.Errorf("the certificate is issued by %s, want the proxy", got.leaf.Issuer)
		}
	})
}

func testLimitedGet(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	eachVersion(t, func(t *testing.T, version string) {
		c := p.client(t, version)
		got := c.get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK)
		if !got.opened(p) || got.body != helloBody(host) {
			t.Errorf("issuer %s, body %q; want the proxy and %q", got.leaf.Issuer, got.body, helloBody(host))
		}
		want, _ := digestOf(stream(1 << 20))
		got = c.get(t, "https://"+host+"/stream/1048576").wantStatus(t, http.StatusOK)
		if digest, _ := digestOf(strings.NewReader(got.body)); digest != want {
			t.Errorf("the body is %s, want %s", digest, want)
		}
		if !got.reused {
			t.Error("the second request used a new connection")
		}
		c.send(t, "HEAD", "https://"+host+"/hello", "").wantStatus(t, http.StatusOK)
		c.send(t, "OPTIONS", "https://"+host+"/v1", "").wantStatus(t, http.StatusOK)
	})
}

func testLimitedPost(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		p := start(t, limited(host))
		c := p.client(t, version)
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "PROPFIND"} {
			r := c.send(t, method, "https://"+host+"/v1/x?token=secret", "data").
				wantRefusal(t, http.StatusForbidden, "method_not_allowed", "blocked-by-method-policy")
			if r.Method != method || r.Host != host || r.Port != 443 {
				t.Errorf("the refusal is %+v, want %s %s:443", r, method, host)
			}
			p.wantBlocked(t, refusal{Host: host, Port: 443, Protocol: "https", Method: method, Reason: "method_not_allowed"})
		}
		wantNothing(t, host)
		if _, text := p.call("GET", "/blocked", ""); strings.Contains(text, "secret") || strings.Contains(p.Log.String(), "secret") {
			t.Errorf("the query is in the record or in the log: %s", text)
		}
		_, metrics := p.call("GET", "/metrics", "")
		if want := `networkproxy_requests_total{protocol="https",outcome="refused",reason="method_not_allowed"} 5`; !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
		// A refused request does not spoil the next one.
		c.get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK)
	})
}

func testLimitedOff(t *testing.T) {
	host := lab.host("web")
	p := start(t, config{Off: true, Limited: true, Allowed: []string{host}})
	_, err := p.tryTunnel(host + ":443")
	refused := (*connectError)(nil)
	if !errors.As(err, &refused) || refused.status != http.StatusForbidden || refused.header.Get("X-Proxy-Error") != "blocked-by-method-policy" {
		t.Fatalf("CONNECT: %v, want status 403 and blocked-by-method-policy", err)
	}
	if got := p.wantBlocked(t, refusal{Host: host, Protocol: "https_connect", Reason: "method_not_allowed"}); !strings.Contains(got.Hint, "mitm") {
		t.Errorf("the hint %q does not name mitm", got.Hint)
	}
}

func testLeafShape(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	conn := p.tls(t, host+":443", host, http1)
	leaf := conn.ConnectionState().PeerCertificates[0]
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != host || len(leaf.IPAddresses)+len(leaf.URIs)+len(leaf.EmailAddresses) != 0 {
		t.Errorf("names %v %v, want %s alone", leaf.DNSNames, leaf.IPAddresses, host)
	}
	if len(p.ca.SubjectKeyId) == 0 || string(leaf.AuthorityKeyId) != string(p.ca.SubjectKeyId) {
		t.Errorf("authority key id %x, want %x", leaf.AuthorityKeyId, p.ca.SubjectKeyId)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || leaf.IsCA {
		t.Errorf("key usage %v, CA %t; want serverAuth alone", leaf.ExtKeyUsage, leaf.IsCA)
	}
	if total := leaf.NotAfter.Sub(leaf.NotBefore); total > 398*24*time.Hour || time.Since(leaf.NotBefore) < 24*time.Hour || time.Until(leaf.NotAfter) < 24*time.Hour {
		t.Errorf("valid from %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("key %T, want P-256", leaf.PublicKey)
	}
	if !p.ca.IsCA || !p.ca.MaxPathLenZero || p.ca.KeyUsage&x509.KeyUsageCertSign == 0 {
		t.Errorf("the CA has basic constraints %t, path length zero %t, key usage %b", p.ca.IsCA, p.ca.MaxPathLenZero, p.ca.KeyUsage)
	}
}

func testStrictVerify(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	got := p.run(t, python, "-c", `
import ssl, sys, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
sys.stdout.write(urllib.request.urlopen(sys.argv[1], context=context, timeout=30).read().decode())
`, "https://"+host+"/hello").MustSucceed(t)
	if got.Stdout != helloBody(host) {
		t.Errorf("body %q, want %q", got.Stdout, helloBody(host))
	}
}

// testIPTarget uses addresses in place of names: a public one, and one of a range for
// documentation, which must be allowed by itself. Clients send no server name for them.
func testIPTarget(t *testing.T) {
	for _, kind := range []string{"web", "reserved"} {
		ip := address(kind).String()
		for _, by := range []route{byConnect, bySOCKS} {
			t.Run(ip+" "+string(by), func(t *testing.T) {
				t.Parallel()
				p := start(t, limited(ip))
				eachVersion(t, func(t *testing.T, version string) {
					c := p.clientBy(t, by, version)
					got := c.get(t, "https://"+ip+"/hello").wantStatus(t, http.StatusOK)
					if !got.opened(p) || len(got.leaf.IPAddresses) != 1 || got.leaf.IPAddresses[0].String() != ip || len(got.leaf.DNSNames) != 0 {
						t.Errorf("issuer %s, names %v %v; want the proxy and %s alone", got.leaf.Issuer, got.leaf.IPAddresses, got.leaf.DNSNames, ip)
					}
					if name := c.get(t, "https://"+ip+"/v1").wantStatus(t, http.StatusOK).seen(t).ServerName; name != "" {
						t.Errorf("the origin server received the name %q", name)
					}
					path := "/post/" + t.Name()
					c.send(t, "POST", "https://"+ip+path, "data").
						wantRefusal(t, http.StatusForbidden, "method_not_allowed", "blocked-by-method-policy")
					wrong := request(t, "GET", "https://"+ip+path, "")
					wrong.Host = address("h1").String()
					c.do(t, wrong).wantRefusal(t, http.StatusMisdirectedRequest, "host_mismatch", "blocked-by-host-mismatch")
					for _, s := range lab.origins.received(ip) {
						if s.URI == path {
							t.Errorf("the origin server received %s %s", s.Method, s.URI)
						}
					}
				})
				for _, version := range []string{"--http1.1", "--http2"} {
					args := []string{"-sSf", version, "https://" + ip + "/hello"}
					if by == bySOCKS {
						args = append(args, "--proxy", "socks5h://"+p.socks)
					}
					if got := p.run(t, "curl", args...).MustSucceed(t); got.Stdout != helloBody(ip) {
						t.Errorf("curl %s: %q", version, got.Stdout)
					}
				}
			})
		}
		for _, version := range []string{"--http1.1", "--http2"} {
			t.Run(ip+" fence "+version, func(t *testing.T) {
				t.Parallel()
				flags := []string{"-fence", "-limited", "-allow", ip}
				argv := []string{"curl", "-sS", "--noproxy", "*", version, "-w", "\n%{http_code} %{ssl_verify_result}", "https://" + ip + "/hello"}
				if got := runCommand(t, nil, flags, argv...); got.Stdout != helloBody(ip)+"\n200 0" {
					t.Errorf("GET: %q %s", got.Stdout, got.Stderr)
				}
				got := runCommand(t, nil, flags, append(argv, "-d", "data")...)
				if !strings.Contains(got.Stdout, `"method_not_allowed"`) || !strings.HasSuffix(got.Stdout, "403 0") {
					t.Errorf("POST: %q %s", got.Stdout, got.Stderr)
				}
			})
		}
	}
	t.Run("not allowed by itself", func(t *testing.T) {
		t.Parallel()
		p := start(t, limited("*"))
		_, err := p.tryTunnel(address("reserved").String() + ":443")
		refused := (*connectError)(nil)
		if !errors.As(err, &refused) || refused.status != http.StatusForbidden {
			t.Errorf("CONNECT: %v, want status 403", err)
		}
	})
}

// testCAFresh also looks for the key in the files that the program can have written.
func testCAFresh(t *testing.T) {
	host := lab.host("web")
	var certificates [][]byte
	for range 2 {
		home := t.TempDir()
		c := limited(host)
		c.Env = []string{"HOME=" + home, "TMPDIR=" + home, "XDG_RUNTIME_DIR=" + home, "XDG_STATE_HOME=" + home}
		p := start(t, c)
		p.client(t, http1).get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK)
		certificates = append(certificates, p.ca.Raw)
		wantNoKey(t, home)
		if log := p.Log.String(); strings.Contains(log, "PRIVATE KEY") {
			t.Errorf("the log has a private key: %s", log)
		}
		for _, path := range []string{"/config", "/ca.pem", "/health"} {
			if _, text := p.call("GET", path, ""); strings.Contains(text, "PRIVATE KEY") {
				t.Errorf("%s has a private key", path)
			}
		}
	}
	if string(certificates[0]) == string(certificates[1]) {
		t.Error("two starts have the same certificate")
	}
}

// wantNoKey fails the test if a file below dir has a private key.
func wantNoKey(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "PRIVATE KEY") {
			t.Errorf("%s has a private key", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// writeAuthority writes the files of a certificate authority.
func writeAuthority(t *testing.T, change func(*x509.Certificate)) (certFile, keyFile string) {
	t.Helper()
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	template.Subject.CommonName = "an authority of the company"
	if change != nil {
		change(template)
	}
	cert, key, err := issue(template, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := keyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "ca.pem", certificatePEM(cert)), writeFile(t, "ca-key.pem", text)
}

func testCAOwn(t *testing.T) {
	host := lab.host("web")
	c := limited(host)
	c.CACert, c.CAKey = writeAuthority(t, nil)
	wantAuthority(t, c, host)
}

// wantAuthority starts the program twice. Both times it must use the authority of its
// configuration.
func wantAuthority(t *testing.T, c config, host string) {
	t.Helper()
	text, err := os.ReadFile(c.CACert)
	if err != nil {
		t.Fatal(err)
	}
	own, err := parseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p := start(t, c)
		got := p.client(t, http1).get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK)
		if err := got.leaf.CheckSignatureFrom(own[0]); err != nil {
			t.Errorf("the certificate is not issued by mitm_ca_cert: %v", err)
		}
		if !p.ca.Equal(own[0]) {
			t.Error("GET /ca.pem is not mitm_ca_cert")
		}
	}
}

func testCACommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authority")
	run := harness.Start(t, filepath.Join(lab.dir, "networkproxy"), nil, "ca", "-out", dir)
	if code := run.ExitCode(t); code != 0 {
		t.Fatalf("networkproxy ca: exit %d", code)
	}
	host := lab.host("web")
	c := limited(host)
	c.CACert, c.CAKey = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	info, err := os.Stat(c.CAKey)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v; want mode 0600", info, err)
	}
	wantAuthority(t, c, host)
	again := harness.Start(t, filepath.Join(lab.dir, "networkproxy"), nil, "ca", "-out", dir)
	if code := again.ExitCode(t); code == 0 {
		t.Error("networkproxy ca replaced the files")
	}
}

func testCAMismatch(t *testing.T) {
	cert, key := writeAuthority(t, nil)
	otherCert, otherKey := writeAuthority(t, nil)
	expired, expiredKey := writeAuthority(t, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	})
	leaf, leafKey := writeAuthority(t, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	readable, readableKey := writeAuthority(t, nil)
	if err := os.Chmod(readableKey, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, cert, key string
		words           []string // at least one is in the output
	}{
		{"key of another certificate", cert, otherKey, []string{"does not belong", "does not match", "another certificate", "not the key of"}},
		{"certificate of another key", otherCert, key, []string{"does not belong", "does not match", "another certificate", "not the key of"}},
		{"expired", expired, expiredKey, []string{"expired"}},
		{"not an authority", leaf, leafKey, []string{"not a certificate authority", "not a CA", "cannot issue", "may not issue"}},
		{"readable by others", readable, readableKey, []string{"0600", "others"}},
		{"no key", cert, "", []string{"mitm_ca_key"}},
		{"no certificate", "", key, []string{"mitm_ca_cert"}},
		{"missing file", filepath.Join(t.TempDir(), "none.pem"), key, []string{"none.pem"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			settings := limited("web.test")
			settings.CACert, settings.CAKey = c.cert, c.key
			p := launch(t, settings)
			code, log := p.ExitCode(t), p.Log.String()
			found := false
			for _, word := range c.words {
				found = found || strings.Contains(log, word)
			}
			if code == 0 || !found {
				t.Errorf("exit %d, want an error that has one of %q:\n%s", code, c.words, log)
			}
		})
	}
}

// testUpstreamCertificate requests a host whose certificate is not valid. The client gets
// the reason as a response inside TLS that it trusts.
func testUpstreamCertificate(t *testing.T, kind, want string) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host(kind)
		p := start(t, limited(host))
		for range 2 {
			got := p.client(t, version).get(t, "https://"+host+"/hello")
			r := got.wantRefusal(t, http.StatusBadGateway, "upstream_certificate", "")
			if !strings.Contains(r.Message, want) || !strings.Contains(r.Message, host) {
				t.Errorf("the message %q lacks %q or %s", r.Message, want, host)
			}
			if !got.opened(p) {
				t.Error("the response does not come from the proxy")
			}
		}
		p.wantBlocked(t, refusal{Host: host, Port: 443, Reason: "upstream_certificate"})
		wantNothing(t, host)
	})
}

func testUpstreamClientCert(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("mutual")
		p := start(t, limited(host))
		r := p.client(t, version).get(t, "https://"+host+"/hello").
			wantRefusal(t, http.StatusBadGateway, "client_certificate_required", "")
		if !strings.Contains(r.Hint, "mitm_exempt_domains") {
			t.Errorf("the hint %q does not name mitm_exempt_domains", r.Hint)
		}
		p.wantBlocked(t, refusal{Host: host, Port: 443, Reason: "client_certificate_required"})
		wantNothing(t, host)
	})
}

func testExemptFull(t *testing.T) {
	host, hooked := lab.host("web"), lab.host("web")
	c := full(hook(hooked, `methods = ["GET"]`, `path_prefixes = ["/"]`), host, hooked)
	c.Exempt, c.Domains = []string{host}, []string{"*"}
	wantSpliced(t, start(t, c), host)
}

func testExemptLimited(t *testing.T) {
	host := lab.host("web")
	c := limited(host)
	c.Exempt = []string{host}
	p := start(t, c)
	_, err := p.tryTunnel(host + ":443")
	refused := (*connectError)(nil)
	if !errors.As(err, &refused) || refused.status != http.StatusForbidden || refused.header.Get("X-Proxy-Error") != "blocked-by-mitm-required" {
		t.Errorf("CONNECT: %v, want status 403 and blocked-by-mitm-required", err)
	}
	p.wantBlocked(t, refusal{Host: host, Port: 443, Reason: "mitm_required"})
	wantNothing(t, host)
}

func testDistrustCurl(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	p.caFile = lab.ca.file // that of the origin servers
	if got := p.run(t, "curl", "-sS", "https://"+host+"/hello"); got.Exit != 60 {
		t.Errorf("curl: exit %d, want 60: %s", got.Exit, got.Stderr)
	}
	if got := p.wantBlocked(t, refusal{Host: host, Port: 443, Reason: "certificate_distrusted"}); got.Hint == "" {
		t.Errorf("the record has no hint: %+v", got)
	}
	wantNothing(t, host)
}

// testDistrustClients uses clients that end the handshake in different ways.
func testDistrustClients(t *testing.T) {
	for name, argv := range map[string][]string{
		"python":   {python, "../testdata/fetch.py"},
		"requests": {python, "../testdata/requestsfetch.py"},
		"git":      {"git", "ls-remote"},
		"wget":     {"wget", "-q", "--tries=1", "-O", "-"},
		"go":       {filepath.Join(lab.dir, "fetch")},
		"node":     {"node", "../testdata/tunnel.mjs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := lab.host("web")
			p := start(t, limited(host))
			p.caFile = lab.ca.file
			got := p.run(t, argv[0], append(argv[1:], "https://"+host+"/hello")...)
			if strings.Contains(got.Stdout, helloBody(host)) {
				t.Errorf("the client got the body: %+v", got)
			}
			p.wantBlocked(t, refusal{Host: host, Port: 443, Reason: "certificate_distrusted"})
			wantNothing(t, host)
		})
	}
}

func testOldVersion(t *testing.T) {
	host := lab.host("web")
	p := start(t, limited(host))
	conn := tls.Client(p.tunnel(t, host+":443"), &tls.Config{
		ServerName: host, RootCAs: p.pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	})
	if err := conn.Handshake(); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v, want the alert protocol_version", err)
	}
	wantNothing(t, host)
}
