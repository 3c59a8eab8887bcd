// How a tunnel starts, ends and fails.

package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/testnet"
)

func TestHalfCloseByClient(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	send(t, r.client, "request")
	r.client.CloseWrite()
	expect(t, r.server, "request")
	expectEOF(t, r.server)
	send(t, r.server, "a late ")
	expect(t, r.client, "a late ")
	send(t, r.server, "response")
	r.server.Close()
	expect(t, r.client, "response")
	expectEOF(t, r.client)
	if got, want := r.wait(t), (Result{Sent: 7, Received: 15}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestHalfCloseByServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	send(t, r.server, "banner")
	r.server.CloseWrite()
	expect(t, r.client, "banner")
	expectEOF(t, r.client)
	send(t, r.client, "still here")
	expect(t, r.server, "still here")
	r.client.Close()
	expectEOF(t, r.server)
	if got, want := r.wait(t), (Result{Sent: 10, Received: 6}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEarlyBytesComeFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{Early: []byte("hello "), EarlyBack: []byte("220 ")})
	send(t, r.client, "server")
	send(t, r.server, "ready")
	expect(t, r.server, "hello server")
	expect(t, r.client, "220 ready")
	r.client.CloseWrite()
	r.server.CloseWrite()
	if got, want := r.wait(t), (Result{Sent: 12, Received: 9}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDeadlinesSetBeforeAreCleared(t *testing.T) {
	t.Parallel()
	client, a := tcpPair(t)
	b, server := tcpPair(t)
	a.SetDeadline(time.Unix(1, 0))
	b.SetDeadline(time.Unix(1, 0))
	result := make(chan Result, 1)
	go func() { result <- Relay(a, b, Options{}) }()
	send(t, client, "x")
	expect(t, server, "x")
	client.Close()
	server.Close()
	await(t, result)
}

// TestReset resets one side while the other is idle, half-closed, or receiving.
func TestReset(t *testing.T) {
	t.Parallel()
	reset := func(c *net.TCPConn) {
		c.SetLinger(0)
		c.Close()
	}
	tests := []struct {
		name   string
		before func(t *testing.T, r *rig)
		broken func(r *rig) (breaks, other *net.TCPConn)
		want   Cause
	}{
		{"client, idle", nil, func(r *rig) (_, _ *net.TCPConn) { return r.client, r.server }, CauseResetByA},
		{"server, idle", nil, func(r *rig) (_, _ *net.TCPConn) { return r.server, r.client }, CauseResetByB},
		{"client, after its half-close", func(t *testing.T, r *rig) {
			r.client.CloseWrite()
			expectEOF(t, r.server)
		}, func(r *rig) (_, _ *net.TCPConn) { return r.client, r.server }, CauseResetByA},
		{"server, after its half-close", func(t *testing.T, r *rig) {
			r.server.CloseWrite()
			expectEOF(t, r.client)
		}, func(r *rig) (_, _ *net.TCPConn) { return r.server, r.client }, CauseResetByB},
		{"server, after a long stream", func(t *testing.T, r *rig) {
			data := strings.Repeat("x", 1<<20)
			go io.WriteString(r.server, data)
			expect(t, r.client, data)
		}, func(r *rig) (_, _ *net.TCPConn) { return r.server, r.client }, CauseResetByB},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Options{})
			if tt.before != nil {
				tt.before(t, r)
			}
			breaks, other := tt.broken(r)
			reset(breaks)
			got := r.wait(t)
			if got.Cause != tt.want || got.Err == nil {
				t.Errorf("got %v, %v; want %v with an error", got.Cause, got.Err, tt.want)
			}
			// The other peer notices the reset: at once, or on its next write
			// if it has already seen the end of the stream.
			if !sawReset(other) {
				t.Error("the other peer saw no reset")
			}
		})
	}
}

