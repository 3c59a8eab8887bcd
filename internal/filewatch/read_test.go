package filewatch

import (
	"strings"
	"testing"
)

func TestReadAtMost(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int64]bool{4: false, 5: true, 6: true} {
		data, whole, err := readAtMost(strings.NewReader("12345"), limit)
		if err != nil || whole != want || int64(len(data)) > limit+1 {
			t.Errorf("limit %d: %q, %t, %v", limit, data, whole, err)
		}
	}
}
