// Listeners: backoff, limits, panics, shutdown, and use with net/http.

package track

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/testnet"
)

// scriptedListener is a listener whose Accept calls next.
type scriptedListener struct {
	next   func() (net.Conn, error)
	closed chan struct{}
	once   sync.Once
}

func newScriptedListener(next func() (net.Conn, error)) *scriptedListener {
	return &scriptedListener{next: next, closed: make(chan struct{})}
}

func (s *scriptedListener) Accept() (net.Conn, error) { return s.next() }
func (s *scriptedListener) Close() error              { s.once.Do(func() { close(s.closed) }); return nil }
func (s *scriptedListener) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func TestAcceptBacksOff(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				failure := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}
				var at []time.Duration
				start := time.Now()
				var conns []net.Conn
				var log testnet.Buffer
				l := &Listener{Group: new(Group), Logger: slog.New(slog.NewTextHandler(&log, nil)), Inner: newScriptedListener(func() (net.Conn, error) {
					at = append(at, time.Since(start))
					// ten failures, a success, a failure, a success
					if n := len(at); n <= 10 || n == 12 {
						return nil, failure
					}
					c, _ := net.Pipe()
					conns = append(conns, c)
					return c, nil
				})}
				for i := range 2 {
					c, err := l.Accept()
					if err != nil {
						t.Fatal(err)
					}
					if c != conns[i] {
						t.Error("Accept wrapped the connection")
					}
				}
				want := []time.Duration{0, 5, 15, 35, 75, 155, 315, 635, 1275, 2275, 3275, 3275, 3280}
				for i := range want {
					want[i] *= time.Millisecond
				}
				if len(at) != len(want) {
					t.Fatalf("%d attempts, want %d", len(at), len(want))
				}
				for i := range want {
					if at[i] != want[i] {
						t.Errorf("attempt %d after %v, want %v", i, at[i], want[i])
					}
				}
				if got := strings.Count(log.String(), "accept failed; trying again"); got != 11 {
					t.Errorf("%d failures logged, want 11:\n%s", got, log.String())
				}
				if got := l.Group.Len(); got != 2 {
					t.Errorf("the group has %d members, want 2", got)
				}
			})
		})
	}
}

// TestBackoffResets checks that every connection resets the backoff, even one
// over the limit.
func TestBackoffResets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := new(Group)
		g.SetLimit(1)
		mustAdd(t, g)
		n := 0
		final := errors.New("final")
		l := &Listener{Group: g, Inner: newScriptedListener(func() (net.Conn, error) {
			switch n++; n {
			case 1, 2, 3, 5:
				return nil, syscall.EMFILE
			case 4:
				c, _ := net.Pipe()
				return c, nil
			default:
				return nil, final
			}
		})}
		start := time.Now()
		if _, err := l.Accept(); err != final {
			t.Fatal(err)
		}
		if got, want := time.Since(start), (5+10+20+5)*time.Millisecond; got != want {
			t.Errorf("waited %v, want %v", got, want)
		}
	})
}

func TestCloseInterruptsBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &Listener{Group: new(Group), Inner: newScriptedListener(func() (net.Conn, error) {
			return nil, syscall.EMFILE
		})}
		type outcome struct {
			err error
			at  time.Time
		}
		done := make(chan outcome)
		go func() {
			_, err := l.Accept()
			done <- outcome{err, time.Now()}
		}()
		time.Sleep(3*time.Second + time.Millisecond)
		closed := time.Now()
		l.Close()
		got := <-done
		if !errors.Is(got.err, net.ErrClosed) {
			t.Errorf("got %v, want %v", got.err, net.ErrClosed)
		}
		if !got.at.Equal(closed) {
			t.Errorf("Accept returned %v after Close", got.at.Sub(closed))
		}
	})
}

