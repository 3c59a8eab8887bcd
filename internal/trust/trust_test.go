package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// certificate returns a self-signed certificate in PEM form, and its key.
func certificate(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// namesIn returns the names of the certificates in PEM text.
func namesIn(t testing.TB, text []byte) string {
	t.Helper()
	var names []string
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			t.Errorf("a bundle has a block of type %q", block.Type)
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, c.Subject.CommonName)
	}
	return strings.Join(names, " ")
}

// lab is a store with files around it.
type lab struct {
	*testing.T
	dir   string // for files of the test
	base  string // of the store
	log   *logText
	store *Store
	ours  []byte
	roots Roots
}

type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newLab returns a store on a system that trusts the authority "system".
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{T: t, dir: t.TempDir(), base: t.TempDir(), log: new(logText)}
	l.ours, _ = certificate(t, "ours")
	system, _ := certificate(t, "system")
	l.roots = Roots{Path: l.write("system.pem", system)}
	l.store = NewStore(Config{
		CA:    func() ([]byte, error) { return l.ours, nil },
		Log:   slog.New(slog.NewTextHandler(l.log, nil)),
		Base:  l.base,
		Roots: func() (Roots, error) { return l.roots, nil },
	})
	t.Cleanup(func() {
		if err := l.store.Close(); err != nil {
			t.Error(err)
		}
		if left := l.list(l.base); len(left) > 0 {
			t.Errorf("after the end, %s has %q", l.base, left)
		}
	})
	return l
}

func (l *lab) write(name string, text []byte) string {
	l.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		l.Fatal(err)
	}
	return path
}

// cert writes a new authority's certificate to a file.
func (l *lab) cert(name string) string {
	l.Helper()
	text, _ := certificate(l, name)
	return l.write(name+".pem", text)
}

func (l *lab) read(path string) []byte {
	l.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		l.Fatal(err)
	}
	return text
}

