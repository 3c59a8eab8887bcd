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

// requestSender is one request on its way out. A request with content has a
// goroutine, since the answer may begin before the content has ended (RFC
// 9112 section 9.3); one without has none. That goroutine ends with the
// connection, or when the request's Body returns an error, as Server's does
// once the handler has returned.
type requestSender struct {
	c               *originConn
	r               *Request
	hasBody         bool
	expectsContinue bool

	continueStatus chan int // the status that decides whether content that waits for 100 is sent
	done           chan struct{}
	sent           atomic.Bool // everything was sent
	bodyErr        error       // the client's content could not be read; set before done is closed
}

func (u *requestSender) init(c *originConn, r *Request) {
	u.c, u.r, u.hasBody = c, r, r.hasBody()
	if u.hasBody {
		u.continueStatus = make(chan int, 1)
		u.done = make(chan struct{})
	}
}

// start sends the head, and starts sending the content, if there is any.
func (u *requestSender) start() error {
	expectsContinue, authenticates := writeRequestHeader(u.c.bw, u.r)
	if authenticates {
		u.c.bound = true
	}
	u.expectsContinue = expectsContinue && u.hasBody
	if !u.hasBody {
		if err := u.c.bw.Flush(); err != nil {
			return err
		}
		u.sent.Store(true)
		return nil
	}
	go u.run()
	return nil
}

func (u *requestSender) run() {
	err := u.sendAll()
	u.r.Body.Close()
	u.sent.Store(err == nil)
	close(u.done)
	if err != nil && u.bodyErr != nil {
		// The content ended wrongly: only a cut connection tells the origin.
		// It comes last, so that who waits for the answer finds the cause.
		u.c.close()
	}
}

// sendAll sends what the request has, as far as the origin lets it.
func (u *requestSender) sendAll() error {
	// The head goes out by itself: the origin may answer it while the client
	// is still thinking about the content.
	if err := u.c.bw.Flush(); err != nil {
		return err
	}
	if u.expectsContinue && !u.awaitContinue() {
		return errBodyRefused
	}
	if err := u.sendBody(); err != nil {
		return err
	}
	return u.c.bw.Flush()
}

// errBodyRefused ends a request whose content the origin did not want.
var errBodyRefused = errors.New("http1: the origin has refused the content")

// BodyError is what is wrong with the content of a request, as its Body
// tells it: it broke off, or is not framed as it says.
type BodyError struct{ Err error }

func (e *BodyError) Error() string {
	return "the client's content could not be read: " + e.Err.Error()
}

// Unwrap returns Err.
func (e *BodyError) Unwrap() error { return e.Err }

// awaitContinue waits for the 100 that was asked for. An answer in its place
// refuses the content; silence permits it (RFC 9110 section 10.1.1).
func (u *requestSender) awaitContinue() bool {
	timeout := u.c.transport.ContinueTimeout
	if timeout == 0 {
		timeout = time.Second
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case status := <-u.continueStatus:
		return status == http.StatusContinue
	case <-timer.C:
		return true
	}
}

// reportStatus tells a request that expects 100 how it was answered.
func (u *requestSender) reportStatus(status int) {
	if u.expectsContinue {
		select {
		case u.continueStatus <- status:
		default:
		}
	}
}

// sendBody copies the content in the framing that the head has announced.
func (u *requestSender) sendBody() error {
	body := &errorKeeper{r: u.r.Body}
	var err error
	if u.r.ContentLength > 0 {
		var n int64
		if n, err = copyFlushing(u.c.bw, io.LimitReader(body, u.r.ContentLength)); err == nil && n < u.r.ContentLength {
			body.err = io.ErrUnexpectedEOF
			err = body.err
		}
	} else {
		chunked := httputil.NewChunkedWriter(u.c.bw)
		if _, err = copyFlushing(chunkFlusher{chunked, u.c.bw}, body); err == nil {
			chunked.Close()
			for name, values := range u.r.Trailer {
				writeValues(u.c.bw, name, values)
			}
			_, err = u.c.bw.WriteString("\r\n")
		}
	}
	if body.err != nil && body.err != io.EOF {
		u.bodyErr = body.err
	}
	return err
}

// result reports whether the request went out whole, and whether nothing of it
// is being sent any more.
func (u *requestSender) result() (sent, finished bool) {
	if !u.hasBody {
		return u.sent.Load(), true
	}
	select {
	case <-u.done:
		return u.sent.Load(), true
	case <-time.After(senderGrace):
		return false, false
	}
}

// senderGrace lets the goroutine of an upload that has been sent whole, as
// the answer shows, come to its end: its connection can be used again.
const senderGrace = 5 * time.Millisecond

// cause replaces an error by that of reading the client's content, if it is
// what broke the exchange.
func (u *requestSender) cause(err error) error {
	if !u.hasBody {
		return err
	}
	if _, finished := u.result(); finished && u.bodyErr != nil {
		return &BodyError{u.bodyErr}
	}
	return err
}

// errorKeeper keeps an error of the source, which a copy would mix up with
// one of the destination.
type errorKeeper struct {
	r   io.Reader
	err error
}

func (s *errorKeeper) Read(p []byte) (int, error) {
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

type chunkFlusher struct {
	io.Writer
	bw *bufio.Writer
}

func (f chunkFlusher) Flush() error { return f.bw.Flush() }

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

// writeRequestHeader writes the head of a request. Host comes first (RFC 9110
// section 7.2), and the other fields follow in their order. It reports whether
// the request waits for a 100 response before its content, and whether it
// authenticates the connection.
func writeRequestHeader(bw *bufio.Writer, r *Request) (expectsContinue, authenticates bool) {
	bw.WriteString(r.Method)
	bw.WriteByte(' ')
	bw.WriteString(r.Target)
	bw.WriteString(" HTTP/1.1\r\nHost: ")
	bw.WriteString(r.Host)
	bw.WriteString("\r\n")
	hasBody := r.hasBody()
	chunked := hasBody && r.ContentLength <= 0
	lengthWritten := chunked
	needsLength := (hasBody || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch)
	for i := range r.Fields {
		f := &r.Fields[i]
		switch kindOf(f.Name) {
		case fieldHost, fieldTransferEncoding:
			continue
		case fieldContentLength:
			if !lengthWritten {
				writeLength(bw, f.Name, r)
				lengthWritten = true
			}
			continue
		case fieldExpect:
			expectsContinue = true
		}
		if authenticatesConn(*f) {
			authenticates = true
		}
		writeField(bw, *f)
	}
	if needsLength && !lengthWritten {
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
	return expectsContinue, authenticates
}

// writeLength writes the length of the content as a field of that name.
func writeLength(bw *bufio.Writer, name string, r *Request) {
	n := int64(0)
	if r.hasBody() {
		n = r.ContentLength
	}
	writeIntField(bw, name, n)
}
