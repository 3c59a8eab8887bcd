// Calls of functions that the host hands in. Such a function may take any time,
// may never return, and may call the Handle. So no goroutine of the proxy waits
// for one while it holds a lock or a request, and the end of the proxy waits for
// them for a bounded time.

package networkproxy

import (
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// callbackPatience is how long Shutdown and Close, once everything is
	// cut, wait for the next function of the host to return, and
	// callbackLimit how long for all of them. A function that returns when
	// its context ends needs none of it.
	callbackPatience = time.Second
	callbackLimit    = 5 * time.Second

	// mailboxLimit bounds the refusals, and the log lines, that wait for the
	// host's function. It is two seconds of the default log_lines_per_second.
	mailboxLimit = 1024

	// mailboxBacklog is the number of waiting items from which on new ones
	// copy their texts: the name of a host is a piece of a whole request
	// header, which would be kept alive.
	mailboxBacklog = 16
)

// callback is a kind of function that the host hands in.
type callback uint8

const (
	callbackOnBlocked callback = iota
	callbackLog
	callbackDecider
	callbackResolver
	callbackSource
	callbackListener
	callbacks // the number of kinds
)

// String names the function in an error.
func (c callback) String() string {
	return [...]string{
		"OnBlocked", "the log handler", "the PolicyDecider", "the Resolver", "the ConfigSource",
		"a listener that was handed in",
	}[c]
}

// hostCalls counts the calls of the host's functions that are under way. Get
// one from newHostCalls. A nil one counts nothing. Safe for concurrent use.
type hostCalls struct {
	patience time.Duration // callbackPatience, or less in tests
	running  [callbacks]atomic.Int64

	mu      sync.Mutex
	changed chan struct{} // closed at the next progress; nil while nobody waits for that
}

func newHostCalls(s *settings) *hostCalls {
	return &hostCalls{patience: s.callbackPatience}
}

// enter counts a call. The caller calls leave when the function has returned.
func (h *hostCalls) enter(kind callback) {
	if h != nil {
		h.running[kind].Add(1)
	}
}

// leave ends what enter began.
func (h *hostCalls) leave(kind callback) {
	if h != nil {
		h.running[kind].Add(-1)
		h.progress()
	}
}

// progress tells those who wait that a function of the host has returned.
func (h *hostCalls) progress() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// change returns a channel that is closed at the next progress.
func (h *hostCalls) change() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	return h.changed
}

// busy reports whether a call is under way.
func (h *hostCalls) busy() bool {
	for i := range h.running {
		if h.running[i].Load() > 0 {
			return true
		}
	}
	return false
}

// wait waits while busy reports true. It gives up when no function has returned
// for callbackPatience, and after callbackLimit in any case.
func (h *hostCalls) wait(busy func() bool) {
	limit, patience := time.NewTimer(callbackLimit), time.NewTimer(h.patience)
	defer limit.Stop()
	defer patience.Stop()
	for {
		changed := h.change() // before the look, so that no change is missed
		if !busy() {
			return
		}
		select {
		case <-changed:
			patience.Reset(h.patience)
		case <-patience.C:
			return
		case <-limit.C:
			return
		}
	}
}

