// As much HTTP as a client needs that knows what it asked for: where the head
// of an answer ends, and how much comes after it.

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// untilClose is the length of content that ends with the connection.
const untilClose = -1

// head is what a client must know of an answer's head.
type header struct {
	status int
	length int64 // of the content, or untilClose
	close  bool  // the connection is not used again
}

var headerEnd = []byte("\r\n\r\n")

// parseHeader reads the head at the beginning of b and returns its size, or 0 if
// b does not hold all of it. connect says that the request was CONNECT, whose
// successful answers have no content (RFC 9110 section 9.3.6).
func parseHeader(b []byte, connect bool) (h header, size int, err error) {
	end := bytes.Index(b, headerEnd)
	if end < 0 {
		return header{}, 0, nil
	}
	status, fields, _ := bytes.Cut(b[:end], headerEnd[:2])
	if len(status) < len("HTTP/1.1 200") || !bytes.HasPrefix(status, []byte("HTTP/1.")) {
		return header{}, 0, fmt.Errorf("not an answer of HTTP/1: %.40q", status)
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
			return header{}, 0, errors.New("the answer has a transfer encoding, which this client does not read")
		}
	}
	if connect && h.status/100 == 2 {
		h.length = 0
	}
	return h, end + len(headerEnd), nil
}

func equalFold(b []byte, s string) bool { return len(b) == len(s) && bytes.EqualFold(b, []byte(s)) }

// countHeaders counts the heads that end in b. matched is how much of the end of
// one the bytes before b had; the new value is returned with the count.
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
