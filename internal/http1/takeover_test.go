package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHijack(t *testing.T) {
	t.Parallel()
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(2 * watchDelay) // the watcher runs
		<-timer.C
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if r.Context().Err() != nil {
			t.Error("hijacking ended the request's context")
		}
		if _, ok := c.(*net.TCPConn); !ok {
			t.Errorf("Hijack returned a %T", c)
		}
		line, err := rw.ReadString('\n')
		fmt.Fprintf(c, "raw %s %v", line, err)
	})
	if got := sendOpen(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\nearly\n"); got != "raw early\n <nil>" {
		t.Errorf("got %q from the hijacked connection", got)
	}
}

func TestDetach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, request, want string
	}{
		{"nothing early", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\"\""},
		{"early bytes", "GET / HTTP/1.1\r\nHost: x\r\n\r\nearly", "\"early\""},
		{"body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcearly", "\"early\" abc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				c, early, err := w.(Detacher).Detach(nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if _, ok := c.(*net.TCPConn); !ok {
					t.Errorf("Detach returned a %T", c)
				}
				if _, _, err := w.(Detacher).Detach(nil); err != http.ErrHijacked {
					t.Errorf("second Detach returned %v, want %v", err, http.ErrHijacked)
				}
				if _, err := w.Write([]byte("x")); err != http.ErrHijacked {
					t.Errorf("Write after Detach returned %v, want %v", err, http.ErrHijacked)
				}
				fmt.Fprintf(c, "%q %s", early, body)
			})
			if got := strings.TrimSpace(sendOpen(t, addr, tt.request)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// The early bytes do not change when the buffers serve other connections, and
// the buffers of a request with a body are not used again.
func TestDetachedBuffers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, request string
		reused        bool
	}{
		{"no body", "GET / HTTP/1.1\r\nHost: x\r\n\r\nearly", true},
		{"body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcearly", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := net.Pipe()
			defer ours.Close()
			go io.WriteString(theirs, tt.request)
			c := &conn{server: new(Server), Conn: ours, br: bufio.NewReaderSize(ours, bufferSize), bw: bufio.NewWriterSize(ours, bufferSize)}
			c.watcher.init(c)
			x := newExchange(t.Context(), nil, nil)
			r, err := c.readRequest(x)
			if err != nil {
				t.Fatal(err)
			}
			io.ReadAll(r.Body)
			br := c.br
			w := &x.writer
			w.init(c, r)
			_, early, err := w.Detach(nil)
			if err != nil {
				t.Fatal(err)
			}
			br.Reset(strings.NewReader(strings.Repeat("x", bufferSize)))
			if br.Peek(bufferSize); string(early) != "early" {
				t.Errorf("early is %q after the buffer was used again", early)
			}
			if c.br != nil || c.bw != nil {
				t.Error("the connection still refers to its buffers")
			}
			// A sync.Pool may drop buffers, so only the negative case is certain.
			if got := c.server.readers.Get(); got != nil && !tt.reused {
				t.Error("the buffers of a request with a body are used again")
			}
		})
	}
}