// sawReset reports whether c's peer reset c. It reads the rest of the stream,
// then writes.
func sawReset(c *net.TCPConn) bool {
	if _, err := io.Copy(io.Discard, c); err != nil {
		return errors.Is(err, syscall.ECONNRESET)
	}
	// A busy kernel delivers the reset a little later. On Linux, an empty write fails
	// from then on.
	testnet.Poll(2*time.Second, func() bool {
		_, err := c.Write(nil)
		return err != nil
	})
	_, err := c.Write([]byte("x"))
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// TestEarlyResponse has a server respond early to an upload and close without
// reading the rest, which makes its kernel reset the connection. The response
// must arrive, then the reset.
func TestEarlyResponse(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	uploaded := make(chan error, 1)
	go func() {
		_, err := io.Copy(r.client, endless{})
		uploaded <- err
	}()
	expect(t, r.server, "aaaa")
	response := strings.Repeat("413 too large ", 1000)
	send(t, r.server, response)
	r.server.Close()
	expect(t, r.client, response)
	if got := r.wait(t); got.Cause != CauseResetByB {
		t.Errorf("got %+v, want %v", got, CauseResetByB)
	}
	if err := <-uploaded; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the upload failed with %v, want a reset", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

func TestOutsideClose(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cut  func(t *testing.T, r *rig)
	}{
		{"a", func(_ *testing.T, r *rig) { r.a.Close() }},
		{"b", func(_ *testing.T, r *rig) { r.b.Close() }},
		{"pair", func(_ *testing.T, r *rig) { Pair{r.a, r.b}.Close() }},
		{"a, after the client's half-close", func(t *testing.T, r *rig) {
			r.client.CloseWrite()
			expectEOF(t, r.server)
			r.a.Close()
		}},
		{"b, after the server's half-close", func(t *testing.T, r *rig) {
			r.server.CloseWrite()
			expectEOF(t, r.client)
			r.b.Close()
		}},
		{"pair, while the client does not read", func(t *testing.T, r *rig) {
			fillBuffers(t, r.server)
			Pair{r.a, r.b}.Close()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Options{})
			tt.cut(t, r)
			if got := r.wait(t); got.Cause != CauseClosed || !errors.Is(got.Err, net.ErrClosed) {
				t.Errorf("got %+v, want %v", got, CauseClosed)
			}
			for name, c := range map[string]*net.TCPConn{"a": r.a, "b": r.b} {
				if err := c.Close(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s is still open", name)
				}
			}
		})
	}
}

// fillBuffers writes until all buffers between c and its peer are full.
func fillBuffers(t *testing.T, c *net.TCPConn) {
	t.Helper()
	for {
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Write(make([]byte, 1<<20)); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestLifetimeEndsAStalledTunnel also checks that a truncated stream does not
// look complete.
func TestLifetimeEndsAStalledTunnel(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{Lifetime: 300 * time.Millisecond})
	send(t, r.server, "the beginning of")
	expect(t, r.client, "the beginning of")
	if got := r.wait(t); got.Cause != CauseLifetime || got.Err != nil {
		t.Errorf("got %+v, want %v", got, CauseLifetime)
	}
	if !sawReset(r.client) {
		t.Error("the client saw an ordinary end of stream, want a reset")
	}
}

func TestIdleClosesInTheOrdinaryWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{IdleTimeout: 100 * time.Millisecond})
	if got := r.wait(t); got.Cause != CauseIdle || got.Err != nil {
		t.Errorf("got %+v, want %v", got, CauseIdle)
	}
	expectEOF(t, r.client)
	expectEOF(t, r.server)
}

// TestIdleCountsBothDirections sends in one direction only, with pauses just
// below the limit, and last after a half-close.
func TestIdleCountsBothDirections(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"from a", "from b"} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const idle = time.Minute
				client, a := net.Pipe()
				b, server := net.Pipe()
				from, to := client, server
				if direction == "from b" {
					from, to = server, client
				}
				start := time.Now()
				result := make(chan Result, 1)
				go func() { result <- Relay(a, halfCloser{b}, Options{IdleTimeout: idle}) }()
				for range 10 {
					time.Sleep(idle - time.Second)
					go from.Write([]byte("x"))
					expect(t, to, "x")
				}
				if got := <-result; got.Cause != CauseIdle {
					t.Errorf("got %+v, want %v", got, CauseIdle)
				}
				if got, want := time.Since(start), 10*(idle-time.Second)+idle; got != want {
					t.Errorf("ended after %v, want %v", got, want)
				}
			})
		})
	}
}

