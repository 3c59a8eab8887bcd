package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/ca"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/testnet"
)

// certificate returns a certificate of the loopback address and the roots for it.
func certificate(t *testing.T) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	authority, err := ca.New()
	if err != nil {
		t.Fatal(err)
	}
	host, err := hostname.Parse(loopback.String())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Leaf(host)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM())
	return cert, roots
}

func TestSession(t *testing.T) {
	t.Parallel()
	cert, _ := certificate(t)
	other, _ := certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"http/1.1"}}
	at := func(start func() (origin, error)) netip.AddrPort { return startOrigin(t, start).addr() }
	plain := at(func() (origin, error) { return startHTTP1Origin(300, nil) })
	secure := at(func() (origin, error) { return startHTTP1Origin(100_000, config) })
	secure2 := at(func() (origin, error) { return startHTTP2Origin(300, config) })
	proxy := connectProxy(t, secure.String(), secure)
	get := []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	last := bytes.Replace(get, headerEnd, append(closeField, '\r', '\n'), 1)
	for _, test := range []struct {
		name string
		session
		fails string
	}{
		{"plain", session{to: plain, request: get}, ""},
		{"TLS", session{to: secure, secure: true, origin: cert.Leaf, request: get}, ""},
		{"bytes", session{to: secure, secure: true, origin: cert.Leaf, request: get, bytes: true}, ""},
		{"fresh connections", session{to: secure, secure: true, origin: cert.Leaf, request: last, fresh: true}, ""},
		{"fresh connections without close", session{to: secure, secure: true, origin: cert.Leaf, request: get, fresh: true}, ""},
		{"tunnel", session{to: proxy, tunnel: []byte("CONNECT " + secure.String() + " HTTP/1.1\r\nHost: " + secure.String() + "\r\n\r\n"),
			secure: true, origin: cert.Leaf, request: get}, ""},
		{"HTTP/2", session{to: secure2, secure: true, http2: true, origin: cert.Leaf, url: "https://x:1/"}, ""},
		{"streams", session{to: secure2, secure: true, http2: true, origin: cert.Leaf, url: "https://x:1/", streams: 4}, ""},
		{"the certificate of a proxy", session{to: secure, secure: true, origin: other.Leaf, opened: true, request: get}, ""},
		{"not opened", session{to: secure, secure: true, origin: cert.Leaf, opened: true, request: get}, "opened: false, want true"},
		{"opened", session{to: secure, secure: true, origin: other.Leaf, request: get}, "opened: true, want false"},
		{"closed after the response", session{to: plain, request: last}, anyError},
		{"CONNECT refused", session{to: proxy, tunnel: []byte("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n"), request: get}, "403"},
		{"another status", session{to: proxy, request: get}, "status 403"},
		{"no HTTP/2", session{to: secure, secure: true, http2: true, origin: cert.Leaf, url: "https://x:1/"}, "protocol"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := test.start(3)
			enough := int64(30)
			if test.bytes {
				enough = 500_000
			}
			testnet.Poll(20*time.Second, func() bool { return c.done.Load() >= enough || c.over() }) // what is missing shows below
			err := c.stop()
			switch {
			case test.fails == "" && (err != nil || c.done.Load() < enough):
				t.Errorf("%d done, %v", c.done.Load(), err)
			case test.fails != "" && (err == nil || test.fails != anyError && !strings.Contains(err.Error(), test.fails)):
				t.Errorf("got %v, want an error with %q", err, test.fails)
			}
		})
	}
}

// anyError stands for an error whose text depends on the time at which it occurs.
const anyError = "*"

// over reports whether the client has ended.
func (c *sessionClient) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conns == nil
}