func TestOtherAcceptErrorsAreFinal(t *testing.T) {
	t.Parallel()
	final := errors.New("final")
	l := &Listener{Group: new(Group), Inner: newScriptedListener(func() (net.Conn, error) { return nil, final })}
	if _, err := l.Accept(); err != final {
		t.Errorf("Accept: %v, want %v", err, final)
	}
	if err := l.Serve(func(net.Conn, *Entry) {}); err != final {
		t.Errorf("Serve: %v, want %v", err, final)
	}
}

// TestCloseDuringAccept checks that a connection accepted during Close is
// closed.
func TestCloseDuringAccept(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	var l *Listener
	l = &Listener{Group: new(Group), Inner: newScriptedListener(func() (net.Conn, error) {
		l.Close()
		return server, nil
	})}
	if c, err := l.Accept(); c != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, %v; want %v", c, err, net.ErrClosed)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is still open: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestClosedGroupEndsAccept checks that a closed group accepts no connection.
func TestClosedGroupEndsAccept(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	l := &Listener{Group: new(Group), Inner: newScriptedListener(func() (net.Conn, error) { return server, nil })}
	l.Group.CloseAll()
	if err := l.Serve(func(net.Conn, *Entry) { t.Error("handler called") }); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is still open: %v", err)
	}
}

func listen(t *testing.T, g *Group) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", net.JoinHostPort(testnet.UnusedLoopback(), "0")) // TestShutdown dials the closed port
	if err != nil {
		t.Fatal(err)
	}
	l := &Listener{Inner: inner, Group: g}
	t.Cleanup(func() { l.Close(); g.CloseAll() })
	return l
}

// serve runs Serve and returns a function that waits for its result.
func serve(l *Listener, handle func(net.Conn, *Entry)) (wait func() error) {
	done := make(chan error, 1)
	go func() { done <- l.Serve(handle) }()
	return func() error { return <-done }
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

func echo(c net.Conn, _ *Entry) { io.Copy(c, c) }

// alive reports whether the peer echoes.
func alive(c net.Conn) bool {
	buf := []byte("x")
	if _, err := c.Write(buf); err != nil {
		return false
	}
	_, err := io.ReadFull(c, buf)
	return err == nil
}

func TestAcceptReturnsTheConnectionItself(t *testing.T) {
	t.Parallel()
	l := listen(t, new(Group))
	dial(t, l)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*net.TCPConn); !ok {
		t.Errorf("got a %T", c)
	}
	c.Close()
	l.Release(c)
	l.Release(c)
	if l.Group.Len() != 0 || len(l.entries) != 0 {
		t.Error("the connection is still registered after Release")
	}
}

// TestLimitOverSeveralListeners checks that two listeners share one limit and
// both send the refusal.
func TestLimitOverSeveralListeners(t *testing.T) {
	t.Parallel()
	g := new(Group)
	g.SetLimit(2)
	l1, l2 := listen(t, g), listen(t, g)
	for _, l := range []*Listener{l1, l2} {
		l.OverLimit = func(c net.Conn) { io.WriteString(c, "busy") }
		defer serve(l, echo)()
		defer l.Close()
	}
	first, second := dial(t, l1), dial(t, l2)
	if !alive(first) || !alive(second) {
		t.Fatal("a connection within the limit does not work")
	}
	for range 3 { // refusals do not count toward the limit
		if got, err := io.ReadAll(dial(t, l2)); err != nil || string(got) != "busy" {
			t.Errorf("over the limit: %q, %v", got, err)
		}
	}
	if got := g.Refused(); got != 3 {
		t.Errorf("%d connections refused, want 3", got)
	}
	first.Close()
	for l1.Group.counted.Load() != 1 {
		runtime.Gosched()
	}
	if !alive(dial(t, l2)) {
		t.Error("no new connection is served after another one ended")
	}
}

func TestOverLimitWithoutHandlerCloses(t *testing.T) {
	t.Parallel()
	g := new(Group)
	g.SetLimit(1)
	l := listen(t, g)
	defer serve(l, echo)()
	defer l.Close()
	if !alive(dial(t, l)) {
		t.Fatal("a connection within the limit does not work")
	}
	if got, err := io.ReadAll(dial(t, l)); len(got) != 0 || err != nil {
		t.Errorf("got %q, %v; want an ordinary close", got, err)
	}
}

