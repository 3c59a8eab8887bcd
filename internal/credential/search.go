package credential

import (
	"fmt"
	"io"
)

// pairKinds is a power of two. More make it rarer that two pairs have the same number.
const pairKinds = 1 << 12

// pairOf returns a number for two bytes.
func pairOf(a, b byte) int { return (int(a)<<6 ^ int(b)) % pairKinds }

// search finds a secret. It looks at the last two bytes of a window that is as long as the
// secret. If the secret does not have the pair, it begins at no byte of the window but the
// last, and the search skips the others. With a usual token it looks at every 40th byte.
// It is immutable.
type search struct {
	secret string
	last   int              // index of the last byte of a window
	reach  [pairKinds]uint8 // by pairOf: the largest index in a window of the second byte of the pair
}

// maxWindow is the length of the longest window, so that reach is large enough.
const maxWindow = 256

// newSearch returns a search for a secret of at least two bytes.
func newSearch(secret string) *search {
	s := &search{secret: secret, last: min(maxWindow, len(secret)) - 1}
	for i := 1; i <= s.last; i++ {
		s.reach[pairOf(secret[i-1], secret[i])] = uint8(i)
	}
	return s
}

// replace puts text, which is as long as the secret, in its place in data.
func (s *search) replace(data []byte, text string) {
	for i := s.last; i < len(data); {
		reach := s.reach[pairOf(data[i-1], data[i])]
		switch begin := i - s.last; {
		case reach == 0: // a branch of its own, so that the processor goes on before it knows
			i += s.last
		case int(reach) < s.last:
			i += s.last - int(reach)
		case len(data)-begin >= len(s.secret) && string(data[begin:begin+len(s.secret)]) == s.secret:
			i += copy(data[begin:], text)
		default:
			i++
		}
	}
}

// Format writes no secret.
func (s *search) Format(f fmt.State, _ rune) { io.WriteString(f, "search for a secret") }