// TestInspectionWorks runs each side with networkproxy in this process and the
// configuration that bench uses. goproxy has a module and a test of its own.
func TestInspectionWorks(t *testing.T) {
	t.Parallel()
	cert, roots := certificate(t)
	took := 50 * time.Millisecond
	if testing.Short() {
		took = 5 * time.Millisecond
	}
	for _, w := range inspectionWorks(cert) {
		for i := range w.sides {
			side := &w.sides[i]
			if side.proxy.name == "goproxy" {
				continue
			}
			// One after another, because each uses all of the machine.
			t.Run(w.name+"/"+side.name, func(t *testing.T) {
				o := startOrigin(t, side.origin)
				s := &setup{dir: t.TempDir(), allowed: new(workload).allowlist(), origin: o.addr()}
				if err := s.choosePorts(); err != nil {
					t.Fatal(err)
				}
				args, err := side.proxy.arguments(s)
				if err != nil {
					t.Fatal(err)
				}
				config := args[slices.Index(args, "-config")+1]
				proxy, err := networkproxy.NewBuilder().ConfigFile(config).UpstreamRoots(roots).NoAdmin().HTTPAddr("127.0.0.1:0").Build()
				if err != nil {
					t.Fatal(err)
				}
				h, err := proxy.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer h.Close()
				if slices.Contains(args, serveAgent) {
					openAgent(t, h, args[len(args)-1])
				}
				trial := &trial{
					ctx: t.Context(), workload: &workload{}, candidate: &side.proxy, origin: o, time: took,
					proxy: &process{dir: s.dir, http: netip.MustParseAddrPort(h.HTTPAddr()), command: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}},
				}
				values, err := side.run(trial)
				for errors.Is(err, errNothingDone) && trial.time < 30*time.Second {
					trial.time *= 2 // the machine is busy
					values, err = side.run(trial)
				}
				if err != nil {
					t.Fatal(err)
				}
				if values[mRate] <= 0 {
					t.Errorf("readings %v, want a rate", values)
				}
			})
		}
	}
}

// openAgent opens a session and does what its command would do.
func openAgent(t *testing.T, h *networkproxy.Handle, file string) {
	t.Helper()
	s, err := h.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	env := s.Environ([]string{tokenVariable + "=" + benchToken})
	err = writeAgent(file, func(name string) string {
		for _, entry := range env {
			if value, ok := strings.CutPrefix(entry, name+"="); ok {
				return value
			}
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPairs: both sides of a pair exist, have the metrics, and get into the table.
func TestPairs(t *testing.T) {
	t.Parallel()
	cert, _ := certificate(t)
	s := &suite{options: new(options), run: &run{Candidates: []string{inspectedName, comparedName}, Subject: inspectedName, Base: comparedName}}
	for _, w := range inspectionWorks(cert) {
		means := make(map[string]readings)
		for i, side := range w.sides {
			means[side.name] = readings{mRate: 10 + float64(i), mCPU: 20 + float64(i)}
		}
		before := len(s.run.Figures)
		s.addPairs(&w, 0, means)
		if got := len(s.run.Figures) - before; got != 2*len(w.pairs) {
			t.Errorf("%s: %d figures, want %d", w.name, got, 2*len(w.pairs))
		}
		delete(means, w.pairs[0].base)
		s.addPairs(&w, 1, means)
		for _, f := range s.run.Figures {
			if f.Work == w.pairs[0].title && len(f.Readings[inspectedName]) != 1 {
				t.Errorf("%s has readings without the other side", f.Work)
			}
		}
	}
	var table strings.Builder
	if err := s.run.writeTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kept HTTP/1.1, to plain requests", "≥ ×0.67 met", "kept HTTP/2, to HTTP/1.1", "≥ ×0.50 met", "fresh connections, to goproxy", "≥ ×1.00 met"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}

func TestInspectionOptions(t *testing.T) {
	t.Parallel()
	if o, err := parseOptions([]string{"-inspection"}); err != nil || !o.inspect {
		t.Errorf("-inspection: %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-inspection", "-fence"}, {"-inspection", "-peer", "squid"}, {"-inspection", "-svg", "x"}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// TestRepeats: a measurement in which nothing was done is repeated, and other errors are
// not.
func TestRepeats(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		results []error
		calls   int
		fails   bool
	}{
		{"work", []error{nil}, 1, false},
		{"nothing, then work", []error{errNothingDone, nil}, 2, false},
		{"nothing three times", []error{errNothingDone, errNothingDone, errNothingDone}, 3, true},
		{"failure", []error{net.ErrClosed}, 1, true},
		{"nothing, then a failure", []error{errNothingDone, net.ErrClosed}, 2, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			w := &workload{run: func(*trial) (readings, error) {
				calls++
				return readings{mRate: 1}, test.results[calls-1]
			}}
			exited := make(chan struct{})
			inst := &instance{candidate: new(candidate), proxy: &process{exited: exited, log: filepath.Join(t.TempDir(), "none")}}
			_, err := new(suite).measureUndisturbed(t.Context(), w, inst, time.Millisecond)
			if calls != test.calls || (err != nil) != test.fails {
				t.Errorf("%d calls, %v; want %d calls, an error: %t", calls, err, test.calls, test.fails)
			}
		})
	}
}
