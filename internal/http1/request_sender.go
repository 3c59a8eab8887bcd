// Sending a request: its header, then its body while the response may already
// arrive.

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

// requestSender sends one request. A body is sent by a separate goroutine,
// because the response may begin before the body ends (RFC 9112 section 9.3).
// The goroutine ends when the connection is closed or when the request's Body
// returns an error, as a Server's does after the handler has returned.
type requestSender struct {
	c               *originConn
	r               *Request
	hasBody         bool
	expectsContinue bool

	continueStatus chan int      // receives the status that decides whether a body that waits for 100 is sent
	done           chan struct{} // closed when the goroutine has finished
	sent           atomic.Bool   // the whole request was sent
	bodyErr        error         // an error of the request's Body; written before done is closed
}

func (s *requestSender) init(c *originConn, r *Request) {
	s.c, s.r, s.hasBody = c, r, r.hasBody()
	if s.hasBody {
		s.continueStatus = make(chan int, 1)
		s.done = make(chan struct{})
	}
}

// start sends the header and starts sending the body.
func (s *requestSender) start() error {
	expectsContinue, authenticates := writeRequestHeader(s.c.bw, s.r)
	if authenticates {
		s.c.bound = true
	}
	s.expectsContinue = expectsContinue && s.hasBody
	if !s.hasBody {
		if err := s.c.bw.Flush(); err != nil {
			return err
		}
		s.sent.Store(true)
		return nil
	}
	go s.run()
	return nil
}

func (s *requestSender) run() {
	err := s.sendAll()
	s.r.Body.Close()
	s.sent.Store(err == nil)
	close(s.done)
	if err != nil && s.bodyErr != nil {
		// Only closing the connection tells the origin server that the body is
		// incomplete. Close it last, so that the waiting round trip finds the
		// cause.
		s.c.close()
	}
}

// sendAll sends the header and, if the origin server permits it, the body.
func (s *requestSender) sendAll() error {
	// Send the header by itself, because the origin server may respond before
	// the client sends the body.
	if err := s.c.bw.Flush(); err != nil {
		return err
	}
	if s.expectsContinue && !s.awaitContinue() {
		return errBodyRefused
	}
	if err := s.sendBody(); err != nil {
		return err
	}
	return s.c.bw.Flush()
}

// errBodyRefused ends a request whose body the origin server refused.
var errBodyRefused = errors.New("http1: the origin refused the body")

// BodyError is an error returned by a request's Body. The body ended early or
// is framed incorrectly.
type BodyError struct{ Err error }

func (e *BodyError) Error() string {
	return "the client's request body could not be read: " + e.Err.Error()
}

// Unwrap returns Err.
func (e *BodyError) Unwrap() error { return e.Err }

// awaitContinue waits for 100 (Continue) and reports whether the body may be
// sent. Another status refuses the body. No response within the timeout
// permits it (RFC 9110 section 10.1.1).
func (s *requestSender) awaitContinue() bool {
	timeout := s.c.transport.ContinueTimeout
	if timeout == 0 {
		timeout = time.Second
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case status := <-s.continueStatus:
		return status == http.StatusContinue
	case <-timer.C:
		return true
	}
}

// reportStatus tells awaitContinue the status of a response.
func (s *requestSender) reportStatus(status int) {
	if s.expectsContinue {
		select {
		case s.continueStatus <- status:
		default:
		}
	}
}

// sendBody copies the body with the framing announced in the header.
func (s *requestSender) sendBody() error {
	body := &bodyReader{request: s.r}
	var err error
	if s.r.ContentLength > 0 {
		var n int64
		if n, err = copyFlushing(s.c.bw, io.LimitReader(body, s.r.ContentLength)); err == nil && n < s.r.ContentLength {
			body.err = io.ErrUnexpectedEOF
			err = body.err
		}
	} else {
		chunked := httputil.NewChunkedWriter(s.c.bw)
		if _, err = copyFlushing(chunkFlusher{chunked, s.c.bw}, body); err == nil {
			chunked.Close()
			for name, values := range s.r.Trailer {
				writeValues(s.c.bw, name, values)
			}
			_, err = s.c.bw.WriteString("\r\n")
		}
	}
	if body.err != nil && body.err != io.EOF {
		s.bodyErr = body.err
	}
	return err
}

// result reports whether the whole request was sent, and whether the goroutine
// has finished.
func (s *requestSender) result() (sent, finished bool) {
	if !s.hasBody {
		return s.sent.Load(), true
	}
	select {
	case <-s.done:
		return s.sent.Load(), true
	case <-time.After(senderGrace):
		return false, false
	}
}

// senderGrace is the time that result gives the goroutine to finish. If the
// whole body was sent, as the response suggests, this lets the connection be
// used again.
const senderGrace = 5 * time.Millisecond

// cause returns the error of reading the request's body if that error ended
// the round trip, else err.
func (s *requestSender) cause(err error) error {
	if !s.hasBody {
		return err
	}
	if _, finished := s.result(); finished && s.bodyErr != nil {
		return &BodyError{s.bodyErr}
	}
	return err
}

// bodyReader reads the body of a request and counts its bytes. It stores the
// error of the body, because a copy does not tell whether its error comes from the
// source or the destination.
type bodyReader struct {
	request *Request
	err     error
}

func (k *bodyReader) Read(p []byte) (int, error) {
	n, err := k.request.Body.Read(p)
	k.request.sent.Add(int64(n))
	if err != nil {
		k.err = err
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

// copyFlushing copies and flushes after every read, so that a slow stream is
// not held back in a buffer.
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

// writeRequestHeader writes a request header. Host is the first field (RFC
// 9110 section 7.2); the others follow in their order. It reports whether the
// request waits for 100 (Continue) before its body, and whether it
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

// writeLength writes a field with the length of the body.
func writeLength(bw *bufio.Writer, name string, r *Request) {
	n := int64(0)
	if r.hasBody() {
		n = r.ContentLength
	}
	writeIntField(bw, name, n)
}
