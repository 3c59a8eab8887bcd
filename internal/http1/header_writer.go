// Writing status lines and header fields.

package http1

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// writeStatus writes a status line. The space before the reason phrase is
// required even if the phrase is empty (RFC 9112 section 4).
func writeStatus(bw *bufio.Writer, status int, reason string) {
	bw.WriteString(statusPrefix)
	writeStatusAfterVersion(bw, status, reason)
}

// writeStatusAfterVersion writes a status line without the version.
func writeStatusAfterVersion(bw *bufio.Writer, status int, reason string) {
	bw.Write(strconv.AppendInt(bw.AvailableBuffer(), int64(status), 10))
	bw.WriteByte(' ')
	bw.WriteString(reason)
	bw.WriteString("\r\n")
}

// reasonPhrase returns the standard reason phrase of a status.
func reasonPhrase(status int) string {
	if text := http.StatusText(status); text != "" {
		return text
	}
	return "status code " + strconv.Itoa(status)
}

// writeFields writes the fields of a header, except those for which skip
// returns true.
func writeFields(bw *bufio.Writer, header http.Header, skip func(name string, header http.Header) bool) {
	for name, values := range header {
		if skip == nil || !skip(name, header) {
			writeValues(bw, name, values)
		}
	}
}

func writeValues(bw *bufio.Writer, name string, values []string) {
	for _, v := range values {
		writeField(bw, Field{name, v})
	}
}

// writeField writes one field line. It replaces line breaks in the value by
// spaces, because they would start another field. Parsed values contain none.
func writeField(bw *bufio.Writer, f Field) {
	if strings.IndexByte(f.Value, '\n') >= 0 || strings.IndexByte(f.Value, '\r') >= 0 {
		f.Value = lineBreakReplacer.Replace(f.Value)
	}
	bw.WriteString(f.Name)
	bw.WriteString(": ")
	bw.WriteString(f.Value)
	bw.WriteString("\r\n")
}

var lineBreakReplacer = strings.NewReplacer("\r", " ", "\n", " ")

// writeIntField writes a field with a numeric value.
func writeIntField(bw *bufio.Writer, name string, n int64) {
	bw.WriteString(name)
	bw.WriteString(": ")
	bw.Write(strconv.AppendInt(bw.AvailableBuffer(), n, 10))
	bw.WriteString("\r\n")
}

// WriteResponseHeader writes a status line and header fields to w.
func WriteResponseHeader(w io.Writer, status int, reason string, fields []Field) error {
	bw := bufio.NewWriter(w)
	writeStatus(bw, status, reason)
	for _, f := range fields {
		writeField(bw, f)
	}
	bw.WriteString("\r\n")
	return bw.Flush()
}
