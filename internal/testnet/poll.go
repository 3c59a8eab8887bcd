package testnet

import "time"

// pollInterval is the time between two calls of Poll's condition.
const pollInterval = 2 * time.Millisecond

// Poll calls cond until it returns true, and reports whether that was within the timeout.
func Poll(timeout time.Duration, cond func() bool) bool {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	deadline := time.Now().Add(timeout)
	for !cond() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}