func (l *lab) list(dir string) (names []string) {
	l.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		l.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// environ returns the variables for a child whose parent has env.
func (l *lab) environ(f *Files, env ...string) map[string]string {
	l.Helper()
	before := slices.Clone(env)
	got, err := f.Environ(env)
	if err != nil {
		l.Fatal(err)
	}
	if !slices.Equal(env, before) {
		l.Errorf("the argument was changed: %q", env)
	}
	vars := make(map[string]string)
	for _, entry := range got {
		name, value, _ := strings.Cut(entry, "=")
		if _, twice := vars[name]; twice {
			l.Errorf("%s is there twice", name)
		}
		vars[name] = value
	}
	return vars
}

func TestEnvironWithoutSettings(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	f := l.store.Session("")
	vars := l.environ(f, "PATH=/bin", "JAVA_TOOL_OPTIONS=-Dx=y")
	want := append(slices.Clone(replaced[:]), added[:]...)
	want = append(want, "PATH", "WGETRC", "JAVA_TOOL_OPTIONS")
	for name := range vars {
		if !slices.Contains(want, name) {
			t.Errorf("unexpected %s", name)
		}
	}
	for _, name := range replaced {
		if got := namesIn(t, l.read(vars[name])); got != "system ours" || filepath.Base(vars[name]) != "bundle.pem" {
			t.Errorf("%s=%s has %q", name, vars[name], got)
		}
	}
	for _, name := range added {
		if got := l.read(vars[name]); !bytes.Equal(got, l.ours) || filepath.Base(vars[name]) != "ca.pem" {
			t.Errorf("%s=%s has %q", name, vars[name], got)
		}
	}
	if got, want := string(l.read(vars["WGETRC"])), "ca_certificate = "+vars["SSL_CERT_FILE"]+"\n"; got != want {
		t.Errorf("WGETRC has %q, want %q", got, want)
	}
	dir := filepath.Dir(vars["SSL_CERT_FILE"])
	if got, want := vars["JAVA_TOOL_OPTIONS"], "-Dx=y -Djavax.net.ssl.trustStore="+filepath.Join(dir, "trust.jks"); got != want {
		t.Errorf("JAVA_TOOL_OPTIONS=%s, want %s", got, want)
	}
	if vars["PATH"] != "/bin" || l.log.String() != "" {
		t.Errorf("PATH=%s, log %s", vars["PATH"], l.log)
	}
	if again := l.environ(f, "PATH=/bin"); again["SSL_CERT_FILE"] != vars["SSL_CERT_FILE"] {
		t.Errorf("another call names %s", again["SSL_CERT_FILE"])
	}
	if got := l.list(dir); !slices.Equal(got, []string{"bundle.pem", "ca.pem", "trust.jks", "wgetrc"}) {
		t.Errorf("the files are %q", got)
	}
	if path, err := f.Bundle(nil); err != nil || path != vars["SSL_CERT_FILE"] {
		t.Errorf("Bundle: %s, %v", path, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := f.Environ(nil); err == nil {
		t.Error("Environ works after Close")
	}
	if _, err := f.Bundle(nil); err == nil {
		t.Error("Bundle works after Close")
	}
}

// The child trusts what its parent trusts, client by client.
func TestEnvironKeepsWhatTheParentTrusts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	corp, forGit, forNode, forWget := l.cert("corp"), l.cert("git"), l.cert("node"), l.cert("wget")
	inDir := filepath.Dir(l.write("dir/a.0", l.read(l.cert("indir"))))
	l.write("dir/README", []byte("no certificate"))
	l.write("home/.wgetrc", []byte("# mine\nCA-Certificate = "+forWget+"\nhttps_proxy=http://other\nuse_proxy = off\ntimeout = 5\ncheck_certificate = off"))
	l.write("tilde/.wgetrc", []byte("ca_certificate=~/w.pem\n"))
	l.write("tilde/w.pem", l.read(forWget))
	for _, test := range []struct {
		name string
		env  []string
		want map[string]string // names of certificates by variable
	}{
		{"SSL_CERT_FILE", []string{"SSL_CERT_FILE=" + corp}, map[string]string{"SSL_CERT_FILE": "corp system ours", "CURL_CA_BUNDLE": "corp system ours", "NODE_EXTRA_CA_CERTS": "ours"}},
		{"SSL_CERT_DIR", []string{"SSL_CERT_DIR=" + inDir}, map[string]string{"SSL_CERT_FILE": "indir system ours", "SSL_CERT_DIR": ""}},
		{"both", []string{"SSL_CERT_DIR=" + strings.Join([]string{"/none", inDir, ""}, string(os.PathListSeparator)), "SSL_CERT_FILE=" + corp}, map[string]string{"SSL_CERT_FILE": "corp indir system ours", "SSL_CERT_DIR": ""}},
		{"of one client", []string{"GIT_SSL_CAINFO=" + forGit}, map[string]string{"GIT_SSL_CAINFO": "git system ours", "SSL_CERT_FILE": "system ours"}},
		{"of one client and of all", []string{"GIT_SSL_CAINFO=" + forGit, "SSL_CERT_FILE=" + corp}, map[string]string{"GIT_SSL_CAINFO": "git corp system ours", "SSL_CERT_FILE": "corp system ours"}},
		{"a directory of one client", []string{"REQUESTS_CA_BUNDLE=" + inDir}, map[string]string{"REQUESTS_CA_BUNDLE": "indir system ours", "PIP_CERT": "system ours"}},
		{"the same everywhere", []string{"REQUESTS_CA_BUNDLE=" + corp, "SSL_CERT_FILE=" + corp}, map[string]string{"REQUESTS_CA_BUNDLE": "corp system ours"}},
		{"Node", []string{"NODE_EXTRA_CA_CERTS=" + forNode}, map[string]string{"NODE_EXTRA_CA_CERTS": "node ours", "DENO_CERT": "ours", "SSL_CERT_FILE": "system ours"}},
		{"npm in upper case", []string{"NPM_CONFIG_CAFILE=" + corp}, map[string]string{"npm_config_cafile": "corp system ours", "NPM_CONFIG_CAFILE": ""}},
		{"empty", []string{"SSL_CERT_FILE=", "SSL_CERT_DIR=", "GIT_SSL_CAINFO="}, map[string]string{"SSL_CERT_FILE": "system ours", "GIT_SSL_CAINFO": "system ours"}},
		{"the last entry counts", []string{"SSL_CERT_FILE=/none", "SSL_CERT_FILE=" + corp}, map[string]string{"SSL_CERT_FILE": "corp system ours"}},
		{"the system's own", []string{"SSL_CERT_FILE=" + l.roots.Path}, map[string]string{"SSL_CERT_FILE": "system ours"}},
		{"wget", []string{"HOME=" + filepath.Join(l.dir, "home")}, map[string]string{"WGETRC": "# mine\ntimeout = 5\ncheck_certificate = off\n|wget system ours"}},
		{"wget, relative to the home", []string{"HOME=" + filepath.Join(l.dir, "tilde")}, map[string]string{"WGETRC": "|wget system ours"}},
		{"wget, elsewhere", []string{"HOME=/none", "WGETRC=" + filepath.Join(l.dir, "home/.wgetrc")}, map[string]string{"WGETRC": "# mine\ntimeout = 5\ncheck_certificate = off\n|wget system ours"}},
		{"wget without settings", []string{"HOME=/none", "SSL_CERT_FILE=" + corp}, map[string]string{"WGETRC": "|corp system ours"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := l.store.Session("")
			defer f.Close()
			vars := l.environ(f, test.env...)
			for name, want := range test.want {
				path, ok := vars[name]
				if want == "" {
					if ok {
						t.Errorf("%s=%s is still there", name, path)
					}
					continue
				}
				got := ""
				if name == "WGETRC" {
					settings, file, _ := strings.Cut(string(l.read(path)), "ca_certificate = ")
					got, path = settings+"|", strings.TrimSuffix(file, "\n")
				}
				if got += namesIn(t, l.read(path)); got != want {
					t.Errorf("%s has %q, want %q", name, got, want)
				}
			}
		})
	}
}

// What cannot be read is told once. A client whose own variable is wrong keeps it.
func TestEnvironWarns(t *testing.T) {
	t.Parallel()
	big := filepath.Join(t.TempDir(), "big.pem")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 100<<20); err != nil {
		t.Fatal(err)
	}
	_, key := certificate(t, "")
	onlyKey := filepath.Join(filepath.Dir(big), "key.pem")
	if err := os.WriteFile(onlyKey, key, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		env  []string
		kept bool   // the variables of env
		log  string // none if empty
		err  string
	}{
		{"missing", []string{"SSL_CERT_FILE=/none", "SSL_CERT_DIR=/none2"}, false, "do not exist", ""},
		{"missing for one client", []string{"GIT_SSL_CAINFO=/none"}, false, "GIT_SSL_CAINFO", ""},
		{"too large", []string{"SSL_CERT_FILE=" + big}, false, "", "more than 4096 KiB"},
		{"too large for one client", []string{"AWS_CA_BUNDLE=" + big}, true, "AWS_CA_BUNDLE", ""},
		{"too large for Node", []string{"NODE_EXTRA_CA_CERTS=" + big}, true, "NODE_EXTRA_CA_CERTS", ""},
		{"too large for wget", []string{"WGETRC=" + big}, true, "wget", ""},
		{"a key", []string{"SSL_CERT_FILE=" + onlyKey}, false, "", "holds no certificate"},
		{"a key for one client", []string{"PIP_CERT=" + onlyKey}, true, "PIP_CERT", ""},
		{"a device", []string{"SSL_CERT_FILE=" + os.DevNull}, false, "", "SSL_CERT_FILE names"},
		{"a trust store of Java", []string{"JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=/mine"}, true, "JAVA_TOOL_OPTIONS", ""},
		{"the kind of a trust store", []string{"JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStoreType=KeychainStore"}, true, "JAVA_TOOL_OPTIONS", ""},
		{"a trust store of Maven", []string{"MAVEN_OPTS=-Djavax.net.ssl.trustStore=/mine"}, true, "MAVEN_OPTS", ""},
		{"Node accepts all", []string{"NODE_TLS_REJECT_UNAUTHORIZED=0"}, true, "NODE_TLS_REJECT_UNAUTHORIZED", ""},
		{"git accepts all", []string{"GIT_SSL_NO_VERIFY="}, true, "GIT_SSL_NO_VERIFY", ""},
		{"Python accepts all", []string{"PYTHONHTTPSVERIFY=0"}, true, "PYTHONHTTPSVERIFY", ""},
		{"npm accepts all", []string{"NPM_CONFIG_STRICT_SSL=false"}, true, "npm_config_strict_ssl", ""},
		{"verification is on", []string{"NODE_TLS_REJECT_UNAUTHORIZED=1", "PYTHONHTTPSVERIFY=1", "npm_config_strict_ssl=true"}, true, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			for range 2 {
				f := l.store.Session("")
				env, err := f.Environ(test.env)
				if test.err != "" {
					if env != nil || err == nil || !strings.Contains(err.Error(), test.err) {
						t.Errorf("got %q, %v, want the error %q", env, err, test.err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, entry := range test.env {
					if slices.Contains(env, entry) != test.kept {
						t.Errorf("%s is kept: %v, want %v", entry, !test.kept, test.kept)
					}
				}
			}
			text := l.log.String()
			if test.log == "" && text != "" || !strings.Contains(text, test.log) {
				t.Errorf("the log has %q, want %q", text, test.log)
			}
			if n := strings.Count(text, "level=WARN"); test.log != "" && n != len(test.env) {
				t.Errorf("%d warnings: %s", n, text)
			}
		})
	}
}

// Bundles have no keys, whatever the parent's files have.
func TestBundlesHaveNoKeys(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cert, key := certificate(t, "corp")
	both := l.write("both.pem", append(append(key, cert...), "# my comment\n"...))
	f := l.store.Session("")
	vars := l.environ(f, "SSL_CERT_FILE="+both, "NODE_EXTRA_CA_CERTS="+both, "REQUESTS_CA_BUNDLE="+both, "SSL_CERT_DIR="+filepath.Dir(both))
	if got := namesIn(t, l.read(vars["SSL_CERT_FILE"])); got != "corp system ours" {
		t.Errorf("the bundle has %q", got)
	}
	block, _ := pem.Decode(key)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := private.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(l.base, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if text := l.read(path); bytes.Contains(text, []byte("PRIVATE")) || bytes.Contains(text, []byte("my comment")) || bytes.Contains(text, secret) {
			t.Errorf("%s has more than certificates", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNoRoots(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.store.config.Roots = func() (Roots, error) { return firstRoots([]string{"/none", os.DevNull}, []string{t.TempDir()}) }
	f := l.store.Session("")
	for _, env := range [][]string{nil, {"SSL_CERT_FILE=/none"}, {"GIT_SSL_CAINFO=" + l.cert("git")}} {
		if got, err := f.Environ(env); got != nil || !errors.Is(err, errNoRoots) {
			t.Errorf("%q: %q, %v", env, got, err)
		}
	}
	if _, err := f.Bundle(nil); !errors.Is(err, errNoRoots) {
		t.Errorf("Bundle: %v", err)
	}
	if vars := l.environ(f, "SSL_CERT_FILE="+l.cert("corp")); namesIn(t, l.read(vars["SSL_CERT_FILE"])) != "corp ours" {
		t.Error("the parent's certificates do not take the place of the system's")
	}
}

func TestFirstRoots(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	file, empty := l.cert("a"), l.write("empty", nil)
	full, bare := filepath.Dir(l.write("full/a.pem", l.read(file))), filepath.Dir(l.write("bare/README", []byte("x")))
	for _, test := range []struct {
		files, dirs []string
		want        string
	}{
		{[]string{"/none", empty, file, l.roots.Path}, []string{full}, file},
		{[]string{"/none", empty}, []string{"/none", bare, full}, full},
		{nil, []string{bare}, ""},
	} {
		got, err := firstRoots(test.files, test.dirs)
		if got.Path != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%q, %q: got %q, %v, want %q", test.files, test.dirs, got.Path, err, test.want)
		}
	}
}

// The certificates of the system of this test are of use.
func TestSystemRoots(t *testing.T) {
	t.Parallel()
	roots, err := systemRoots()
	if errors.Is(err, errNoRoots) && runtime.GOOS != "linux" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if roots.Path != "" {
		if roots.Certs, err = readSource(roots.Path); err != nil {
			t.Fatal(err)
		}
	}
	parsed := 0
	for _, der := range roots.Certs {
		if _, err := x509.ParseCertificate(der); err == nil {
			parsed++
		}
	}
	if parsed < 10 {
		t.Errorf("only %d of %d certificates can be parsed", parsed, len(roots.Certs))
	}
}

// A changed file is read again, and a session that runs keeps its own.
func TestBundleFollowsItsSources(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	corp := l.cert("corp")
	f := l.store.Session("")
	first := l.environ(f, "SSL_CERT_FILE="+corp)["SSL_CERT_FILE"]
	newer, _ := certificate(t, "newer")
	if err := os.WriteFile(corp, append(newer, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	second := l.environ(f, "SSL_CERT_FILE="+corp)["SSL_CERT_FILE"]
	if first == second || namesIn(t, l.read(first)) != "corp system ours" || namesIn(t, l.read(second)) != "newer system ours" {
		t.Errorf("%s has %q, %s has %q", first, namesIn(t, l.read(first)), second, namesIn(t, l.read(second)))
	}
	other := l.store.Session("")
	if path, err := other.Bundle([]string{"SSL_CERT_FILE=" + corp}); err != nil || filepath.Base(path) != "bundle.pem" || namesIn(t, l.read(path)) != "newer system ours" {
		t.Errorf("another session: %s, %v", path, err)
	}
}

func TestAuthorityError(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.store.config.CA = func() ([]byte, error) { return nil, io.ErrUnexpectedEOF }
	if env, err := l.store.Session("").Environ(nil); env != nil || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", env, err)
	}
}

// A file system that hangs keeps neither a session nor the store from ending.
func TestCloseDoesNotWaitForReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		s := NewStore(Config{
			CA: func() ([]byte, error) { return nil, nil }, Log: slog.New(slog.DiscardHandler), Base: t.TempDir(),
			Roots: func() (Roots, error) { <-hangs; return Roots{Certs: [][]byte{{0x30}}}, nil },
		})
		f, result := s.Session(""), make(chan error)
		go func() {
			_, err := f.Environ(nil)
			result <- err
		}()
		synctest.Wait()
		if err := errors.Join(f.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		close(hangs)
		if err := <-result; !errors.Is(err, errClosed) {
			t.Errorf("got %v", err)
		}
	})
}

func BenchmarkEnviron(b *testing.B) {
	s := NewStore(Config{
		CA:  func() ([]byte, error) { return nil, nil },
		Log: slog.New(slog.DiscardHandler), Base: b.TempDir(),
	})
	defer s.Close()
	for b.Loop() {
		f := s.Session("")
		if _, err := f.Environ(nil); err != nil {
			b.Skip(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
