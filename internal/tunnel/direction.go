// One direction of a tunnel.

package tunnel

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// bufferSize is a compromise: a stream that is small is done in one read, and
// one that is large leaves the buffer for a pipe soon.
const bufferSize = 32 << 10

type buffer [bufferSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// direction carries the bytes from src to dst. Only its own goroutine uses it, save
// for the fields that say otherwise.
type direction struct {
	tunnel         *tunnel
	src, dst       net.Conn
	rawSrc, rawDst syscall.RawConn // of src and dst, where they are stream sockets; else nil
	copier         socketCopier    // for copying between those
	early          []byte
	observer       Inspector // is to see what src sends; nil: it has seen enough, or there is none
	written        int64     // bytes written to dst; others read it after the goroutine's end

	// Guarded by t.mu.
	done     bool // nothing more will be written to dst
	complete bool // done, and dst got the whole stream
}

// stop says why copying stopped.
type stopReason uint8

const (
	atEnd             stopReason = iota // src has sent its whole stream
	sourceFailed                        // reading from src failed
	destinationFailed                   // writing to dst failed
	refused                             // what src has sent may not go to dst
)

func (d *direction) run() {
	reason, err := d.transfer()
	switch reason {
	case sourceFailed:
		d.tunnel.sourceBroke(d, err)
	case destinationFailed:
		d.tunnel.destinationBroke(d, err)
	case refused:
		d.tunnel.refuse(d)
	case atEnd:
		d.tunnel.sourceEnded(d)
	}
}

// watch ends the tunnel when src breaks, whose stream has ended. Otherwise nobody
// would look at a client that half-closes and then resets, or that is closed from
// outside, before there is something to write to it.
func (d *direction) watchSource() {
	if err := d.waitBroken(); err != nil {
		d.tunnel.sourceBroke(d, err)
	}
}

func (d *direction) transfer() (stopReason, error) {
	switch {
	case d.tunnel.inspect == nil:
	case d == &d.tunnel.forward:
		if passed, reason, err := d.copyInspected(); !passed {
			return reason, err
		}
	default:
		d.observer = d.tunnel.inspect
	}
	if len(d.early) > 0 {
		d.observe(d.early)
		n, err := d.dst.Write(d.early)
		d.progress(n)
		d.early = nil
		if err != nil {
			return destinationFailed, err
		}
	}
	if d.rawSrc != nil && d.rawDst != nil {
		d.copier.dir = d
		return d.copier.copy()
	}
	return d.copy()
}

// observe shows what src has sent to the observer, before dst gets it.
func (d *direction) observe(sent []byte) {
	if d.observer != nil && !d.observer.Observe(sent) {
		d.observer = nil
	}
}

// copy carries the stream between connections of any kind. It holds a buffer
// from beginning to end.
func (d *direction) copy() (stopReason, error) {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	for {
		n, rerr := d.src.Read(buf[:])
		if n > 0 {
			d.observe(buf[:n])
			w, werr := d.dst.Write(buf[:n])
			d.progress(w)
			if werr != nil {
				return destinationFailed, werr
			}
		}
		switch rerr {
		case nil:
		case io.EOF:
			return atEnd, nil
		default:
			return sourceFailed, rerr
		}
	}
}

// progress counts n bytes written to dst, and notes when. The timer of the idle
// limit is not reset here, on the path of every byte: it reads the note when it
// fires.
func (d *direction) progress(n int) {
	d.written += int64(n)
	if c := &d.tunnel.clock; c.idle > 0 {
		c.lastWrite.Store(int64(time.Since(c.start)))
	}
}
