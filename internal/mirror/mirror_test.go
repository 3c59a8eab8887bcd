package mirror

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"example.com/networkproxy/internal/hostname"
)

func TestRecordScanner(t *testing.T) {
	t.Parallel()
	record := func(kind byte, content ...byte) []byte {
		return append([]byte{kind, 3, 3, byte(len(content) >> 8), byte(len(content))}, content...)
	}
	hello := record(22, make([]byte, 300)...)
	for _, tt := range []struct {
		name string
		sent []byte
		want byte
	}{
		{"nothing", nil, 0},
		{"a hello", hello, 0},
		{"an alert after the hello", append(hello, record(21, 2, 48)...), 48},
		{"an alert after an empty record", append(record(20), record(21, 2, 42)...), 42},
		{"the last of two alerts", append(record(21, 1, 90), record(21, 2, 46)...), 46},
		{"an encrypted alert", record(21, make([]byte, 26)...), 0},
		{"the bytes of an alert in application data", record(23, 21, 3, 3, 0, 2, 2, 48), 0},
		{"half an alert", record(21, 2, 48)[:6], 0},
	} {
		for size := 1; size <= len(tt.sent)+1; size++ {
			var s recordScanner
			for rest := tt.sent; len(rest) > 0; {
				n := min(size, len(rest))
				s.scan(rest[:n])
				rest = rest[n:]
			}
			if s.alert != tt.want {
				t.Errorf("%s in pieces of %d: alert %d, want %d", tt.name, size, s.alert, tt.want)
			}
		}
	}
}

// TestConfigsOfHosts: clients of a host share a configuration, and with it the keys of
// their tickets. Clients of different hosts never do.
func TestConfigsOfHosts(t *testing.T) {
	t.Parallel()
	var c configCache
	leaf := func(hostname.Host) (*tls.Certificate, error) { return new(tls.Certificate), nil }
	get := func(name, protocol string, alpn bool) *tls.Config {
		host, err := hostname.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		config, err := c.get(host, protocol, alpn, leaf)
		if err != nil {
			t.Fatal(err)
		}
		return config
	}
	first := get("a.test", HTTP2, true)
	if get("a.test", HTTP2, true) != first {
		t.Error("two clients of a host have different configurations")
	}
	for _, other := range []*tls.Config{get("b.test", HTTP2, true), get("a.test", HTTP1, true), get("a.test", HTTP2, false)} {
		if other == first {
			t.Error("another host or protocol has the same configuration")
		}
	}
	for i := range 3 * maxConfigs {
		get(fmt.Sprintf("h%d.test", i), HTTP1, true)
	}
	if len(c.byKey) > maxConfigs {
		t.Errorf("%d configurations are kept, want at most %d", len(c.byKey), maxConfigs)
	}
	failing := errors.New("no certificate")
	host, _ := hostname.Parse("c.test")
	if _, err := c.get(host, HTTP1, true, func(hostname.Host) (*tls.Certificate, error) { return nil, failing }); err != failing {
		t.Errorf("without a certificate: %v", err)
	}
}

// TestNoCertificateForTheHost: the handshake fails, and nothing is relayed instead.
func TestNoCertificateForTheHost(t *testing.T) {
	t.Parallel()
	failing := errors.New("no certificate")
	m := &Mirror{Leaf: func(hostname.Host) (*tls.Certificate, error) { return nil, failing }}
	host, _ := hostname.Parse("a.test")
	ours, theirs := net.Pipe()
	origin, server := net.Pipe()
	server.Close() // the handshake with it fails as well
	done := make(chan error, 1)
	go func() {
		_, err := m.Accept(context.Background(), ours, Options{Host: host, Origin: origin, Check: func(string) error { return nil }})
		ours.Close()
		done <- err
	}()
	client := tls.Client(theirs, &tls.Config{ServerName: "a.test"})
	if err := client.Handshake(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the client got %v, want an alert", err)
	}
	if err := <-done; !errors.Is(err, failing) {
		t.Errorf("Accept: %v, want %v", err, failing)
	}
}