// TestIdleAfterHalfClose checks that activity and silence of the remaining
// direction count.
func TestIdleAfterHalfClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Minute
		client, a := net.Pipe()
		b, server := net.Pipe()
		server.Close()
		start := time.Now()
		result := make(chan Result, 1)
		go func() { result <- Relay(halfCloser{a}, sinkConn{b}, Options{IdleTimeout: idle}) }()
		for range 3 {
			time.Sleep(idle - time.Second)
			client.Write([]byte("x"))
		}
		if got := <-result; got.Cause != CauseIdle || got.Sent != 3 {
			t.Errorf("got %+v, want %v and 3 sent", got, CauseIdle)
		}
		if got, want := time.Since(start), 3*(idle-time.Second)+idle; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
	})
}

// TestIdleStartsWhenBytesAreWritten checks that the idle time starts when bytes
// are written, not when they are read.
func TestIdleStartsWhenBytesAreWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Minute
		client, a := net.Pipe()
		b, server := net.Pipe()
		start := time.Now()
		result := make(chan Result, 1)
		go func() { result <- Relay(a, b, Options{IdleTimeout: idle, Lifetime: time.Hour}) }()
		send(t, client, "x")
		time.Sleep(idle / 2)
		expect(t, server, "x")
		if got := <-result; got.Cause != CauseIdle {
			t.Errorf("got %+v, want %v", got, CauseIdle)
		}
		if got, want := time.Since(start), idle/2+idle; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
	})
}

// TestBusySocketsAreNotIdle sends in one direction, with pauses below the
// limit, for longer than the limit.
func TestBusySocketsAreNotIdle(t *testing.T) {
	t.Parallel()
	idle := 800 * time.Millisecond
	if testing.Short() {
		idle /= 2
	}
	for _, test := range []struct{ name, message string }{
		{"copied", "x"},
		{"spliced", strings.Repeat("x", 200_000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Options{IdleTimeout: idle})
			for start := time.Now(); time.Since(start) < idle+idle/2; {
				go io.WriteString(r.server, test.message)
				expect(t, r.client, test.message)
				<-time.After(idle / 16)
			}
			if got := r.wait(t); got.Cause != CauseIdle {
				t.Errorf("got %+v, want %v", got, CauseIdle)
			}
		})
	}
}

// TestResetClosesTransportOfTLS checks that a truncated TLS connection does not
// end with a close_notify, which would make it look complete.
func TestResetClosesTransportOfTLS(t *testing.T) {
	t.Parallel()
	client, a := tcpPair(t)
	b, _ := tcpPair(t)
	client.SetDeadline(time.Now().Add(testTimeout))
	result := make(chan Result, 1)
	go func() { result <- Relay(tlsLike{a}, b, Options{Lifetime: 50 * time.Millisecond}) }()
	if got := await(t, result); got.Cause != CauseLifetime {
		t.Errorf("got %+v, want %v", got, CauseLifetime)
	}
	if !sawReset(client) {
		t.Error("the client saw an ordinary end of stream, want a reset")
	}
}

// tlsLike has the methods of *tls.Conn.
type tlsLike struct{ conn net.Conn }

func (w tlsLike) NetConn() net.Conn                  { return w.conn }
func (w tlsLike) Read(p []byte) (int, error)         { return w.conn.Read(p) }
func (w tlsLike) Write(p []byte) (int, error)        { return w.conn.Write(p) }
func (w tlsLike) Close() error                       { return w.conn.Close() }
func (w tlsLike) LocalAddr() net.Addr                { return w.conn.LocalAddr() }
func (w tlsLike) RemoteAddr() net.Addr               { return w.conn.RemoteAddr() }
func (w tlsLike) SetDeadline(t time.Time) error      { return w.conn.SetDeadline(t) }
func (w tlsLike) SetReadDeadline(t time.Time) error  { return w.conn.SetReadDeadline(t) }
func (w tlsLike) SetWriteDeadline(t time.Time) error { return w.conn.SetWriteDeadline(t) }

