package hostcall

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pumpQueue is a queue for a Pump, which it starts as its owner has to: with the first item.
type pumpQueue struct {
	pump Pump[int]

	mu      sync.Mutex
	waiting []int
	active  bool
	got     []int
	takes   int
}

func newPumpQueue(delay time.Duration, deliver func(*pumpQueue, int)) *pumpQueue {
	q := new(pumpQueue)
	q.pump = Pump[int]{
		Take: func(spare []int) []int {
			q.mu.Lock()
			defer q.mu.Unlock()
			batch := q.waiting
			q.waiting = spare[:0]
			q.takes++
			q.active = len(batch) > 0
			return batch
		},
		Deliver: func(i *int) {
			q.mu.Lock()
			q.got = append(q.got, *i)
			q.mu.Unlock()
			if deliver != nil {
				deliver(q, *i)
			}
		},
		Delay: delay,
		Calls: New(GracePeriod),
		Kind:  OnEvent,
	}
	return q
}

func (q *pumpQueue) put(items ...int) {
	q.mu.Lock()
	q.waiting = append(q.waiting, items...)
	start := !q.active
	q.active = true
	q.mu.Unlock()
	if start {
		q.pump.Start()
	}
}

func (q *pumpQueue) check(t *testing.T, takes int, want ...int) {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Equal(q.got, want) || q.takes != takes {
		t.Errorf("%d batches with the items %v, want %d with %v", q.takes, q.got, takes, want)
	}
}

// Items are delivered in order, also those that arrive meanwhile, and the goroutine ends with the last one.
func TestPump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPumpQueue(0, func(q *pumpQueue, i int) {
			if i == 2 {
				q.put(4, 5)
			}
		})
		q.put(1, 2, 3)
		synctest.Wait()
		q.check(t, 3, 1, 2, 3, 4, 5)
		if n := q.pump.Calls.Running(OnEvent); n != 0 {
			t.Errorf("after the last item, %v calls are running", n)
		}
		q.put(6)
		synctest.Wait()
		q.check(t, 5, 1, 2, 3, 4, 5, 6)
	})
}

// With a delay, items that arrive soon after the first one are in its batch.
func TestPumpDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPumpQueue(5*time.Millisecond, nil)
		q.put(1)
		time.Sleep(4 * time.Millisecond)
		q.put(2)
		q.check(t, 0)
		time.Sleep(2 * time.Millisecond)
		q.check(t, 1, 1, 2)
		time.Sleep(time.Second)
		q.check(t, 2, 1, 2)
	})
}

// A function that ends its goroutine costs no other item, and is not counted as running for ever.
func TestPumpGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPumpQueue(0, func(_ *pumpQueue, i int) {
			if i%2 == 1 {
				runtime.Goexit()
			}
		})
		q.put(1, 2, 3)
		synctest.Wait()
		q.put(4)
		synctest.Wait()
		q.mu.Lock()
		defer q.mu.Unlock()
		if !slices.Equal(q.got, []int{1, 2, 3, 4}) {
			t.Errorf("got the items %v", q.got)
		}
		if n := q.pump.Calls.Running(OnEvent); n != 0 {
			t.Errorf("after the last item, %v calls are running", n)
		}
	})
}
