// Inspection: holding bytes back, passing them, and refusing.

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// holdUntil returns an Inspector that holds bytes back until they end in word,
// and then returns the given result.
func holdUntil(word string, then Inspection) Inspector {
	return inspectFunc(func(held []byte, _ SourceState) Inspection {
		if strings.HasSuffix(string(held), word) {
			return then
		}
		return Inspection{}
	})
}

var pass = Inspection{Decision: PassAll}

func refuse(reply string) Inspection {
	return Inspection{Decision: Refuse, Reply: []byte(reply)}
}

// expectNothing fails the test if c receives something within a short time.
func expectNothing(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatalf("received %d bytes, %v; want nothing", n, err)
	}
	c.SetReadDeadline(time.Now().Add(testTimeout))
}

func TestHeldBackBothWaysOfCopying(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(*net.TCPConn) net.Conn{
		"sockets": func(c *net.TCPConn) net.Conn { return c },
		"others":  func(c *net.TCPConn) net.Conn { return struct{ conn }{c} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, a := tcpPair(t)
			b, server := tcpPair(t)
			client.SetDeadline(time.Now().Add(testTimeout))
			server.SetDeadline(time.Now().Add(testTimeout))
			result := make(chan Result, 1)
			go func() {
				result <- Relay(wrap(a), wrap(b), Options{Early: []byte("hel"), EarlyBack: []byte("220 "), Inspect: holdUntil(".", pass)})
			}()
			expect(t, client, "220 ")
			send(t, client, "lo")
			send(t, server, "ready") // the server's bytes pass meanwhile
			expect(t, client, "ready")
			expectNothing(t, server)
			send(t, client, ".")
			expect(t, server, "hello.")
			send(t, client, "and so on")
			expect(t, server, "and so on")
			client.CloseWrite()
			expectEOF(t, server)
			server.Close()
			if got, want := await(t, result), (Result{Sent: 15, Received: 9}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestInspectSeesEachByteOnce checks that Inspect does not see passed bytes
// again, and nothing after PassAll.
func TestInspectSeesEachByteOnce(t *testing.T) {
	t.Parallel()
	var shown []string
	answers := []Inspection{{Decision: PassHeld}, {}, {Decision: PassHeld}, pass}
	r := newRig(t, Options{Early: []byte("1"), Inspect: inspectFunc(func(held []byte, _ SourceState) Inspection {
		shown = append(shown, string(held))
		answer := answers[0]
		answers = answers[1:]
		return answer
	})})
	expect(t, r.server, "1")
	send(t, r.client, "2")
	expectNothing(t, r.server)
	send(t, r.client, "3")
	expect(t, r.server, "23")
	send(t, r.client, "4")
	expect(t, r.server, "4")
	send(t, r.client, "5")
	expect(t, r.server, "5")
	r.client.Close()
	r.server.Close()
	r.wait(t)
	if want := []string{"1", "2", "23", "4"}; !slices.Equal(shown, want) {
		t.Errorf("Inspect saw %q, want %q", shown, want)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		opts Options
		send string
	}{
		{"early bytes", Options{Early: []byte("bad."), Inspect: holdUntil(".", refuse("no"))}, ""},
		{"bytes after the start", Options{Inspect: holdUntil(".", refuse("no"))}, "bad."},
		{"held bytes", Options{Early: []byte("b"), Inspect: holdUntil(".", refuse("no"))}, "ad."},
		{"after passed bytes", Options{Early: []byte("1"), Inspect: inspectFunc(func(held []byte, _ SourceState) Inspection {
			if string(held) == "1" {
				return Inspection{Decision: PassHeld}
			}
			return refuse("no")
		})}, "bad."},
		{"more than one read", Options{Inspect: inspectFunc(func([]byte, SourceState) Inspection { return refuse("no") })}, strings.Repeat("bad", 1<<20)},
		{"more than can be held", Options{Inspect: inspectFunc(func([]byte, SourceState) Inspection { return Inspection{Reply: []byte("no")} })}, strings.Repeat("bad", 1<<20)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.opts)
			go io.WriteString(r.client, tt.send)
			got, _ := io.ReadAll(r.server)
			if strings.Contains(string(got), "b") {
				t.Errorf("%d bytes reached the server", len(got))
			}
			expect(t, r.client, "no")
			expectEOF(t, r.client)
			r.client.Close()
			if got := r.wait(t); got.Cause != CauseRefused || got.Err != nil || got.Sent > 1 {
				t.Errorf("got %+v, want %v", got, CauseRefused)
			}
			if err := r.a.Close(); !errors.Is(err, net.ErrClosed) {
				t.Error("a is still open")
			}
		})
	}
}

// TestRefuseAfterServerSent checks that the client gets no reply once it has
// received bytes from the server, because it would take the reply for the
// server's.
func TestRefuseAfterServerSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{Inspect: holdUntil(".", refuse("no"))})
	send(t, r.server, "220 ready")
	expect(t, r.client, "220 ready")
	send(t, r.client, "bad.")
	got, err := io.ReadAll(r.client)
	if len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client received %q, %v; want a reset", got, err)
	}
	if got := r.wait(t); got.Cause != CauseRefused {
		t.Errorf("got %+v, want %v", got, CauseRefused)
	}
}