func TestLifetimeIsNotExtended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		go io.Copy(io.Discard, server)
		start := time.Now()
		var took time.Duration
		result := make(chan Result, 1)
		go func() {
			res := Relay(a, b, Options{IdleTimeout: time.Minute, Lifetime: time.Hour})
			took = time.Since(start)
			result <- res
		}()
		for {
			if _, err := client.Write([]byte("x")); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if got := <-result; got.Cause != CauseLifetime {
			t.Errorf("got %+v, want %v", got, CauseLifetime)
		}
		if took != time.Hour {
			t.Errorf("ended after %v, want %v", took, time.Hour)
		}
	})
}

// halfCloser gives a connection a CloseWrite that does nothing.
type halfCloser struct{ net.Conn }

func (halfCloser) CloseWrite() error { return nil }

// sinkConn is a connection whose writes succeed even after its peer has closed.
type sinkConn struct{ net.Conn }

func (sinkConn) Write(p []byte) (int, error) { return len(p), nil }

// TestWithoutCloseWrite checks that the end of the stream towards a connection
// that cannot be half-closed closes it.
func TestWithoutCloseWrite(t *testing.T) {
	t.Parallel()
	client, a := net.Pipe()
	b, server := net.Pipe()
	result := make(chan Result, 1)
	go func() { result <- Relay(a, b, Options{}) }()
	go io.WriteString(client, "last")
	expect(t, server, "last")
	client.Close()
	expectEOF(t, server)
	if got, want := await(t, result), (Result{Sent: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// brokenConn reads from r, and its writes fail.
type brokenConn struct {
	net.Conn
	r     io.Reader
	write error
}

func (c *brokenConn) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *brokenConn) Write(p []byte) (int, error) { return 0, c.write }

// TestWriteErrorEndsASilentTunnel checks that draining after a write error is
// limited in time.
func TestWriteErrorEndsASilentTunnel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, _ := net.Pipe()
		broken := errors.New("broken")
		start := time.Now()
		result := make(chan Result, 1)
		go func() { result <- Relay(a, &brokenConn{Conn: b, r: b, write: broken}, Options{}) }()
		client.Write([]byte("x"))
		if got := <-result; got.Cause != CauseResetByB || got.Err != broken {
			t.Errorf("got %+v, want %v with %v", got, CauseResetByB, broken)
		}
		if got := time.Since(start); got != drainTimeout {
			t.Errorf("ended after %v, want %v", got, drainTimeout)
		}
	})
}

// TestDrainAfterWriteError checks that bytes received after a failed write are
// relayed.
func TestDrainAfterWriteError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		result := make(chan Result, 1)
		go func() {
			result <- Relay(halfCloser{a}, &brokenConn{Conn: b, r: b, write: errors.New("broken")}, Options{})
		}()
		send(t, client, "x")
		synctest.Wait()
		time.Sleep(drainTimeout / 2)
		go func() {
			io.WriteString(server, "this is why")
			server.Close()
		}()
		expect(t, client, "this is why")
		if got := <-result; got.Cause != CauseResetByB || got.Received != 11 {
			t.Errorf("got %+v, want %v and 11 bytes", got, CauseResetByB)
		}
	})
}

// TestDataWithError checks that a Read may return bytes together with the end
// of the stream.
func TestDataWithError(t *testing.T) {
	t.Parallel()
	client, a := net.Pipe()
	b, _ := net.Pipe()
	result := make(chan Result, 1)
	go func() {
		result <- Relay(halfCloser{a}, &brokenConn{Conn: b, r: &atOnce{"all"}}, Options{})
	}()
	buf := make([]byte, 8)
	n, _ := client.Read(buf)
	client.Close()
	if res := await(t, result); string(buf[:n]) != "all" || res.Received != 3 {
		t.Errorf("the client received %q, result %+v", buf[:n], res)
	}
}

type atOnce struct{ s string }

func (r *atOnce) Read(p []byte) (int, error) {
	n := copy(p, r.s)
	r.s = r.s[n:]
	return n, io.EOF
}

func TestCauseString(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for c := CauseEnded; c <= CauseRefused; c++ {
		if s := c.String(); s == "unknown" || seen[s] {
			t.Errorf("Cause(%d).String() = %q", c, s)
		} else {
			seen[s] = true
		}
	}
}
