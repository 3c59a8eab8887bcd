package ca

import (
	"errors"
	"sync"
	"testing"
)

func TestOnce(t *testing.T) {
	t.Parallel()
	calls, failure := 0, errors.New("no such file")
	o := &Once{Make: func() (*Authority, error) {
		if calls++; calls < 3 {
			return nil, failure
		}
		return New()
	}}
	for range 2 {
		if a, err := o.Get(); a != nil || err != failure {
			t.Errorf("got %v, %v", a, err)
		}
	}
	got := make([]*Authority, 50)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = o.Get(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, a := range got {
		if a == nil || a != got[0] {
			t.Fatal("the authority has changed")
		}
	}
	if calls != 3 {
		t.Errorf("Make was called %d times, want 3", calls)
	}
}
