// Buffer, for the output of programs and logs.

package testnet

import (
	"bytes"
	"sync"
)

// Buffer is a buffer that can be read while it is written. The zero value is empty. It is safe for concurrent use.
type Buffer struct {
	// Flush, if not nil, is called by String and Take before they read, so that a background writer can finish. Set it
	// before the first of these calls.
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

// String returns the text written since the last Take.
func (b *Buffer) String() string {
	b.flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Take returns the text written since the last Take and removes it from the buffer.
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
