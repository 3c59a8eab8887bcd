// Source and Sink, which check the transfer of large data by its hash.

package testnet

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"math/rand/v2"
)

// Source is a reader of pseudo-random bytes. Create one with NewSource. It is not safe for concurrent use.
type Source struct {
	random *rand.ChaCha8
	left   int64
	hash   hash.Hash
}

// NewSource returns a source of n bytes. The same seed gives the same bytes.
func NewSource(seed uint64, n int64) *Source {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return &Source{random: rand.NewChaCha8(key), left: n, hash: sha256.New()}
}

// Read reads the next bytes. It returns io.EOF after the last.
func (s *Source) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.left)]
	n, err := s.random.Read(p)
	s.left -= int64(n)
	s.hash.Write(p[:n])
	return n, err
}

// Sum returns the SHA-256 sum of the bytes read so far.
func (s *Source) Sum() [sha256.Size]byte { return [sha256.Size]byte(s.hash.Sum(nil)) }

// Sink is a writer that keeps only the length and the hash of its input. Create one with NewSink. It is not safe for
// concurrent use.
type Sink struct {
	n    int64
	hash hash.Hash
}

// NewSink returns an empty sink.
func NewSink() *Sink { return &Sink{hash: sha256.New()} }

// Write adds p. It never fails.
func (s *Sink) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return s.hash.Write(p)
}

// Len returns the number of bytes written.
func (s *Sink) Len() int64 { return s.n }

// Sum returns the SHA-256 sum of the bytes written so far. Compare it with Source.Sum.
func (s *Sink) Sum() [sha256.Size]byte { return [sha256.Size]byte(s.hash.Sum(nil)) }
