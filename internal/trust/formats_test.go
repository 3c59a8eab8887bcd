package trust

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// decodeJKS returns the certificates in a trust store, as the specification of the format in OpenJDK's JavaKeyStore describes it.
func decodeJKS(t *testing.T, b []byte) (certs [][]byte) {
	t.Helper()
	body, sum := b[:len(b)-sha1.Size], b[len(b)-sha1.Size:]
	hash := sha1.New()
	binary.Write(hash, binary.BigEndian, utf16.Encode([]rune("changeit")))
	hash.Write([]byte("Mighty Aphrodite"))
	hash.Write(body)
	if !bytes.Equal(hash.Sum(nil), sum) {
		t.Error("the hash is wrong")
	}
	r := bytes.NewReader(body)
	number := func(n int) uint64 {
		var v uint64
		for range n {
			c, err := r.ReadByte()
			if err != nil {
				t.Fatal(err)
			}
			v = v<<8 | uint64(c)
		}
		return v
	}
	text := func(n int) string {
		b := make([]byte, n)
		if _, err := r.Read(b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if magic, version := number(4), number(4); magic != 0xfeedfeed || version != 2 {
		t.Errorf("magic %x, version %d", magic, version)
	}
	var aliases []string
	for range number(4) {
		kind, alias, created, form := number(4), text(int(number(2))), number(8), text(int(number(2)))
		if kind != 2 || created != 0 || form != "X.509" || slices.Contains(aliases, alias) || alias != strings.ToLower(alias) {
			t.Errorf("kind %d, alias %q, created %d, form %q", kind, alias, created, form)
		}
		aliases = append(aliases, alias)
		certs = append(certs, []byte(text(int(number(4)))))
	}
	if r.Len() > 0 {
		t.Errorf("%d bytes are left", r.Len())
	}
	return certs
}

func TestJKS(t *testing.T) {
	t.Parallel()
	var certs [][]byte
	for i := range 3 {
		text, _ := certificate(t, fmt.Sprint(i))
		block, _ := pem.Decode(text)
		certs = append(certs, block.Bytes)
	}
	got := decodeJKS(t, encodeJKS([][]byte{certs[0], {0x30, 1}, certs[1], certs[2]}))
	if !slices.EqualFunc(got, certs, bytes.Equal) {
		t.Errorf("got %d certificates", len(got))
	}
	if len(decodeJKS(t, encodeJKS(nil))) != 0 {
		t.Error("an empty store has certificates")
	}
}

func TestQuoteJava(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		option, want string
		ok           bool
	}{
		{"-Da=/b", "-Da=/b", true},
		{"-Da=/b c", `"-Da=/b c"`, true},
		{`-Da=/b"c d`, `'-Da=/b"c d'`, true},
		{"-Da=/b'c", `"-Da=/b'c"`, true},
		{`-Da=/b"c'd`, "", false},
	} {
		if got, ok := quoteJava(test.option); got != test.want || ok != test.ok {
			t.Errorf("%s: got %s, %v", test.option, got, ok)
		}
	}
}

func TestFilterWgetrc(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, kept, cert string }{
		{"empty", "", "", ""},
		{"others", "timeout=5\n\n# x\nheader = Accept: a=b", "timeout=5\n\n# x\nheader = Accept: a=b\n", ""},
		{"proxies", "HTTP_Proxy=x\nhttpsproxy = x\n ftp-proxy=x\nno_proxy=x\nUSE_PROXY=on\nproxy_user=a\nproxy_password=b\nproxy-passwd=b\n", "", ""},
		{"certificates", "ca_certificate=a\nCACertificate = b c\nca_directory=/d\nprivate_key=k\n", "ca_directory=/d\nprivate_key=k\n", "b c"},
		{"in a comment", "#ca_certificate=a\n", "#ca_certificate=a\n", ""},
		{"lines of Windows", "timeout=5\r\nuse_proxy=off\r\n", "timeout=5\n", ""},
		{"no value", "use_proxy\nca_certificate\n", "", ""},
	} {
		if kept, cert := filterWgetrc([]byte(test.text)); string(kept) != test.kept || cert != test.cert {
			t.Errorf("%s: got %q, %q", test.name, kept, cert)
		}
	}
}

// No line that wget would read as one about proxies or certificates is left.
func FuzzFilterWgetrc(f *testing.F) {
	f.Add([]byte("use_proxy=off\nca_certificate = x"))
	f.Add([]byte("\r\nUse-Proxy\t=\voff\n\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		kept, _ := filterWgetrc(text)
		again, cert := filterWgetrc(kept)
		if !bytes.Equal(kept, again) || cert != "" {
			t.Errorf("%q: %q still has %q, %q", text, kept, again, cert)
		}
	})
}

// Whatever a source has, a bundle has certificates only.
func FuzzCertificates(f *testing.F) {
	cert, key := certificate(f, "a")
	f.Add(append(key, cert...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN TRUSTED CERTIFICATE-----\nMA==\n-----END TRUSTED CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var found certSet
		found.addPEM(text)
		b := newBundle(found.certs)
		n := 0
		for block, rest := pem.Decode(b.pem); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" || len(block.Headers) > 0 || !bytes.Equal(block.Bytes, found.certs[n]) {
				t.Errorf("block %d is a %q", n, block.Type)
			}
			n++
		}
		if n != len(found.certs) {
			t.Errorf("%d blocks, want %d", n, len(found.certs))
		}
		b.jks()
	})
}

func TestReadDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, _ := certificate(t, "a")
	b, _ := certificate(t, "b")
	for name, text := range map[string][]byte{"1.pem": b, "2.0": a, "3.0": a, "README": []byte("x")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "java"), 0o700); err != nil {
		t.Fatal(err)
	}
	certs, err := readSource(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := namesIn(t, newBundle(certs).pem); got != "b a" {
		t.Errorf("got %q", got)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxSource); err != nil {
		t.Fatal(err)
	}
	if _, err := readSource(dir); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB together") {
		t.Errorf("a large file: %v", err)
	}
}

func TestReadCrowdedDirectory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("creates more than 4096 files")
	}
	crowded := t.TempDir()
	for i := range maxEntries + 1 {
		if err := os.WriteFile(filepath.Join(crowded, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readSource(crowded); err == nil || !strings.Contains(err.Error(), "more than 4096 files") {
		t.Errorf("many files: %v", err)
	}
}

func TestSameName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"SSL_CERT_FILE", "SSL_CERT_FILE", true},
		{"npm_config_cafile", "NPM_CONFIG_CAFILE", true},
		{"npm_config_cafile", "Npm_Config_Cafile", true},
		{"npm_config_cafile", "npm_config_ca", false},
		{"SSL_CERT_FILE", "SSL_CERT_DIR", false},
	} {
		if got := sameName(test.a, test.b); got != test.want {
			t.Errorf("%s and %s: %v", test.a, test.b, got)
		}
	}
}
