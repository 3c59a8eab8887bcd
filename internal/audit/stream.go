// The stream of events, with a bounded queue for each consumer.

package audit

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// QueueLimit is the usual limit of a [Queue]: two seconds of the default
// log_lines_per_second.
const QueueLimit = 1024

// fewEvents is the number of events whose memory an empty queue keeps.
const fewEvents = 16

// Stream passes events to the queues of their consumers: all events to some, and the
// events of one owner to others. Publishing never blocks. Events that no queue wants
// need not be made: see Wanted. The zero value has no queues. Safe for concurrent
// use.
type Stream struct {
	open     atomic.Int32  // number of queues that get all events
	requests atomic.Uint64 // the last number of a request
	dropped  [Consumers]atomic.Uint64

	mu     sync.Mutex
	seq    uint64 // of the last event
	all    []*Queue
	closed bool
}

// Consumer is a kind of consumer of events.
type Consumer uint8

const (
	OnEvent   Consumer = iota // a function of the host
	Iterator                  // an iterator of the host
	AuditLog                  // the audit log
	Viewers                   // viewers of the admin API
	Consumers                 // number of kinds
)

// String returns the consumer as logs and metrics show it.
func (c Consumer) String() string { return [...]string{"OnEvent", "Events", "audit log", "viewers"}[c] }

// Queue holds the events that wait for one consumer. Set the exported fields before
// it is subscribed. Its events are in order. Safe for concurrent use.
type Queue struct {
	Limit    int      // Required. The largest number of waiting events.
	Consumer Consumer // for the number of dropped events

	// Newest makes a full queue drop its oldest event instead of the new one. Take then
	// reports the dropped ones first. A queue with an Encoder does not have it.
	Newest bool

	// Encoder, if not nil, makes the queue hold lines instead of events, and
	// TakeLines takes them. Encoding an event at once is cheaper, because its parts
	// are still in the processor's cache. It is called under a lock and must not block.
	Encoder Encoder

	// Wake is called when an event is put into the queue for the first time after
	// Take has found it empty. It is called under a lock and must not block.
	Wake func()

	// Overflowing is called when events are dropped, at most once a second. It is
	// called under a lock and must not block.
	Overflowing func()

	stream *Stream // nil before it is subscribed

	// Guarded by stream.mu.
	events     []Event
	oldest     int // index in events; above 0 only if Newest has replaced events
	lines      Lines
	memo       Memo   // for lines
	encoded    Event  // the event of a new line, so that published events need not be on the heap
	busy       bool   // the consumer knows of the events
	dropped    uint64 // events since the last Take
	lastSeq    uint64 // of the last dropped event
	reportedAt time.Time
	closed     bool
}

// Wanted reports whether a queue wants the events of an owner, which may be nil. It
// costs one atomic load.
func (s *Stream) Wanted(o *Owner) bool { return s.open.Load() > 0 || o != nil && o.Events != nil }

// Followers returns the number of queues that get all events.
func (s *Stream) Followers() int { return int(s.open.Load()) }

// NextRequest returns a number for a request.
func (s *Stream) NextRequest() uint64 { return s.requests.Add(1) }

// Last returns the number of the last event.
func (s *Stream) Last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// Subscribe adds a queue for all events. After Close it closes the queue.
func (s *Stream) Subscribe(q *Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.stream = s
	if s.closed {
		q.close()
		return
	}
	s.all = append(s.all, q)
	s.open.Add(1)
}

// Attach makes q the queue for the events of one owner. Call it before the owner's
// first event. Owner.Events refers to the queue.
func (s *Stream) Attach(q *Queue, o *Owner) {
	q.stream = s
	o.Events = q
}

// Unsubscribe removes and closes a queue. It may be called more than once.
func (s *Stream) Unsubscribe(q *Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.close()
	if i := slices.Index(s.all, q); i >= 0 {
		s.all = slices.Delete(s.all, i, i+1)
		s.open.Add(-1)
	}
}