// TestRefuseAfterServerClosed checks that the client gets no reply after the
// end of the server's stream.
func TestRefuseAfterServerClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{Inspect: holdUntil(".", refuse("no"))})
	r.server.CloseWrite()
	expectEOF(t, r.client)
	send(t, r.client, "bad.")
	if got := r.wait(t); got.Cause != CauseRefused || got.Sent != 0 {
		t.Errorf("got %+v, want %v", got, CauseRefused)
	}
	if got, _ := io.ReadAll(r.server); len(got) > 0 {
		t.Errorf("%q reached the server", got)
	}
}

// TestRefusedClientStays checks that a refused client that does not hang up, or
// does not read, cannot keep the tunnel open.
func TestRefusedClientStays(t *testing.T) {
	t.Parallel()
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			client, a := net.Pipe()
			b, _ := net.Pipe()
			result := make(chan Result, 1)
			start := time.Now()
			go func() { result <- Relay(halfCloser{a}, b, Options{Inspect: holdUntil(".", refuse("no"))}) }()
			send(t, client, "bad.")
			expect(t, client, "no")
			if got := <-result; got.Cause != CauseRefused {
				t.Errorf("got %+v, want %v", got, CauseRefused)
			}
			if got := time.Since(start); got != drainTimeout {
				t.Errorf("ended after %v, want %v", got, drainTimeout)
			}
		})
	})
	t.Run("deaf", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			client, a := net.Pipe()
			b, server := net.Pipe()
			result := make(chan Result, 1)
			go func() {
				result <- Relay(halfCloser{a}, b, Options{IdleTimeout: time.Hour, Inspect: holdUntil(".", refuse("no"))})
			}()
			send(t, server, "nobody reads this")
			synctest.Wait()
			start := time.Now()
			send(t, client, "bad.")
			if got := <-result; got.Cause != CauseRefused {
				t.Errorf("got %+v, want %v", got, CauseRefused)
			}
			if got := time.Since(start); got != drainTimeout {
				t.Errorf("ended after %v, want %v", got, drainTimeout)
			}
		})
	})
}

// lateConn is a connection whose Read waits for the close, and then for a time, and
// returns err.
type lateConn struct {
	net.Conn
	closed context.Context
	cancel context.CancelFunc
	late   time.Duration
	err    error
}

func (c *lateConn) Read([]byte) (int, error) {
	<-c.closed.Done()
	time.Sleep(c.late)
	return 0, c.err
}

func (c *lateConn) Close() error {
	c.cancel()
	return c.Conn.Close()
}

