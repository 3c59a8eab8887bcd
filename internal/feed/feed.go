// Package feed keeps the newest events as lines, and writes them to any number of
// viewers as server-sent events. A viewer that does not read costs its goroutine and
// one buffer, and delays neither the proxy nor the other viewers. When it reads again,
// it learns how many events have left the feed meanwhile.
//
// While nobody views, and for a while after that, the feed follows no events, so
// that they cost nothing.
package feed

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"example.com/networkproxy/internal/audit"
)

const (
	maxLines = 2 * maxBatch // so that a full batch leaves a viewer time to read
	maxBytes = 1 << 20      // of the lines together
	maxWrite = 64 << 10     // bytes that are written together, or a little more

	// MaxViewers is the number of viewers at the same time.
	MaxViewers = 50

	// delay is how long events are collected, so that a busy proxy is not
	// interrupted for each of them. Of those, viewers get the newest maxBatch: more
	// than people can read, and not enough to be noticed in the processor's time.
	delay    = 200 * time.Millisecond
	maxBatch = 1024

	heartbeat = 15 * time.Second // shorter than the timeouts of common clients

	// linger is how long the feed goes on without viewers, so that a viewer that
	// connects again misses nothing.
	linger = time.Minute
)

// Errors of [Feed.View].
var (
	ErrClosed  = errors.New("the proxy has ended")
	ErrTooMany = errors.New("too many viewers of events: close one of the pages")
)

// Config is the configuration of a [Feed]. All fields are required.
type Config struct {
	Events *audit.Stream

	// Encode appends an event as one line of JSON without a line feed.
	Encode func(b []byte, e *audit.Event) []byte

	// Run names this run of the proxy in the IDs of events, because their numbers
	// begin again in the next. It has no hyphen.
	Run string
}

// Feed keeps the newest events. Safe for concurrent use.
type Feed struct {
	config Config

	following sync.WaitGroup // goroutine of follow
	ended     context.Context
	end       context.CancelFunc // by Close

	mu      sync.Mutex
	lines   []line        // oldest first
	bytes   int           // of lines
	first   uint64        // index of lines[0]; lines are numbered from 0
	changed chan struct{} // closed when a line is added, or the feed is closed
	viewers int
	used    bool // there was a viewer since the last tick of follow
	active  bool // follow runs
}

// line is an event as JSON.
type line struct {
	seq     uint64
	text    []byte
	dropped bool // of the kind dropped
}

// New returns a feed. Call Close at the end.
func New(c Config) *Feed {
	f := &Feed{config: c, changed: make(chan struct{})}
	f.ended, f.end = context.WithCancel(context.Background())
	return f
}

// Close ends all views, and waits for the goroutine of the feed.
func (f *Feed) Close() {
	f.mu.Lock()
	f.end() // under the lock, so that no goroutine is started after it
	f.mu.Unlock()
	f.following.Wait()
}

// enter adds a viewer, and makes the feed follow the events.
func (f *Feed) enter() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ended.Err() != nil:
		return ErrClosed
	case f.viewers >= MaxViewers:
		return ErrTooMany
	}
	f.viewers++
	f.used = true
	if !f.active {
		f.active = true
		ready := make(chan struct{}, 1)
		q := &audit.Queue{
			Limit: maxBatch, Newest: true, Consumer: audit.Viewers,
			Wake: func() {
				select {
				case ready <- struct{}{}:
				default:
				}
			},
			Overflowing: func() {}, // viewers are told
		}
		f.config.Events.Subscribe(q)
		f.following.Go(func() { f.follow(q, ready) })
	}
	return nil
}

func (f *Feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.viewers--
}

// follow adds the events of q, until nobody has viewed for a while or the feed is closed.
func (f *Feed) follow(q *audit.Queue, ready <-chan struct{}) {
	defer f.config.Events.Unsubscribe(q)
	idle := time.NewTicker(linger)
	defer idle.Stop()
	var batch []audit.Event
	for {
		select {
		case <-ready:
		case <-idle.C:
			if f.pause() {
				return
			}
			continue
		case <-f.ended.Done():
			return
		}
		for {
			wait(f.ended, delay)
			if batch, _ = q.Take(batch); len(batch) == 0 {
				break
			}
			f.add(batch)
		}
	}
}

// wait waits for a time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pause reports whether there was no viewer since its last call. The feed follows no
// events then, and has no lines, because they would have a gap.
func (f *Feed) pause() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.used || f.viewers > 0 {
		f.used = false
		return false
	}
	f.active = false
	f.first += uint64(len(f.lines))
	f.lines, f.bytes = nil, 0
	return true
}

// add adds events, and removes the oldest lines beyond the limits.
func (f *Feed) add(events []audit.Event) {
	added := make([]line, len(events))
	size := 0
	for i := range events {
		added[i] = line{events[i].Seq, f.config.Encode(nil, &events[i]), events[i].Kind == audit.KindDropped}
		size += len(added[i].text)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, added...)
	f.bytes += size
	for len(f.lines) > maxLines || f.bytes > maxBytes && len(f.lines) > 1 {
		f.bytes -= len(f.lines[0].text)
		f.lines[0] = line{}
		f.lines = f.lines[1:]
		f.first++
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// View writes events to w until ctx ends, w fails, or the feed is closed; if follow is
// false, only those that the feed has. last is the ID of the last event that the viewer
// has got, and empty if it has got none: View begins after it, with the oldest line
// that the feed has. Where events are missing, an event of the kind dropped stands in
// their place. The error is ErrClosed or ErrTooMany if nothing was written.
func (f *Feed) View(ctx context.Context, w io.Writer, last string, follow bool) error {
	if err := f.enter(); err != nil {
		return err
	}
	defer f.leave()
	v := &view{feed: f, w: w}
	v.begin(last)
	if !v.write([]byte("retry: 2000\n\n")) {
		return nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		text, changed := v.next()
		switch {
		case len(text) > 0:
			if !v.write(text) {
				return nil
			}
			continue
		case !follow:
			return nil
		}
		select {
		case <-changed:
		case <-beat.C:
			if !v.write([]byte(": heartbeat\n\n")) {
				return nil
			}
		case <-ctx.Done():
			return nil
		case <-f.ended.Done():
			return nil
		}
	}
}
