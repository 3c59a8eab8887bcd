// What goes on between a request and its final answer: interim answers (RFC
// 9110 section 15.2), and content that is sent only once it is wanted
// (section 10.1.1).

package networkproxy

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"sync"
	"time"
)

// interimRelay passes interim answers on until the final one is there: they
// arrive on a goroutine of the transport.
type interimRelay struct {
	none     bool // the client knows none: HTTP/1.0
	expected *expectedContent

	mu      sync.Mutex
	w       http.ResponseWriter
	stopped bool
}

func (i *interimRelay) relay(code int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.stopped && !i.none {
		interim := http.Header(header).Clone()
		removeHopByHop(interim)
		interim.Del(errorHeader)
		h := i.w.Header()
		maps.Copy(h, interim)
		i.w.WriteHeader(code)
		clear(h)
	}
	if code == http.StatusContinue && i.expected != nil {
		i.expected.want()
	}
	return nil
}

func (i *interimRelay) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stopped = true
}

// expectTimeout is how long an origin that does not answer the expectation is
// waited for; then the content is sent unasked.
const expectTimeout = time.Second

// expectedContent is the content of a request with "Expect: 100-continue". To
// read it asks the client for it, so it is not read before the origin has: what
// the origin refuses, the client need not send. A nil one expects nothing.
type expectedContent struct {
	io.ReadCloser
	want   func() // lets Read go on
	wanted <-chan struct{}
	over   chan struct{}
	timer  *time.Timer
}

// expectContent puts an expectedContent in place of the content of a request
// that has the expectation.
func expectContent(out *http.Request) *expectedContent {
	if out.ContentLength == 0 || !namesToken(out.Header["Expect"], "100-continue") {
		return nil
	}
	wanted := make(chan struct{})
	want := sync.OnceFunc(func() { close(wanted) })
	c := &expectedContent{
		ReadCloser: out.Body,
		want:       want,
		wanted:     wanted,
		over:       make(chan struct{}),
		timer:      time.AfterFunc(expectTimeout, want),
	}
	out.Body = c
	return c
}

// Read waits until the content is wanted. When the answer is complete without
// it, it fails, which ends the connection to the origin: that still waits.
func (c *expectedContent) Read(p []byte) (int, error) {
	select {
	case <-c.wanted:
		return c.ReadCloser.Read(p)
	case <-c.over:
		return 0, errors.New("the origin answered without waiting for the content")
	}
}

// end is called when the answer is complete.
func (c *expectedContent) end() {
	if c != nil {
		c.timer.Stop()
		close(c.over)
	}
}
