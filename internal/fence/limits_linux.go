//go:build linux && (amd64 || arm64)

// This file restricts a thread: its privileges, its access to sockets, and its system calls. A
// command that the thread starts inherits the restrictions.

package fence

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"example.com/networkproxy/internal/landlock"
	"example.com/networkproxy/internal/seccomp"
)

// limits are the restrictions of one command.
type limits struct {
	config    Config
	support   landlock.Support
	mechanism Mechanism

	listener int   // descriptor that notifications are read from; -1 if there is none
	refused  error // the kernel's reason for refusing a listener
}

func newLimits(c Config, m Mechanism) limits {
	return limits{config: c, support: landlock.Supported(), mechanism: m, listener: -1}
}

// restrict restricts this thread, so that the command which it starts is restricted.
func (l *limits) restrict() error {
	if err := seccomp.NoNewPrivs(); err != nil {
		return problem("no_new_privs", err, "use Linux 3.5 or later")
	}
	if err := landlock.Restrict(l.support, l.config.UnixSockets); err != nil {
		return problem("Landlock", err, "")
	}
	if l.mechanism == Notification {
		return l.restrictToNotifier()
	}
	if !l.support.UnixSockets {
		program, err := filter(true)
		if err != nil {
			return err
		}
		l.listener, l.refused = seccomp.InstallWithListener(program)
		if l.refused == nil {
			return nil
		}
		l.listener = -1
	}
	program, err := filter(false)
	if err != nil {
		return err
	}
	if err := seccomp.Install(program); err != nil {
		return problem("seccomp", err, "use a kernel with CONFIG_SECCOMP_FILTER")
	}
	return nil
}

func (l *limits) closeListener() {
	if l.listener >= 0 {
		syscall.Close(l.listener)
		l.listener = -1
	}
}

// filter returns the program of the seccomp filter.
func filter(notify bool) ([]seccomp.Instruction, error) {
	families := []uint32{syscall.AF_UNIX, syscall.AF_INET, syscall.AF_INET6, syscall.AF_NETLINK}
	const noFamily, noType, noCall = uint16(syscall.EAFNOSUPPORT), uint16(syscall.EACCES), uint16(syscall.ENOSYS)
	streamsOnly := uint32(0)
	if notify {
		// The broker judges connect. A datagram socket sends without it.
		streamsOnly = syscall.AF_UNIX
	}
	rules := append(commonRules(),
		seccomp.Families("socket", noFamily, streamsOnly, noType, families...),
		seccomp.Families("socketpair", noFamily, streamsOnly, noType, families...),
	)
	if notify {
		rules = append(rules, seccomp.Notify("connect"))
	}
	return seccomp.Assemble(seccomp.Native(), noCall, rules...)
}

// commonRules returns the rules that hold for all commands. It refuses these requests of ioctl(2)
// as well.
func commonRules(ioctls ...uint32) []seccomp.Rule {
	const tiocsti, tioclinux = 0x5412, 0x541c // put characters into the input of a terminal
	const noCall, forbidden = uint16(syscall.ENOSYS), uint16(syscall.EPERM)
	return []seccomp.Rule{
		seccomp.Refuse("io_uring_setup", noCall),
		seccomp.Refuse("io_uring_enter", noCall),
		seccomp.Refuse("io_uring_register", noCall),
		seccomp.Refuse("request_key", forbidden), // runs a program outside, which may use the network
		// With another process than the caller, it could end the host by a limit of processor time.
		seccomp.Cases("prlimit64", seccomp.Refused(forbidden), seccomp.Case{When: []seccomp.Condition{seccomp.Is(0, 0)}, Then: seccomp.Allowed()}),
		seccomp.RefuseValues("ioctl", 1, forbidden, append(ioctls, tiocsti, tioclinux)...),
	}
}

// restrictToNotifier restricts this thread for a command without namespaces.
func (l *limits) restrictToNotifier() error {
	const newer = "use Linux 6.12 or later with Landlock, or allow user namespaces"
	if !l.support.Scopes {
		return problem("Landlock", fmt.Errorf("ABI %d has no scopes for sockets, signals and ptrace", l.support.ABI), newer)
	}
	// The notifier makes the connections. This holds as well if its filter has a gap.
	if err := landlock.RestrictTCP(); err != nil {
		return problem("Landlock", err, newer)
	}
	if os.Geteuid() == 0 {
		if err := checkKernelSettings(); err != nil {
			return err
		}
	}
	if err := keepCapabilities(); err != nil {
		return problem("capabilities", err, "")
	}
	program, err := filterForNotifier()
	if err != nil {
		return err
	}
	l.listener, err = seccomp.InstallWithListener(program)
	if err != nil {
		l.listener = -1
		fix := "use Linux 5.9 or later with CONFIG_SECCOMP_FILTER"
		if errors.Is(err, syscall.EBUSY) {
			fix = "another program supervises the system calls of this one, such as another fence: start the host outside of it"
		}
		return problem("seccomp notification", err, fix)
	}
	return nil
}

// checkKernelSettings fails if the superuser could change the kernel through a file. The
// permissions of these files depend on the user id alone.
func checkKernelSettings() error {
	const readOnly = 1 // ST_RDONLY
	for _, path := range kernelSettings {
		var fs syscall.Statfs_t
		err := syscall.Statfs(path, &fs)
		if err == syscall.ENOENT {
			continue
		}
		if err == nil && fs.Flags&readOnly == 0 {
			err = errors.New("the superuser can write to it")
		}
		if err != nil {
			return problem(path, err, "run as an ordinary user, mount it read-only as containers do, or allow user namespaces")
		}
	}
	return nil
}