// TestOverLimitIsBounded checks that slow refusals neither stall the accept
// loop nor accumulate, that they have a deadline, and that shutdown ends them.
func TestOverLimitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const arrivals = maxOverLimit + 10
		g := new(Group)
		g.SetLimit(1)
		var peers []net.Conn
		l := &Listener{Group: g}
		l.Inner = newScriptedListener(func() (net.Conn, error) {
			if len(peers) > arrivals {
				<-l.done()
				return nil, net.ErrClosed
			}
			peer, c := net.Pipe()
			peers = append(peers, peer)
			return c, nil
		})
		var ends []error
		var mu sync.Mutex
		l.OverLimit = func(c net.Conn) {
			_, err := c.Read(make([]byte, 1))
			mu.Lock()
			ends = append(ends, err)
			mu.Unlock()
		}
		wait := serve(l, echo)
		synctest.Wait()
		if got := g.Len(); got != 1+maxOverLimit {
			t.Errorf("the group has %d members, want %d", got, 1+maxOverLimit)
		}
		if got := g.Refused(); got != arrivals {
			t.Errorf("Refused() = %d, want %d", got, arrivals)
		}
		time.Sleep(overLimitTimeout)
		synctest.Wait()
		if got := g.Len(); got != 1 || len(ends) != maxOverLimit {
			t.Errorf("the group has %d members after %v, %d refusals ended", got, overLimitTimeout, len(ends))
		}
		for _, err := range ends {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a refusal ended with %v, want a timeout", err)
			}
		}
		if n := l.overLimitCalls.Load(); n != 0 {
			t.Errorf("%d refusals are still counted", n)
		}
		l.Close()
		g.CloseAll()
		if err := wait(); err != nil {
			t.Error(err)
		}
		if err := g.Wait(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownCutsAnswers(t *testing.T) {
	t.Parallel()
	g := new(Group)
	g.SetLimit(1)
	l := listen(t, g)
	answering := make(chan struct{})
	var end error
	l.OverLimit = func(c net.Conn) {
		close(answering)
		_, end = c.Read(make([]byte, 1))
	}
	wait := serve(l, echo)
	if !alive(dial(t, l)) {
		t.Fatal("a connection within the limit does not work")
	}
	dial(t, l)
	<-answering
	l.Close()
	g.CloseAll()
	if err := g.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(end, net.ErrClosed) {
		t.Errorf("the refusal ended with %v, want %v", end, net.ErrClosed)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
}

func TestPanicCostsOneConnection(t *testing.T) {
	t.Parallel()
	var log testnet.Buffer
	g := new(Group)
	l := listen(t, g)
	l.Logger = slog.New(slog.NewTextHandler(&log, nil))
	defer serve(l, func(c net.Conn, e *Entry) {
		buf := make([]byte, 1)
		c.Read(buf)
		if buf[0] == 'p' {
			panicInHandler()
		}
		c.Write(buf)
		echo(c, e)
	})()
	defer l.Close()
	other := dial(t, l)
	if !alive(other) {
		t.Fatal("no echo")
	}
	victim := dial(t, l)
	io.WriteString(victim, "p")
	if _, err := victim.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read from the connection whose handler panicked: %v, want EOF", err)
	}
	if !alive(other) || !alive(dial(t, l)) {
		t.Error("the panic affected another connection")
	}
	for g.Len() != 2 {
		runtime.Gosched()
	}
	if got := strings.Count(log.String(), "level=ERROR"); got != 1 {
		t.Errorf("%d panics logged, want 1:\n%s", got, log.String())
	}
	for _, want := range []string{"level=ERROR", "no more", "panicInHandler", victim.LocalAddr().String()} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, log.String())
		}
	}
}

func panicInHandler() { panic("no more") }

