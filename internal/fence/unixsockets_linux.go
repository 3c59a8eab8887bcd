//go:build linux && (amd64 || arm64)

// This file decides which unix sockets the processes of a room may connect to.

package fence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"example.com/networkproxy/internal/netlink"
)

// unixSockets knows the unix sockets of a room and those of the machine that are allowed.
type unixSockets struct {
	listed  *listedSockets
	refused func(path string)

	mu      sync.Mutex // serializes the lists
	inside  int        // netlink socket in the namespace of the room
	outside int        // and in that of the host
}

func (u *unixSockets) close() {
	u.listed.close()
	for _, fd := range []*int{&u.inside, &u.outside} {
		if *fd >= 0 {
			syscall.Close(*fd)
			*fd = -1
		}
	}
}

// unixTarget is the file of a socket to connect to.
type unixTarget struct {
	fd   int    // of the file; must be closed
	addr []byte // leads to this very file, whatever becomes of its path
}

// target decides about the address of a connect of a thread. It returns nil for addresses
// without a path: the kernel looks them up in the network namespace of the socket.
func (u *unixSockets) target(tid int, addr []byte) (*unixTarget, syscall.Errno) {
	const maxUnixSockaddr = 110 // struct sockaddr_un
	path, ok := unixPath(addr)
	switch {
	case !ok:
		return nil, 0
	case len(addr) > maxUnixSockaddr:
		return nil, syscall.EINVAL
	}
	fd, errno := openPath(tid, path)
	if errno != 0 {
		return nil, errno
	}
	ok, err := u.permitted(tid, fd)
	if err != nil || !ok {
		syscall.Close(fd)
		if errors.Is(err, errNotSocket) {
			return nil, syscall.ECONNREFUSED // as the kernel does
		}
		if u.refused != nil {
			u.refused(path)
		}
		return nil, syscall.EACCES
	}
	return &unixTarget{fd, fileSockaddr(fd)}, 0
}

// unixPath returns the path of an encoded address. It reports false for other addresses.
func unixPath(addr []byte) (path string, ok bool) {
	family, ok := addressFamily(addr)
	if !ok || family != syscall.AF_UNIX || len(addr) == 2 || addr[2] == 0 {
		return "", false
	}
	path, _, _ = strings.Cut(string(addr[2:]), "\x00")
	return path, true
}

// fileSockaddr returns the encoded address that leads to an open file of this process.
func fileSockaddr(fd int) []byte {
	link := binary.NativeEndian.AppendUint16(nil, syscall.AF_UNIX)
	link = append(link, fmt.Sprintf("/proc/self/fd/%d", fd)...)
	return append(link, 0)
}

// listedSockets are the files that the paths of Config.UnixSockets led to when the room started. A
// command that can write to the directory of such a path could later put another socket there. A nil
// pointer is an empty list.
type listedSockets struct {
	files []int // keep the kernel from using the inode numbers again
	stats []syscall.Stat_t
}

// openListed opens the files of the paths. It leaves out paths without a file.
func openListed(paths []string) (*listedSockets, error) {
	l := new(listedSockets)
	for _, path := range paths {
		fd, errno := openFile(atCWD, path, 0)
		if errno == syscall.ENOENT || errno == syscall.ENOTDIR {
			continue
		}
		var st syscall.Stat_t
		err := error(errno)
		if errno == 0 {
			l.files = append(l.files, fd)
			err = syscall.Fstat(fd, &st)
		}
		if err != nil {
			l.close()
			return nil, problem("allowed unix socket", fmt.Errorf("open %q: %w", path, err), "make it accessible, or remove it from the list")
		}
		l.stats = append(l.stats, st)
	}
	return l, nil
}

// contains reports whether a file is one of the list.
func (l *listedSockets) contains(st *syscall.Stat_t) bool {
	return l != nil && slices.ContainsFunc(l.stats, func(s syscall.Stat_t) bool { return s.Dev == st.Dev && s.Ino == st.Ino })
}

func (l *listedSockets) close() {
	if l == nil {
		return
	}
	for _, fd := range l.files {
		syscall.Close(fd)
	}
	l.files, l.stats = nil, nil
}

var errNotSocket = errors.New("not a socket")

// permitted reports whether the file is a socket that is allowed, or that was made in the room.
func (u *unixSockets) permitted(tid, fd int) (bool, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return false, err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return false, errNotSocket
	}
	if u.listed.contains(&st) {
		return true, nil
	}
	file, err := identify(tid, fd, &st)
	if err != nil {
		return false, err
	}
	inside, err := u.list(u.inside)
	if err != nil {
		return false, err
	}
	outside, err := u.list(u.outside)
	if err != nil {
		return false, err
	}
	return madeInside(file, inside, outside), nil
}

