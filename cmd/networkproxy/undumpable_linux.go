package main

import (
	"os"
	"syscall"
)

// makeUndumpable keeps other processes of the same user from reading the memory and the
// environment of this one under /proc (PR_SET_DUMPABLE, prctl(2)).
func makeUndumpable() error {
	const prSetDumpable = 4
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		return os.NewSyscallError("prctl", errno)
	}
	return nil
}
