//go:build linux && (amd64 || arm64)

package fence

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy/internal/netlink"
)

func TestSocketPaths(t *testing.T) {
	t.Parallel()
	list := `Num       RefCount Protocol Flags    Type St Inode Path
0000000043f9668b: 00000003 00000000 00000000 0001 03  1073
0000000026743e1b: 00000002 00000000 00010000 0001 01 31074 /run/a socket
0000000026743e1c: 00000002 00000000 00010000 0001 01   175 @/tmp/abstract
0000000026743e1d: 00000002 00000000 00000000 0002 01 12345 /dev/log
0000000026743e1e: 00000003 00000000 00000000 0001 03  9999 /run/a socket
0000000026743e1f: 00000002 00000000 00010000 0001 01  8888 relative
`
	if got, want := socketPaths([]byte(list)), []string{"/dev/log", "/run/a socket"}; !slices.Equal(got, want) {
		t.Errorf("socketPaths returns %q, want %q", got, want)
	}
}

func TestQueueMounts(t *testing.T) {
	t.Parallel()
	mounts := `21 28 0:20 / /proc rw,nosuid - proc proc rw
33 25 0:29 / /dev/mqueue rw,nosuid,nodev - mqueue mqueue rw
34 25 0:30 / /mnt/a\040space\134 rw shared:7 master:1 - mqueue none rw
36 33 0:32 / /dev/mqueue rw - mqueue mqueue rw
35 25 0:31 / /run rw - tmpfs mqueue rw
`
	if got, want := queueMounts([]byte(mounts)), []string{"/dev/mqueue", `/mnt/a space\`}; !slices.Equal(got, want) {
		t.Errorf("queueMounts returns %q, want %q", got, want)
	}
}

func TestEncodeSockaddr(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.0.2.1:80":       "0200 0050 c0000201 0000000000000000",
		"[2001:db8::1]:8080": "0a00 1f90 00000000 20010db8000000000000000000000001 00000000",
	} {
		if got := hex.EncodeToString(encodeSockaddr(netip.MustParseAddrPort(addr))); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("encodeSockaddr(%s) is %s, want %s", addr, got, want)
		}
	}
}

// The kernel and stat(2) encode the number of a device in different ways.
func TestDeviceNumber(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		stat         uint64
		major, minor uint32
		kernel       uint32
	}{
		{0xfe00, 254, 0, 254 << 20},
		{0x1b, 0, 27, 27},
		{0x801, 8, 1, 8<<20 | 1},
		{0x100000, 0, 0x100, 0x100},
	} {
		if a, b := major(test.stat), minor(test.stat); a != test.major || b != test.minor || deviceNumber(a, b) != test.kernel {
			t.Errorf("device %#x is %d:%d and %#x, want %d:%d and %#x", test.stat, a, b, deviceNumber(a, b), test.major, test.minor, test.kernel)
		}
	}
}

func TestOwnProcPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/proc/self/fd/5/socket": "fd/5/socket", "/proc/self/cwd/s": "cwd/s", "/dev/fd/7": "fd/7",
		"/proc/selfish/fd": "", "/run/socket": "", "proc/self/fd/5": "",
	} {
		if got, _ := ownProcPath(path); got != want {
			t.Errorf("ownProcPath(%s) returns %q, want %q", path, got, want)
		}
	}
}

func TestMadeInside(t *testing.T) {
	t.Parallel()
	file := fileID{inode: 7, dev: 1 << 20}
	same, other := netlink.UnixSocket{Inode: 7, Dev: 1 << 20}, netlink.UnixSocket{Inode: 8, Dev: 1 << 20}
	otherDev := netlink.UnixSocket{Inode: 7, Dev: 2 << 20}
	list := func(s ...netlink.UnixSocket) []netlink.UnixSocket { return s }
	for _, test := range []struct {
		name            string
		inside, outside []netlink.UnixSocket
		want            bool
	}{
		{"in the room", list(other, same), list(other, otherDev), true},
		{"nowhere", nil, nil, false},
		{"on the machine", list(other, otherDev), list(same), false},
		{"in both, so that it is not certain", list(same), list(same), false},
	} {
		if got := madeInside(file, test.inside, test.outside); got != test.want {
			t.Errorf("%s: madeInside returns %v, want %v", test.name, got, test.want)
		}
	}
}
