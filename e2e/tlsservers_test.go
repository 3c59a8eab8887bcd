//go:build e2e && linux

// This file tests the TLS check with real TLS servers. Each serves two names at one
// address.

package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/networkproxy/e2e/harness"
	"example.com/networkproxy/internal/testnet"
)

// certificateFiles is a directory with certificates and keys for both names.
type certificateFiles struct{ dir string }

func (p certificateFiles) cert(name string) string { return filepath.Join(p.dir, name+".pem") }
func (p certificateFiles) key(name string) string  { return filepath.Join(p.dir, name+".key") }

func writeCertificates(t *testing.T) certificateFiles {
	t.Helper()
	p := certificateFiles{t.TempDir()}
	for _, name := range []string{servedAllowed, servedOther} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), DNSNames: []string{name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for file, block := range map[string]*pem.Block{
			p.cert(name): {Type: "CERTIFICATE", Bytes: cert},
			p.key(name):  {Type: "PRIVATE KEY", Bytes: secret},
		} {
			if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return p
}

// tlsServers are commands that serve both names at a port of publicA. If a server has
// a default name, it is the refused one.
var tlsServers = map[string]func(t *testing.T, p certificateFiles, port int) *exec.Cmd{
	"OpenSSL": func(t *testing.T, p certificateFiles, port int) *exec.Cmd {
		return exec.Command("openssl", "s_server", "-quiet", "-www", "-accept", fmt.Sprintf("%s:%d", publicA, port),
			"-cert", p.cert(servedOther), "-key", p.key(servedOther),
			"-servername", servedAllowed, "-cert2", p.cert(servedAllowed), "-key2", p.key(servedAllowed))
	},
	"nginx": func(t *testing.T, p certificateFiles, port int) *exec.Cmd {
		conf := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr crit;\nevents {}\nhttp { access_log off;\n", p.dir)
		for _, name := range []string{servedOther, servedAllowed} {
			conf += fmt.Sprintf("server { listen %s:%d ssl; server_name %s; ssl_certificate %s; ssl_certificate_key %s;\n"+
				"ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; ssl_early_data on; return 200; }\n",
				publicA, port, name, p.cert(name), p.key(name))
		}
		file := filepath.Join(p.dir, "nginx.conf")
		if err := os.WriteFile(file, []byte(conf+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command("/usr/sbin/nginx", "-e", "stderr", "-p", p.dir, "-c", file)
	},
	"GnuTLS": func(t *testing.T, p certificateFiles, port int) *exec.Cmd {
		return exec.Command("gnutls-serv", "--quiet", "--http", "--port", fmt.Sprint(port), "--earlydata",
			"--x509certfile", p.cert(servedOther), "--x509keyfile", p.key(servedOther),
			"--x509certfile", p.cert(servedAllowed), "--x509keyfile", p.key(servedAllowed))
	},
}

// startTLSServer starts a TLS server and stops it at the end of the test.
func startTLSServer(t *testing.T, command func(*testing.T, certificateFiles, int) *exec.Cmd) netip.AddrPort {
	t.Helper()
	addr := netip.AddrPortFrom(publicA, uint16(lab.ports.Add(1)))
	log := new(testnet.Buffer)
	cmd := command(t, writeCertificates(t), int(addr.Port()))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			out := log.String()
			t.Logf("the last output of %s:\n%s", cmd.Args[0], out[max(0, len(out)-4000):])
		}
	})
	harness.Eventually(t, cmd.Args[0]+" accepts connections", func() bool {
		conn, err := net.Dial("tcp", addr.String())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr
}

// playTo plays a sequence to a server, through p unless it is nil.
func playTo(t *testing.T, p *program, server netip.AddrPort, s sequence) transcript {
	t.Helper()
	to := server.String()
	if p != nil {
		to = p.proxy
	}
	conn, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	if p != nil {
		fmt.Fprintf(conn, "CONNECT %s:%d HTTP/1.1\r\nHost: %[1]s\r\n\r\n", servedAllowed, server.Port())
		// The server sends nothing before a hello, so the buffer holds only the response.
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"})
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("CONNECT: %v, %v", resp, err)
		}
	}
	r, err := play(conn.(*net.TCPConn), s)
	if err != nil {
		t.Fatalf("%s: %v\nsent %x\nthen %x", s.name, err, s.sent, s.then)
	}
	return r
}

// TestHellosThatServersAccept checks that the proxy cuts every sequence of hellos with
// which a server would serve a refused name.
func TestHellosThatServersAccept(t *testing.T) {
	t.Parallel()
	byHand := attacks()
	all := slices.Concat(byHand, sequences(1, 600))
	for name, command := range tlsServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startTLSServer(t, command)
			p := start(t, config{Allowed: []string{servedAllowed}})

			// Sequences of real clients pass.
			first, second := hello{names: servedNames, share: false}, hello{names: servedNames, share: true}
			for _, s := range []sequence{
				{name: "TLS 1.3", sent: layout{}.encode(second.message())},
				{name: "TLS 1.2", sent: layout{}.encode(hello{names: servedNames, tls12: true}.message())},
				{name: "a HelloRetryRequest", sent: layout{}.encode(first.message()), then: slices.Concat(ccs(), layout{version: 0x0303}.encode(second.message()))},
			} {
				if got := playTo(t, p, server, s); got.hellos != 1 {
					t.Fatalf("%s: not served: %+v", s.name, got)
				}
			}

			accepted := 0
			for i, s := range all {
				// The proxy needs to cut only sequences that the server accepts.
				if !playTo(t, nil, server, s).served(s) {
					continue
				}
				accepted++
				if i < len(byHand) {
					t.Logf("accepts %s", s.name)
				}
				if got := playTo(t, p, server, s); got.served(s) {
					t.Errorf("%s: served through the proxy: %+v\nsent %x\nthen %x", s.name, got, s.sent, s.then)
				}
			}
			t.Logf("accepts %d of %d sequences", accepted, len(all))
			if accepted < 50 {
				t.Errorf("the server accepts %d of %d sequences, want at least 50 for a meaningful test", accepted, len(all))
			}
		})
	}
}

var servedNames = name(servedAllowed)
