package httprule

// This file checks the body of a fetch of git without reading more than its first
// line.

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Content is what the body of a request must be.
type Content uint8

const (
	// ContentAny is every body. It is not read.
	ContentAny Content = iota
	// ContentGitFetch is a request of git for objects or references.
	ContentGitFetch
	// ContentLFSDownload is a request of Git LFS for the addresses of objects to
	// download.
	ContentLFSDownload
)

// String returns what the body must be, in words.
func (c Content) String() string {
	switch c {
	case ContentGitFetch:
		return "a fetch of git"
	case ContentLFSDownload:
		return "a download of Git LFS"
	}
	return "any content"
}

// ContentError says that a body is not what it must be. It does not quote the
// body.
type ContentError struct {
	// Content is what the body must be.
	Content Content
	// Problem describes the difference.
	Problem string
}

// Error returns the problem as one line.
func (e *ContentError) Error() string {
	return "the body is not " + e.Content.String() + ": " + e.Problem
}

const (
	// maxFirstLine is the longest first pkt-line in bytes, with its length. Those of
	// git have about 300: names of capabilities.
	maxFirstLine = 1 << 10
	// maxHeld limits how much of a compressed body is read for its first line. The
	// decompressor hands out nothing until it has a window of 32 KiB.
	maxHeld = 64 << 10
	// maxLFS limits the body of a request of Git LFS. It lists 100 objects of about
	// 100 bytes.
	maxLFS = 1 << 20
)

// Check reads as much of body as it needs, and reports whether it is c. A nil body
// is empty. It returns a reader of the whole body, which yields the bytes that were
// read and then the rest of body, unchanged.
//
// Of a fetch it reads the first pkt-line, at most 1 KiB, or at most 64 KiB if the
// body is compressed. The body may be in the coding gzip. A request of Git LFS is
// read to its end, at most 1 MiB, and may have no coding. Check blocks while body
// does. It starts no goroutine.
//
// The error is a *[ContentError] if the body is something else, and otherwise that
// of body.
func (c Content) Check(header http.Header, body io.Reader) (replay io.Reader, err error) {
	if body == nil {
		body = http.NoBody
	}
	if c == ContentAny {
		return body, nil
	}
	gzipped, problem := contentCoding(header)
	if problem == "" && gzipped && c == ContentLFSDownload {
		problem = "it is compressed, which Git LFS does not do"
	}
	if problem != "" {
		return nil, &ContentError{c, problem}
	}
	held := &holder{body: body, limit: maxHeld}
	if c == ContentLFSDownload {
		held.limit = maxLFS + 1
		problem = lfsProblem(held)
	} else {
		problem = fetchProblem(held, gzipped)
	}
	if held.err != nil && held.err != io.EOF {
		return nil, fmt.Errorf("reading the body of the request: %w", held.err)
	}
	if problem != "" {
		return nil, &ContentError{c, problem}
	}
	return io.MultiReader(bytes.NewReader(held.data), body), nil
}

// contentCoding returns whether the body is in the coding gzip, and the problem
// with any other coding (RFC 9110 section 8.4).
func contentCoding(header http.Header) (gzipped bool, problem string) {
	found := 0
	for name, values := range header {
		if !isField(name, "content-encoding") {
			continue
		}
		for _, value := range values {
			found++
			gzipped = strings.EqualFold(strings.Trim(value, " \t"), "gzip")
			if !gzipped {
				return false, "its Content-Encoding is not gzip"
			}
		}
	}
	if found > 1 {
		return false, "it has more than one Content-Encoding"
	}
	return gzipped, ""
}

// errHeld is the error of a holder that has reached its limit.
var errHeld = errors.New("too much to hold")

// holder reads a body and holds what it has read.
type holder struct {
	body  io.Reader
	limit int    // of data, in bytes
	data  []byte // read so far
	next  int    // where ReadByte and Read go on in data
	err   error  // of body
}

