// Tests that the bodies of refusals are the same as from encoding/json.

package httpproxy

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"example.com/networkproxy/internal/policy"
)

func TestRefusalBodyJSON(t *testing.T) {
	t.Parallel()
	pieces := []string{"a.example", `"`, `\`, "<b>", "&", "\x00", "\n", "\x7f", "é", "\xff", " ", "…", "~", "%", "/", "\u2028"}
	text := func(r *rand.Rand) string {
		s := ""
		for range r.IntN(4) {
			s += pieces[r.IntN(len(pieces))]
		}
		return s
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		body := refusalBody{
			Status: text(r), Host: text(r), Port: uint16(r.IntN(3)), Protocol: policy.Protocol(text(r)), Method: text(r), Socket: text(r),
			Reason: policy.Reason(text(r)), Source: policy.Source(text(r)), Decision: policy.DecisionKind(text(r)), Rule: text(r), Message: jsonText(text(r)), Hint: jsonText(text(r)),
		}
		want, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(body.appendJSON(nil)); got != string(want) {
			t.Fatalf("%+v\n got %s\nwant %s", body, got, want)
		}
	}
}
