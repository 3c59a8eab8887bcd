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

// half carries the bytes from src to dst. Only its own goroutine uses it, save
// for the fields that say otherwise.
type half struct {
	t        *tunnel
	src, dst net.Conn
	from, to syscall.RawConn // of src and dst, where they are stream sockets; else nil
	sockets  sockets         // for copying between those
	early    []byte
	observer Inspector // is to see what src sends; nil: it has seen enough, or there is none
	moved    int64     // bytes written to dst; others read it after the goroutine's end

	// Guarded by t.mu.
	done     bool // nothing more will be written to dst
	complete bool // done, and dst got the whole stream
}

// stop says why copying stopped.
type stop uint8

const (
	atEnd             stop = iota // src has sent its whole stream
	sourceFailed                  // reading from src failed
	destinationFailed             // writing to dst failed
	refused                       // what src has sent may not go to dst
)

func (h *half) run() {
	why, err := h.carry()
	switch why {
	case sourceFailed:
		h.t.sourceBroke(h, err)
	case destinationFailed:
		h.t.destinationBroke(h, err)
	case refused:
		h.t.refuse(h)
	case atEnd:
		h.t.ended(h)
	}
}

// watch ends the tunnel when src breaks, whose stream has ended. Otherwise nobody
// would look at a client that half-closes and then resets, or that is closed from
// outside, before there is something to write to it.
func (h *half) watch() {
	if err := h.waitBroken(); err != nil {
		h.t.sourceBroke(h, err)
	}
}

func (h *half) carry() (stop, error) {
	switch {
	case h.t.inspect == nil:
	case h == &h.t.forward:
		if goesOn, why, err := h.inspected(); !goesOn {
			return why, err
		}
	default:
		h.observer = h.t.inspect
	}
	if len(h.early) > 0 {
		h.observe(h.early)
		n, err := h.dst.Write(h.early)
		h.progress(n)
		h.early = nil
		if err != nil {
			return destinationFailed, err
		}
	}
	if h.from != nil && h.to != nil {
		h.sockets.half = h
		return h.sockets.copy()
	}
	return h.copy()
}

// observe shows what src has sent to the observer, before dst gets it.
func (h *half) observe(sent []byte) {
	if h.observer != nil && !h.observer.Observe(sent) {
		h.observer = nil
	}
}

// copy carries the stream between connections of any kind. It holds a buffer
// from beginning to end.
func (h *half) copy() (stop, error) {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	for {
		n, rerr := h.src.Read(buf[:])
		if n > 0 {
			h.observe(buf[:n])
			w, werr := h.dst.Write(buf[:n])
			h.progress(w)
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
func (h *half) progress(n int) {
	h.moved += int64(n)
	if c := &h.t.clock; c.idle > 0 {
		c.last.Store(int64(time.Since(c.start)))
	}
}
