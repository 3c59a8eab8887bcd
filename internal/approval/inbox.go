// Inbox: questions that wait until somebody answers them.

package approval

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrNoQuestion is the error for a question that does not wait: somebody has answered
// it, or nobody waits for the answer any more.
var ErrNoQuestion = errors.New("this question does not wait for an answer: it was answered, or its request has ended")

// Inbox holds questions until somebody answers them. Its method Decide is a Decider.
// The zero value is empty. Safe for concurrent use.
type Inbox struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]*waiting
}

// Waiting is a question that waits for an answer.
type Waiting struct {
	ID      uint64 // unique in the Inbox, above 0
	Request *Request
	Asked   time.Time
	Expires time.Time // zero if the question has no deadline
}

// waiting is a question with the place for its answer.
type waiting struct {
	Waiting
	answer chan Decision // has room for it
}

// Decide waits for the answer to a question.
func (b *Inbox) Decide(ctx context.Context, req *Request) (Decision, error) {
	q := &waiting{Waiting{Request: req, Asked: time.Now()}, make(chan Decision, 1)}
	q.Expires, _ = ctx.Deadline()
	b.add(q)
	select {
	case d := <-q.answer:
		return d, nil
	case <-ctx.Done():
		b.Take(q.ID)
		return Decision{}, context.Cause(ctx)
	}
}

func (b *Inbox) add(q *waiting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil {
		b.open = make(map[uint64]*waiting)
	}
	b.last++
	q.ID = b.last
	b.open[q.ID] = q
}

// List returns the questions that wait, oldest first.
func (b *Inbox) List() []Waiting {
	b.mu.Lock()
	list := make([]Waiting, 0, len(b.open))
	for _, q := range b.open {
		list = append(list, q.Waiting)
	}
	b.mu.Unlock()
	slices.SortFunc(list, func(a, b Waiting) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Take removes a question, so that nobody else can answer it, and returns it with the
// function that answers it. Call that function once. The error is ErrNoQuestion if the
// question does not wait.
func (b *Inbox) Take(id uint64) (q Waiting, answer func(Decision), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.open[id]
	if w == nil {
		return Waiting{}, nil, ErrNoQuestion
	}
	delete(b.open, id)
	return w.Waiting, func(d Decision) { w.answer <- d }, nil
}
