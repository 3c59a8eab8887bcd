// The answer to a request as a handler writes it.

package http1

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// newWriter is the http.ResponseWriter of one request. Like net/http's it is
// for one goroutine, except that reading the request may go on in another.
type responseWriter struct {
	conn     *conn
	req      *http.Request
	body     requestBody
	header   http.Header
	hijacked bool

	status      int // of the final answer; 0 before
	framing     framing
	remaining   int64   // of a Content-Length, what is still to be written
	close       bool    // the connection ends with this answer, perhaps because the client asked for it
	writeErr    error   // of a write: nothing more goes out
	trailer     []Field // of RelayTrailer
	handlerDone bool    // the handler has returned, or has given the whole response: it reads no more content
	largeHeader bool    // the header has had more fields than most; a map does not shrink

	mu      sync.Mutex // guards what others than the handler may write
	sent100 bool
	begun   bool // the final head is being written: too late for a 100
	probed  int  // how much of statusPrefix has been sent ahead

	writes atomic.Uint32 // counts the begins and ends of writes: odd while one is under way
}

// statusPrefix begins every response.
const statusPrefix = "HTTP/1.1 "

// livenessCheck sends a byte of the response that is to come, if it is time for one:
// the client has ended its stream so long ago. It reports whether the final
// newWriter has begun; it has no byte to send then.
func (w *responseWriter) sendProbe(since time.Duration) (begun bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun || w.probed == len(probeTimes) || since < probeTimes[w.probed] {
		return w.begun, nil
	}
	if _, err = io.WriteString(w.conn.Conn, statusPrefix[w.probed:w.probed+1]); err == nil {
		w.probed++
	}
	return false, err
}

// writeStatusLine writes a status line, without what has been sent of it. w.mu is
// held, or the response has begun.
func (w *responseWriter) writeStatusLine(status int, reason string) {
	w.conn.bw.WriteString(statusPrefix[w.probed:])
	w.probed = 0
	writeStatusAfterVersion(w.conn.bw, status, reason)
}

// flush sends what has been written.
func (w *responseWriter) flush() {
	w.writes.Add(1)
	w.recordErr(w.conn.bw.Flush())
	w.writes.Add(1)
}

// init makes w the answer to r. What the last answer leaves of a header is
// used again.
func (w *responseWriter) init(c *conn, r *http.Request) {
	header := w.header
	clear(header)
	*w = responseWriter{conn: c, req: r, header: header, close: r.Close} // a handler may change r
	w.body = requestBody{w: w, body: r.Body, remaining: r.ContentLength, expectsContinue: r.ProtoAtLeast(1, 1) && expectsContinue(r)}
}

// framing is how the end of an answer's content is told (RFC 9112 section 6).
type framing uint8

const (
	framedNone    framing = iota // there is no content
	framedLength                 // by Content-Length
	framedChunked                // by the chunked coding
	framedClose                  // by the end of the connection
)

func (w *responseWriter) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader takes the status, and the header as it is now. An interim one
// goes out at once, the final one with the first content.
func (w *responseWriter) WriteHeader(status int) {
	switch {
	case w.hijacked || w.status != 0:
	case status >= 100 && status < 200 && status != http.StatusSwitchingProtocols:
		w.writeInformational(status)
	default:
		w.status = status
		w.decideFraming()
		w.writeFinalHeader()
	}
}

func (w *responseWriter) writeInformational(status int) {
	if !w.req.ProtoAtLeast(1, 1) {
		return // HTTP/1.0 knows no interim answers (RFC 9110 section 15.2)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if status == http.StatusContinue {
		if w.sent100 {
			return
		}
		w.sent100 = true
	}
	w.noteHeaderSize()
	bw := w.conn.bw
	w.writeStatusLine(status, reasonPhrase(status))
	writeFields(bw, w.header, skipsInInformational)
	bw.WriteString("\r\n")
	w.recordErr(bw.Flush())
}

