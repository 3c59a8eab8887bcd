package jsonobject

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// members has the members that the tests append.
type members struct {
	S string    `json:"s"`
	O string    `json:"o,omitempty"`
	U uint64    `json:"u"`
	V uint64    `json:"v,omitzero"`
	I int64     `json:"i,omitzero"`
	T time.Time `json:"t"`
}

func (m *members) append(b []byte, c *Clock) []byte {
	return Begin(b).String("s", m.S).OptString("o", m.O).Uint("u", m.U).OptUint("v", m.V).OptInt("i", m.I).Time("t", m.T, c).End()
}

func FuzzObject(f *testing.F) {
	f.Add("", "", uint64(0), uint64(0), int64(0), int64(0))
	f.Add(`a "quoted" text`, "<&>\\\x00\x7f\u2028\xff", uint64(1), uint64(math.MaxUint64), int64(math.MinInt64), int64(1))
	f.Add("\xc3\xa9", `"`, uint64(10), uint64(7), int64(-1), int64(1_000_000_000))
	var c Clock // of several times
	c.append(nil, time.Unix(1, 1))
	f.Fuzz(func(t *testing.T, s, o string, u, v uint64, i, nano int64) {
		m := members{s, o, u, v, i, time.Unix(0, nano).UTC()}
		want, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Clock{nil, &c, &c} {
			if got := m.append([]byte("x"), c)[1:]; string(got) != string(want) {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
}
