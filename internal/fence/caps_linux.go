//go:build linux && (amd64 || arm64)

package fence

import (
	"syscall"
	"unsafe"
)

// capabilityHeader is struct cap_user_header: version 3, this thread.
var capabilityHeader = [2]uint32{0x20080522, 0}

// keepCapabilities takes all capabilities from this thread but those of rootCapabilities. With
// no_new_privs, no program that it starts gets others.
func keepCapabilities() error {
	const ambient, clearAll = 47, 4 // PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, ambient, clearAll, 0, 0, 0, 0); errno != 0 && errno != syscall.EINVAL {
		return errno
	}
	var sets [2]capabilitySet
	for _, c := range rootCapabilities() {
		bit := uint32(1) << (c % 32)
		s := &sets[c/32]
		s.effective, s.permitted = s.effective|bit, s.permitted|bit
	}
	header := capabilityHeader
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0); errno != 0 {
		return errno
	}
	return nil
}

// capabilitySet is struct cap_user_data.
type capabilitySet struct {
	effective, permitted uint32
	_                    uint32 // inheritable: none
}

// rootCapabilities returns the capabilities that a command of the superuser keeps: those over
// files and ids, if this process has them. The namespaces would otherwise take them away, and
// the command could not write the files of other users. None of them concerns the network,
// mounts or other processes.
func rootCapabilities() []uintptr {
	const (
		chown, dacOverride, fowner, fsetid, kill, setgid, setuid, setpcap, bindService, sysChroot, setfcap = 0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31
	)
	header := capabilityHeader
	var sets [2]capabilitySet
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0); errno != 0 {
		return nil
	}
	var kept []uintptr
	for _, c := range []uintptr{chown, dacOverride, fowner, fsetid, kill, setgid, setuid, setpcap, bindService, sysChroot, setfcap} {
		if sets[c/32].effective&(1<<(c%32)) != 0 {
			kept = append(kept, c)
		}
	}
	return kept
}
