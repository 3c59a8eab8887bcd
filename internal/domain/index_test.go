package domain

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// randomPattern returns a random pattern. Its vocabulary is so small that one
// pattern often covers another.
func randomPattern(r *rand.Rand) string {
	label := func() string { return []string{"a", "b", "ab", "xn--4ca", "localhost"}[r.IntN(5)] }
	name := func() string {
		s := label()
		for range r.IntN(3) {
			s = label() + "." + s
		}
		return s
	}
	var host string
	switch r.IntN(8) {
	case 0, 1:
		host = name()
	case 2:
		host = "*." + name()
	case 3:
		host = "**." + name()
	case 4:
		host = "*"
	case 5:
		host = []string{"a*", "*b", "a*b", "*a*"}[r.IntN(4)] + "." + name()
	case 6:
		bits := []int{0, 1, 7, 8, 24, 31, 32}[r.IntN(7)]
		addr := []uint32{0, 10 << 24, 127<<24 | 1, 1<<31 | 3}[r.IntN(4)] + uint32(r.IntN(2))
		if bits < 32 {
			addr &^= 1<<(32-bits) - 1
		}
		host = fmt.Sprintf("%d.%d.%d.%d/%d", addr>>24, addr>>16&255, addr>>8&255, addr&255, bits)
	case 7:
		host = []string{"[::1]", "[::]/0", "[fd00::]/8", "[fd00::7]", "[2001:db8::]/32", "[fe80::1]", "[fe80::1%25a]", "[fe80::1%25b]", "[fe80::]/10"}[r.IntN(9)]
	}
	return host + []string{"", "", ":443", ":80"}[r.IntN(4)]
}

// TestOracleIndex compares the index with Pattern.Covers of each pattern.
func TestOracleIndex(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	yes, no := 0, 0
	for range 3000 {
		var list []Pattern
		var index Index
		for range r.IntN(8) {
			text := randomPattern(r)
			p, err := Parse(text)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			list = append(list, p)
			index.Add(p)
		}
		for range 8 {
			q, err := Parse(randomPattern(r))
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			want := false
			for _, p := range list {
				want = want || p.Covers(q)
			}
			if got := index.Covers(q); got != want {
				t.Fatalf("seed %d: %v covers %v: got %t, want %t", seed, list, q, got, want)
			}
			if want {
				yes++
			} else {
				no++
			}
		}
	}
	if yes < 1000 || no < 1000 {
		t.Errorf("seed %d: %d pairs covered and %d not covered, want at least 1000 of each", seed, yes, no)
	}
}
