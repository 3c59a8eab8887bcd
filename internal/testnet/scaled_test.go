package testnet

import "testing"

// TestChosen checks that no row and no way is left out, and that -short makes a
// test shorter.
func TestChosen(t *testing.T) {
	t.Parallel()
	const rows, ways, parts = 8, 5, 4
	inRow, inWay, all := make([]int, rows), make([]int, ways), 0
	for row := range rows {
		for way := range ways {
			if Chosen(row, way, parts) {
				inRow[row]++
				inWay[way]++
				all++
			}
		}
	}
	for row, n := range inRow {
		if n == 0 {
			t.Errorf("row %d is tested in no way", row)
		}
	}
	for way, n := range inWay {
		if n == 0 {
			t.Errorf("way %d is never tested", way)
		}
	}
	want := rows * ways
	if testing.Short() {
		want /= parts
	}
	if all != want {
		t.Errorf("%d tests, want %d", all, want)
	}
}

func TestScaled(t *testing.T) {
	t.Parallel()
	for n, short := range map[int]int{1: 1, 9: 1, 10: 1, 100: 10} {
		want := n
		if testing.Short() {
			want = short
		}
		if got := Scaled(n); got != want {
			t.Errorf("Scaled(%d) = %d, want %d", n, got, want)
		}
	}
}
