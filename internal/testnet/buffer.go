// What a program or a log has written so far.

package testnet

import (
	"bytes"
	"sync"
)

// Buffer is a bytes.Buffer that may be read while it is written. The zero value is empty; safe for concurrent use.
type Buffer struct {
	// Flush, if not nil, is called by String and Take before they read, to have a writer that works in the background
	// finish. Set it while nobody reads.
	Flush func()

	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns all that was written, or what has been since Take.
func (b *Buffer) String() string {
	b.flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Take returns what String does and forgets it.
func (b *Buffer) Take() string {
	b.flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

func (b *Buffer) flush() {
	if b.Flush != nil {
		b.Flush()
	}
}