// TestShutdown checks that Wait lets connections finish, that CloseAll closes
// the others, and that none is left.
func TestShutdown(t *testing.T) {
	t.Parallel()
	g := new(Group)
	session := NewGroup(g)
	l := listen(t, session)
	wait := serve(l, echo)
	leaves, stays := dial(t, l), dial(t, l)
	if !alive(leaves) || !alive(stays) {
		t.Fatal("no echo")
	}
	l.Close()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("dialing a closed listener succeeded")
	}
	leaves.Close()
	for g.Len() != 1 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if !alive(stays) {
		t.Error("Wait closed a connection")
	}
	g.CloseAll()
	if alive(stays) {
		t.Error("CloseAll left a connection open")
	}
	if err := g.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestWithHTTPServer checks that connections closed by net/http are released,
// and that a hijacked one counts toward the limit and is closed by CloseAll
// until its owner releases it.
func TestWithHTTPServer(t *testing.T) {
	t.Parallel()
	g := new(Group)
	l := listen(t, g)
	hijacked := make(chan *Entry, 1)
	srv := &http.Server{ConnState: l.ConnState, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "CONNECT" {
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		e := l.Take(c)
		defer e.Release()
		io.WriteString(c, "!")
		hijacked <- e
		io.Copy(io.Discard, c)
		c.Close()
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()

	plain, tunnel := dial(t, l), dial(t, l)
	io.WriteString(plain, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if _, err := io.ReadAll(plain); err != nil {
		t.Fatal(err)
	}
	io.WriteString(tunnel, "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n")
	if _, err := tunnel.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if e := <-hijacked; e == nil {
		t.Error("Take returned nil for the hijacked connection")
	}
	for g.Len() != 1 {
		runtime.Gosched()
	}
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != http.ErrServerClosed {
		t.Errorf("Serve: %v", err)
	}
	if g.Len() != 1 {
		t.Error("Shutdown removed the hijacked connection from the group")
	}
	g.CloseAll()
	if err := g.Wait(context.Background()); err != nil {
		t.Error(err)
	}
	if len(l.entries) != 0 {
		t.Errorf("%d connections are still registered", len(l.entries))
	}
}

// TestAfterHandler checks that the connection is open and a member until the
// functions passed to AfterHandler have returned.
func TestAfterHandler(t *testing.T) {
	t.Parallel()
	g := new(Group)
	l := listen(t, g)
	var steps []string // accessed by one goroutine at a time
	release := make(chan struct{})
	defer serve(l, func(c net.Conn, e *Entry) {
		e.AfterHandler(func() {
			echo := make([]byte, 1)
			io.ReadFull(c, echo)
			c.Write(echo)
			steps = append(steps, "second")
			e.AfterHandler(func() {
				<-release
				steps = append(steps, "third")
			})
		})
		steps = append(steps, "first")
	})()
	defer l.Close()
	c := dial(t, l)
	if !alive(c) {
		t.Fatal("the connection was closed when the handler returned")
	}
	if n := g.Len(); n != 1 {
		t.Errorf("%d members before the last function returned, want 1", n)
	}
	close(release)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v, want a closed connection at the end", err)
	}
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(steps, " "); got != "first second third" {
		t.Errorf("steps: %s", got)
	}
}

// TestPanicBeforeAfterHandler checks that no function runs after a handler that
// panics, and that such a function may panic itself.
func TestPanicBeforeAfterHandler(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(net.Conn, *Entry){
		"handler": func(_ net.Conn, e *Entry) {
			e.AfterHandler(func() { t.Error("ran after a panic") })
			panic("in the handler")
		},
		"what follows": func(_ net.Conn, e *Entry) { e.AfterHandler(func() { panic("after the handler") }) },
		"goexit": func(_ net.Conn, e *Entry) {
			e.AfterHandler(func() { t.Error("ran after the goroutine ended") })
			runtime.Goexit()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := new(Group)
			l := listen(t, g)
			l.Logger = slog.New(slog.DiscardHandler)
			defer serve(l, handle)()
			defer l.Close()
			c := dial(t, l)
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read: %v, want a closed connection", err)
			}
			if err := g.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
