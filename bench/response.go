// A minimal parser for HTTP responses: it finds the end of the header and the length
// of the body.

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// untilClose is the length of a body that ends with the connection.
const untilClose = -1

// header is the part of a response header that the client needs.
type header struct {
	status int
	length int64 // of the body, or untilClose
	close  bool  // the connection cannot be reused
}

var headerEnd = []byte("\r\n\r\n")

// parseHeader parses the header at the start of b and returns its size, or 0 if it
// is incomplete. If connect is set, the request was CONNECT, whose successful
// responses have no body (RFC 9110 section 9.3.6).
func parseHeader(b []byte, connect bool) (h header, size int, err error) {
	end := bytes.Index(b, headerEnd)
	if end < 0 {
		return header{}, 0, nil
	}
	status, fields, _ := bytes.Cut(b[:end], headerEnd[:2])
	if len(status) < len("HTTP/1.1 200") || !bytes.HasPrefix(status, []byte("HTTP/1.")) {
		return header{}, 0, fmt.Errorf("not an HTTP/1 response: %.40q", status)
	}
	if h.status, err = strconv.Atoi(string(status[9:12])); err != nil {
		return header{}, 0, fmt.Errorf("no status code in %.40q", status)
	}
	h.length = untilClose
	h.close = status[7] == '0'
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, headerEnd[:2])
		name, value, _ := bytes.Cut(field, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case equalFold(name, "Content-Length"):
			if h.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || h.length < 0 {
				return header{}, 0, fmt.Errorf("Content-Length is %.40q", value)
			}
		case equalFold(name, "Connection"):
			h.close = equalFold(value, "close")
		case equalFold(name, "Transfer-Encoding"):
			return header{}, 0, errors.New("the response has a transfer encoding, which this client does not support")
		}
	}
	if connect && h.status/100 == 2 {
		h.length = 0
	}
	return h, end + len(headerEnd), nil
}

func equalFold(b []byte, s string) bool { return len(b) == len(s) && bytes.EqualFold(b, []byte(s)) }

// countHeaders returns the number of headers that end in b. matched is the number of
// bytes of an empty line at the end of the input before b. newMatched is the value
// for the next call.
func countHeaders(matched int, b []byte) (newMatched, n int) {
	for _, c := range b {
		switch {
		case c == headerEnd[matched]:
			if matched++; matched == len(headerEnd) {
				matched = 0
				n++
			}
		case c == '\r':
			matched = 1
		default:
			matched = 0
		}
	}
	return matched, n
}
