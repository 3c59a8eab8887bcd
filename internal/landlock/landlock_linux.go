package landlock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"unsafe"
)

// System calls, which have the same numbers on all architectures.
const (
	sysCreateRuleset = 444
	sysAddRule       = 445
	sysRestrictSelf  = 446
)

// ABI versions with the features that this package uses.
const (
	abiScopes     = 6 // Linux 6.12
	abiUnixSocket = 9 // Linux 7.1
)

// Support describes the features of Landlock that the kernel has.
type Support struct {
	ABI    int  // zero if the kernel has no Landlock, or it is switched off
	Scopes bool // abstract unix sockets and signals
	// UnixSockets: pathname unix sockets.
	UnixSockets bool
}

// Supported asks the kernel.
func Supported() Support {
	const flagVersion, flagErrata = 1, 2
	abi, _, errno := syscall.RawSyscall(sysCreateRuleset, 0, 0, flagVersion)
	if errno != 0 {
		return Support{}
	}
	s := Support{ABI: int(abi), UnixSockets: abi >= abiUnixSocket}
	if abi < abiScopes {
		return s
	}
	// Without the fix of this erratum, a restricted thread cannot signal the other threads
	// of its own process. The Go runtime does that to preempt goroutines.
	const errorThreadSignals = 1 << 1
	errata, _, errno := syscall.RawSyscall(sysCreateRuleset, 0, 0, flagErrata)
	s.Scopes = errno == 0 && errata&errorThreadSignals != 0
	return s
}

// RestrictTCP keeps the calling thread from connect(2) and bind(2) of TCP sockets. It needs
// ABI 4. Other ways to connect (MPTCP, TCP Fast Open) and listen(2) are not restricted. The
// thread must have no_new_privs and be locked to its goroutine.
func RestrictTCP() error {
	const bind, connect = 1 << 0, 1 << 1
	return restrict(attr{network: bind | connect}, func(int) error { return nil })
}

const (
	scopeAbstractSockets = 1 << 0
	scopeSignals         = 1 << 1

	accessRefer       = 1 << 13 // rename and link files between directories
	accessUnixSockets = 1 << 16 // connect and send to pathname sockets
)

// attr is struct landlock_ruleset_attr.
type attr struct {
	files, network, scopes uint64
}

// Restrict restricts the calling thread, which must have no_new_privs and be locked to its
// goroutine. Abstract sockets and signals are restricted if s.Scopes is set. If s.UnixSockets
// is set, the thread reaches only the pathname sockets that are made under the restriction
// and those of allowed; mount(2) then fails. Allowed paths without a socket are left out.
func Restrict(s Support, allowed []string) error {
	var a attr
	if s.Scopes {
		a.scopes = scopeAbstractSockets | scopeSignals
	}
	if s.UnixSockets {
		a.files = accessUnixSockets | accessRefer
	}
	if a == (attr{}) {
		return nil
	}
	return restrict(a, func(ruleset int) error {
		if !s.UnixSockets {
			return nil
		}
		// A ruleset for files refuses renames between directories unless a rule allows them.
		if err := allow(ruleset, "/", accessRefer); err != nil {
			return err
		}
		for _, path := range allowed {
			if err := allow(ruleset, path, accessUnixSockets); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// restrict restricts the thread by a ruleset, to which fill adds the rules.
func restrict(a attr, fill func(ruleset int) error) error {
	r, _, errno := syscall.RawSyscall(sysCreateRuleset, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: create a ruleset: %w", errno)
	}
	ruleset := int(r)
	defer syscall.Close(ruleset)
	if err := fill(ruleset); err != nil {
		return err
	}
	if _, _, errno := syscall.RawSyscall(sysRestrictSelf, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("landlock: restrict the thread: %w", errno)
	}
	return nil
}

// allow adds a rule for a path and the files below it.
func allow(ruleset int, path string, access uint64) error {
	const openPath = 0x200000 // O_PATH
	fd, err := syscall.Open(path, openPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("landlock: open %s: %w", path, err)
	}
	defer syscall.Close(fd)
	const rulePathBeneath = 1
	rule := encodePathRule(access, int32(fd))
	_, _, errno := syscall.RawSyscall6(sysAddRule, uintptr(ruleset), rulePathBeneath, uintptr(unsafe.Pointer(&rule[0])), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock: allow %s: %w", path, errno)
	}
	return nil
}

// encodePathRule returns struct landlock_path_beneath_attr, which is packed: 12 bytes.
func encodePathRule(access uint64, fd int32) (b [12]byte) {
	binary.NativeEndian.PutUint64(b[0:], access)
	binary.NativeEndian.PutUint32(b[8:], uint32(fd))
	return b
}
