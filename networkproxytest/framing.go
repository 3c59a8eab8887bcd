// The corpus of framing cases: bytes that two readers might split into requests
// differently, so that one of them sees a request that the other does not
// (request smuggling).

package networkproxytest

import (
	"fmt"
	"slices"
	"strings"
)

// FramingCase is the input of one client connection and its expected result. In
// its texts, {origin} stands for the host:port of an allowed origin server.
type FramingCase struct {
	Name      string
	Send      string // the bytes that the client sends
	HalfClose bool   // the client then closes its side of the connection

	// Statuses are the expected statuses of the responses, in order. The proxy
	// then closes the connection.
	Statuses []int

	// Forwarded are the requests that the origin must receive, in order, and no
	// others. Each is the request line and the body, as in "POST /1 HTTP/1.1 body".
	Forwarded []string
}

// smuggled is a request that the proxy must refuse because its host is not
// allowed.
const (
	smuggledHost = "denied.invalid"
	smuggled     = "GET http://" + smuggledHost + "/smuggled HTTP/1.1\r\nHost: " + smuggledHost + "\r\nConnection: close\r\n\r\n"
)

const chunked = "Transfer-Encoding: chunked"

// request returns the header of a request to the origin with additional fields.
func request(method, path string, fields ...string) string {
	text := method + " http://{origin}" + path + " HTTP/1.1\r\nHost: {origin}\r\n"
	for _, f := range fields {
		text += f + "\r\n"
	}
	return text + "\r\n"
}

