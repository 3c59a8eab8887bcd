// The body of a request, as the handler reads it.

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

// requestBody is the Body of a request. Its first Read sends 100 (Continue) if
// the client waits for it. The watcher pauses during a Read, because the Read
// itself notices a client that disconnects.
type requestBody struct {
	w               *responseWriter
	body            io.ReadCloser // decodes the transfer coding
	expectsContinue bool          // the client waits for 100 (RFC 9110 section 10.1.1)

	mu        sync.Mutex
	remaining int64 // bytes that were not read yet; -1 if the length is not known
	ended     bool  // a Read has returned io.EOF or an error
	closed    bool

	broken atomic.Bool // a Read has returned an error other than io.EOF, so the start of a next request is not known
}

// errBodyClosed is returned by Read after the response has ended.
var errBodyClosed = errors.New("http1: read of a request body after the response has ended")

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyClosed
	}
	watcher := &b.w.conn.watcher
	watcher.pause()
	defer watcher.arm()
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

// isEmpty reports whether the request has no body.
func (b *requestBody) isEmpty() bool { return b.body == http.NoBody }

// count subtracts n bytes that were read. b.mu must be held.
func (b *requestBody) count(n int) {
	if b.remaining >= 0 {
		b.remaining -= int64(n)
	}
}

// Close makes further reads fail. The unread rest is handled when the response
// ends.
func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// Limits of draining. The unread rest of a body is discarded within these
// limits so that the connection can serve another request.
const (
	drainBytes   = 256 << 10
	drainTimeout = 100 * time.Millisecond
)

// preventsReuse reports whether unread parts of the body prevent another
// request on the connection. It must be called before the final header is
// written, because the header tells the client (RFC 9112 section 9.6).
// handlerDone means that the handler reads no more; the body is then drained.
func (b *requestBody) preventsReuse(handlerDone bool) bool {
	if b.isEmpty() {
		return false
	}
	if !b.mu.TryLock() {
		return true // a Read is under way and may take any time
	}
	defer b.mu.Unlock()
	if b.ended {
		return b.broken.Load()
	}
	watcher := &b.w.conn.watcher
	watcher.pause()
	defer watcher.arm()
	switch {
	case b.expectsContinue && !b.w.sentContinue():
		return true // the client may or may not send it
	case b.isBuffered():
		return false
	}
	return !handlerDone || !b.drain()
}

// isBuffered reports whether the whole rest of the body is in the read buffer.
// b.mu must be held.
func (b *requestBody) isBuffered() bool {
	return b.remaining >= 0 && b.remaining <= int64(b.w.conn.br.Buffered())
}

// drain discards the rest of the body within the limits and reports whether
// the next request starts after it. b.mu must be held.
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

// skipRest is called at the end of a response that keeps the connection open.
// It reports whether the connection is positioned at the next request.
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

// stopReading interrupts a Read in another goroutine and makes further reads
// fail.
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
