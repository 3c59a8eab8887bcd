// The response of an origin on its way to a client, with its reason phrase and
// its fields as they came.

package http1

import (
	"net/http"
)

// Relayer is implemented by the ResponseWriter of a [Server]. Its methods
// write what http.ResponseWriter cannot express, and cost no map. What Header
// holds is not written.
type Relayer interface {
	// RelayHeader writes the head of the final response: the reason phrase as it
	// is, and the fields in their order and spelling. Fields must not concern
	// the connection (RFC 9110 section 7.6.1). length is that of the content
	// which Write then gets, or -1 if only its end tells; where the response
	// has no content it is ignored. A Content-Length field is written only if
	// it is true, and with that value. RelayHeader does nothing after a response
	// has begun, or the connection was taken over.
	RelayHeader(status int, reason string, fields []Field, length int64)

	// RelayInformational writes an interim response (RFC 9110 section 15.2) at once.
	RelayInformational(status int, reason string, fields []Field)

	// RelayTrailer sets the trailer section, which follows chunked content. It
	// is called before the handler returns, and fields must remain as they are
	// until then.
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
			continue // the server's own to say
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
		return // HTTP/1.0 has no interim responses
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
