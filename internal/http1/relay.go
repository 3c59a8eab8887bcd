// Responses of origin servers, written as they came.

package http1

import (
	"net/http"
)

// Relayer is implemented by the ResponseWriter of a [Server]. It writes an
// origin server's response with its reason phrase and with its fields in their
// order and spelling, which http.ResponseWriter cannot, and needs no header
// map. The fields in Header are not sent.
type Relayer interface {
	// RelayHeader writes the header of the final response. The fields must not
	// concern the connection (RFC 9110 section 7.6.1). length is the number of
	// bytes that Write gets next, or -1 if it is not known; it is ignored if
	// the response has no body. A Content-Length field is written only if it
	// is correct, with the value of length. RelayHeader does nothing if a
	// response has begun or the connection was taken over.
	RelayHeader(status int, reason string, fields []Field, length int64)

	// RelayInformational sends an informational response (RFC 9110 section
	// 15.2) at once.
	RelayInformational(status int, reason string, fields []Field)

	// RelayTrailer sets the trailer section, which is sent after a chunked
	// body. It must be called before the handler returns, and the fields must
	// not change until then.
	RelayTrailer(fields []Field)
}

// RelayHeader implements Relayer.
func (w *responseWriter) RelayHeader(status int, reason string, fields []Field, length int64) {
	if w.hijacked || w.status != 0 {
		return
	}
	w.status = status
	switch {
	case w.req.Method == http.MethodHead, status == http.StatusNoContent, status == http.StatusNotModified:
		w.framing = framedNone
	case length >= 0:
		w.framing, w.remaining = framedLength, length
	case w.req.ProtoAtLeast(1, 1):
		w.framing = framedChunked
	default:
		w.framing, w.close = framedClose, true
	}
	w.decideClose(false)
	if !w.beginFinal() {
		return
	}
	bw := w.conn.bw
	w.writeStatusLine(status, reason)
	lengthWritten := false
	for i := range fields {
		f := &fields[i]
		switch kindOf(f.Name) {
		case fieldConnection, fieldTransferEncoding:
			continue // written by the server
		case fieldContentLength:
			switch {
			case w.framing == framedLength && !lengthWritten:
				writeIntField(bw, f.Name, w.remaining)
				lengthWritten = true
			case w.framing == framedNone && status != http.StatusNoContent: // RFC 9110 section 8.6
				writeField(bw, *f)
			}
			continue
		}
		writeField(bw, *f)
	}
	switch {
	case w.framing == framedChunked:
		bw.WriteString("Transfer-Encoding: chunked\r\n")
	case w.framing == framedLength && !lengthWritten:
		writeIntField(bw, "Content-Length", w.remaining)
	}
	w.endHeader()
}

// RelayInformational implements Relayer.
func (w *responseWriter) RelayInformational(status int, reason string, fields []Field) {
	if w.hijacked || !w.req.ProtoAtLeast(1, 1) {
		return // HTTP/1.0 has no informational responses
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun {
		return
	}
	if status == http.StatusContinue {
		if w.sent100 {
			return
		}
		w.sent100 = true
	}
	bw := w.conn.bw
	w.writeStatusLine(status, reason)
	for i := range fields {
		switch kindOf(fields[i].Name) {
		case fieldConnection, fieldTransferEncoding, fieldContentLength, fieldTrailer:
			continue // RFC 9110 section 8.6
		}
		writeField(bw, fields[i])
	}
	bw.WriteString("\r\n")
	w.recordErr(bw.Flush())
}

// RelayTrailer implements Relayer.
func (w *responseWriter) RelayTrailer(fields []Field) { w.trailer = fields }
