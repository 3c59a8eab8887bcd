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
// waits for. While a read is under way, the client is not watched: the read
// notices that it leaves.
type requestBody struct {
	w               *responseWriter
	body            io.ReadCloser // decodes the transfer coding
	expectsContinue bool          // the client waits for 100 (RFC 9110 section 10.1.1)

	mu        sync.Mutex
	remaining int64 // of the content, what has not been read; -1 where its length is not known
	ended     bool  // EOF or an error was seen
	closed    bool

	broken atomic.Bool // an error other than EOF was seen: nobody knows where a next request would start
}

// errBodyClosed is what a read returns once the response has ended.
var errBodyClosed = errors.New("http1: the request's content was read after its answer had ended")

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyClosed
	}
	watch := &b.w.conn.watcher
	watch.pause()
	defer watch.arm()
	if b.expectsContinue && !b.ended {
		b.w.sendContinue()
	}
	n, err := b.body.Read(p)
	b.count(n)
	if err != nil && err != io.EOF {
		err = withoutQuotes(err)
	}
	if err != nil && !b.ended {
		b.ended = true
		if err != io.EOF {
			b.broken.Store(true)
		}
	}
	return n, err
}

// isEmpty reports a request without content.
func (b *requestBody) isEmpty() bool { return b.body == http.NoBody }

// recordErr counts what was read. b.mu is held.
func (b *requestBody) count(n int) {
	if b.remaining >= 0 {
		b.remaining -= int64(n)
	}
}

// Close forbids further reads. What is left of the content is dealt with when
// the response ends.
func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// Content that a handler has not read is read away, within these bounds, so
// that the connection can carry another request.
const (
	drainBytes   = 256 << 10
	drainTimeout = 100 * time.Millisecond
)

// preventsReuse reports whether the connection cannot carry another request,
// because of content that has not been read. It is asked before the head of
// the final response is written, where the client must be told (RFC 9112
// section 9.6). returned says that the handler reads no more: the content is
// then drained here.
func (b *requestBody) preventsReuse(handlerDone bool) bool {
	if b.isEmpty() {
		return false
	}
	if !b.mu.TryLock() {
		return true // it is being read, and nobody knows how long that takes
	}
	defer b.mu.Unlock()
	if b.ended {
		return b.broken.Load()
	}
	watch := &b.w.conn.watcher
	watch.pause()
	defer watch.arm()
	switch {
	case b.expectsContinue && !b.w.sentContinue():
		return true // the client may send it or not: there is no telling
	case b.isBuffered():
		return false
	}
	return !handlerDone || !b.drain()
}

// isBuffered reports whether all of the content is in the buffer. b.mu is held.
func (b *requestBody) isBuffered() bool {
	return b.remaining >= 0 && b.remaining <= int64(b.w.conn.br.Buffered())
}

// drain reads what the handler has left, within bounds, and reports whether
// the next request starts behind it. b.mu is held.
func (b *requestBody) drain() bool {
	b.closed, b.ended = true, true
	if b.remaining > drainBytes {
		b.broken.Store(true)
		return false
	}
	if !b.isBuffered() {
		c := b.w.conn
		c.SetReadDeadline(time.Now().Add(drainTimeout))
		c.hasDeadline = true
		defer c.clearDeadline()
	}
	n, err := io.CopyN(io.Discard, b.body, drainBytes+1)
	b.count(int(n))
	if err != io.EOF {
		b.broken.Store(true)
	}
	return err == io.EOF
}

// skipRest is for the end of a response behind which the connection is to go on.
// It reports whether the next request starts here.
func (b *requestBody) skipRest() bool {
	if b.isEmpty() {
		return true
	}
	if !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	if b.ended {
		b.closed = true
		return !b.broken.Load()
	}
	return b.isBuffered() && b.drain()
}

// stopReading ends all reading of the content.
func (b *requestBody) stopReading() {
	if b.isEmpty() {
		return
	}
	if !b.mu.TryLock() {
		b.w.conn.watcher.cutReads()
		b.mu.Lock()
	}
	b.closed = true
	b.mu.Unlock()
}

func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Expect"), "100-continue")
}
