//go:build e2e

// This file has the servers, and a client in Go.

package trust_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"example.com/networkproxy/internal/ca"
	"example.com/networkproxy/internal/hostname"
)

// fetchVariable makes the test program a client: it prints the body of the URL in it.
const fetchVariable = "NETWORKPROXY_E2E_FETCH"

func TestMain(m *testing.M) {
	url := os.Getenv(fetchVariable)
	if url == "" {
		os.Exit(runTests(m))
	}
	resp, err := http.Get(url)
	if err == nil {
		_, err = io.Copy(os.Stdout, resp.Body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// buildDir is for the program that the tests run.
var buildDir string

func runTests(m *testing.M) int {
	var err error
	if buildDir, err = os.MkdirTemp("", "networkproxy-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(buildDir)
	return m.Run()
}

// site is a server at https://localhost and https://127.0.0.1 with certificates of an authority of its own.
type site struct {
	port string
	file string // the authority's certificate
	ca   *ca.Authority
}

const (
	body   = "hello\n"
	commit = "0123456789abcdef0123456789abcdef01234567"
)

// newSite starts a server whose authority is a.
func newSite(t *testing.T, a *ca.Authority) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
	mux.HandleFunc("/repo/info/refs", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, commit+"\trefs/heads/main\n") })
	mux.HandleFunc("/simple/hello/", func(w http.ResponseWriter, _ *http.Request) { // pip
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<!DOCTYPE html><a href="hello-1.0.tar.gz">hello-1.0.tar.gz</a>`)
	})
	crates(mux)
	mux.HandleFunc("/-/ping", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }) // npm
	mux.HandleFunc("/repo/HEAD", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ref: refs/heads/main\n") })
	server := &http.Server{
		Handler:  mux,
		ErrorLog: log.New(io.Discard, "", 0), // clients that do not trust it
		TLSConfig: &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := hello.ServerName
			if name == "" {
				name = "127.0.0.1"
			}
			host, err := hostname.Parse(name)
			if err != nil {
				return nil, err
			}
			return a.Leaf(host)
		}},
	}
	go server.ServeTLS(l, "", "")
	t.Cleanup(func() { server.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s := &site{port: port, file: filepath.Join(t.TempDir(), "ca.pem"), ca: a}
	if err := os.WriteFile(s.file, a.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// crates serves the crate of cargofetch.sh below /crates/, with a sparse index.
func crates(mux *http.ServeMux) {
	const name, version = "suite-fixture", "1.0.0"
	crate := new(bytes.Buffer)
	compressed := gzip.NewWriter(crate)
	archive := tar.NewWriter(compressed)
	for path, text := range map[string]string{
		"Cargo.toml": "[package]\nname = \"" + name + "\"\nversion = \"" + version + "\"\nedition = \"2021\"\n",
		"src/lib.rs": "",
	} {
		// Writing to memory does not fail.
		archive.WriteHeader(&tar.Header{Name: name + "-" + version + "/" + path, Mode: 0o644, Size: int64(len(text))})
		io.WriteString(archive, text)
	}
	archive.Close()
	compressed.Close()
	mux.HandleFunc("/crates/config.json", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"dl": "https://%s/crates/file"}`, r.Host)
	})
	mux.HandleFunc("/crates/su/it/"+name, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"name": %q, "vers": %q, "cksum": "%x", "deps": [], "features": {}, "yanked": false}`, name, version, sha256.Sum256(crate.Bytes()))
	})
	mux.HandleFunc("/crates/file/"+name+"/"+version+"/download", func(w http.ResponseWriter, _ *http.Request) { w.Write(crate.Bytes()) })
}

func (s *site) url(host string) string { return "https://" + host + ":" + s.port + "/" }
