// Package udpbatch reads and sends UDP datagrams in batches. A relay of
// datagrams gains most from that, because a system call and a pass through the
// network stack for each datagram cost more than all other work of the relay.
//
// On Linux a [Reader] receives all waiting datagrams with one call
// (recvmmsg(2)), and a [Sender] passes datagrams of equal length to the system
// as one message (UDP_SEGMENT, udp(7)). The system or the network card splits
// it again, so the packets on the wire are the same. On other systems both
// handle datagrams one by one.
//
// The package never waits for a batch to fill. It opens no sockets and knows no
// protocol above UDP.
//
// A Reader and a Sender are each for one goroutine. They start none. [Buffers]
// is safe for concurrent use.
package udpbatch

import (
	"sync"
	"sync/atomic"
)

// MaxBatch is how many messages a Reader reads at once, and how many datagrams
// a Sender joins. The system permits 64.
const MaxBatch = 16

// maxDatagram exceeds the longest datagram (RFC 768: 16 bits for a length that
// includes the UDP header), so that no datagram is truncated.
const maxDatagram = 64 << 10

// maxFullBatches is how many Readers of the same Buffers may use full batches
// at once.
const maxFullBatches = 16

// Buffers holds the memory for reading. Any number of Readers can share it.
//
// On Linux a Reader takes memory once there is something to read and returns it
// before it waits, so waiting Readers hold none. A full batch has about a
// megabyte of address space, of which datagrams of usual lengths touch a
// sixteenth. If many Readers are active, as during a flood on many sockets, the
// others read one message at a time with an eighth of a megabyte each.
//
// The zero value is ready. Buffers is safe for concurrent use.
type Buffers struct {
	full, single sync.Pool
	fullInUse    atomic.Int64 // full batches in use
}

func (b *Buffers) get() *batch {
	// Never wait for a full batch. Its holder may be waiting for a socket to be
	// closed, which waits for the socket's readers.
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