// madeInside reports whether the socket of a file is bound in the room, from the lists of the
// room and of the host. A list has the lower half of an inode number only. A socket of the host
// with the same lower half must not pass.
func madeInside(file fileID, inside, outside []netlink.UnixSocket) bool {
	isFile := func(s netlink.UnixSocket) bool { return s.Inode == file.inode && s.Dev == file.dev }
	return slices.ContainsFunc(inside, isFile) && !slices.ContainsFunc(outside, isFile)
}

// fileID identifies the file of a socket, as the lists of sockets do.
type fileID struct{ inode, dev uint32 }

// identify returns the identity of an open file. Some file systems (btrfs, overlayfs) show other
// numbers in stat(2) than the kernel uses inside.
func identify(tid, fd int, st *syscall.Stat_t) (fileID, error) {
	id := fileID{uint32(st.Ino), deviceNumber(major(st.Dev), minor(st.Dev))}
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return id, err
	}
	if ino, err := strconv.ParseUint(field(info, "ino:"), 10, 64); err == nil { // since Linux 5.14
		id.inode = uint32(ino)
	}
	mount := field(info, "mnt_id:")
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", tid))
	if err != nil {
		return id, err
	}
	for line := range strings.Lines(string(mounts)) {
		// mount id, parent id, major:minor, ...
		f := strings.Fields(line)
		if len(f) > 2 && f[0] == mount {
			var a, b uint32
			if _, err := fmt.Sscanf(f[2], "%d:%d", &a, &b); err == nil {
				id.dev = deviceNumber(a, b)
			}
		}
	}
	return id, nil
}

func major(dev uint64) uint32 { return uint32(dev>>8&0xfff | dev>>32&^0xfff) }
func minor(dev uint64) uint32 { return uint32(dev&0xff | dev>>12&^0xff) }

// deviceNumber returns the encoding of the kernel.
func deviceNumber(major, minor uint32) uint32 { return major<<20 | minor }

// field returns the value of a line of a file in /proc.
func field(b []byte, name string) string {
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}

// threadGroup returns the process of a thread.
func threadGroup(tid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(field(status, "Tgid:"))
}

// list returns the bound unix sockets of the namespace of a netlink socket.
func (u *unixSockets) list(diag int) ([]netlink.UnixSocket, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := syscall.Sendto(diag, netlink.AppendUnixDump(nil, 1), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("list unix sockets: %w", err)
	}
	var all []netlink.UnixSocket
	b := make([]byte, 64<<10)
	for {
		n, _, err := syscall.Recvfrom(diag, b, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list unix sockets: %w", err)
		}
		sockets, done, errno, err := netlink.ParseUnixDump(b[:n])
		all = append(all, sockets...)
		switch {
		case err != nil:
			return nil, err
		case errno != 0:
			return nil, fmt.Errorf("list unix sockets: %w", syscall.Errno(errno))
		case done:
			return all, nil
		}
	}
}

// openPath opens the file of a path as a thread sees it. The descriptor is good for nothing but
// naming the file (O_PATH).
func openPath(tid int, path string) (int, syscall.Errno) {
	proc := fmt.Sprintf("/proc/%d/", tid)
	if rest, ok := ownProcPath(path); ok {
		// These links lead to other files for this process.
		return openFile(atCWD, proc+rest, 0)
	}
	base, resolve := "cwd", uint64(0)
	if strings.HasPrefix(path, "/") {
		const inRoot = 0x10 // RESOLVE_IN_ROOT
		base, resolve = "root", inRoot
	}
	dir, errno := openFile(atCWD, proc+base, 0)
	if errno != 0 {
		return -1, syscall.EACCES
	}
	defer syscall.Close(dir)
	return openFile(dir, path, resolve)
}

// ownProcPath reports whether a path begins with a link that leads to the process that
// follows it. The rest is relative to the directory of the process in /proc.
func ownProcPath(path string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(path, "/proc/self/"); ok {
		return rest, true
	}
	if rest, ok = strings.CutPrefix(path, "/dev/fd/"); ok {
		return "fd/" + rest, true
	}
	return "", false
}

const (
	atCWD  = -100     // AT_FDCWD
	openID = 0x200000 // O_PATH
)

// openFile calls openat2(2).
func openFile(dir int, path string, resolve uint64) (int, syscall.Errno) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, syscall.EINVAL
	}
	how := struct{ flags, mode, resolve uint64 }{openID | syscall.O_CLOEXEC, 0, resolve}
	for {
		fd, _, errno := syscall.Syscall6(sysOpenat2, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
		switch errno {
		case 0:
			return int(fd), 0
		case syscall.EINTR, syscall.EAGAIN: // EAGAIN: a rename meanwhile
		default:
			return -1, errno
		}
	}
}
