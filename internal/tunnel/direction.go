// One direction of a tunnel.

package tunnel

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// bufferSize is large enough that a small stream needs one read, and small
// enough that a large stream soon switches from the buffer to a pipe.
const bufferSize = 32 << 10

type buffer [bufferSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// direction copies the bytes from src to dst. Its own goroutine uses it
// exclusively, except for the fields marked below.
type direction struct {
	tunnel         *tunnel
	src, dst       net.Conn
	rawSrc, rawDst syscall.RawConn // of src and dst; nil unless they are stream sockets
	copier         socketCopier    // copies between two stream sockets
	early          []byte
	observer       Inspector // sees what src sends; nil if none or no longer interested
	written        int64     // bytes written to dst; others read it after the goroutine has ended

	// The following fields are guarded by tunnel.mu.
	done     bool // nothing more is written to dst
	complete bool // done, and dst received the whole stream
}

// stopReason says why copying stopped.
type stopReason uint8

const (
	atEnd             stopReason = iota // src has sent its whole stream
	sourceFailed                        // reading from src failed
	destinationFailed                   // writing to dst failed
	refused                             // the inspector refused what src sent
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

// watchSource ends the tunnel when src breaks after the end of its stream.
// Without it, a client that half-closes and then resets, or is closed from
// outside, would go unnoticed until the next write to it.
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

// observe shows bytes from src to the observer before dst receives them.
func (d *direction) observe(sent []byte) {
	if d.observer != nil && !d.observer.Observe(sent) {
		d.observer = nil
	}
}

// copy copies the stream between connections of any kind. It holds a buffer
// until it returns.
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

// progress counts n bytes written to dst and records the time. It does not
// reset the idle timer, because it runs for every write; the timer reads the
// recorded time when it fires.
func (d *direction) progress(n int) {
	d.written += int64(n)
	if c := &d.tunnel.clock; c.idle > 0 {
		c.lastWrite.Store(int64(time.Since(c.start)))
	}
}
