package hostcall

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMailbox(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var delivered, resumed []int
		next := make(chan struct{})
		m := &Mailbox[int]{
			Limit: 2, Calls: New(GracePeriod), Kind: OnBlocked,
			Deliver: func(n int) {
				<-next
				delivered = append(delivered, n)
				if n == 2 {
					runtime.Goexit()
				}
			},
			Resumed: func(n int) { resumed = append(resumed, n) },
		}
		type result struct{ ok, first bool }
		put := func(n int) result {
			ok, first := m.Put(n)
			synctest.Wait()
			return result{ok, first}
		}
		// 1 is being delivered, and 2 and 3 wait.
		want := []result{{true, false}, {true, false}, {true, false}, {false, true}, {false, false}}
		for i, want := range want {
			if got := put(i + 1); got != want {
				t.Errorf("Put(%d) = %v, want %v", i+1, got, want)
			}
		}
		if n := m.Calls.Running(OnBlocked); n != 1 || m.Lost() != 2 {
			t.Errorf("%d calls in progress, %d items lost; want 1, 2", n, m.Lost())
		}
		close(next)
		synctest.Wait()
		put(6)
		if want := []int{1, 2, 3, 6}; !slices.Equal(delivered, want) || !slices.Equal(resumed, []int{2}) {
			t.Errorf("delivered %v, resumed %v; want %v, [2]", delivered, resumed, want)
		}
		if m.Calls.Busy() {
			t.Error("a call is in progress after the last delivery")
		}
		if n := m.Close(); n != 0 || put(7) != (result{}) {
			t.Errorf("Close() = %d, and a closed mailbox must drop items", n)
		}
	})
}

func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		elapsed := func(wait func()) time.Duration {
			start := time.Now()
			wait()
			return time.Since(start)
		}
		if d := elapsed(func() { c.Wait(c.Busy) }); d != 0 {
			t.Errorf("waited %v with no call in progress", d)
		}
		c.Enter(Decider)
		if d := elapsed(func() { c.Wait(c.Busy) }); d != time.Second {
			t.Errorf("waited %v for a call that does not return, want the grace period", d)
		}
		if d := elapsed(func() { c.WaitFor(make(chan struct{})) }); d != time.Second {
			t.Errorf("WaitFor waited %v, want the grace period", d)
		}
		if got := c.Unreturned(); len(got) != 1 || got[0] != Decider.String() {
			t.Errorf("Unreturned() = %q", got)
		}
		// Functions that return all the time do not extend the wait for ever.
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				c.Enter(Resolver)
				select {
				case <-time.After(time.Second / 2):
					c.Leave(Resolver)
				case <-stop:
					return
				}
			}
		}()
		if d := elapsed(func() { c.Wait(c.Busy) }); d != waitLimit {
			t.Errorf("waited %v, want %v", d, waitLimit)
		}
		c.Leave(Decider)
	})
}

// panicker is a host whose functions all panic.
type panicker struct{}

func (panicker) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { panic("boom") }
func (panicker) Enabled(context.Context, slog.Level) bool                          { panic("boom") }
func (panicker) Handle(context.Context, slog.Record) error                         { panic("boom") }
func (p panicker) WithAttrs([]slog.Attr) slog.Handler                              { return p }
func (p panicker) WithGroup(string) slog.Handler                                   { return p }
func (panicker) Accept() (net.Conn, error)                                         { panic("boom") }
func (panicker) Close() error                                                      { panic("boom") }
func (panicker) Addr() net.Addr                                                    { return nil }

func TestPanicsAreErrors(t *testing.T) {
	t.Parallel()
	c := New(GracePeriod)
	_, lookup := SafeResolver(panicker{}, c).LookupNetIP(t.Context(), "ip", "a.example")
	_, accept := SafeListener(panicker{}, c).Accept()
	_, call := Call(t.Context(), nil, ConfigSource, func(context.Context) (int, error) { panic("boom") })
	h := SafeLogHandler(panicker{}).WithGroup("g").WithAttrs(nil)
	for name, err := range map[string]error{
		"resolver": lookup, "Accept": accept, "Close": SafeListener(panicker{}, c).Close(), "Call": call, "Handle": h.Handle(t.Context(), slog.Record{}),
	} {
		if err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h.Enabled(t.Context(), slog.LevelError) {
		t.Error("a handler that panics is enabled")
	}
	if c.Busy() {
		t.Error("calls are in progress after they panicked")
	}
}

// exitingListener is a listener whose Close ends the goroutine.
type exitingListener struct{ net.Listener }

func (exitingListener) Close() error { runtime.Goexit(); return nil }

func TestCloseThatExits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		start := time.Now()
		if err := SafeListener(exitingListener{}, c).Close(); err != errCloseExited || time.Since(start) != 0 || c.Busy() {
			t.Errorf("Close returned %v after %v; a call is in progress: %v", err, time.Since(start), c.Busy())
		}
	})
}

// hungListener is a listener whose Accept and Close block until it is released.
type hungListener struct {
	net.Listener
	release chan struct{}
}

func (l hungListener) Accept() (net.Conn, error) { <-l.release; return nil, io.EOF }
func (l hungListener) Close() error              { <-l.release; return nil }

func TestListenerThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		hung := hungListener{release: make(chan struct{})}
		l := SafeListener(hung, c)
		go l.Accept()
		synctest.Wait()
		if c.Busy() {
			t.Error("an Accept of an open listener counts as a call in progress")
		}
		start := time.Now()
		if err := l.Close(); err == nil || time.Since(start) != time.Second {
			t.Errorf("Close returned %v after %v", err, time.Since(start))
		}
		if n := c.Running(Listener); n != 2 {
			t.Errorf("%d calls in progress, want Accept and Close", n)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		close(hung.release)
		synctest.Wait()
		if c.Busy() {
			t.Error("a call is in progress after both returned")
		}
	})
}
