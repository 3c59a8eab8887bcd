// Package udpbatch reads and sends datagrams by the batch, which is what a
// relay of datagrams saves most by: a system call for each of them costs more
// than all that the relay itself does, and so does the way of each through
// the system's network stack.
//
// On Linux a [Reader] takes in all that has come by one call (recvmmsg(2)), and
// a [Sender] hands over equally long datagrams as one (UDP_SEGMENT, udp(7)),
// which the system, or the network card, cuts apart again: what is on the wire
// is the same. Elsewhere both go one by one.
//
// Nothing here waits for a batch to fill: it is what is there.
package udpbatch

import "sync"

// Most is how many messages are read at once, and how many datagrams go as
// one: the system takes 64.
const Most = 16

// longest is more than the longest datagram has (RFC 768: a length of 16 bits
// that includes the header of UDP), so that nothing is ever cut off.
const longest = 64 << 10

// Buffers holds what Readers read into and is shared by any number of them. On
// Linux one takes what it needs, about a megabyte of addresses of which
// datagrams of the usual lengths touch a sixteenth, when something has come,
// and gives it back before it waits: what waits holds nothing. The zero value
// is ready. Safe for concurrent use.
type Buffers struct{ pool sync.Pool }

func (b *Buffers) get() *batch {
	if batch, ok := b.pool.Get().(*batch); ok {
		return batch
	}
	return newBatch()
}

func (b *Buffers) put(batch *batch) { b.pool.Put(batch) }
