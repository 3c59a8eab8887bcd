package credential

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"example.com/networkproxy/internal/httprule"
)

// BenchmarkExchange measures a request with a placeholder, and requests without one to a
// host that has no credential.
func BenchmarkExchange(b *testing.B) {
	p := github(b)
	set := NewSet([]*Provider{p})
	var r Registry
	s := r.Open()
	token, err := s.Placeholder(p, "GITHUB_TOKEN", secret, true)
	if err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct{ name, host, auth, cookie string }{
		{"exchanged", "api.test:443", "Bearer " + token, "x"},
		{"elsewhere", "example.com:443", "Bearer " + strings.Repeat("x", 40), "x"},
		{"elsewhere with 2 KiB of cookies", "example.com:443", "Bearer " + strings.Repeat("x", 40), strings.Repeat("0123456789abcdef", 128)},
	} {
		header := http.Header{"Authorization": {bb.auth}, "Accept": {"*/*"}, "User-Agent": {"bench"}, "Accept-Encoding": {"gzip"}, "Cookie": {bb.cookie}}
		q := &Request{Secure: true, Target: target(b, bb.host), HTTP: &httprule.Request{Method: "GET", Target: "/v1/user"}, Session: s}
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Exchange(context.Background(), set, q, header); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMask measures the search for secrets of usual lengths in a short and a long body.
func BenchmarkMask(b *testing.B) {
	for _, bb := range []struct {
		name   string
		secret string
		size   int
	}{
		{"1KiB", secret, 1 << 10},
		{"1MiB", secret, 1 << 20},
		{"1MiB/long", "sk-proj-" + strings.Repeat(secret, 4), 1 << 20},
	} {
		text := make([]byte, bb.size)
		rand.NewChaCha8([32]byte{}).Read(text)
		for i, c := range text {
			text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"[c%64]
		}
		masks := Masks{{bb.secret, mask(bb.secret, bb.secret), newSearch(bb.secret)}}
		buf := make([]byte, 32<<10)
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(bb.size))
			for b.Loop() {
				body := masks.Reader(io.NopCloser(bytes.NewReader(text)))
				for err := error(nil); err == nil; {
					_, err = body.Read(buf)
				}
			}
		})
	}
}