// stillRunning returns an error that names the functions that have not
// returned; nil if all have. It wraps [ErrCallbackRunning].
func (h *hostCalls) stillRunning() error {
	var names []string
	for kind := range callbacks {
		switch n := h.running[kind].Load(); {
		case n == 1:
			names = append(names, kind.String())
		case n > 1:
			names = append(names, fmt.Sprintf("%s (%d calls)", kind, n))
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrCallbackRunning, strings.Join(names, ", "))
}

// mailbox calls a function of the host for one item after the other, in order,
// on a goroutine that lasts while items wait. Adding an item never blocks: an
// item that finds the mailbox full is dropped and counted. Set the fields up
// to mu before the first call of a method. Safe for concurrent use.
type mailbox[T any] struct {
	deliver func(T)       // must not panic; may call runtime.Goexit
	resumed func(n int)   // called before a delivery after n items were dropped, at most once a second
	limit   int           // of the items that wait
	calls   *hostCalls    // counts the goroutine
	kind    callback      // it is counted as
	lost    atomic.Uint64 // items dropped since the start

	mu      sync.Mutex
	items   []T // the first is at head
	head    int
	running bool
	closed  bool
	dropped int       // items since resumed was last called
	told    time.Time // when it was
}

// put adds an item. It reports whether there was room, and whether this is the
// first item that found none since resumed was last called.
func (m *mailbox[T]) put(x T) (ok, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.items)-m.head >= m.limit {
		m.lost.Add(1)
		m.dropped++
		return false, m.dropped == 1 && !m.closed
	}
	if m.head > 0 && len(m.items) == cap(m.items) {
		n := copy(m.items, m.items[m.head:])
		clear(m.items[n:])
		m.items, m.head = m.items[:n], 0
	}
	m.items = append(m.items, x)
	if !m.running {
		m.running = true
		m.calls.enter(m.kind)
		go m.run()
	}
	return true, false
}

// backlog reports whether so many items wait that a new one should not keep
// alive more than itself.
func (m *mailbox[T]) backlog() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)-m.head >= mailboxBacklog
}

// next takes the item to deliver, and the number of dropped items that is to be
// told before it.
func (m *mailbox[T]) next() (x T, dropped int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.head == len(m.items) || m.closed {
		m.running = false
		if cap(m.items) > mailboxBacklog {
			m.items = nil // a burst is over
		}
		m.items, m.head = m.items[:0], 0
		m.calls.leave(m.kind)
		return x, 0, false
	}
	var zero T
	x, m.items[m.head] = m.items[m.head], zero
	m.head++
	if m.dropped > 0 {
		if now := time.Now(); now.Sub(m.told) >= time.Second {
			dropped, m.dropped, m.told = m.dropped, 0, now
		}
	}
	return x, dropped, true
}

// run delivers until nothing waits.
func (m *mailbox[T]) run() {
	returned := false
	defer func() {
		if !returned { // the host's function ended this goroutine
			go m.run()
		}
	}()
	for {
		x, dropped, ok := m.next()
		if !ok {
			returned = true
			return
		}
		if dropped > 0 {
			m.resumed(dropped)
		}
		m.deliver(x)
		m.calls.progress()
	}
}

// close drops the items that wait and those to come. A delivery under way is
// not waited for. It returns the number of items that were waiting.
func (m *mailbox[T]) close() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	n := len(m.items) - m.head
	clear(m.items)
	m.items, m.head = nil, 0
	return n
}

// newObserver returns the mailbox of OnBlocked; nil if there is no such
// function.
func (e *enforcer) newObserver(f func(BlockedRequest)) *mailbox[BlockedRequest] {
	if f == nil {
		return nil
	}
	return &mailbox[BlockedRequest]{
		limit: mailboxLimit, calls: e.calls, kind: callbackOnBlocked,
		deliver: func(b BlockedRequest) {
			defer func() {
				if p := recover(); p != nil && e.lines.allow(nil) {
					e.log.Error("OnBlocked panicked", "panic", p, "stack", string(debug.Stack()))
				}
			}()
			f(b)
		},
		resumed: func(n int) {
			e.log.Warn("OnBlocked was not told of refusals, because it did not return in time for them", "refusals", n)
		},
	}
}

// notify hands a refusal to OnBlocked.
func (e *enforcer) notify(b BlockedRequest) {
	if e.observer.backlog() {
		b.Host, b.Method, b.UnixSocket = strings.Clone(b.Host), strings.Clone(b.Method), strings.Clone(b.UnixSocket)
		b.ServerName = strings.Clone(b.ServerName)
	}
	if _, first := e.observer.put(b); first {
		e.log.Warn("OnBlocked does not return; refusals that it is not told of are counted, and still recorded", "waiting", mailboxLimit)
	}
}
