// The header, framing and trailer section of a response.

package http1

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// decideFraming chooses how the body ends. The status must be known.
func (w *responseWriter) decideFraming() {
	h := w.Header()
	length, err := int64(-1), error(nil)
	if values := h["Content-Length"]; len(values) > 0 {
		length, err = strconv.ParseInt(values[0], 10, 64)
	}
	switch {
	case w.req.Method == http.MethodHead, w.status == http.StatusNoContent, w.status == http.StatusNotModified, w.status < 200:
		w.framing = framedNone
	case err == nil && length >= 0:
		w.framing, w.remaining = framedLength, length
	case w.req.ProtoAtLeast(1, 1):
		w.framing = framedChunked
	default:
		w.framing, w.close = framedClose, true
	}
	if w.framing == framedChunked || w.framing == framedClose || w.status == http.StatusNoContent || w.status < 200 {
		h.Del("Content-Length") // RFC 9110 section 8.6
	}
	w.decideClose(listsClose(h["Connection"]))
}

// decideClose decides whether the connection ends with this response. It must
// be called before the header is written, because the header tells the client
// (RFC 9112 section 9.6). asked means that the handler wants the connection
// closed.
func (w *responseWriter) decideClose(asked bool) {
	w.close = w.close || asked || w.conn.server.draining.Load() || w.body.preventsReuse(w.handlerDone)
}

// writeFinalHeader writes the header of the final response. It does nothing
// after the first call.
func (w *responseWriter) writeFinalHeader() {
	if !w.beginFinal() {
		return
	}
	w.noteHeaderSize()
	bw := w.conn.bw
	w.writeStatusLine(w.status, reasonPhrase(w.status))
	writeFields(bw, w.header, skipsInFinal)
	if date, set := w.header["Date"]; !set || date != nil && len(date) == 0 {
		bw.WriteString(w.conn.server.date.fieldLine())
	}
	if w.framing == framedChunked {
		bw.WriteString("Transfer-Encoding: chunked\r\n")
	}
	w.endHeader()
}

// endHeader writes the Connection field if one is needed, and the empty line.
func (w *responseWriter) endHeader() {
	bw := w.conn.bw
	switch {
	case w.close:
		bw.WriteString("Connection: close\r\n")
	case !w.req.ProtoAtLeast(1, 1):
		bw.WriteString("Connection: keep-alive\r\n")
	}
	_, err := bw.WriteString("\r\n")
	w.recordErr(err)
}

// noteHeaderSize records whether the header map has grown large.
func (w *responseWriter) noteHeaderSize() {
	w.largeHeader = w.largeHeader || len(w.header) > usualFields
}

// writeTrailer writes the fields of RelayTrailer, the fields announced in
// Trailer, and those set with [http.TrailerPrefix].
func (w *responseWriter) writeTrailer() {
	w.noteHeaderSize()
	bw := w.conn.bw
	for _, f := range w.trailer {
		writeField(bw, f)
	}
	for name, values := range w.header {
		if plain, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			writeValues(bw, plain, values)
		}
	}
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			writeValues(bw, name, w.header[name])
		}
	}
}

// skipsInFinal reports whether a field of the handler's header is left out of
// the header of a final response.
func skipsInFinal(name string, header http.Header) bool {
	switch name {
	case "Connection", "Transfer-Encoding":
		return true // written by the server
	}
	if strings.HasPrefix(name, http.TrailerPrefix) {
		return true
	}
	announced := header["Trailer"]
	return announced != nil && listsContain(announced, name)
}

// skipsInInformational is skipsInFinal for an informational response. It has
// no body and must not announce a length (RFC 9110 section 8.6).
func skipsInInformational(name string, _ http.Header) bool {
	switch name {
	case "Connection", "Transfer-Encoding", "Content-Length", "Trailer":
		return true
	}
	return false
}
