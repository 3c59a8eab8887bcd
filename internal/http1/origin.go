// The origin's side of a request that a Server serves: the memory of its
// answer, and where the connections to the origin are.

package http1

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
)

// originSide belongs to an exchange. nil is for a request that is not a
// Server's: everything is made for it alone.
type originSide struct {
	ctx   *requestContext
	turns *turns
	near  *line // of the pool that the last request used

	fields []Field
	values []string
	header http.Header
	answer http.Response
	body   answerBody
}

// nearLine is the line that was used last, if it is that of an address.
func (o *originSide) nearLine(p *pool, addr string) *line {
	if o == nil || o.near == nil || o.near.pool != p || o.near.addr != addr {
		return nil
	}
	return o.near
}

func (o *originSide) setLine(l *line) {
	if o != nil {
		o.near = l
	}
}

// takeBound returns a connection that belongs to the client; nil if there is
// none.
func (o *originSide) takeBound(t *Transport, addr string) *upstream {
	if o == nil || o.ctx.bound == nil || len(o.ctx.bound.conns) == 0 {
		return nil
	}
	return o.ctx.bound.take(t, addr)
}

// yield is that of the server's turns.
func (o *originSide) yield() {
	if o != nil {
		o.turns.yield()
	}
}

// newBody is the body of the answer to a request on c. The request's end
// closes c.
func (o *originSide) newBody(c *upstream, r *http.Request) *answerBody {
	if o == nil {
		b := &answerBody{c: c}
		b.upload.init(c, r)
		b.unbind = context.AfterFunc(r.Context(), c.close)
		return b
	}
	o.body = answerBody{c: c, side: o}
	o.body.upload.init(c, r)
	o.ctx.hold(c)
	return &o.body
}

// plain reads an answer's head as http.ReadResponse would, and returns nil
// where that is not for it to say: where the head has not come in one piece,
// and for all that is rare or odd.
func (o *originSide) plain(br *bufio.Reader, r *http.Request) *http.Response {
	if o == nil || r.Method == http.MethodHead {
		return nil
	}
	data, _ := br.Peek(br.Buffered()) // what is buffered can be peeked at
	end := bytes.Index(data, crlf2)
	if end < 0 {
		return nil
	}
	line, rest := cutLine(string(data[:end+len(crlf2)]))
	status, code := plainStatus(line)
	if status == "" {
		return nil
	}
	o.fields = o.fields[:0]
	length, closes := "", false
	for len(rest) > 2 {
		line, rest = cutLine(rest)
		f, err := parseField(line)
		if err != nil || len(o.fields) == plainFields {
			return nil
		}
		o.fields = append(o.fields, f)
		switch meaningOf(f.Name) {
		case fieldConnection:
			closes = true
		case fieldLength:
			if length != "" || !digits(f.Value) || len(f.Value) > maxPlainLength {
				return nil
			}
			length = f.Value
		case fieldEncoding, fieldOdd:
			return nil
		}
	}
	if length == "" { // the content ends otherwise
		return nil
	}
	n, _ := strconv.ParseInt(length, 10, 64) // it is digits, and few
	br.Discard(end + len(crlf2))
	if o.header == nil {
		o.header = make(http.Header)
	}
	o.values = fillHeader(o.header, o.fields, o.values)
	o.answer = http.Response{
		Status: status, StatusCode: code,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: o.header, ContentLength: n, Body: http.NoBody, Request: r,
	}
	if n > 0 {
		o.answer.Body = &content{br: br, left: n}
	}
	if closes && namesClose(o.header["Connection"]) {
		o.answer.Close = true
		delete(o.header, "Connection") // as net/http does
	}
	return &o.answer
}

// plainStatus takes apart a status line of HTTP/1.1 (RFC 9112 section 4) whose
// status may have content.
func plainStatus(line string) (status string, code int) {
	status, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(status) < len("200 O") || !digits(status[:3]) || status[3] != ' ' || status[4] == ' ' || hasControl(status, false) {
		return "", 0
	}
	code, _ = strconv.Atoi(status[:3]) // it is digits
	if code < 200 || code == http.StatusNoContent || code == http.StatusNotModified {
		return "", 0
	}
	return status, code
}
