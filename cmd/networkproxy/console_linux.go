//go:build 386 || amd64 || arm || arm64 || loong64 || riscv64 || s390x

package main

import "syscall"

// discardInput discards what was typed and not read.
func (c *console) discardInput() {
	const tcflsh = 0x540b // TCFLSH on these architectures
	raw, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { syscall.Syscall(syscall.SYS_IOCTL, fd, tcflsh, syscall.TCIFLUSH) })
}
