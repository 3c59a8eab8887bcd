// The http.ResponseWriter of a request.

package http1

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// responseWriter is the http.ResponseWriter of one request. Like net/http's,
// it is for one goroutine, while another may read the request body.
type responseWriter struct {
	conn     *conn
	req      *http.Request
	body     requestBody
	header   http.Header
	hijacked bool

	status      int // of the final response; 0 before it is known
	framing     framing
	remaining   int64   // bytes of the Content-Length that are not written yet
	close       bool    // the connection ends with this response; the client may have asked for it
	writeErr    error   // the first error of a write; nothing is written after it
	trailer     []Field // of RelayTrailer
	handlerDone bool    // the handler reads no more of the body: it has returned or called Respond
	largeHeader bool    // the header map has grown beyond the usual size; maps do not shrink

	mu      sync.Mutex // guards what goroutines other than the handler's may write
	sent100 bool       // 100 (Continue) was sent
	begun   bool       // the final header is being written; no informational response may follow
	probed  int        // number of bytes of statusPrefix that sendProbe has sent

	writes atomic.Uint32 // incremented before and after each write, so odd during a write
}

// statusPrefix is the beginning of every response.
const statusPrefix = "HTTP/1.1 "

// sendProbe sends the next byte of the status line if it is due. since is the
// time since the client ended its stream. It reports whether the final
// response has begun; then there is no byte left to probe with.
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

// writeStatusLine writes a status line without the bytes that sendProbe has
// sent. w.mu must be held, or the response must have begun.
func (w *responseWriter) writeStatusLine(status int, reason string) {
	w.conn.bw.WriteString(statusPrefix[w.probed:])
	w.probed = 0
	writeStatusAfterVersion(w.conn.bw, status, reason)
}

// flush sends the buffered output.
func (w *responseWriter) flush() {
	w.writes.Add(1)
	w.recordErr(w.conn.bw.Flush())
	w.writes.Add(1)
}

// init prepares w for the response to r. It uses the header map of the
// previous response again.
func (w *responseWriter) init(c *conn, r *http.Request) {
	header := w.header
	clear(header)
	*w = responseWriter{conn: c, req: r, header: header, close: r.Close} // now, because the handler may change r
	w.body = requestBody{w: w, body: r.Body, remaining: r.ContentLength, expectsContinue: r.ProtoAtLeast(1, 1) && expectsContinue(r)}
}

// framing is the way in which the end of a body is marked (RFC 9112 section
// 6).
type framing uint8

const (
	framedNone    framing = iota // no body
	framedLength                 // Content-Length
	framedChunked                // chunked transfer coding
	framedClose                  // end of the connection
)

func (w *responseWriter) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter. An informational response is
// sent at once; a final header is sent together with the body.
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
		return // HTTP/1.0 has no informational responses (RFC 9110 section 15.2)
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

// sendContinue sends 100 (Continue) unless it was sent already or is too late.
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
	bw.Flush() // the final response reports the error
}

// beginFinal marks the final response as begun, after which no 100 can be
// sent. It reports whether this was the first call.
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

// Responder is implemented by the ResponseWriter of a [Server].
type Responder interface {
	// Respond writes a whole response. It costs less than a header map; the
	// fields in Header are not sent. It writes Date, Content-Length and
	// Connection itself. A field Connection with the value "close" ends the
	// connection after the response. The status must allow a body. Respond
	// does not keep body. It does nothing if a response has begun or the
	// connection was hijacked.
	Respond(status int, fields []Field, body []byte)
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

// FlushError implements the Flush method of http.ResponseController.
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

// EnableFullDuplex does nothing, because full duplex is always enabled.
func (w *responseWriter) EnableFullDuplex() error { return nil }

// finish ends the response and reports whether the connection can serve
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
		return false // only closing the connection tells the client that the body is incomplete
	}
	w.conn.watcher.end() // reads from here on are for the next request
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
