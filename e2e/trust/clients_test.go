//go:build e2e

// This file has the clients. Each verifies the certificates of three servers.

package trust_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy/internal/ca"
	"example.com/networkproxy/internal/trust"
)

// client is a program that fetches a URL with the certificates that its environment names.
type client struct {
	name string
	argv []string // URL, HOST and PORT are replaced
	want string   // in the output
	addr bool     // also with an address in place of a name
}

const strict = `
import ssl, sys, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
print(urllib.request.urlopen(sys.argv[1], context=context).read().decode(), end="")
`

const node = `
require("https").get(process.argv[1], (r) => r.pipe(process.stdout)).on("error", (e) => { console.error(e.message); process.exit(1) })
`

var clients = []client{
	{"curl", []string{"curl", "-sS", "URL"}, body, true},
	{"openssl", []string{"openssl", "s_client", "-connect", "HOST:PORT", "-servername", "HOST", "-verify_hostname", "HOST", "-x509_strict", "-verify_return_error"}, "Verify return code: 0 (ok)", false},
	{"git", []string{"git", "ls-remote", "URLrepo"}, commit, true},
	{"wget", []string{"wget", "-q", "-O-", "URL"}, body, true},
	{"urllib", []string{"/usr/bin/python3", "-c", "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode(), end='')", "URL"}, body, true},
	{"urllib, strict", []string{"/usr/bin/python3", "-c", strict, "URL"}, body, true},
	{"requests", []string{"/usr/bin/python3", "-c", "import sys, requests; print(requests.get(sys.argv[1]).text, end='')", "URL"}, body, true},
	{"pip", []string{"/usr/bin/python3", "-m", "pip", "--disable-pip-version-check", "--retries=0", "index", "versions", "hello", "--index-url=URLsimple"}, "hello (1.0)", true},
	{"cargo", []string{"sh", "../testdata/cargofetch.sh", "URLcrates/"}, "Downloaded suite-fixture", true},
	{"Node", []string{"node", "-e", node, "URL"}, body, true},
	{"npm", []string{"npm", "ping", "--registry", "URL", "--fetch-retries=0", "--no-update-notifier"}, "PONG", true},
	{"Java", []string{"java", "testdata/Fetch.java", "URL"}, body, true},
	{"Go", []string{"env", fetchVariable + "=URL", os.Args[0]}, body, true},
	{"gnutls", []string{"sh", "-c", `gnutls-cli --x509cafile="$SSL_CERT_FILE" --port=PORT --sni-hostname=HOST --verify-hostname=HOST 127.0.0.1`}, "The certificate is trusted", false},
}

// run runs a client and returns its output.
func (c *client) run(t *testing.T, env []string, s *site, host string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	argv := slices.Clone(c.argv)
	for i := range argv {
		argv[i] = strings.NewReplacer("URL", s.url(host), "HOST", host, "PORT", s.port).Replace(argv[i])
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// check fails unless the client accepts the server, or refuses it.
func (c *client) check(t *testing.T, env []string, s *site, host string, accepts bool) {
	t.Helper()
	out, err := c.run(t, env, s, host)
	if got := err == nil && strings.Contains(out, c.want); got != accepts {
		t.Errorf("accepts %s: %v, want %v; %v:\n%s", host, got, accepts, err, out)
	}
}

// newAuthority returns an authority in memory.
func newAuthority(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// files returns the files of a session that make clients trust a.
func files(t *testing.T, a *ca.Authority, log *bytes.Buffer) *trust.Files {
	t.Helper()
	store := trust.NewStore(trust.Config{
		CA:   func() ([]byte, error) { return a.PEM(), nil },
		Log:  slog.New(slog.NewTextHandler(log, nil)),
		Base: t.TempDir(),
	})
	t.Cleanup(func() { store.Close() })
	return store.Session("")
}

// parent returns an environment without settings, and with those in more.
func parent(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "NO_PROXY=*", "no_proxy=*"}, more...)
}

func environ(t *testing.T, f *trust.Files, env []string) []string {
	t.Helper()
	got, err := f.Environ(env)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestClients: every client trusts our authority and that of its parent, and no other. Without the variables it does not trust
// ours, so that they are the reason.
func TestClients(t *testing.T) {
	t.Parallel()
	ours, corp, stranger := newSite(t, newAuthority(t)), newSite(t, newAuthority(t)), newSite(t, newAuthority(t))
	var log bytes.Buffer
	f := files(t, ours.ca, &log)
	before := parent(t, "SSL_CERT_FILE="+corp.file, "NODE_EXTRA_CA_CERTS="+corp.file)
	after := environ(t, f, before)
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, before, ours, "localhost", false)
			c.check(t, after, ours, "localhost", true)
			c.check(t, after, corp, "localhost", true)
			c.check(t, after, stranger, "localhost", false)
			if c.addr {
				c.check(t, after, ours, "127.0.0.1", true)
			}
		})
	}
	if log.Len() > 0 {
		t.Errorf("warnings: %s", &log)
	}
}