// FramingCases returns the corpus. The caller may modify the result.
func FramingCases() []FramingCase {
	length := fmt.Sprintf("Content-Length: %d", len(smuggled))
	list := []FramingCase{
		{
			Name: "a second request after the first",
			Send: request("GET", "/1") + smuggled, Statuses: []int{200, 403}, Forwarded: []string{"GET /1 HTTP/1.1"},
		},
		{
			Name:     "a request after a refused one",
			Send:     strings.Replace(smuggled, "Connection: close\r\n", "", 1) + request("GET", "/2", "Connection: close"),
			Statuses: []int{403, 200}, Forwarded: []string{"GET /2 HTTP/1.1"},
		},
		{
			Name:     "a refused request whose body is a request",
			Send:     "POST http://" + smuggledHost + "/ HTTP/1.1\r\nHost: {origin}\r\n" + length + "\r\n\r\n" + smuggled + request("GET", "/2", "Connection: close"),
			Statuses: []int{403, 200}, Forwarded: []string{"GET /2 HTTP/1.1"},
		},
		{
			Name:      "a body that is a request",
			Send:      request("POST", "/1", length) + smuggled + request("GET", "/2", "Connection: close"),
			Statuses:  []int{200, 200},
			Forwarded: []string{"POST /1 HTTP/1.1 " + smuggled, "GET /2 HTTP/1.1"},
		},
		{
			Name:     "a GET with a body that is a request",
			Send:     request("GET", "/1", length) + smuggled + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"GET /1 HTTP/1.1 " + smuggled},
		},
		{
			Name: "a request after a length of 0",
			Send: request("POST", "/1", "Content-Length: 0") + smuggled, Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1"},
		},
		{
			Name: "a request after the last chunk",
			Send: request("POST", "/1", chunked) + "5\r\nhello\r\n0\r\n\r\n" + smuggled, Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1 hello"},
		},
		{
			Name:     "chunk extensions, upper-case sizes and leading zeros",
			Send:     request("POST", "/1", chunked) + "005;a=\"b c\"\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n" + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1 hello0123456789"},
		},
		{
			Name:     "an upper-case coding",
			Send:     request("POST", "/1", "TRANSFER-ENCODING: CHUNKED") + "5\r\nhello\r\n0\r\n\r\n" + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1 hello"},
		},
		{
			Name:     "trailers with framing fields",
			Send:     request("POST", "/1", chunked, "Trailer: X-T") + "0\r\nContent-Length: 50\r\nHost: " + smuggledHost + "\r\nTransfer-Encoding: chunked\r\nX-T: 1\r\n\r\n" + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1"},
		},
		{
			Name:     "unannounced and unusual trailers",
			Send:     request("POST", "/1", chunked) + "5\r\nhello\r\n0\r\nX-A : b\r\nX-B: c\r\n d\r\n\r\n" + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1 hello"},
		},
		{
			Name:     "Connection names the length",
			Send:     request("POST", "/1", "Connection: host, content-length", "Content-Length: 5") + "hello" + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1 hello"},
		},
		{
			Name:     "Connection names the coding",
			Send:     request("POST", "/1", "Connection: transfer-encoding", chunked) + "5\r\nhello\r\n0\r\n\r\n" + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1 hello"},
		},
		{
			Name:     "a Host that differs from the target", // the target counts: RFC 9112 section 3.2.2
			Send:     "GET http://{origin}/1 HTTP/1.1\r\nHost: " + smuggledHost + "\r\nX-Forwarded-Host: " + smuggledHost + "\r\n\r\n" + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"GET /1 HTTP/1.1"},
		},
		{
			Name:     "100-continue with an immediate body",
			Send:     request("POST", "/1", "Expect: 100-continue", "Content-Length: 5") + "hello" + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1 hello"},
		},
		{
			Name:     "HTTP/1.0 with keep-alive",
			Send:     "GET http://{origin}/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"GET /1 HTTP/1.1"},
		},
		{
			Name: "HTTP/1.0 without keep-alive",
			Send: "GET http://{origin}/1 HTTP/1.0\r\n\r\n" + smuggled, Statuses: []int{200}, Forwarded: []string{"GET /1 HTTP/1.1"},
		},
		{
			Name: "a request after Connection: close",
			Send: request("GET", "/1", "Connection: close") + smuggled, Statuses: []int{200}, Forwarded: []string{"GET /1 HTTP/1.1"},
		},
		{
			Name: "a request after a refused CONNECT",
			Send: "CONNECT " + smuggledHost + ":443 HTTP/1.1\r\nHost: {origin}\r\n\r\n" + request("GET", "/1"), Statuses: []int{403},
		},
		{
			Name:     "a request inside a tunnel", // the proxy does not read it
			Send:     "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\nGET /1 HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n",
			Statuses: []int{200, 200}, Forwarded: []string{"GET /1 HTTP/1.1"},
		},
		{
			Name:     "an upgrade that the origin ignores",
			Send:     request("GET", "/1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__") + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"GET /1 HTTP/1.1"},
		},
		{
			Name: "empty lines before a request", // RFC 9112 section 2.2
			Send: "\r\n\r\n" + request("GET", "/1") + "\r\n" + smuggled, Statuses: []int{200, 403}, Forwarded: []string{"GET /1 HTTP/1.1"},
		},
		{
			Name:     "framing fields with underscores", // some servers read _ as -
			Send:     request("POST", "/1", "Content_Length: 5", "Transfer_Encoding: chunked") + smuggled,
			Statuses: []int{200, 403}, Forwarded: []string{"POST /1 HTTP/1.1"},
		},
	}
	list = append(list, malformedHeaders()...)
	list = append(list, malformedBodies()...)
	return list
}

