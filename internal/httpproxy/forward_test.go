package httpproxy

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy/internal/gate"
)

// pieces is a body that arrives in pieces. Its end is a read of its own, as with
// HTTP/2.
type pieces []string

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	*p = (*p)[1:]
	return n, nil
}

// flushes records what was written before each flush.
type flushes struct {
	http.ResponseWriter // nil: not used
	written             strings.Builder
	at                  []string
}

func (f *flushes) Write(b []byte) (int, error) { return f.written.Write(b) }
func (f *flushes) Flush()                      { f.at = append(f.at, f.written.String()) }

// TestCopyBodyFlushes: each piece of a body leaves at once, except the last piece of a
// body of a known length, which leaves with the end of the response.
func TestCopyBodyFlushes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		body   pieces
		length int64
		want   []string
	}{
		{"unknown length", pieces{"ab", "c"}, -1, []string{"ab", "abc"}},
		{"known length", pieces{"ab", "c", "de"}, 5, []string{"ab", "abc"}},
		{"one piece", pieces{"abc"}, 3, nil},
		{"none", nil, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := new(Proxy)
			h.buffers.New = func() any { b := make([]byte, copyBufferSize); return &b }
			w, whole, received := new(flushes), strings.Join(tt.body, ""), int64(0)
			if err := h.copyBody(w, http.NewResponseController(w), new(gate.Request), &tt.body, tt.length, &received); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.at, tt.want) || w.written.String() != whole || received != int64(len(whole)) {
				t.Errorf("wrote %q, counted %d, flushed at %q; want %q and flushes at %q", w.written.String(), received, w.at, whole, tt.want)
			}
		})
	}
}
