//go:build linux && (amd64 || arm64)

// This file changes the mounts of a room.

package fence

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// kernelSettings are directories through which the superuser changes the kernel. Some changes
// make the kernel run a program outside the room, such as /proc/sys/kernel/core_pattern.
// The permissions of these files depend on the user id alone, which a room keeps.
var kernelSettings = []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"}

// readOnly adds the steps that make directories read-only.
func (s *script) readOnly(paths []string) (steps []ref) {
	const (
		readOnly  = 1      // MOUNT_ATTR_RDONLY
		recursive = 0x8000 // AT_RECURSIVE
		attrSize  = 32     // struct mount_attr: flags to set, to clear, propagation, user namespace
	)
	attr := s.bytes(append(binary.NativeEndian.AppendUint64(nil, readOnly), make([]byte, attrSize-8)...))
	cwd := -100 // AT_FDCWD
	for _, path := range paths {
		p := s.text(path)
		for _, r := range []ref{
			s.add("mount "+path, syscall.SYS_MOUNT, p, p, 0, syscall.MS_BIND|syscall.MS_REC, 0),
			s.add("make "+path+" read-only", sysMountSetattr, uintptr(cwd), p, recursive, attr, attrSize),
		} {
			steps = append(steps, s.optional(r))
		}
	}
	return steps
}

// replaceQueues adds the steps that mount the POSIX message queues of the room where those of the
// machine are mounted.
func (s *script) replaceQueues() (steps []ref) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil // without /proc, there is no room
	}
	kind := s.text("mqueue")
	for _, path := range queueMounts(mounts) {
		mount := s.add("mount the message queues of the room at "+path, syscall.SYS_MOUNT, kind, s.text(path), kind, syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, 0)
		steps = append(steps, s.optional(mount))
	}
	return steps
}

// queueMounts returns the directories of /proc/self/mountinfo that show message queues, each once.
func queueMounts(mountinfo []byte) []string {
	var paths []string
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(mountinfo)) {
		// id, parent, device, root, mount point, options, optional fields, "-", type, source, options
		mount, fileSystem, _ := strings.Cut(line, " - ")
		f := strings.Fields(mount)
		if kind, _, _ := strings.Cut(fileSystem, " "); kind == "mqueue" && len(f) > 4 {
			paths = append(paths, unescape.Replace(f[4]))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// hideSockets covers the unix sockets of the machine that exist now, except allowed ones. It
// returns how many it has covered.
func hideSockets(n *inside, allowed []string) (hidden int, err error) {
	list, err := os.ReadFile("/proc/self/net/unix")
	if err != nil {
		return 0, err
	}
	paths := slices.DeleteFunc(socketPaths(list), func(p string) bool { return slices.Contains(allowed, p) })
	for batch := range slices.Chunk(paths, scriptSteps-8) {
		s, err := n.script()
		if err != nil {
			return hidden, err
		}
		nothing := s.text("/dev/null")
		var steps []ref
		for _, path := range batch {
			steps = append(steps, s.optional(s.add("hide "+path, syscall.SYS_MOUNT, nothing, s.text(path), 0, syscall.MS_BIND, 0)))
		}
		err = s.run()
		for _, r := range steps {
			switch _, errno := s.result(r); errno {
			case 0:
				hidden++
			case syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES: // the command cannot find it either
			default:
				err = &stepError{s.names[r], errno}
			}
		}
		s.close()
		if err != nil {
			return hidden, err
		}
	}
	return hidden, nil
}

// socketPaths returns the paths of /proc/net/unix, each once.
func socketPaths(list []byte) []string {
	var paths []string
	for line := range strings.Lines(string(list)) {
		// Num RefCount Protocol Flags Type St Inode Path
		f := strings.SplitN(strings.TrimRight(line, "\n"), " ", 8)
		if len(f) < 8 {
			continue
		}
		if path := strings.TrimLeft(f[7], " "); filepath.IsAbs(path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
