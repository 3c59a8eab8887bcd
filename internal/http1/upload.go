// Sending a request: its head, and its content beside the answer.

package http1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"time"
)

// upload is one request on its way out. A request with content has a
// goroutine, since the answer may begin before the content has ended (RFC
// 9112 section 9.3); one without has none. That goroutine ends with the
// connection, or when the request's Body returns an error, as Server's does
// once the handler has returned.
type upload struct {
	c       *upstream
	r       *Request
	content bool
	expects bool

	goOn    chan int // the status that decides whether content that waits for 100 is sent
	done    chan struct{}
	whole   atomic.Bool // everything was sent
	refused error       // the client's content could not be read; set before done is closed
}

func (u *upload) init(c *upstream, r *Request) {
	u.c, u.r, u.content = c, r, r.hasContent()
	if u.content {
		u.goOn = make(chan int, 1)
		u.done = make(chan struct{})
	}
}

// begin sends the head, and starts sending the content, if there is any.
func (u *upload) begin() error {
	expects, binds := writeRequestHead(u.c.bw, u.r)
	if binds {
		u.c.bound = true
	}
	u.expects = expects && u.content
	if !u.content {
		if err := u.c.bw.Flush(); err != nil {
			return err
		}
		u.whole.Store(true)
		return nil
	}
	go u.run()
	return nil
}

func (u *upload) run() {
	err := u.sendAll()
	u.r.Body.Close()
	u.whole.Store(err == nil)
	close(u.done)
	if err != nil && u.refused != nil {
		// The content ended wrongly: only a cut connection tells the origin.
		// It comes last, so that who waits for the answer finds the cause.
		u.c.close()
	}
}

// sendAll sends what the request has, as far as the origin lets it.
func (u *upload) sendAll() error {
	// The head goes out by itself: the origin may answer it while the client
	// is still thinking about the content.
	if err := u.c.bw.Flush(); err != nil {
		return err
	}
	if u.expects && !u.permitted() {
		return errNotPermitted
	}
	if err := u.send(); err != nil {
		return err
	}
	return u.c.bw.Flush()
}

// errNotPermitted ends a request whose content the origin did not want.
var errNotPermitted = errors.New("http1: the origin has refused the content")

// BodyError is what is wrong with the content of a request, as its Body
// tells it: it broke off, or is not framed as it says.
type BodyError struct{ Err error }

func (e *BodyError) Error() string {
	return "the client's content could not be read: " + e.Err.Error()
}

// Unwrap returns Err.
func (e *BodyError) Unwrap() error { return e.Err }

// permitted waits for the 100 that was asked for. An answer in its place
// refuses the content; silence permits it (RFC 9110 section 10.1.1).
func (u *upload) permitted() bool {
	timeout := u.c.transport.ContinueTimeout
	if timeout == 0 {
		timeout = time.Second
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case status := <-u.goOn:
		return status == http.StatusContinue
	case <-timer.C:
		return true
	}
}

// mayGoOn tells a request that expects 100 how it was answered.
func (u *upload) mayGoOn(status int) {
	if u.expects {
		select {
		case u.goOn <- status:
		default:
		}
	}
}

// send copies the content in the framing that the head has announced.
func (u *upload) send() error {
	body := &sourceReader{r: u.r.Body}
	var err error
	if u.r.ContentLength > 0 {
		var n int64
		if n, err = copyFlushing(u.c.bw, io.LimitReader(body, u.r.ContentLength)); err == nil && n < u.r.ContentLength {
			body.err = io.ErrUnexpectedEOF
			err = body.err
		}
	} else {
		chunked := httputil.NewChunkedWriter(u.c.bw)
		if _, err = copyFlushing(flushingChunks{chunked, u.c.bw}, body); err == nil {
			chunked.Close()
			for name, values := range u.r.Trailer {
				writeValues(u.c.bw, name, values)
			}
			_, err = u.c.bw.WriteString("\r\n")
		}
	}
	if body.err != nil && body.err != io.EOF {
		u.refused = body.err
	}
	return err
}

// ended reports whether the request went out whole, and whether nothing of it
// is being sent any more.
func (u *upload) ended() (sent, ended bool) {
	if !u.content {
		return u.whole.Load(), true
	}
	select {
	case <-u.done:
		return u.whole.Load(), true
	case <-time.After(uploadPatience):
		return false, false
	}
}

// uploadPatience lets the goroutine of an upload that has been sent whole, as
// the answer shows, come to its end: its connection can be used again.
const uploadPatience = 5 * time.Millisecond

// cause replaces an error by that of reading the client's content, if it is
// what broke the exchange.
func (u *upload) cause(err error) error {
	if !u.content {
		return err
	}
	if _, ended := u.ended(); ended && u.refused != nil {
		return &BodyError{u.refused}
	}
	return err
}

// sourceReader keeps an error of the source, which a copy would mix up with
// one of the destination.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

type flusher interface {
	io.Writer
	Flush() error
}

type flushingChunks struct {
	io.Writer
	bw *bufio.Writer
}

func (f flushingChunks) Flush() error { return f.bw.Flush() }

// copyFlushing copies and flushes after every read: a stream must not wait
// for a buffer to fill.
func copyFlushing(dst flusher, src io.Reader) (written int64, err error) {
	buf := make([]byte, 32<<10)
	for {
		n, readErr := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return written, err
			}
			written += int64(n)
			if err := dst.Flush(); err != nil {
				return written, err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return written, nil
		}
		if readErr != nil {
			return written, readErr
		}
	}
}

// writeRequestHead writes the head of a request. Host comes first (RFC 9110
// section 7.2), and the other fields follow in their order. It reports whether
// the request waits for a 100 response before its content, and whether it
// authenticates the connection.
func writeRequestHead(bw *bufio.Writer, r *Request) (expects, binds bool) {
	bw.WriteString(r.Method)
	bw.WriteByte(' ')
	bw.WriteString(r.Target)
	bw.WriteString(" HTTP/1.1\r\nHost: ")
	bw.WriteString(r.Host)
	bw.WriteString("\r\n")
	content := r.hasContent()
	chunked := content && r.ContentLength <= 0
	lengthWritten := chunked
	lengthIsDue := (content || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch)
	for i := range r.Fields {
		f := &r.Fields[i]
		switch meaningOf(f.Name) {
		case fieldHost, fieldEncoding:
			continue
		case fieldLength:
			if !lengthWritten {
				writeLength(bw, f.Name, r)
				lengthWritten = true
			}
			continue
		case fieldExpect:
			expects = true
		}
		if bindsConnection(*f) {
			binds = true
		}
		writeField(bw, *f)
	}
	if lengthIsDue && !lengthWritten {
		writeLength(bw, "Content-Length", r)
	}
	if chunked {
		bw.WriteString("Transfer-Encoding: chunked\r\n")
		if len(r.Trailer) > 0 {
			names := make([]string, 0, len(r.Trailer))
			for name := range r.Trailer {
				names = append(names, name)
			}
			writeField(bw, Field{"Trailer", strings.Join(names, ", ")})
		}
	}
	bw.WriteString("\r\n")
	return expects, binds
}

// writeLength writes the length of the content as a field of that name.
func writeLength(bw *bufio.Writer, name string, r *Request) {
	n := int64(0)
	if r.hasContent() {
		n = r.ContentLength
	}
	writeInt(bw, name, n)
}
