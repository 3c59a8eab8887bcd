// Comparing the parsers with net/http's.

package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// FuzzRequestHeader compares the request parser with net/http's. A request that
// both accept is the same, has the same body and has one reading: its target,
// host and framing are those in the bytes.
func FuzzRequestHeader(f *testing.F) {
	for _, s := range []string{
		"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://x.example:8080/a/b;c=d,e:@f$&+?q=%zz&a=/?b HTTP/1.1\r\nHost: y\r\nA: b\r\nA:c\r\na: \t d \t\r\nEmpty:\r\n\r\n",
		"POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET",
		"POST http://x? HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: a, Close\r\nconnection: x\r\n\r\nabc",
		"POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
		"0 A: HTTP/1.1\r\nHost:\r\nTransfer-Encoding:Chunked\r\n\r\n0\r\n0:\r\n 0\r0\r\n\r\n",
		"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT /x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n", "\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n", "\x16\x03\x01", "GET http:/://x HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://x:/%2e#f HTTP/1.1\r\nHost: x\r\nPragma: no-cache\r\n\r\n", "GET http://u:p@x/ HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		conn := bytes.NewReader(data)
		header, br, err := readRequestHeader(bufio.NewReaderSize(conn, 16), conn, 1<<10, func() {})
		if err != nil {
			return
		}
		if !bytes.HasSuffix(header, doubleCRLF) || bytes.Count(header, doubleCRLF) != 1 || len(header) > 1<<10+bufferSize {
			t.Fatalf("the header is %q", header)
		}
		x := newExchange(context.Background(), nil, nil)
		text := string(header)
		if x.header.parse(text, 256) != nil {
			return
		}
		after, err := io.ReadAll(br)
		if err != nil {
			t.Fatal(err)
		}
		message := string(after) // includes the header, which was not consumed
		want, wantErr := http.ReadRequest(bufio.NewReader(strings.NewReader(message)))
		ours := bufio.NewReader(strings.NewReader(message))
		ours.Discard(len(text))
		got, err := x.makeRequest(ours, 256, 1<<10)
		if err != nil {
			return
		}
		checkOneReading(t, text, got)
		if errors.As(wantErr, new(*url.Error)) {
			return // escapes are not checked here
		}
		if wantErr != nil {
			t.Fatalf("%q was accepted, but net/http returns: %v", text, wantErr)
		}
		checkURL(t, got, want)
		gotBody, gotErr := io.ReadAll(got.Body)
		wantBody, wantErr := io.ReadAll(want.Body)
		if stricter := gotErr != nil && x.header.chunked; !stricter &&
			(!bytes.Equal(gotBody, wantBody) || (gotErr == nil) != (wantErr == nil) || (got.Body == http.NoBody) != (want.Body == http.NoBody)) {
			t.Errorf("the body of %q is %q, %v; net/http has %q, %v", message, gotBody, gotErr, wantBody, wantErr)
		}
		if gotErr == nil {
			for name, values := range got.Trailer {
				if !slices.Equal(values, want.Trailer[name]) && x.header.chunked && !strings.Contains(message, " :") && !strings.Contains(message, "\t:") {
					t.Errorf("the trailer %q of %q is %q; net/http has %q", name, message, values, want.Trailer[name])
				}
			}
		}
		got = got.WithContext(context.Background())
		got.Body, got.Trailer, got.URL, got.Host = nil, nil, nil, ""
		want.Body, want.Trailer, want.URL, want.Host = nil, nil, nil, ""
		if _, ours := got.Header["Cache-Control"]; !ours {
			delete(want.Header, "Cache-Control") // net/http derives it from Pragma
		}
		if want = want.WithContext(context.Background()); !reflect.DeepEqual(got, want) {
			t.Errorf("%q was parsed as\n%#v, but net/http has\n%#v", text, got, want)
		}
	})
}