// Publish puts an event of an owner, or of none if o is nil, into the queues that
// want it. It does not keep e, but fills in its owner, Seq and Time.
func (s *Stream) Publish(o *Owner, e *Event) {
	e.Owner = o
	if o != nil && e.Attribution == nil {
		e.Attribution = o.attribution.Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	e.Seq = s.seq
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	for _, q := range s.all {
		q.put(e)
	}
	if o != nil && o.Events != nil {
		o.Events.put(e)
	}
}

// Close closes all queues. Events that wait in them can still be taken; later ones
// are not published.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.open.Add(-int32(len(s.all)))
	for _, q := range s.all {
		q.close()
	}
	s.all = nil
}

// Dropped returns the number of events that were dropped for a kind of consumer.
func (s *Stream) Dropped(c Consumer) uint64 { return s.dropped[c].Load() }

// put adds an event, or drops it if the queue is full. The lock of the stream is
// held.
func (q *Queue) put(e *Event) {
	if q.closed {
		return
	}
	switch {
	case len(q.events)+len(q.lines.all) < q.Limit:
	case q.Newest:
		q.drop(&q.events[q.oldest])
		q.events[q.oldest] = *e
		q.oldest = (q.oldest + 1) % q.Limit
		return
	default:
		q.drop(e)
		return
	}
	switch {
	case q.Encoder != nil:
		q.encoded = *e
		q.lines.append(&q.encoded, q.Encoder, &q.memo)
		q.encoded = Event{}
	default:
		q.events = append(q.events, *e)
	}
	q.wake()
}

// drop counts a dropped event. The lock of the stream is held.
func (q *Queue) drop(e *Event) {
	q.dropped++
	q.lastSeq = e.Seq
	q.stream.dropped[q.Consumer].Add(1)
	if q.reportedAt.IsZero() || e.Time.Sub(q.reportedAt) >= time.Second {
		q.reportedAt = e.Time
		q.Overflowing()
	}
}

// wake calls Wake unless the consumer will call Take anyway. The lock of the stream
// is held.
func (q *Queue) wake() {
	if !q.busy {
		q.busy = true
		q.Wake()
	}
}

// close makes the queue refuse events. The lock of the stream is held.
func (q *Queue) close() {
	if !q.closed {
		q.closed = true
		if q.Consumer == Iterator { // only an iterator waits for the end
			q.wake()
		}
	}
}

// Take returns the waiting events, oldest first. Where events were dropped, there is
// an event of the kind dropped with their number. Take uses the memory of spare,
// the result of the previous call, for the events to come. If the result is empty,
// nothing waits, and the next event calls Wake. open is false if the queue is
// closed.
func (q *Queue) Take(spare []Event) (events []Event, open bool) {
	clear(spare)
	q.stream.mu.Lock()
	defer q.stream.mu.Unlock()
	events = q.events
	if q.dropped > 0 {
		missing := NewDropped(q.lastSeq, q.dropped)
		if q.Newest {
			events = append(append(make([]Event, 0, q.Limit+1), missing), slices.Concat(events[q.oldest:], events[:q.oldest])...)
		} else { // after the waiting ones, because they have filled the queue
			events = append(events, missing)
		}
		q.oldest, q.dropped = 0, 0
	}
	if len(events) == 0 {
		q.busy = false
		if cap(q.events) > fewEvents {
			q.events = nil // free the memory of a burst
		}
		return nil, !q.closed
	}
	q.events = spare[:0]
	return events, true
}

// TakeLines is Take for a queue with an Encoder. The result has one element if it is not
// empty.
func (q *Queue) TakeLines(spare []Lines) []Lines {
	if len(spare) == 0 {
		spare = make([]Lines, 1)
	}
	spare[0].reset()
	q.stream.mu.Lock()
	defer q.stream.mu.Unlock()
	if q.dropped > 0 {
		e := NewDropped(q.lastSeq, q.dropped)
		q.lines.append(&e, q.Encoder, &q.memo)
		q.dropped = 0
	}
	if len(q.lines.all) == 0 {
		q.busy = false
		q.lines = Lines{}
		return nil
	}
	spare[0], q.lines = q.lines, spare[0]
	return spare
}

// NewDropped returns an event that stands for n dropped ones. seq is that of the last.
func NewDropped(seq, n uint64) Event {
	return Event{Kind: KindDropped, Seq: seq, Time: time.Now(), Rare: &Rare{Dropped: n}}
}
