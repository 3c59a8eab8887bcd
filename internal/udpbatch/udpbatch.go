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

import (
	"sync"
	"sync/atomic"
)

// MaxBatch is how many messages are read at once, and how many datagrams go as
// one: the system takes 64.
const MaxBatch = 16

// longest is more than the longest datagram has (RFC 768: a length of 16 bits
// that includes the header of UDP), so that nothing is ever cut off.
const maxDatagram = 64 << 10

// fullBatches is how many Readers that share Buffers may take in Most messages
// at once.
const maxFullBatches = 16

// Buffers holds what Readers read into and is shared by any number of them. On
// Linux one takes what it needs, about a megabyte of addresses of which
// datagrams of the usual lengths touch a sixteenth, when something has come,
// and gives it back before it waits: what waits holds nothing. Where more than
// a few are at it, which a flood on many sockets brings about, the others take
// in one message at a time, and an eighth of a megabyte each. The zero value is
// ready. Safe for concurrent use.
type Buffers struct {
	full, single sync.Pool
	fullInUse    atomic.Int64 // how many of the full ones are in use
}

func (b *Buffers) get() *batch {
	// Nobody waits for a full one: who has it may be waiting for a socket to be
	// closed, which waits for those that read from it.
	pool, size := &b.full, MaxBatch
	if b.fullInUse.Add(1) > maxFullBatches {
		b.fullInUse.Add(-1)
		pool, size = &b.single, 1
	}
	if batch, ok := pool.Get().(*batch); ok {
		return batch
	}
	return newBatch(size)
}

func (b *Buffers) put(batch *batch) {
	if batch.size == 1 {
		b.single.Put(batch)
		return
	}
	b.fullInUse.Add(-1)
	b.full.Put(batch)
}