// fill reads from body until data holds want bytes, body ends, or the limit is
// reached. It reports whether data holds them.
func (h *holder) fill(want int) bool {
	for len(h.data) < want && h.err == nil && want <= h.limit {
		// Read no more than wanted, at least 512 bytes at a time: the rest of body
		// need not be there yet, and Read returns what is.
		space := min(max(want-len(h.data), 512), h.limit-len(h.data))
		data := append(h.data, make([]byte, space)...)
		n, err := h.body.Read(data[len(h.data):])
		h.data, h.err = data[:len(h.data)+n], err
	}
	return len(h.data) >= want
}

// Read implements [io.Reader] for the decompressor.
func (h *holder) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if !h.fill(h.next + 1) {
		return 0, h.end()
	}
	n := copy(b, h.data[h.next:])
	h.next += n
	return n, nil
}

// ReadByte implements [io.ByteReader], so that the decompressor reads no more than
// it needs.
func (h *holder) ReadByte() (byte, error) {
	if !h.fill(h.next + 1) {
		return 0, h.end()
	}
	h.next++
	return h.data[h.next-1], nil
}

func (h *holder) end() error {
	if h.err != nil {
		return h.err
	}
	return errHeld
}

// fetchProblem describes why the body is not a fetch of git, or returns the empty
// string.
func fetchProblem(held *holder, gzipped bool) string {
	var body io.Reader = held
	if gzipped {
		r, err := gzip.NewReader(held)
		if err != nil {
			return "it is not in the coding gzip, as its Content-Encoding says"
		}
		body = r
	}
	line := make([]byte, 4, maxFirstLine)
	if _, err := io.ReadFull(body, line); err != nil {
		return "it ends within its first pkt-line"
	}
	length, ok := pktLength(line)
	switch {
	case !ok:
		return "it does not begin with a pkt-line"
	case length == 0: // a flush packet, which git sends alone to log in before a large request
		if _, err := io.ReadFull(body, line[:1]); err != io.EOF {
			return "it begins with a flush packet and goes on"
		}
		return ""
	case length < 4:
		return "it begins with a special pkt-line"
	case length > maxFirstLine:
		return "its first pkt-line is longer than 1 KiB"
	}
	line = line[:length]
	if _, err := io.ReadFull(body, line[4:]); err != nil {
		return "it ends within its first pkt-line"
	}
	if !isFetchLine(string(line[4:])) {
		return `its first pkt-line is none of "want", "shallow", "deepen" and the commands that read`
	}
	return ""
}

// pktLength decodes the length of a pkt-line, four hexadecimal digits that count
// themselves (gitprotocol-common(5), "pkt-line Format").
func pktLength(digits []byte) (length int, ok bool) {
	for _, c := range digits {
		d := unhex(c)
		if d > 0xf {
			return 0, false
		}
		length = length<<4 | int(d)
	}
	return length, true
}

// fetchCommands are the commands of protocol version 2 that read
// (gitprotocol-v2(5)).
var fetchCommands = []string{"command=ls-refs", "command=fetch", "command=object-info", "command=bundle-uri"}

// isFetchLine reports whether line can be the first of a request to git-upload-pack,
// in version 0 and 1 (gitprotocol-pack(5), "Packfile Negotiation") or in version 2.
func isFetchLine(line string) bool {
	line = strings.TrimSuffix(line, "\n")
	for i := range len(line) {
		if line[i] < ' ' || line[i] > '~' {
			return false
		}
	}
	if contains(fetchCommands, line) {
		return true
	}
	keyword, rest, _ := strings.Cut(line, " ")
	switch keyword {
	case "want":
		object, _, _ := strings.Cut(rest, " ") // capabilities follow
		return isObjectID(object)
	case "shallow":
		return isObjectID(rest)
	case "deepen", "deepen-since":
		return isNumber(rest)
	case "deepen-not":
		return rest != ""
	}
	return false
}

// isObjectID reports whether s names an object by SHA-1 or SHA-256.
func isObjectID(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

func isNumber(s string) bool {
	return s != "" && len(s) <= 20 && strings.Trim(s, "0123456789") == ""
}
