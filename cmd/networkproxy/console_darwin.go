package main

import (
	"context"
	"syscall"
	"time"
	"unsafe"
)

// read is like the Read of a file but returns when ctx ends. The runtime cannot
// wait for /dev/tty, because kqueue does not support it, but select does.
func (c *console) read(ctx context.Context, b []byte) (int, error) {
	const poll = 50 * time.Millisecond
	fd := int(c.file.Fd())
	for ctx.Err() == nil {
		var ready syscall.FdSet
		if fd >= len(ready.Bits)*32 {
			return 0, syscall.EMFILE
		}
		ready.Bits[fd/32] |= 1 << (fd % 32)
		wait := syscall.NsecToTimeval(poll.Nanoseconds())
		if err := syscall.Select(fd+1, &ready, nil, nil, &wait); err != nil && err != syscall.EINTR {
			return 0, err
		} else if err == nil && ready.Bits[fd/32]&(1<<(fd%32)) != 0 {
			return c.file.Read(b)
		}
	}
	return 0, ctx.Err()
}

// discardInput discards what was typed and not read.
func (c *console) discardInput() {
	input := int32(1) // FREAD
	syscall.Syscall(syscall.SYS_IOCTL, c.file.Fd(), syscall.TIOCFLUSH, uintptr(unsafe.Pointer(&input)))
}
