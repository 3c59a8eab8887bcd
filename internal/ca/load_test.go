package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func certText(chain ...*issued) []byte {
	var text []byte
	for _, c := range chain {
		text = append(text, block("CERTIFICATE", c.cert.Raw)...)
	}
	return text
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return block("PRIVATE KEY", der)
}

// write writes a file that only its owner can use.
func write(t testing.TB, path string, text []byte) string {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, nil, nil)
	ca := issue(t, root, nil, nil)
	sec1, err := x509.MarshalECPrivateKey(ca.key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ofRSA := issue(t, nil, rsaKey, nil)
	expired := issue(t, nil, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	server := issue(t, nil, nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 })
	key := pkcs8(t, ca.key)
	for _, test := range []struct {
		name      string
		cert, key []byte
		want      string // in the error; none if empty. CERT and KEY are the paths.
	}{
		{"PKCS #8", certText(ca), key, ""},
		{"SEC 1", certText(ca), block("EC PRIVATE KEY", sec1), ""},
		{"SEC 1 after its parameters", certText(ca), append(block("EC PARAMETERS", []byte{6, 0}), block("EC PRIVATE KEY", sec1)...), ""},
		{"PKCS #1", certText(ofRSA), block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), ""},
		{"a chain", certText(ca, root), key, ""},
		{"certificate and key together", append(key, certText(ca)...), append(key, certText(ca)...), ""},
		{"text around it", append([]byte("subject=x\n"), certText(ca)...), append([]byte("# mine\n"), key...), ""},

		{"another key", certText(root), key, "the key in KEY does not belong to the certificate in CERT"},
		{"the root first", certText(root, ca), key, "the key in KEY belongs to certificate 2 in CERT"},
		{"expired", certText(expired), pkcs8(t, expired.key), "CERT: certificate 1, "},
		{"expired, the time", certText(expired), pkcs8(t, expired.key), expired.cert.NotAfter.UTC().Format(time.RFC3339)},
		{"a server", certText(server), pkcs8(t, server.key), "is not a CA"},
		{"no certificate", key, key, "CERT: it holds no certificate"},
		{"an empty certificate", nil, key, "CERT: it holds no certificate"},
		{"a damaged certificate", block("CERTIFICATE", []byte{1, 2}), key, "CERT: certificate 1: x509:"},
		{"no key", certText(ca), certText(ca), "KEY: it holds no private key"},
		{"two keys", certText(ca), append(pkcs8(t, root.key), key...), "KEY: it holds two private keys"},
		{"a damaged key", certText(ca), block("PRIVATE KEY", []byte("secret")), "KEY: the private key is damaged"},
		{"an encrypted key", certText(ca), block("ENCRYPTED PRIVATE KEY", []byte{1}), "KEY: the private key has a passphrase"},
		{"an encrypted key of old", certText(ca), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY",
			Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: sec1}), "KEY: the private key has a passphrase"},
		{"a key of ssh", certText(ca), block("OPENSSH PRIVATE KEY", []byte{1}), `KEY: the private key is in the form "OPENSSH PRIVATE KEY"`},
		{"a short key", certText(ca), pkcs8(t, short), "KEY: the private key: it is an RSA key of 1024 bits"},
		{"a large curve", certText(ca), pkcs8(t, p521), "KEY: the private key: it is an ECDSA key on P-521"},
		{"a large file", certText(ca), make([]byte, maxFileSize+1), "KEY: it is larger than 1024 KiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			certFile, keyFile := write(t, filepath.Join(dir, "c"), test.cert), write(t, filepath.Join(dir, "k"), test.key)
			a, err := Load(certFile, keyFile)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				checkServes(t, a, "a.test")
				if bytes.Contains(a.PEM(), []byte("PRIVATE")) {
					t.Error("PEM contains a key")
				}
				return
			}
			want := strings.NewReplacer("CERT", certFile, "KEY", keyFile).Replace(test.want)
			if strings.Contains(test.want, "OPENSSH") {
				want = keyFile + strings.TrimPrefix(test.want, "KEY")
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestLoadChecksFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := issue(t, nil, nil, nil)
	cert, key := write(t, filepath.Join(dir, "cert"), certText(ca)), write(t, filepath.Join(dir, "key"), pkcs8(t, ca.key))
	for name, paths := range map[string][2]string{
		"the certificate": {filepath.Join(dir, "none"), key},
		"the key":         {cert, filepath.Join(dir, "none")},
	} {
		if _, err := Load(paths[0], paths[1]); err == nil || !strings.HasPrefix(err.Error(), filepath.Join(dir, "none")+": ") || !strings.Contains(err.Error(), "networkproxy ca") {
			t.Errorf("%s is missing: %v", name, err)
		}
	}
	if _, err := Load(cert, dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Load(cert, ""); err == nil || !strings.Contains(err.Error(), "the path is empty") {
		t.Errorf("no path: %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(key, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cert, link); err != nil {
		t.Errorf("a link to the key: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{key, link} {
			if _, err := Load(cert, path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
				t.Errorf("mode %o: %v", mode, err)
			}
		}
	}
}

func TestWritePair(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "deep")
	p, err := WritePair(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Load(p.CertFile, p.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	checkServes(t, a, "a.test")
	if !a.NotAfter().Equal(p.NotAfter) || a.chain[0].Subject.CommonName != p.Name {
		t.Errorf("got %+v", p)
	}
	if runtime.GOOS != "windows" {
		for path, want := range map[string]os.FileMode{p.KeyFile: 0o600, dir: os.ModeDir | 0o700, filepath.Dir(dir): os.ModeDir | 0o700} {
			if info, err := os.Lstat(path); err != nil || info.Mode() != want {
				t.Errorf("%s has the mode %v, want %v (%v)", path, info.Mode(), want, err)
			}
		}
	}
	before, err := os.ReadFile(p.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := WritePair(dir); err == nil || !strings.Contains(err.Error(), "exists, and nothing was changed") {
		t.Errorf("a second time: %v", err)
	}
	if after, err := os.ReadFile(p.KeyFile); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key was changed (%v)", err)
	}
}

func TestWritePairReplacesNothing(t *testing.T) {
	t.Parallel()
	for name, there := range map[string]func(path string) error{
		"a file":            func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"a directory":       func(path string) error { return os.Mkdir(path, 0o700) },
		"a link to nothing": func(path string) error { return os.Symlink("missing", path) },
	} {
		for _, file := range []string{CertName, KeyName} {
			t.Run(name+" at "+file, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				switch err := there(filepath.Join(dir, file)); {
				case err != nil && runtime.GOOS == "windows":
					t.Skip(err) // an ordinary user cannot make links
				case err != nil:
					t.Fatal(err)
				}
				if _, err := WritePair(dir); err == nil || !strings.Contains(err.Error(), file+" exists") {
					t.Errorf("got %v", err)
				}
				if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
					t.Errorf("the directory has %v (%v)", entries, err)
				}
			})
		}
	}
	file := write(t, filepath.Join(t.TempDir(), "file"), nil)
	if _, err := WritePair(file); err == nil {
		t.Error("a file as the directory is no error")
	}
}

func FuzzKey(f *testing.F) {
	key := newKey(f)
	f.Add(pkcs8(f, key))
	f.Add(block("EC PRIVATE KEY", []byte{1}))
	f.Add(block("ENCRYPTED PRIVATE KEY", nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := keyIn(text)
		if (key == nil) != (err != nil) {
			t.Fatalf("got %T, %v", key, err)
		}
		if err == nil && checkKey(key.Public()) != nil {
			t.Errorf("a key that clients do not accept: %T", key)
		}
	})
}
