// Tests of the inbox.

package approval_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/approval"
)

// TestInbox checks that the first answer to a question counts, and that a question
// disappears when its context ends.
func TestInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inbox approval.Inbox
		type result struct {
			decision approval.Decision
			err      error
		}
		ask := func(ctx context.Context) chan result {
			results := make(chan result, 1)
			go func() {
				d, err := inbox.Decide(ctx, &approval.Request{Method: "GET"})
				results <- result{d, err}
			}()
			synctest.Wait()
			return results
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		bounded, unbounded := ask(ctx), ask(t.Context())

		list := inbox.List()
		if len(list) != 2 || list[0].ID != 1 || list[1].ID != 2 || list[0].Request.Method != "GET" ||
			list[0].Asked.IsZero() || !list[0].Expires.Equal(list[0].Asked.Add(time.Minute)) || !list[1].Expires.IsZero() {
			t.Fatalf("%+v", list)
		}

		_, answer, err := inbox.Take(2)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := inbox.Take(2); err != approval.ErrNoQuestion {
			t.Errorf("a second answer: %v", err)
		}
		answer(approval.Allow())
		if r := <-unbounded; r.err != nil || r.decision.String() != approval.Allow().String() {
			t.Errorf("%+v", r)
		}

		time.Sleep(time.Minute)
		if r := <-bounded; !errors.Is(r.err, context.DeadlineExceeded) {
			t.Errorf("%+v", r)
		}
		if list := inbox.List(); len(list) > 0 {
			t.Errorf("%+v", list)
		}
		if _, _, err := inbox.Take(1); err != approval.ErrNoQuestion {
			t.Errorf("an answer after the deadline: %v", err)
		}
	})
}