// TestReplyAfterALateEnd checks that a refused client gets the reply however late the
// server's direction ends, as on a busy machine, and if the server's stream ends at the
// moment of the refusal.
func TestReplyAfterALateEnd(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"closed": net.ErrClosed, "end of the stream": io.EOF} {
		for _, late := range []time.Duration{0, 2 * drainTimeout} {
			t.Run(fmt.Sprintf("%s, after %v", name, late), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					client, a := net.Pipe()
					b, _ := net.Pipe()
					result := make(chan Result, 1)
					closed, cancel := context.WithCancel(t.Context())
					go func() {
						result <- Relay(endCloser{a}, &lateConn{b, closed, cancel, late, err},
							Options{IdleTimeout: time.Minute, Lifetime: time.Minute, Inspect: holdUntil(".", refuse("no"))})
					}()
					send(t, client, "bad.")
					expect(t, client, "no")
					client.Close()
					if got := <-result; got.Cause != CauseRefused || got.Err != nil {
						t.Errorf("got %+v, want %v", got, CauseRefused)
					}
				})
			})
		}
	}
}

// endCloser is a pipe whose CloseWrite closes it.
type endCloser struct{ net.Conn }

func (c endCloser) CloseWrite() error { return c.Close() }

// TestHeldBytesAtEOF checks that held bytes are decided on when the client has
// ended its stream.
func TestHeldBytesAtEOF(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Cause{"pass": CauseEnded, "hold": CauseRefused} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ends atomic.Int32
			r := newRig(t, Options{Inspect: inspectFunc(func(_ []byte, rest SourceState) Inspection {
				if rest != SourceEOF {
					return Inspection{}
				}
				ends.Add(1)
				if name == "pass" {
					return pass
				}
				return Inspection{Reply: []byte("no")}
			})})
			send(t, r.client, "half")
			r.client.CloseWrite()
			if want == CauseEnded {
				expect(t, r.server, "half")
				expectEOF(t, r.server)
				r.server.Close()
			} else {
				expect(t, r.client, "no")
			}
			if got := r.wait(t); got.Cause != want {
				t.Errorf("got %+v, want %v", got, want)
			}
			if n := ends.Load(); n != 1 {
				t.Errorf("Inspect saw SourceEOF %d times, want 1", n)
			}
		})
	}
}

// TestHeldBytesAreIdle checks that held bytes do not count as activity.
func TestHeldBytesAreIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Minute
		client, a := net.Pipe()
		b, _ := net.Pipe()
		start := time.Now()
		result := make(chan Result, 1)
		go func() { result <- Relay(a, b, Options{IdleTimeout: idle, Inspect: holdUntil(".", pass)}) }()
		for range 10 {
			if _, err := client.Write([]byte("x")); err != nil {
				break
			}
			time.Sleep(idle / 4)
		}
		if got := <-result; got.Cause != CauseIdle || got.Sent != 0 {
			t.Errorf("got %+v, want %v", got, CauseIdle)
		}
		if got := time.Since(start); got > 2*idle {
			t.Errorf("ended after %v", got)
		}
	})
}

func TestOutsideCloseWhileInspecting(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"nothing sent": "", "something held back": "half"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shown := make(chan struct{}, 9)
			r := newRig(t, Options{Inspect: inspectFunc(func([]byte, SourceState) Inspection {
				shown <- struct{}{}
				return Inspection{}
			})})
			send(t, r.server, "x")
			expect(t, r.client, "x")
			if first != "" {
				send(t, r.client, first)
				<-shown
			}
			Pair{r.a, r.b}.Close()
			if got := r.wait(t); got.Cause != CauseClosed {
				t.Errorf("got %+v, want %v", got, CauseClosed)
			}
		})
	}
}

