// The audit log: events as lines of JSON.

package audit

import (
	"errors"
	"io"
	"sync/atomic"

	"example.com/networkproxy/internal/jsonobject"
	"example.com/networkproxy/internal/policy"
)

// Encoder appends an event to b as a JSON object. It may use m to be faster, and m may be
// nil. It must not keep e. Safe for concurrent use, each with a memo of its own.
type Encoder func(b []byte, e *Event, m *Memo) []byte

// Memo is what an Encoder keeps for the next event, because most events resemble the one
// before. The zero value is empty.
type Memo struct {
	Clock   jsonobject.Clock
	Verdict *policy.Verdict // that Text describes; nil if there is none
	Text    []byte
}

// Lines are events as lines.
type Lines struct {
	text []byte
	all  []line
}

// line describes a line of Lines.
type line struct {
	end    int    // its offset in the text
	events uint64 // that it stands for
	seq    uint64 // of the last of them
}

// append appends an event.
func (l *Lines) append(e *Event, encode Encoder, m *Memo) {
	l.text = append(encode(l.text, e, m), '\n')
	l.all = append(l.all, line{len(l.text), max(1, e.Dropped()), e.Seq})
}

// maxSpareText limits the text whose memory is used again while lines keep coming. It
// has room for the lines of 5 ms at the highest rate that the proxy reaches.
const maxSpareText = 1 << 20

// reset empties l. It keeps memory of the usual size.
func (l *Lines) reset() {
	if cap(l.text) > maxSpareText {
		*l = Lines{}
	}
	l.text, l.all = l.text[:0], l.all[:0]
}

// EventLog writes lines. Events whose lines cannot be written are lost, and the next
// line reports their number: it is an event of the kind dropped. Set the exported
// fields before use. Append is for one goroutine.
type EventLog struct {
	// Write writes lines. It must not panic.
	Write func(text []byte) (int, error)

	Encoder Encoder

	// Failed and Recovered are called when writing begins to fail, and when it
	// succeeds again.
	Failed    func(error)
	Recovered func(lost uint64)

	failures atomic.Uint64

	torn    bool   // the last write ended inside a line
	failing bool   // the last write has failed
	lost    uint64 // events that no line has reported yet
	lastSeq uint64 // of the last lost event
}

// errInvalidWrite is the error for a writer that breaks the contract of io.Writer.
var errInvalidWrite = errors.New("the writer returned an impossible number of bytes")

// Append writes lines.
func (l *EventLog) Append(lines *Lines) {
	if l.torn || l.lost > 0 {
		lines = l.withReport(lines)
	}
	n, err := l.Write(lines.text)
	switch {
	case n < 0 || n > len(lines.text):
		n = 0
		if err == nil {
			err = errInvalidWrite
		}
	case err == nil && n < len(lines.text):
		err = io.ErrShortWrite
	}
	if n > 0 {
		l.torn = lines.text[n-1] != '\n'
	}
	lost := l.lost
	l.lost = 0
	for _, line := range lines.all {
		if line.end > n {
			l.lost += line.events
			l.lastSeq = line.seq
		}
	}
	switch {
	case err != nil:
		l.failures.Add(1)
		if !l.failing {
			l.failing = true
			l.Failed(err)
		}
	case l.failing:
		l.failing = false
		l.Recovered(lost)
	}
}

// withReport returns lines after the end of a torn line, if there is one, and after
// a line that reports the lost events.
func (l *EventLog) withReport(lines *Lines) *Lines {
	var r Lines
	if l.torn {
		r.text = append(r.text, '\n')
	}
	if l.lost > 0 {
		e := NewDropped(l.lastSeq, l.lost)
		r.append(&e, l.Encoder, nil)
	}
	shift := len(r.text)
	r.text = append(r.text, lines.text...)
	for _, line := range lines.all {
		line.end += shift
		r.all = append(r.all, line)
	}
	return &r
}

// Failures returns the number of writes that have failed; 0 for a nil *EventLog.
func (l *EventLog) Failures() uint64 {
	if l == nil {
		return 0
	}
	return l.failures.Load()
}
