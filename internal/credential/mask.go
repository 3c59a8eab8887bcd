package credential

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Mask replaces a secret in responses. Both texts have the same length.
type Mask struct {
	secret, text string
	search       *search // nil if the secret is that of one request; it is then made for long bodies only
}

// Format writes no secret.
func (m Mask) Format(f fmt.State, _ rune) { io.WriteString(f, "mask") }

// Masks replace several secrets.
type Masks []Mask

// Text returns s with the masks in place of the secrets.
func (m Masks) Text(s string) string {
	for _, mask := range m {
		s = strings.ReplaceAll(s, mask.secret, mask.text)
	}
	return s
}

// Reader returns a reader of body with the masks in place of the secrets, also where a
// secret is split over several reads. It holds back no byte that cannot be part of a
// secret, so a stream is not delayed.
func (m Masks) Reader(body io.ReadCloser) io.ReadCloser {
	if len(m) == 0 {
		return body
	}
	return &maskedBody{ReadCloser: body, masks: m}
}

// longBody is the length in bytes of a body for which a search is worth its preparation.
const longBody = 64 << 10

// maskedBody is a response body with masks.
type maskedBody struct {
	io.ReadCloser
	masks  Masks
	length int    // of what has arrived
	long   bool   // all masks have a search
	held   []byte // may be the beginning of a secret; shorter than MaxSecret
	err    error  // of the body, when all that it has returned was masked

	// For callers whose buffers are hardly longer than held:
	buf   []byte
	ready []byte // masked, to be returned
}

// Read implements io.Reader. It masks in p, because most responses are too short to be
// worth a buffer of their own.
func (b *maskedBody) Read(p []byte) (int, error) {
	for len(b.ready) == 0 {
		switch {
		case b.err != nil:
			return 0, b.err
		case len(p) == 0:
			return 0, nil
		case len(p) > 2*len(b.held):
			if n := b.fill(p); n > 0 {
				return n, b.err // like the body, so that a short one needs one read
			}
			continue
		case b.buf == nil:
			b.buf = make([]byte, 2*MaxSecret)
		}
		b.ready = b.buf[:b.fill(b.buf)]
	}
	n := copy(p, b.ready)
	b.ready = b.ready[n:]
	return n, nil
}

// fill reads once, and masks what has arrived. It returns the number of bytes in buf that
// are ready to be returned.
func (b *maskedBody) fill(buf []byte) int {
	n := copy(buf, b.held)
	read, err := b.ReadCloser.Read(buf[n:])
	data := buf[:n+read]
	b.err = err
	if b.length += read; b.length >= longBody && !b.long {
		b.prepare()
	}
	for _, m := range b.masks {
		m.apply(data)
	}
	keep := 0
	if err == nil {
		keep = b.masks.partial(data)
	}
	b.held = append(b.held[:0], data[len(data)-keep:]...)
	return len(data) - keep
}

// prepare makes the searches that are not there yet.
func (b *maskedBody) prepare() {
	b.long = true
	b.masks = slices.Clone(b.masks) // others read them
	for i, m := range b.masks {
		if m.search == nil {
			b.masks[i].search = newSearch(m.secret)
		}
	}
}

// apply replaces the secret in data.
func (m Mask) apply(data []byte) {
	if m.search != nil {
		m.search.replace(data, m.text)
		return
	}
	for len(data) >= len(m.secret) {
		i := bytes.IndexByte(data[:len(data)-len(m.secret)+1], m.secret[0])
		if i < 0 {
			return
		}
		data = data[i:]
		done := 1
		if string(data[:len(m.secret)]) == m.secret { // bytes.Index would need a copy of the secret
			done = copy(data, m.text)
		}
		data = data[done:]
	}
}

// partial returns the length of the longest end of data that is the beginning of a
// secret.
func (m Masks) partial(data []byte) int {
	longest := 0
	for _, mask := range m {
		end := data[max(0, len(data)-len(mask.secret)+1):]
		for len(end) > longest {
			if i := bytes.IndexByte(end, mask.secret[0]); i < 0 {
				break
			} else if end = end[i:]; len(end) > longest && strings.HasPrefix(mask.secret, string(end)) {
				longest = len(end)
				break
			}
			end = end[1:]
		}
	}
	return longest
}
