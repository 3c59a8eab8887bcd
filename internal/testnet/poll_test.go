package testnet

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{0, time.Second, time.Minute, 2 * time.Minute} {
			began := time.Now()
			got := Poll(time.Minute, func() bool { return time.Since(began) >= after })
			if want := after <= time.Minute; got != want {
				t.Errorf("a condition that is true after %v: got %t, want %t", after, got, want)
			}
			if took := time.Since(began); took > min(after, time.Minute)+2*pollInterval {
				t.Errorf("a condition that is true after %v: returned after %v", after, took)
			}
		}
	})
}