// malformedHeaders returns cases with malformed requests. The proxy must send one
// response to each and close the connection without reading further requests.
func malformedHeaders() []FramingCase {
	const five = "5\r\nhello\r\n0\r\n\r\n"
	var list []FramingCase
	for _, f := range []struct {
		name, send string
		status     int
	}{
		{"a length and a coding", request("POST", "/1", "Content-Length: 6", chunked) + "0\r\n\r\nG", 400},
		{"a coding and a length", request("POST", "/1", chunked, "Content-Length: 4") + "5c\r\n", 400},
		{"two lengths", request("POST", "/1", "Content-Length: 5", "Content-Length: 0") + "hello", 400},
		{"the same length twice", request("POST", "/1", "Content-Length: 5", "content-length: 5") + "hello", 400},
		{"a list of lengths", request("POST", "/1", "Content-Length: 5, 5") + "hello", 400},
		{"a length with a sign", request("POST", "/1", "Content-Length: +5") + "hello", 400},
		{"a negative length", request("POST", "/1", "Content-Length: -5") + "hello", 400},
		{"a hexadecimal length", request("POST", "/1", "Content-Length: 0x5") + "hello", 400},
		{"a length with an exponent", request("POST", "/1", "Content-Length: 5e0") + "hello", 400},
		{"a length in full-width digits", request("POST", "/1", "Content-Length: ５") + "hello", 400},
		{"an empty length", request("POST", "/1", "Content-Length:") + "hello", 400},
		{"a length over 64 bits", request("POST", "/1", "Content-Length: 18446744073709551621") + "hello", 400},
		{"a length with a space inside", request("POST", "/1", "Content-Length: 5 5") + "hello", 400},
		{"a space before the colon of a length", request("POST", "/1", "Content-Length : 5") + "hello", 400},
		{"a tab before the colon of a coding", request("POST", "/1", "Transfer-Encoding\t: chunked") + five, 400},
		{"an unknown coding", request("POST", "/1", "Transfer-Encoding: xchunked") + five, 501},
		{"identity", request("POST", "/1", "Transfer-Encoding: identity", "Content-Length: 5") + "hello", 501},
		{"a list of codings", request("POST", "/1", "Transfer-Encoding: gzip, chunked") + five, 501},
		{"chunked twice in a list", request("POST", "/1", "Transfer-Encoding: chunked, chunked") + five, 501},
		{"chunked twice in two lines", request("POST", "/1", chunked, chunked) + five, 400},
		{"two codings in two lines", request("POST", "/1", chunked, "Transfer-Encoding: identity") + five, 501},
		{"a coding with a parameter", request("POST", "/1", "Transfer-Encoding: chunked;q=1") + five, 501},
		{"a quoted coding", request("POST", "/1", "Transfer-Encoding: \"chunked\"") + five, 501},
		{"an empty coding", request("POST", "/1", "Transfer-Encoding:", "Content-Length: 5") + "hello", 501},
		{"a vertical tab before a coding", request("POST", "/1", "Transfer-Encoding: \vchunked") + five, 400},
		{"a coding on a folded line", request("POST", "/1", "Transfer-Encoding:\r\n chunked") + five, 501},
		{"an announced trailer with a framing field", request("POST", "/1", chunked, "Trailer: X-T, Content-Length") + five, 400},
		{"a coding in HTTP/1.0", "POST http://{origin}/1 HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + five, 400},
		{"a folded line", request("GET", "/1", "X-A: b", " Content-Length: 5"), 400},
		{"a folded first line", "GET http://{origin}/1 HTTP/1.1\r\n Host: {origin}\r\n\r\n", 400},
		{"bare LF", "GET http://{origin}/1 HTTP/1.1\nHost: {origin}\n\n", 400},
		{"bare LF in a field", request("GET", "/1", "X-A: b\nContent-Length: 5"), 400},
		{"bare CR in a field", request("GET", "/1", "X-A: b\rContent-Length: 5"), 400},
		{"CR twice", request("GET", "/1", "X-A: b\r"), 400},
		{"NUL in a field", request("GET", "/1", "X-A: b\x00c"), 400},
		{"NUL in a field's name", request("GET", "/1", "X-A\x00: b"), 400},
		{"a field without a name", request("GET", "/1", ": b"), 400},
		{"a field without a colon", request("GET", "/1", "X-A"), 400},
		{"a space in a field's name", request("GET", "/1", "X A: b"), 400},
		{"two Hosts", request("GET", "/1", "Host: "+smuggledHost), 400},
		{"no Host", "GET http://{origin}/1 HTTP/1.1\r\n\r\n", 400},
		{"a Host with a user", "GET http://{origin}/1 HTTP/1.1\r\nHost: {origin}@" + smuggledHost + "\r\n\r\n", 400},
		{"a Host with a path", "GET http://{origin}/1 HTTP/1.1\r\nHost: {origin}/x\r\n\r\n", 400},
		{"HTTP/0.9", "GET http://{origin}/1\r\n\r\n", 400},
		{"two spaces in the request line", "GET  http://{origin}/1 HTTP/1.1\r\nHost: {origin}\r\n\r\n", 400},
		{"a tab in the request line", "GET\thttp://{origin}/1 HTTP/1.1\r\nHost: {origin}\r\n\r\n", 400},
		{"a space after the version", "GET http://{origin}/1 HTTP/1.1 \r\nHost: {origin}\r\n\r\n", 400},
		{"two versions", "GET http://{origin}/1 HTTP/1.1 HTTP/1.1\r\nHost: {origin}\r\n\r\n", 400},
		{"HTTP/1.10", "GET http://{origin}/1 HTTP/1.10\r\nHost: {origin}\r\n\r\n", 505},
		{"HTTP/2.0", "GET http://{origin}/1 HTTP/2.0\r\nHost: {origin}\r\n\r\n", 505},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505},
		{"a TLS ClientHello", "\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03", 400},
		{"SOCKS5", "\x05\x01\x00\r\n\r\n", 400},
		{"an invalid method", "G@T http://{origin}/1 HTTP/1.1\r\nHost: {origin}\r\n\r\n", 400},
		{"a line break in the target", "GET http://{origin}/1\rHost:x HTTP/1.1\r\nHost: {origin}\r\n\r\n", 400},
		{"origin-form", "GET /1 HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n", 400},
		{"a user in the target", "GET http://{origin}@" + smuggledHost + "/1 HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n", 400},
		{"a backslash in the target", "GET http://{origin}\\@" + smuggledHost + "/1 HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n", 400},
		{"a CONNECT with a body", "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\nContent-Length: 5\r\n\r\nhello", 400},
		{"a CONNECT with chunks", "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\nTransfer-Encoding: chunked\r\n\r\n" + five, 400},
		{"an unknown expectation", request("POST", "/1", "Expect: 100-maybe", "Content-Length: 5") + "hello", 417},
		{"an endless header", "GET http://{origin}/1 HTTP/1.1\r\nHost: {origin}\r\n" + strings.Repeat("X-A: b\r\n", 20<<10), 431},
	} {
		list = append(list, FramingCase{Name: f.name, Send: f.send + smuggled, Statuses: []int{f.status}})
	}
	return list
}