// TestInspectedStreams checks that every byte arrives once and in order after
// any pattern of holding.
func TestInspectedStreams(t *testing.T) {
	t.Parallel()
	for i, first := range []int{1, 100, 20_000, MaxHeld - 1} {
		client, a := tcpPair(t)
		b, server := tcpPair(t)
		parts := 0
		result := make(chan Result, 1)
		go func() {
			result <- Relay(a, b, Options{Inspect: inspectFunc(func(held []byte, _ SourceState) Inspection {
				switch {
				case len(held) < first:
					return Inspection{}
				case parts < 3:
					parts++
					return Inspection{Decision: PassHeld}
				}
				return pass
			})})
		}()
		exchange(t, client, server, uint64(100+i), 4<<20, mixedSizes)
		if got, want := await(t, result), (Result{Sent: 4 << 20, Received: 4 << 20}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

// TestHoldTimeout checks that an inspector gets one last call when the timeout
// passes, and that the time begins with the first held byte.
func TestHoldTimeout(t *testing.T) {
	t.Parallel()
	const hold = 10 * time.Second
	tests := []struct {
		name  string
		early string
		last  Inspection // returned for HoldExpired
		want  Cause
	}{
		{"undecided", "", Inspection{}, CauseRefused},
		{"early bytes", "early", Inspection{}, CauseRefused},
		{"refused", "", refuse("no"), CauseRefused},
		{"passed", "", pass, CauseEnded},
		{"goes on", "", Inspection{Decision: PassHeld}, CauseEnded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, a := net.Pipe()
				b, server := net.Pipe()
				var began, late time.Time
				result := make(chan Result, 1)
				go func() {
					result <- Relay(a, b, Options{IdleTimeout: time.Hour, HoldTimeout: hold, Early: []byte(tt.early), Inspect: inspectFunc(func(held []byte, rest SourceState) Inspection {
						switch {
						case rest == HoldExpired:
							late = time.Now()
							return tt.last
						case began.IsZero():
							began = time.Now()
						case strings.HasSuffix(string(held), "end"):
							return pass
						}
						return Inspection{}
					})})
				}()
				sent := make(chan string, 1)
				go func() {
					all, _ := io.ReadAll(server)
					sent <- string(all)
				}()
				go io.Copy(io.Discard, client)
				if tt.early == "" {
					time.Sleep(time.Minute) // no byte is held yet
				}
				for range 3 { // more bytes do not extend the timeout
					if _, err := client.Write([]byte("x")); err != nil {
						break
					}
					time.Sleep(hold * 2 / 5) // no byte arrives exactly at the timeout
				}
				if tt.want == CauseEnded {
					time.Sleep(time.Minute) // the deadline has been removed
					io.WriteString(client, "end")
				}
				client.Close()
				got := <-result
				if all := <-sent; (got.Cause == CauseRefused) != (tt.want == CauseRefused) || (all == "") != (tt.want == CauseRefused) {
					t.Errorf("result %+v, the server received %q; want %v", got, all, tt.want)
				}
				if wait := late.Sub(began); wait != hold {
					t.Errorf("the last call came after %v, want %v", wait, hold)
				}
			})
		})
	}
}

// watchInspector passes the client's bytes one call at a time until the server
// has sent "go", and stops observing then.
type watchInspector struct {
	gotGo atomic.Bool
	seen  []string
}

func (w *watchInspector) Inspect(held []byte, _ SourceState) Inspection {
	if w.gotGo.Load() {
		return pass
	}
	return Inspection{Decision: PassHeld}
}

func (w *watchInspector) Observe(sent []byte) bool {
	w.seen = append(w.seen, string(sent))
	if strings.HasSuffix(string(sent), "go") {
		w.gotGo.Store(true)
	}
	return !w.gotGo.Load()
}

// TestObserve checks that the inspector sees the server's bytes before the
// client does.
func TestObserve(t *testing.T) {
	t.Parallel()
	w := new(watchInspector)
	r := newRig(t, Options{EarlyBack: []byte("1"), Inspect: w})
	expect(t, r.client, "1")
	send(t, r.server, "2")
	expect(t, r.client, "2")
	if w.gotGo.Load() {
		t.Error("the inspector saw \"go\" before it was sent")
	}
	send(t, r.server, "go")
	expect(t, r.client, "go")
	if !w.gotGo.Load() {
		t.Error("the client received \"go\" before the inspector saw it")
	}
	send(t, r.server, "on")
	expect(t, r.client, "on")
	r.client.Close()
	r.server.Close()
	r.wait(t)
	if want := []string{"1", "2", "go"}; !slices.Equal(w.seen, want) {
		t.Errorf("Observe saw %q, want %q", w.seen, want)
	}
}
