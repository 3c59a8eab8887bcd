// The content of a request as a handler reads it.

package http1

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// requestBody is a request's Body. Its first read sends the 100 that a client
// waits for, and its end lets the watch for the client's leaving begin.
type requestBody struct {
	w       *response
	body    io.ReadCloser // of http.ReadRequest
	expects bool          // the client waits for 100 (RFC 9110 section 10.1.1)

	mu     sync.Mutex
	ended  bool // EOF or an error was seen
	closed bool

	broken atomic.Bool // an error other than EOF was seen: nobody knows where a next request would start
}

// errBodyClosed is what a read returns after the answer has ended.
var errBodyClosed = errors.New("http1: the request's content was read after its answer had ended")

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyClosed
	}
	if b.expects && !b.ended {
		b.w.sendContinue()
	}
	n, err := b.body.Read(p)
	if err != nil && err != io.EOF {
		err = Unquoted(err)
	}
	if err != nil && !b.ended {
		b.ended = true
		if err == io.EOF {
			b.w.conn.watch.arm()
		} else {
			b.broken.Store(true)
		}
	}
	return n, err
}

// none reports a request without content.
func (b *requestBody) none() bool { return b.body == http.NoBody }

// Close forbids further reads. What is left of the content is dealt with when
// the answer ends.
func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// drain reads what the handler has left, within bounds, and reports whether
// the next request starts after it.
func (b *requestBody) drain() bool {
	if !b.mu.TryLock() {
		// Someone still reads, for an answer that did not wait for all of
		// the content. There is no way to tell where the next request starts.
		b.w.conn.SetReadDeadline(time.Unix(1, 0))
		b.mu.Lock()
		defer b.mu.Unlock()
		b.closed = true
		return false
	}
	defer b.mu.Unlock()
	b.closed = true
	if b.ended {
		return !b.broken.Load()
	}
	if b.expects && !b.w.continued() {
		return false // the client may send it or not: there is no telling
	}
	b.ended = true
	n, err := io.CopyN(io.Discard, b.body, lingerBytes)
	return err == io.EOF && n < lingerBytes
}

func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Expect"), "100-continue")
}