// malformedBodies returns cases with an allowed request whose body is malformed.
// The origin may receive the start of it, but must be able to see that it is
// incomplete.
func malformedBodies() []FramingCase {
	var list []FramingCase
	for name, body := range map[string]string{
		"a size with 0x":                 "0x5\r\nhello\r\n0\r\n\r\n",
		"a size with a sign":             "+5\r\nhello\r\n0\r\n\r\n",
		"a negative size":                "-5\r\nhello\r\n0\r\n\r\n",
		"an empty size":                  "\r\nhello\r\n0\r\n\r\n",
		"a size that is not a number":    "five\r\nhello\r\n0\r\n\r\n",
		"a size over 64 bits":            "10000000000000005\r\nhello\r\n0\r\n\r\n",
		"a second size over 64 bits":     "5\r\nhello\r\nfffffffffffffffff\r\n",
		"a chunk longer than its size":   "5\r\nhello you\r\n0\r\n\r\n",
		"a chunk without its end":        "5\r\nhello0\r\n\r\n",
		"a chunk that ends with LF":      "5\r\nhello\n0\r\n\r\n",
		"a size that ends with LF":       "5\nhello\r\n0\r\n\r\n",
		"an extension that ends with LF": "5;a\nhello\r\n0\r\n\r\n",
		"a size that ends with CR":       "5\rhello\r\n0\r\n\r\n",
		"a last chunk that ends with LF": "5\r\nhello\r\n0\n\n",
		"trailers that are not fields":   "5\r\nhello\r\n0\r\nX-A\r\n\r\n",
	} {
		list = append(list, FramingCase{Name: name, Send: request("POST", "/1", chunked) + body + smuggled, Statuses: []int{400}})
	}
	slices.SortFunc(list, func(a, b FramingCase) int { return strings.Compare(a.Name, b.Name) })
	return append(list,
		FramingCase{Name: "chunks without an end", Send: request("POST", "/1", chunked) + "5\r\nhello\r\n", HalfClose: true, Statuses: []int{400}},
		FramingCase{Name: "a chunk cut short", Send: request("POST", "/1", chunked) + "40\r\n" + smuggled[:20], HalfClose: true, Statuses: []int{400}},
		FramingCase{Name: "a body cut short", Send: request("POST", "/1", "Content-Length: 200") + smuggled, HalfClose: true, Statuses: []int{400}},
	)
}
