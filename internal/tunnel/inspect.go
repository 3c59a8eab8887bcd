// Inspection of the first bytes of both streams, before the client's bytes
// reach the server.

package tunnel

import (
	"errors"
	"io"
	"os"
	"time"
)

// MaxHeld is the largest number of bytes that an inspection can hold back.
const MaxHeld = bufferSize

// An Inspector looks at the beginning of both streams of a tunnel. It must not
// retain the slices passed to it.
type Inspector interface {
	// Inspect decides about the bytes that a has sent and b has not yet
	// received. It is called whenever more of them arrive, never with an empty
	// slice, and with Options.Early first. Relay calls it on its own goroutine,
	// and not again after PassAll or Refuse.
	Inspect(held []byte, source SourceState) Inspection

	// Observe receives what b sends, Options.EarlyBack first, before a receives
	// it. It reports whether it needs to see more. These bytes are relayed in
	// any case. Observe is called on a different goroutine than Inspect. Once a
	// has received a byte from b, every Observe call with that byte has
	// returned.
	Observe(sent []byte) bool
}

// Inspection is the result of [Inspector.Inspect]. The zero value holds the
// bytes back. Meanwhile b's bytes are relayed to a without delay.
type Inspection struct {
	// Decision says what happens to the bytes.
	Decision Decision

	// Reply is written to a if Decision is Refuse, provided that b has sent
	// nothing: a would take it for b's bytes otherwise.
	Reply []byte
}

// SourceState tells an [Inspector] whether a can send more. The zero value is
// SourceOpen.
type SourceState uint8

const (
	SourceOpen  SourceState = iota // more may come
	SourceEOF                      // a has ended its stream
	HoldExpired                    // more may come, but Options.HoldTimeout has passed
)

// Decision says what happens to the bytes passed to Inspect. The zero value is
// Hold.
type Decision uint8

const (
	Hold     Decision = iota // wait for more bytes; treated as Refuse after SourceEOF, HoldExpired or MaxHeld bytes
	PassHeld                 // send these bytes to b and inspect the next ones
	PassAll                  // send these bytes and all following ones to b; inspection is over
	Refuse                   // end the tunnel without sending these bytes to b
)

// copyInspected copies the beginning of the stream until the inspector has seen
// enough. passed reports that the caller must copy the rest.
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
	var readErr error    // of reading from src
	deadlineSet := false // src has a read deadline because bytes are held back
	passAll := false     // inspection is over
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
			if state == HoldExpired { // the timeout applied to the bytes decided on now
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

// waitAndRead reads from src into a pooled buffer. For a socket it takes the
// buffer only once there is data, because a client may be silent for long
// before its first byte.
func (d *direction) waitAndRead() (buf *buffer, n int, err error) {
	if d.rawSrc != nil {
		return d.waitAndReadSocket()
	}
	buf = buffers.Get().(*buffer)
	n, err = d.src.Read(buf[:])
	return buf, n, err
}

// refuse ends the tunnel because Inspect refused what d.src sent. It closes
// d.dst at once; sendReply closes d.src.
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
	t.stopTimer() // sendReply has its own limit
	// The close of b ends the opposite direction, unless that waits for a to read.
	d.src.SetWriteDeadline(time.Now().Add(drainTimeout))
	if d.written > 0 {
		abort(d.dst)
	} else {
		d.dst.Close() // b has received nothing that looks cut short
	}
}

// sendReply writes the inspector's reply to the client of a refused tunnel,
// unless the client has received bytes from the server, and closes both
// connections. Both directions have ended.
func (t *tunnel) sendReply() {
	t.mu.Lock()
	replying := t.replying
	t.mu.Unlock()
	if !replying {
		return
	}
	a := t.forward.src
	if t.back.written > 0 {
		abort(a) // a close would make the received part look complete
	} else {
		// The time for the reply starts here, because on a busy machine the
		// opposite direction may take long to end.
		a.SetDeadline(time.Now().Add(drainTimeout))
		if _, err := a.Write(t.reply); err == nil {
			// Closing with unread bytes from the client would send a reset, which
			// may overtake the reply. So give the client a moment to read the
			// reply and close.
			if w, ok := a.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
				io.Copy(io.Discard, a)
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replying = false
	t.close()
}
