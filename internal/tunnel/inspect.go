// Looking at what both sides send first, before the client's bytes go to the
// server.

package tunnel

import (
	"errors"
	"io"
	"os"
	"time"
)

// MaxHeld is the most bytes that an inspection can hold back.
const MaxHeld = bufferSize

// An Inspector looks at the beginning of both streams of a tunnel. It must not
// retain the slices that it is given.
type Inspector interface {
	// Inspect decides about the bytes that a has sent and b has not been given
	// yet. It is called whenever there are more of them, never with an empty
	// slice, and with Options.Early first. Relay calls it on its own goroutine,
	// and not again once it has answered Pass or Refuse.
	Inspect(held []byte, source SourceState) Inspection

	// Observe is shown what b sends, Options.EarlyBack first, before a gets it. It
	// reports whether it wants to see more. These bytes are relayed in any case.
	// Observe is called on another goroutine than Inspect. Once a has received a
	// byte from b, every call that was shown that byte has returned.
	Observe(sent []byte) bool
}

// Inspection is the answer of [Inspector]. The zero value holds everything back.
// What b sends is relayed to a meanwhile, without waiting for a.
type Inspection struct {
	// Decision is what becomes of the bytes.
	Decision Decision

	// Reply is written to a if Decision is Refuse and b has sent nothing: a
	// would take it for a part of that.
	Reply []byte
}

// SourceState tells an [Inspector] what is still to come from a. The zero value is More.
type SourceState uint8

const (
	SourceOpen  SourceState = iota // more may come
	SourceEOF                      // a has sent all it will
	HoldExpired                    // more may come, but Options.HoldTime is over
)

// Decision is what becomes of the bytes that Inspect was shown. The zero value is
// Hold.
type Decision uint8

const (
	Hold     Decision = iota // they stay back until there are more; with None and Late, and beyond MaxHeld, this is Refuse
	PassHeld                 // they go to b, and Inspect is shown what comes next
	PassAll                  // they go to b, and so does all that follows: there is no more to inspect
	Refuse                   // the tunnel ends, and they do not go to b
)

// inspected carries the beginning of the stream, as far as the inspector wants to
// see it. goesOn reports that the rest is to be carried.
//
// It holds a buffer only while there are bytes in it.
func (d *direction) copyInspected() (passed bool, reason stopReason, err error) {
	var buf *buffer
	release := func() {
		if buf != nil {
			buffers.Put(buf)
			buf = nil
		}
	}
	defer release()
	held, state := d.early, SourceOpen
	d.early = nil
	var readErr error    // of src
	deadlineSet := false // src has a deadline, because bytes are held back
	passAll := false     // there is nothing more to inspect
	for {
		if len(held) > 0 {
			decided := d.tunnel.inspect.Inspect(held, state)
			switch {
			case decided.Decision == PassHeld, decided.Decision == PassAll:
				if deadlineSet {
					d.src.SetReadDeadline(time.Time{})
					deadlineSet = false
				}
				n, err := d.dst.Write(held)
				d.progress(n)
				if err != nil {
					return false, destinationFailed, err
				}
				held = nil
				release()
			case decided.Decision == Refuse, state != SourceOpen, len(held) >= MaxHeld:
				d.tunnel.reply = decided.Reply
				return false, refused, nil
			case !deadlineSet && d.tunnel.holdTimeout > 0:
				d.src.SetReadDeadline(time.Now().Add(d.tunnel.holdTimeout))
				deadlineSet = true
			}
			passAll = decided.Decision == PassAll
			if state == HoldExpired { // which is over, now that these bytes are decided about
				state = SourceOpen
			}
		}
		switch {
		case readErr == io.EOF:
			return false, atEnd, nil
		case readErr != nil:
			return false, sourceFailed, readErr
		case passAll:
			return true, 0, nil
		}
		var n int
		if len(held) == 0 {
			buf, n, readErr = d.waitAndRead()
			if buf != nil {
				held = buf[:n]
			}
		} else {
			if buf == nil {
				buf = buffers.Get().(*buffer)
				copy(buf[:], held)
			}
			n, readErr = d.src.Read(buf[len(held):])
			held = buf[:len(held)+n]
		}
		switch {
		case readErr == io.EOF:
			state = SourceEOF
		case deadlineSet && errors.Is(readErr, os.ErrDeadlineExceeded):
			state, readErr = HoldExpired, nil
		}
	}
}

// readWaiting reads from src into a buffer of the pool. While it waits for a
// socket it holds none: a client's first word may be long in coming.
func (d *direction) waitAndRead() (buf *buffer, n int, err error) {
	if d.rawSrc != nil {
		return d.waitAndReadSocket()
	}
	buf = buffers.Get().(*buffer)
	n, err = d.src.Read(buf[:])
	return buf, n, err
}

// refuse ends the tunnel because Inspect refused what d.src sent. d.dst is closed
// at once, and d.src by part.
func (t *tunnel) refuse(d *direction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.done = true
	t.setCause(CauseRefused, nil)
	if t.closed || t.cause != CauseRefused {
		t.close()
		return
	}
	t.replying = true
	if d.written > 0 {
		abort(d.dst)
	} else {
		d.dst.Close() // nothing is cut short
	}
	t.expireWithin(drainTimeout)
}

// part says farewell to the client of a tunnel that was refused, if nothing was
// said to it before, and closes. Both directions have ended.
func (t *tunnel) sendReply() {
	t.mu.Lock()
	replying := t.replying
	t.mu.Unlock()
	if !replying {
		return
	}
	a := t.forward.src
	if t.back.written > 0 {
		abort(a) // what it has got looks complete otherwise
	} else if _, err := a.Write(t.reply); err == nil {
		// With bytes from the client unread, a close would be a reset, which may
		// overtake the farewell. The client has a moment to read it and hang up.
		if w, ok := a.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
			io.Copy(io.Discard, a)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replying = false
	t.close()
}
