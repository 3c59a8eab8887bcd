package http1

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// decideFraming says how the content will end, once the status is known.
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

// decideClose decides whether the connection ends with this response. It is
// called before the head has been written, which must say so (RFC 9112 section
// 9.6). asked says that the handler wants it closed.
func (w *responseWriter) decideClose(asked bool) {
	w.close = w.close || asked || w.conn.server.draining.Load() || w.body.preventsReuse(w.handlerDone)
}

// start writes the final head, once.
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

// endHeader writes what the head says of the connection, and its end.
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

// noteHeaderSize looks at the header before it is written.
func (w *responseWriter) noteHeaderSize() {
	w.largeHeader = w.largeHeader || len(w.header) > usualFields
}

// writeTrailer writes the fields that follow the content: those that Trailer
// has announced, and those set with [http.TrailerPrefix].
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

// skipsInFinal says which fields of a handler's header do not go out as they
// stand.
func skipsInFinal(name string, header http.Header) bool {
	switch name {
	case "Connection", "Transfer-Encoding":
		return true // the server's own to say
	}
	if strings.HasPrefix(name, http.TrailerPrefix) {
		return true
	}
	announced := header["Trailer"]
	return announced != nil && listsContain(announced, name)
}

// skipsInInformational is answerSkips for an interim answer, which has no content and
// must not say how long that is (RFC 9110 section 8.6).
func skipsInInformational(name string, _ http.Header) bool {
	switch name {
	case "Connection", "Transfer-Encoding", "Content-Length", "Trailer":
		return true
	}
	return false
}
