// Looking at what a client sends first, before any of it goes to the server.

package tunnel

import (
	"io"
)

// MaxHeld is the most bytes that an inspection can hold back.
const MaxHeld = bufferSize

// Inspection is the answer of Options.Inspect. The zero value holds everything
// back.
//
// Inspect is given what a has sent and b has not been given yet, each time there
// is more of it: never nothing, Options.Early first, and only for the length of
// the call. end tells that no more will come. It is called on Relay's own
// goroutine, and not again once it has answered Pass or Refuse. What b sends is
// relayed to a meanwhile, without waiting for a.
type Inspection struct {
	// Decision is what becomes of the bytes.
	Decision Decision

	// Farewell is written to a if Decision is Refuse and b has sent nothing: a
	// would take it for a part of that.
	Farewell []byte
}

// Decision is what becomes of the bytes that Inspect was shown. The zero value is
// Hold.
type Decision uint8

const (
	Hold   Decision = iota // they stay back until there are more; at the end, and beyond MaxHeld, this is Refuse
	Next                   // they go to b, and Inspect is shown what comes next
	Pass                   // they go to b, and so does all that follows: there is no more to inspect
	Refuse                 // the tunnel ends, and they do not go to b
)

// inspected carries the beginning of the stream as far as Inspect wants to see
// it. goesOn reports that the rest is to be carried.
//
// It holds a buffer only while there are bytes in it.
func (h *half) inspected() (goesOn bool, why stop, err error) {
	var buf *buffer
	release := func() {
		if buf != nil {
			buffers.Put(buf)
			buf = nil
		}
	}
	defer release()
	held, end := h.early, error(nil)
	h.early = nil
	for {
		if len(held) > 0 {
			answer := h.inspect(held, end == io.EOF)
			switch {
			case answer.Decision == Next, answer.Decision == Pass:
				n, err := h.dst.Write(held)
				h.progress(n)
				if err != nil {
					return false, destinationFailed, err
				}
				held = nil
				release()
			case answer.Decision == Refuse, end == io.EOF, len(held) >= MaxHeld:
				h.t.farewell = answer.Farewell
				return false, refused, nil
			}
			if answer.Decision == Pass {
				h.inspect = nil
			}
		}
		switch {
		case end == io.EOF:
			return false, atEnd, nil
		case end != nil:
			return false, sourceFailed, end
		case h.inspect == nil:
			return true, 0, nil
		}
		var n int
		if len(held) == 0 {
			buf, n, end = h.readWaiting()
			if buf != nil {
				held = buf[:n]
			}
			continue
		}
		if buf == nil {
			buf = buffers.Get().(*buffer)
			copy(buf[:], held)
		}
		n, end = h.src.Read(buf[len(held):])
		held = buf[:len(held)+n]
	}
}

// readWaiting reads from src into a buffer of the pool. While it waits for a
// socket it holds none: a client's first word may be long in coming.
func (h *half) readWaiting() (buf *buffer, n int, err error) {
	if h.from != nil {
		return h.readSocket()
	}
	buf = buffers.Get().(*buffer)
	n, err = h.src.Read(buf[:])
	return buf, n, err
}

// refuse ends the tunnel because Inspect refused what h.src sent. h.dst is closed
// at once, and h.src by part.
func (t *tunnel) refuse(h *half) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.done = true
	t.decide(CauseRefused, nil)
	if t.closed || t.cause != CauseRefused {
		t.close()
		return
	}
	t.parting = true
	if h.moved > 0 {
		abort(h.dst)
	} else {
		h.dst.Close() // nothing is cut short
	}
	t.expireWithin(lastWords)
}

// part says farewell to the client of a tunnel that was refused, if nothing was
// said to it before, and closes. Both directions have ended.
func (t *tunnel) part() {
	t.mu.Lock()
	parting := t.parting
	t.mu.Unlock()
	if !parting {
		return
	}
	a := t.forward.src
	if t.back.moved > 0 {
		abort(a) // what it has got looks complete otherwise
	} else if _, err := a.Write(t.farewell); err == nil {
		// With bytes from the client unread, a close would be a reset, which may
		// overtake the farewell. The client has a moment to read it and hang up.
		if w, ok := a.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
			io.Copy(io.Discard, a)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parting = false
	t.close()
}
