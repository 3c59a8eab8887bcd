// Datagrams that are not passed on: why, and how many.

package networkproxy

// dropCause says why a datagram was dropped.
type dropCause uint8

const (
	dropSource    dropCause = iota // not from the client of the association
	dropFragment                   // a fragment (RFC 1928 section 7)
	dropMalformed                  // without a valid header or target
	dropOversize                   // too long for the way to the client
	dropRefused                    // its target was refused, or is out of reach
	dropOverflow                   // over a bound: flows, questions, datagrams that wait
	dropLost                       // the system would not take it
	dropCauses                     // how many there are
)

// String is for logs and metrics.
func (d dropCause) String() string {
	return [...]string{"source", "fragment", "malformed", "oversize", "refused", "overflow", "lost"}[d]
}

func (c *counters) drop(why dropCause, n int) { c.dropped[why].Add(uint64(n)) }

// datagramsDropped is the sum of all causes.
func (c *counters) datagramsDropped() uint64 {
	var sum uint64
	for i := range c.dropped {
		sum += c.dropped[i].Load()
	}
	return sum
}