// sendContinue asks the client for the content that it holds back.
func (w *responseWriter) sendContinue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent100 || w.begun {
		return
	}
	w.sent100 = true
	bw := w.conn.bw
	w.writeStatusLine(http.StatusContinue, "Continue")
	bw.WriteString("\r\n")
	bw.Flush() // an error shows in the answer as well
}

// beginFinal makes it too late for a 100. It reports whether it was the first
// to do so.
func (w *responseWriter) beginFinal() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := !w.begun
	w.begun = true
	return first
}

func (w *responseWriter) sentContinue() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent100
}

// Responder is what the ResponseWriter of a [Server] can do beyond those of
// net/http.
type Responder interface {
	// Respond gives a whole answer at once, for less than it costs by way of a
	// header map: what Header holds does not go out. Date, Content-Length and
	// Connection are Respond's to write; a field Connection with the value
	// "close" ends the connection behind the answer. status is one that may have
	// content, and content is not kept. It does nothing where an answer has
	// begun or the connection was hijacked.
	Respond(status int, fields []Field, content []byte)
}

// Respond implements Responder.
func (w *responseWriter) Respond(status int, fields []Field, body []byte) {
	if w.hijacked || !w.beginFinal() {
		return
	}
	w.status, w.framing = status, framedLength
	if w.req.Method == http.MethodHead {
		w.framing = framedNone
	}
	w.handlerDone = true
	bw := w.conn.bw
	w.writeStatusLine(status, reasonPhrase(status))
	asked := false
	for i := range fields {
		if fields[i].Name == "Connection" {
			asked = asked || fields[i].Value == "close"
			continue
		}
		writeField(bw, fields[i])
	}
	w.decideClose(asked)
	bw.WriteString(w.conn.server.date.fieldLine())
	bw.WriteString("Content-Length: ")
	bw.Write(strconv.AppendInt(bw.AvailableBuffer(), int64(len(body)), 10))
	bw.WriteString("\r\n")
	w.endHeader()
	if w.framing == framedLength {
		_, err := bw.Write(body)
		w.recordErr(err)
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if w.hijacked {
		return 0, http.ErrHijacked
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.writeErr != nil:
		return 0, w.writeErr
	case len(p) == 0:
		return 0, nil
	case w.framing == framedNone:
		return 0, http.ErrBodyNotAllowed
	case w.framing == framedLength && int64(len(p)) > w.remaining:
		return 0, http.ErrContentLength
	}
	bw := w.conn.bw
	if w.framing == framedChunked {
		bw.WriteString(strconv.FormatInt(int64(len(p)), 16))
		bw.WriteString("\r\n")
	}
	w.writes.Add(1)
	n, err := bw.Write(p)
	if w.framing == framedChunked {
		bw.WriteString("\r\n")
	}
	w.writes.Add(1)
	w.remaining -= int64(n)
	w.recordErr(err)
	return n, err
}

// FlushError is http.ResponseController's Flush.
func (w *responseWriter) FlushError() error {
	if w.hijacked {
		return http.ErrHijacked
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.writeErr == nil {
		w.flush()
	}
	return w.writeErr
}

// EnableFullDuplex is http.ResponseController's; it always is.
func (w *responseWriter) EnableFullDuplex() error { return nil }

// finish ends the answer and reports whether the connection can be used for
// another request.
func (w *responseWriter) finish() (reusable bool) {
	w.handlerDone = true
	if w.status == 0 {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
	}
	bw := w.conn.bw
	if w.framing == framedChunked {
		bw.WriteString("0\r\n")
		w.writeTrailer()
		bw.WriteString("\r\n")
	}
	if w.writeErr == nil {
		w.conn.server.fairness.yield()
		w.flush()
	}
	if w.writeErr != nil || w.framing == framedLength && w.remaining > 0 {
		return false // only a cut connection tells that content is missing
	}
	w.conn.watcher.end() // from here on the connection is read for what comes next
	if w.close || !w.body.skipRest() {
		w.body.stopReading()
		w.conn.linger()
		return false
	}
	return true
}

func (w *responseWriter) recordErr(err error) {
	if w.writeErr == nil {
		w.writeErr = err
	}
}