// checkURL compares the parts of a URL that the policy uses.
func checkURL(t *testing.T, got, want *http.Request) {
	if got.Method == http.MethodConnect || strings.Contains(got.URL.Host, "%") || want.URL.Host == "" && got.URL.Host == "" {
		return
	}
	if got.URL.Scheme != want.URL.Scheme || got.URL.Host != want.URL.Host || got.URL.RawQuery != want.URL.RawQuery ||
		(got.URL.User == nil) != (want.URL.User == nil) || got.Host != want.Host {
		t.Errorf("%q: the URL is %#v, but net/http has %#v", got.RequestURI, got.URL, want.URL)
	}
}

// checkOneReading compares a request with the lines of its header.
func checkOneReading(t *testing.T, header string, r *http.Request) {
	lines := strings.Split(header, "\r\n")
	if want := r.Method + " " + r.RequestURI + " " + r.Proto; lines[0] != want {
		t.Errorf("%q was read as %q", lines[0], want)
	}
	var length, hosts int
	for _, line := range lines[1:] {
		name, _, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "content-length":
			length++
		case "host":
			hosts++
		}
	}
	if hosts > 1 || length > 1 || length == 1 && len(r.TransferEncoding) > 0 {
		t.Errorf("%q has two readings", header)
	}
}

// FuzzResponse compares the response parser with net/http's.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\nA: b\r\na: c\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\nuntil the end", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 1\n\nabc\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200  OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\na\r\n0\r\nA: b\r\n\r\n", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\nPragma: no-cache\r\n\r\na", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n \r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add("GET", []byte(s))
		f.Add("HEAD", []byte(s))
	}
	f.Fuzz(func(t *testing.T, method string, data []byte) {
		r := &http.Request{Method: method}
		want, wantErr := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), r)
		c := &originConn{transport: &Transport{}, br: bufio.NewReader(bytes.NewReader(data))}
		c.br.Peek(1)
		got, err := new(Response), error(nil)
		remaining := 1 << 20
		text, err := c.readHeader(&remaining)
		if err == nil {
			err = got.parse(text, method, 256)
		}
		if err != nil {
			return
		}
		if wantErr != nil {
			t.Fatalf("%q was accepted, but net/http returns: %v", data, wantErr)
		}
		if got.Status >= 200 {
			c.setBody(got)
		} else {
			got.Body = http.NoBody
		}
		gotBody, gotErr := io.ReadAll(got.Body)
		wantBody, wantErr := io.ReadAll(want.Body)
		if stricter := gotErr != nil && got.chunked; !stricter &&
			(!bytes.Equal(gotBody, wantBody) || (gotErr == nil) != (wantErr == nil) || (got.Body == http.NoBody) != (want.Body == http.NoBody)) {
			t.Errorf("the body of %q is %q, %v; net/http has %q, %v", data, gotBody, gotErr, wantBody, wantErr)
		}
		if got.Status != want.StatusCode || got.minor != min(want.ProtoMinor, 1) || want.ProtoMajor != 1 || got.closes != want.Close ||
			method != http.MethodHead && got.Status >= 200 && got.ContentLength != want.ContentLength {
			t.Errorf("%q was parsed as\n%#v, but net/http has\n%#v", data, got, want)
		}
		header := make(http.Header)
		for _, f := range got.Fields {
			switch name := textproto.CanonicalMIMEHeaderKey(f.Name); name {
			case "Connection", "Transfer-Encoding", "Trailer", "Content-Length", "Cache-Control": // net/http changes these
			default:
				header[name] = append(header[name], f.Value)
			}
		}
		for name, values := range want.Header {
			switch name {
			case "Connection", "Transfer-Encoding", "Trailer", "Content-Length", "Cache-Control":
				continue
			}
			for i := range values {
				values[i] = strings.TrimRight(values[i], " ") // net/http keeps the space of an empty folded line
			}
			if !strings.Contains(name, " ") && !slices.Equal(header[name], values) && !strings.Contains(string(data), " :") {
				t.Errorf("%q: %s is %q, but net/http has %q", data, name, header[name], values)
			}
		}
	})
}