// TestAuthorityFromFiles: clients accept the chain of an authority that has an issuer and an RSA key.
func TestAuthorityFromFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := `set -e
openssl req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 30 -subj "/CN=Test root" -addext keyUsage=critical,keyCertSign
openssl req -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.csr -subj "/CN=Test CA"
printf "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n" >ext
openssl x509 -req -in ca.csr -CA root.pem -CAkey root.key -CAcreateserial -days 20 -extfile ext -out ca.crt
cat ca.crt root.pem >ca.pem
chmod 600 ca-key.pem
openssl rsa -in ca-key.pem -traditional -out pkcs1.pem && chmod 600 pkcs1.pem`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	a, err := ca.Load(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Load(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "pkcs1.pem")); err != nil {
		t.Error(err)
	}
	s := newSite(t, a)
	env := environ(t, files(t, a, new(bytes.Buffer)), parent(t))
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, env, s, "localhost", true)
		})
	}
}

// TestWritePair: clients accept the authority that "networkproxy ca" makes.
func TestWritePair(t *testing.T) {
	t.Parallel()
	pair, err := ca.WritePair(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("openssl", "x509", "-in", pair.CertFile, "-noout", "-checkend", "31536000").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	a, err := ca.Load(pair.CertFile, pair.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, a)
	env := environ(t, files(t, a, new(bytes.Buffer)), parent(t))
	for _, c := range clients[:2] {
		c.check(t, env, s, "localhost", true)
	}
}

// TestCertificateDirectory: curl and Go prefer SSL_CERT_DIR, or add it. The parent's is in the bundle.
func TestCertificateDirectory(t *testing.T) {
	t.Parallel()
	ours, corp := newSite(t, newAuthority(t)), newSite(t, newAuthority(t))
	dir := filepath.Dir(corp.file)
	if out, err := exec.Command("openssl", "rehash", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before := parent(t, "SSL_CERT_DIR="+dir)
	after := environ(t, files(t, ours.ca, new(bytes.Buffer)), before)
	for _, c := range clients {
		if !slices.Contains([]string{"curl", "openssl", "urllib", "Go"}, c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, before, corp, "localhost", true)
			c.check(t, after, corp, "localhost", true)
			c.check(t, after, ours, "localhost", true)
			// The directory is the reason why it is removed.
			c.check(t, append(slices.Clone(after), "CURL_CA_BUNDLE=", "SSL_CERT_DIR="+dir), ours, "localhost", c.name != "curl")
		})
	}
}

// TestOwnVariables: the certificates that a parent's variable names for one client are kept.
func TestOwnVariables(t *testing.T) {
	t.Parallel()
	ours, corp := newSite(t, newAuthority(t)), newSite(t, newAuthority(t))
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".wgetrc"), []byte("ca_certificate = "+corp.file+"\nhttps_proxy = http://127.0.0.1:9/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := files(t, ours.ca, new(bytes.Buffer))
	for name, entry := range map[string]string{
		"curl": "CURL_CA_BUNDLE=" + corp.file, "git": "GIT_SSL_CAINFO=" + corp.file, "requests": "REQUESTS_CA_BUNDLE=" + corp.file,
		"wget": "HOME=" + home, "Node": "NODE_EXTRA_CA_CERTS=" + corp.file,
	} {
		c := clients[slices.IndexFunc(clients, func(c client) bool { return c.name == name })]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := environ(t, f, parent(t, entry))
			c.check(t, env, corp, "localhost", true)
			c.check(t, env, ours, "localhost", true)
		})
	}
}

// TestJavaOptions: the JVM reads a path with blanks, and keytool lists every certificate of the store.
func TestJavaOptions(t *testing.T) {
	t.Parallel()
	ours := newSite(t, newAuthority(t))
	base := filepath.Join(t.TempDir(), "it's a directory")
	if err := os.Mkdir(base, 0o700); err != nil {
		t.Fatal(err)
	}
	store := trust.NewStore(trust.Config{CA: func() ([]byte, error) { return ours.ca.PEM(), nil }, Log: slog.New(slog.DiscardHandler), Base: base})
	t.Cleanup(func() { store.Close() })
	env := environ(t, store.Session(""), parent(t, "JAVA_TOOL_OPTIONS=-Dmine=1"))
	c := clients[slices.IndexFunc(clients, func(c client) bool { return c.name == "Java" })]
	c.check(t, env, ours, "localhost", true)

	var jks, bundle string
	for _, entry := range env {
		if rest, ok := strings.CutPrefix(entry, "SSL_CERT_FILE="); ok {
			bundle, jks = rest, filepath.Join(filepath.Dir(rest), "trust.jks")
		}
	}
	for _, password := range [][]string{nil, {"-storepass", "changeit"}} {
		cmd := exec.Command("keytool", append([]string{"-list", "-keystore", jks}, password...)...)
		cmd.Stdin = strings.NewReader("\n") // no password
		out, err := cmd.CombinedOutput()
		text, readErr := os.ReadFile(bundle)
		if want := bytes.Count(text, []byte("BEGIN CERTIFICATE")); err != nil || readErr != nil || strings.Count(string(out), "trustedCertEntry") != want {
			t.Errorf("keytool lists %d certificates, want %d; %v, %v", strings.Count(string(out), "trustedCertEntry"), want, err, readErr)
		}
	}
}
