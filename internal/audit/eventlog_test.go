package audit

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
)

// testEncoder writes the kind and the number of an event, and how many events it stands for.
func testEncoder(b []byte, e *Event, _ *Memo) []byte {
	return fmt.Appendf(b, "%s %d (%d)", e.Kind, e.Seq, e.Dropped())
}

// linesOf returns the lines of events of the kind mode with these numbers.
func linesOf(seqs ...uint64) *Lines {
	var l Lines
	for _, seq := range seqs {
		e := Event{Kind: KindMode, Seq: seq}
		l.append(&e, testEncoder, nil)
	}
	return &l
}

// write is a call of the writer of an EventLog with what it returns.
type write struct {
	want string // the text
	n    int    // -1: all of it
	err  error
}

// Lost events are reported by the first line that can be written, after the end of a torn line.
func TestEventLog(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	const all = -1
	for _, test := range []struct {
		name   string
		lines  []*Lines
		writes []write
		calls  []string // of Failed and Recovered
		failed uint64
	}{
		{"no error", []*Lines{linesOf(1, 2), linesOf(3)},
			[]write{{"mode 1 (0)\nmode 2 (0)\n", all, nil}, {"mode 3 (0)\n", all, nil}}, nil, 0},
		{"nothing is written", []*Lines{linesOf(1, 2), linesOf(3), linesOf(4)},
			[]write{{"mode 1 (0)\nmode 2 (0)\n", 0, full}, {"dropped 2 (2)\nmode 3 (0)\n", 0, full}, {"dropped 3 (3)\nmode 4 (0)\n", all, nil}},
			[]string{"failed: disk full", "recovered: 3 lost"}, 2},
		{"one line is written", []*Lines{linesOf(1, 2), linesOf(3)},
			[]write{{"mode 1 (0)\nmode 2 (0)\n", 11, full}, {"dropped 2 (1)\nmode 3 (0)\n", all, nil}},
			[]string{"failed: disk full", "recovered: 1 lost"}, 1},
		{"a torn line", []*Lines{linesOf(1, 2), linesOf(3)},
			[]write{{"mode 1 (0)\nmode 2 (0)\n", 15, full}, {"\ndropped 2 (1)\nmode 3 (0)\n", all, nil}},
			[]string{"failed: disk full", "recovered: 1 lost"}, 1},
		{"a torn line without an error", []*Lines{linesOf(1), linesOf(2)},
			[]write{{"mode 1 (0)\n", 3, nil}, {"\ndropped 1 (1)\nmode 2 (0)\n", all, nil}},
			[]string{"failed: short write", "recovered: 1 lost"}, 1},
		{"a line without its end", []*Lines{linesOf(1), linesOf(2)},
			[]write{{"mode 1 (0)\n", 10, nil}, {"\ndropped 1 (1)\nmode 2 (0)\n", all, nil}},
			[]string{"failed: short write", "recovered: 1 lost"}, 1},
		{"an impossible number", []*Lines{linesOf(1), linesOf(2)},
			[]write{{"mode 1 (0)\n", 99, nil}, {"dropped 1 (1)\nmode 2 (0)\n", all, nil}},
			[]string{"failed: " + errInvalidWrite.Error(), "recovered: 1 lost"}, 1},
		{"an error after all lines", []*Lines{linesOf(1), linesOf(2)},
			[]write{{"mode 1 (0)\n", all, full}, {"mode 2 (0)\n", all, nil}},
			[]string{"failed: disk full", "recovered: 0 lost"}, 1},
		{"the report is written, the line is not", []*Lines{linesOf(1), linesOf(2), linesOf(3)},
			[]write{{"mode 1 (0)\n", 0, full}, {"dropped 1 (1)\nmode 2 (0)\n", 14, full}, {"dropped 2 (1)\nmode 3 (0)\n", all, nil}},
			[]string{"failed: disk full", "recovered: 1 lost"}, 2},
	} {
		var calls []string
		log := EventLog{
			Encoder:   testEncoder,
			Failed:    func(err error) { calls = append(calls, "failed: "+err.Error()) },
			Recovered: func(lost uint64) { calls = append(calls, fmt.Sprintf("recovered: %d lost", lost)) },
		}
		for i, lines := range test.lines {
			w := test.writes[i]
			log.Write = func(text []byte) (int, error) {
				if string(text) != w.want {
					t.Errorf("%s: write %d has the text %q, want %q", test.name, i, text, w.want)
				}
				if w.n < 0 {
					return len(text), w.err
				}
				return w.n, w.err
			}
			log.Append(lines)
		}
		if !slices.Equal(calls, test.calls) || log.Failures() != test.failed {
			t.Errorf("%s: got the calls %q and %d failures, want %q and %d", test.name, calls, log.Failures(), test.calls, test.failed)
		}
	}
	if n := (*EventLog)(nil).Failures(); n != 0 {
		t.Errorf("a nil log has %d failures", n)
	}
}

// A report that is lost as well still counts all events that it stood for.
func TestEventLogLosesReports(t *testing.T) {
	t.Parallel()
	var last string
	log := EventLog{Encoder: testEncoder, Failed: func(error) {}, Recovered: func(uint64) {}}
	for seq := range uint64(5) {
		log.Write = func(text []byte) (int, error) { return 0, io.ErrClosedPipe }
		if seq == 4 {
			log.Write = func(text []byte) (int, error) {
				last = string(text)
				return len(text), nil
			}
		}
		e := Event{Kind: KindDropped, Seq: seq, Rare: &Rare{Dropped: 10}}
		var l Lines
		l.append(&e, testEncoder, nil)
		log.Append(&l)
	}
	if want := "dropped 3 (40)\ndropped 4 (10)\n"; last != want {
		t.Errorf("the last text is %q, want %q", last, want)
	}
}
