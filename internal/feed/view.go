// Views: what one viewer has got of a feed.

package feed

import (
	"io"
	"strconv"
	"strings"

	"example.com/networkproxy/internal/audit"
)

// view is the state of one viewer. It is used by one goroutine.
type view struct {
	feed *Feed
	w    io.Writer
	at   uint64 // index of the next line
	seq  uint64 // of the last event that was written, or before the first
	buf  []byte
}

// begin sets the position: after the event with the ID last, or at the oldest line if that
// is no ID of this run.
func (v *view) begin(last string) {
	f := v.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	v.at = f.first
	run, number, _ := strings.Cut(last, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	if run != f.config.Run || err != nil {
		v.seq = f.config.Events.Last()
		if len(f.lines) > 0 {
			v.seq = f.lines[0].seq - 1
		}
		return
	}
	v.seq = seq
	for _, l := range f.lines {
		if l.seq > seq {
			break
		}
		v.at++
	}
}

// next returns the events that come next, at most about maxWrite bytes, and a channel
// that is closed when there are more.
func (v *view) next() (text []byte, changed <-chan struct{}) {
	f := v.feed
	v.buf = v.buf[:0]
	f.mu.Lock()
	defer f.mu.Unlock()
	v.at = max(v.at, f.first)
	for ; v.at < f.first+uint64(len(f.lines)) && len(v.buf) < maxWrite; v.at++ {
		v.append(f.lines[v.at-f.first])
	}
	return v.buf, f.changed
}

// append appends a line as a server-sent event. Numbers that were left out stand for
// events that are missing.
func (v *view) append(l line) {
	from := l.seq // of the next event that is there
	if l.dropped {
		from++
	}
	if from > v.seq+1 {
		missing := audit.NewDropped(from-1, from-1-v.seq)
		v.frame(missing.Seq, v.feed.config.Encode(nil, &missing))
		if l.dropped {
			return
		}
	}
	v.frame(l.seq, l.text)
}

func (v *view) frame(seq uint64, text []byte) {
	v.buf = append(append(append(v.buf, "id: "...), v.feed.config.Run...), '-')
	v.buf = strconv.AppendUint(v.buf, seq, 10)
	v.buf = append(append(append(v.buf, "\ndata: "...), text...), "\n\n"...)
	v.seq = seq
}

// write reports whether the viewer is still there.
func (v *view) write(text []byte) bool {
	_, err := v.w.Write(text)
	return err == nil
}
