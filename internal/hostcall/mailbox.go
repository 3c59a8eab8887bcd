package hostcall

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MailboxLimit is the usual [Mailbox.Limit], for refusals and for log lines. It is two seconds of the default
	// log_lines_per_second.
	MailboxLimit = 1024

	// backlogSize is the smallest number of waiting items for which [Mailbox.Backlog] returns true.
	backlogSize = 16
)

// Mailbox calls a function of the host for one item after the other, in order, on a goroutine that runs while items wait.
// Adding an item never blocks. A full mailbox drops and counts new items. Set the exported fields before the first call of a
// method. Safe for concurrent use.
type Mailbox[T any] struct {
	Deliver func(T)     // must not panic; may call runtime.Goexit
	Resumed func(n int) // called before a delivery if n items were dropped, at most once a second
	Limit   int         // the largest number of waiting items
	Calls   *Calls      // counts the goroutine
	Kind    Kind        // of the function, for Calls

	lost atomic.Uint64

	mu         sync.Mutex
	items      []T // the first is at head
	head       int
	running    bool
	closed     bool
	dropped    int       // items since the last call of Resumed
	reportedAt time.Time // when Resumed was last called
}

// Put adds x. Ok reports whether there was room. First reports whether x is the first item that was dropped since the last
// call of Resumed.
func (m *Mailbox[T]) Put(x T) (ok, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.items)-m.head >= m.Limit {
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
		m.Calls.Enter(m.Kind)
		go m.run()
	}
	return true, false
}

// Backlog reports whether many items wait. A caller should then copy the strings of new items: a string such as a host name is
// part of a whole request header, and would keep all of it alive.
func (m *Mailbox[T]) Backlog() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)-m.head >= backlogSize
}

// Lost returns the number of items that were dropped since the start; 0 for a nil mailbox.
func (m *Mailbox[T]) Lost() uint64 {
	if m == nil {
		return 0
	}
	return m.lost.Load()
}

// next removes the item to deliver next. It returns the number of dropped items to report before.
func (m *Mailbox[T]) next() (x T, dropped int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.head == len(m.items) || m.closed {
		m.running = false
		if cap(m.items) > backlogSize {
			m.items = nil // free the memory of a burst
		}
		m.items, m.head = m.items[:0], 0
		m.Calls.Leave(m.Kind)
		return x, 0, false
	}
	var zero T
	x, m.items[m.head] = m.items[m.head], zero
	m.head++
	if m.dropped > 0 {
		if now := time.Now(); now.Sub(m.reportedAt) >= time.Second {
			dropped, m.dropped, m.reportedAt = m.dropped, 0, now
		}
	}
	return x, dropped, true
}

// run delivers items until none waits.
func (m *Mailbox[T]) run() {
	returned := false
	defer func() {
		if !returned { // the host's function called runtime.Goexit
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
			m.Resumed(dropped)
		}
		m.Deliver(x)
		m.Calls.progress()
	}
}

// Close drops the waiting items and all later ones, and returns the number of those that waited. It does not wait for a
// delivery in progress.
func (m *Mailbox[T]) Close() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	n := len(m.items) - m.head
	clear(m.items)
	m.items, m.head = nil, 0
	return n
}
