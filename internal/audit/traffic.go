// Bytes of requests.

package audit

import "sync/atomic"

// Traffic counts the bytes of ended requests: of bodies, tunnels and datagrams,
// without headers. The zero value is ready to use; safe for concurrent use.
type Traffic struct {
	Sent, Received atomic.Uint64 // to targets, and from them
}

// Add counts the bytes of a request.
func (t *Traffic) Add(sent, received int64) {
	if sent > 0 {
		t.Sent.Add(uint64(sent))
	}
	if received > 0 {
		t.Received.Add(uint64(received))
	}
}
