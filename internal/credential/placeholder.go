package credential

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strings"
)

const (
	// MinSecret is the length in bytes of the shortest secret. A shorter one could
	// occur in other text by chance, where it would be masked.
	MinSecret = 16

	// MaxSecret is the length in bytes of the longest secret.
	MaxSecret = 8 << 10

	minPlaceholder = 40  // bytes
	minRandomBits  = 128 // that nobody can guess
	maxKept        = 16  // bytes of the prefix that tells the kind of a token
)

// Check returns an error if a text cannot be a secret. The error does not contain it.
func Check(secret string) error {
	switch {
	case secret == "":
		return errors.New("is empty")
	case len(secret) < MinSecret:
		return fmt.Errorf("has %d bytes, and at least %d are needed to recognise a secret safely", len(secret), MinSecret)
	case len(secret) > MaxSecret:
		return fmt.Errorf("has %d bytes, and at most %d are possible in a header field", len(secret), MaxSecret)
	}
	for i := range len(secret) {
		if c := secret[i]; c <= ' ' || c >= 0x7f {
			return fmt.Errorf("has the byte %#02x at index %d, which cannot be in a token", c, i)
		}
	}
	return nil
}

// newPlaceholder returns a text that looks like a secret and has at least 128 random
// bits. It keeps the beginning that tells the kind of a token ("ghp_"), and all that is
// neither a letter nor a digit.
func newPlaceholder(secret string) string {
	kept := keptPrefix(secret)
	var alphabet string
	for _, class := range [...]string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"} {
		if strings.ContainsAny(secret[kept:], class) {
			alphabet += class
		}
	}
	if alphabet == "" {
		alphabet = "abcdefghijklmnopqrstuvwxyz"
	}
	bits := math.Log2(float64(len(alphabet)))
	random := 0
	var b strings.Builder
	b.WriteString(secret[:kept])
	for i := kept; i < len(secret); i++ {
		if c := secret[i]; isAlphanumeric(c) {
			b.WriteByte(randomByte(alphabet))
			random++
		} else {
			b.WriteByte(c)
		}
	}
	// The last 16 bytes identify the placeholder, so they are random too.
	for tail := 0; b.Len() < minPlaceholder || float64(random)*bits < minRandomBits || !randomTail(b.String(), kept) && tail < keyLength; tail++ {
		b.WriteByte(randomByte(alphabet))
		random++
	}
	return b.String()
}

// randomTail reports whether the bytes that identify a placeholder are letters and
// digits after the part that was kept.
func randomTail(s string, kept int) bool {
	if len(s)-kept < keyLength {
		return false
	}
	for i := range keyLength {
		if !isAlphanumeric(s[len(s)-1-i]) {
			return false
		}
	}
	return true
}

// keptPrefix returns the length of the beginning that tells the kind of a token: up to the
// last hyphen or underscore near the beginning, as in ghp_, sk-proj- and github_pat_.
func keptPrefix(secret string) int {
	kept := strings.LastIndexAny(secret[:min(maxKept, len(secret)/3)], "-_") + 1
	for i := range kept {
		if c := secret[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
			return 0
		}
	}
	return kept
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// randomByte returns a byte of alphabet, each with the same probability.
func randomByte(alphabet string) byte {
	var b [1]byte
	for limit := 256 - 256%len(alphabet); ; {
		rand.Read(b[:]) // never fails
		if int(b[0]) < limit {
			return alphabet[int(b[0])%len(alphabet)]
		}
	}
}

// mask returns the text that stands for a secret in a response: as long as the secret, so
// that lengths hold.
func mask(secret, placeholder string) string {
	if len(placeholder) >= len(secret) {
		return placeholder[len(placeholder)-len(secret):] // the end is random
	}
	return placeholder + strings.Repeat("*", len(secret)-len(placeholder))
}
