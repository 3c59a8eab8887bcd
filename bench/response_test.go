package main

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

func TestParseHeader(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		connect    bool
		want       header
		rest       string
		bad        bool
	}{
		{name: "with a length", text: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", want: header{200, 3, false}, rest: "abc"},
		{name: "case and space", text: "HTTP/1.1 403 No\r\ncontent-LENGTH:12 \r\n\r\n", want: header{403, 12, false}},
		{name: "no reason", text: "HTTP/1.1 204\r\nContent-Length: 0\r\n\r\n", want: header{204, 0, false}},
		{name: "closing", text: "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 3\r\n\r\n", want: header{200, 3, true}},
		{name: "HTTP/1.0", text: "HTTP/1.0 200 OK\r\n\r\nabc", want: header{200, untilClose, true}, rest: "abc"},
		{name: "HTTP/1.0 kept", text: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", want: header{200, 1, false}},
		{name: "CONNECT", text: "HTTP/1.1 200 OK\r\n\r\n", connect: true, want: header{200, 0, false}},
		{name: "CONNECT refused", text: "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n", connect: true, want: header{403, 5, false}},
		{name: "not all of it", text: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"},
		{name: "chunked", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bad: true},
		{name: "length below zero", text: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", bad: true},
		{name: "no status", text: "HTTP/1.1 abc OK\r\n\r\n", bad: true},
		{name: "not HTTP", text: "SSH-2.0-OpenSSH_9.2 and more\r\n\r\n", bad: true},
		{name: "nothing", text: "\r\n\r\n", bad: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, size, err := parseHeader([]byte(test.text), test.connect)
			if got != test.want || (err != nil) != test.bad {
				t.Fatalf("got %+v, %v; want %+v", got, err, test.want)
			}
			if size > 0 && test.text[size:] != test.rest {
				t.Errorf("after the header: %q, want %q", test.text[size:], test.rest)
			}
		})
	}
}

// FuzzParseHeader compares parseHeader with net/http.
func FuzzParseHeader(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("HTTP/1.0 403 Forbidden\r\nConnection: keep-alive\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, size, err := parseHeader(b, false)
		if err != nil || size == 0 {
			return
		}
		if !bytes.Equal(b[size-4:size], headerEnd) {
			t.Errorf("the header does not end with an empty line: %q", b[:size])
		}
		want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err == nil && want.StatusCode != got.status {
			t.Errorf("status %d, want %d", got.status, want.StatusCode)
		}
	})
}

func TestCountHeaders(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var text strings.Builder
		for range random.IntN(30) {
			text.WriteString([]string{"\r", "\n", "\r\n", "\r\n\r\n", "x"}[random.IntN(5)])
		}
		want := strings.Count(text.String(), "\r\n\r\n")
		matched, got := 0, 0
		for rest := text.String(); rest != ""; {
			cut := 1 + random.IntN(len(rest))
			var n int
			matched, n = countHeaders(matched, []byte(rest[:cut]))
			got += n
			rest = rest[cut:]
		}
		if got != want {
			t.Fatalf("countHeaders(%q) = %d, want %d", text.String(), got, want)
		}
	}
}
