//go:build amd64 || arm64

package fence

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestDecodeTarget(t *testing.T) {
	t.Parallel()
	inet := func(port uint16, a ...byte) []byte {
		b := append([]byte{syscall.AF_INET, 0, byte(port >> 8), byte(port)}, a...)
		return append(b, make([]byte, 8)...)
	}
	inet6 := func(port uint16, a netip.Addr) []byte {
		b := append([]byte{syscall.AF_INET6, 0, byte(port >> 8), byte(port), 9, 9, 9, 9}, a.AsSlice()...)
		return append(b, 0, 0, 0, 0)
	}
	mapped := netip.MustParseAddr("::ffff:192.0.2.1")
	for _, test := range []struct {
		name   string
		family int
		addr   []byte
		want   string
		errno  syscall.Errno
	}{
		{"IPv4", syscall.AF_INET, inet(443, 192, 0, 2, 1), "192.0.2.1:443", 0},
		{"IPv6", syscall.AF_INET6, inet6(80, netip.MustParseAddr("2001:db8::1")), "[2001:db8::1]:80", 0},
		{"IPv6 without a scope", syscall.AF_INET6, inet6(80, netip.MustParseAddr("2001:db8::1"))[:24], "[2001:db8::1]:80", 0},
		{"IPv4 in IPv6", syscall.AF_INET6, inet6(80, mapped), "192.0.2.1:80", 0},
		{"unspecified", syscall.AF_INET, inet(80, 0, 0, 0, 0), "127.0.0.1:80", 0},
		{"unspecified IPv6", syscall.AF_INET6, inet6(80, netip.IPv6Unspecified()), "[::1]:80", 0},
		{"IPv4 for a socket of IPv6", syscall.AF_INET6, inet(80, 192, 0, 2, 1), "", syscall.EAFNOSUPPORT},
		{"IPv6 for a socket of IPv4", syscall.AF_INET, inet6(80, mapped), "", syscall.EAFNOSUPPORT},
		{"unix", syscall.AF_INET, []byte{syscall.AF_UNIX, 0, '/', 'x', 0}, "", syscall.EAFNOSUPPORT},
		{"short IPv4", syscall.AF_INET, inet(80, 192, 0, 2, 1)[:15], "", syscall.EINVAL},
		{"short IPv6", syscall.AF_INET6, inet6(80, mapped)[:23], "", syscall.EINVAL},
		{"family alone", syscall.AF_INET, []byte{syscall.AF_INET, 0}, "", syscall.EINVAL},
		{"nothing", syscall.AF_INET, nil, "", syscall.EAFNOSUPPORT},
		{"no port", syscall.AF_INET, inet(0, 192, 0, 2, 1), "", syscall.ECONNREFUSED},
	} {
		got, errno := decodeTarget(test.family, test.addr)
		if errno != test.errno || errno == 0 && got.String() != test.want {
			t.Errorf("%s: returns %v, %v, want %s, %v", test.name, got, errno, test.want, test.errno)
		}
	}
}

// A UDP socket of the command sends nothing, in none of the states that it can have.
func TestMuteSocket(t *testing.T) {
	t.Parallel()
	receiver, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	fd, err := newMute(syscall.AF_INET, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	to := &syscall.SockaddrInet4{Port: receiver.LocalAddr().(*net.UDPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
	for _, again := range []func() error{
		func() error { return nil },
		func() error { return syscall.Bind(fd, &syscall.SockaddrInet4{}) },
		func() error { return syscall.Shutdown(fd, syscall.SHUT_RDWR) },
		func() error { return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1) },
	} {
		again()
		if err := syscall.Sendto(fd, []byte("x"), 0, to); err != syscall.EPIPE {
			t.Errorf("sendto returns %v, want EPIPE", err)
		}
	}
	if self, err := localAddress(fd); err != nil || !self.Addr().IsLoopback() {
		t.Errorf("the socket is bound to %v, %v; want a loopback address", self, err)
	}
	live, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(live)
	if err := syscall.Bind(live, loopbackSockaddr(syscall.AF_INET, 0)); err != nil {
		t.Fatal(err)
	}
	if err := checkMute(live); err == nil {
		t.Error("checkMute accepts a socket that can send")
	}
}

// The notifier forgets the sockets that were made first.
func TestRememberedSockets(t *testing.T) {
	t.Parallel()
	n := &notifier{sockets: make(map[uint64]socketKind)}
	for i := range uint64(maxSockets) {
		n.sockets[i+1<<40] = socketKind{}
		n.order = append(n.order, i+1<<40)
	}
	fd, err := newTCP(syscall.AF_INET, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	for range 3 {
		if err := n.remember(fd, socketKind{stream: true}); err != nil {
			t.Fatal(err)
		}
	}
	d, errno := describeDescriptor(os.Getpid(), fd)
	if errno != 0 {
		t.Fatal(errno)
	}
	if k, ok := n.sockets[d.inode]; !ok || !k.stream {
		t.Error("the socket is not known")
	}
	if len(n.sockets) != maxSockets || len(n.order) != maxSockets || slices.Contains(n.order, 1<<40) {
		t.Errorf("%d sockets in the map, %d in the list; want %d without the first", len(n.sockets), len(n.order), maxSockets)
	}
	if d.flags&syscall.O_CLOEXEC == 0 || d.flags&syscall.O_NONBLOCK != 0 {
		t.Errorf("the flags of the descriptor are %#o", d.flags)
	}
	if _, errno := describeDescriptor(os.Getpid(), 1<<20); errno != syscall.EBADF {
		t.Errorf("a descriptor that is not open: %v", errno)
	}
}

// Queries arrive, responses go to their socket, and the end of a socket is noticed.
func TestQuerySockets(t *testing.T) {
	t.Parallel()
	d := &Datagrams{queries: newQuerySockets()}
	server := netip.MustParseAddrPort("192.0.2.53:53")
	var theirs []*os.File
	for range 2 {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(pair[1]), "command")
		defer f.Close()
		theirs = append(theirs, f)
		if !d.queries.add(os.NewFile(uintptr(pair[0]), "host"), server) {
			t.Fatal("the socket is refused")
		}
	}
	b := make([]byte, 100)
	for i, f := range theirs {
		if _, err := f.Write([]byte{'q', byte(i)}); err != nil {
			t.Fatal(err)
		}
		n, client, target, err := d.Receive(b)
		if err != nil || string(b[:n]) != string([]byte{'q', byte(i)}) || target != server {
			t.Fatalf("Receive returns %q, %v, %v", b[:n], target, err)
		}
		if err := d.Send([]byte{'r', byte(i)}, target, client); err != nil {
			t.Error(err)
		}
		if n, err := f.Read(b); err != nil || string(b[:n]) != string([]byte{'r', byte(i)}) {
			t.Errorf("the command reads %q, %v", b[:n], err)
		}
		f.Close()
		if err := d.Send([]byte("late"), target, client); err != nil {
			t.Errorf("a response for a closed socket: %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, _, _, err := d.Receive(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close, Receive returns %v", err)
	}
	if len(d.queries.open) != 0 {
		t.Errorf("%d sockets are left", len(d.queries.open))
	}
	d.Close()
}

// A full or closed listener does not keep connections.
func TestHandedListener(t *testing.T) {
	t.Parallel()
	l := newHandedListener(&net.TCPAddr{})
	var peers []net.Conn
	for range cap(l.conns) {
		ours, theirs := net.Pipe()
		peers = append(peers, theirs)
		l.hand(ours)
	}
	ours, theirs := net.Pipe()
	peers = append(peers, theirs)
	handed := make(chan bool)
	go func() {
		l.hand(ours) // waits for Close
		close(handed)
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	l.Close()
	<-handed
	for i, p := range peers {
		if _, err := p.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("connection %d: read returns %v, want EOF", i, err)
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close, Accept returns %v", err)
	}
}

// The error of a room that cannot be had names both mechanisms.
func TestBothProblems(t *testing.T) {
	t.Parallel()
	var missing *Error
	errors.As(problem("namespaces", syscall.EPERM, "allow them"), &missing)
	err := bothProblems(missing, problem("seccomp notification", syscall.EBUSY, "start elsewhere"))
	want := "fence: namespaces: operation not permitted; allow them; without namespaces: seccomp notification: device or resource busy; start elsewhere"
	if err.Error() != want {
		t.Errorf("the error is %q, want %q", err, want)
	}
	if !errors.Is(err, syscall.EPERM) || !errors.Is(err, syscall.EBUSY) {
		t.Error("the error does not match its causes")
	}
	if other := errors.New("other"); bothProblems(missing, other) != other || bothProblems(nil, err) != err {
		t.Error("other errors are changed")
	}
}

// Connections that had the same address one after the other keep their order. The command can make
// them: it resets one that waits to be accepted.
func TestPendingConnections(t *testing.T) {
	t.Parallel()
	n := &notifier{pending: make(map[netip.AddrPort][]arrival)}
	client := netip.MustParseAddrPort("127.0.0.1:40000")
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.IPv6Loopback(), port) }
	for port := range uint16(4) {
		n.expect(client, arrival{target: at(port)})
	}
	n.forget(client) // the last one failed
	for port := range uint16(3) {
		if a, ok := n.arrived(client); !ok || a.target != at(port) {
			t.Errorf("connection %d has the target %v, %v", port, a.target, ok)
		}
	}
	n.forget(client)
	if a, ok := n.arrived(client); ok || len(n.pending) != 0 {
		t.Errorf("then, there is %v, and the map has %d elements", a, len(n.pending))
	}
}

// A target belongs to its connection, even if another one has had the same address.
func TestTargets(t *testing.T) {
	t.Parallel()
	room := &Room{targets: &targets{of: make(map[net.Conn]netip.AddrPort)}}
	first, second := net.Conn(new(net.TCPConn)), net.Conn(new(net.TCPConn))
	a, b := netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:80")
	room.targets.put(first, a)
	room.targets.put(second, b)
	if got := room.Target(second); got != b {
		t.Errorf("the second connection has the target %v, want %v", got, b)
	}
	if got := room.Target(first); got != a {
		t.Errorf("the first connection has the target %v, want %v", got, a)
	}
	if len(room.targets.of) != 0 {
		t.Errorf("%d targets are left", len(room.targets.of))
	}
}

// A goroutine that the command keeps in a system call does not keep close from returning.
func TestQuerySocketsCloseIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuerySockets()
		read := make(chan struct{})
		q.tasks.Go(func() { <-read })
		began := time.Now()
		q.close()
		if took := time.Since(began); took != closeTime {
			t.Errorf("close takes %v, want %v", took, closeTime)
		}
		close(read)
	})
}
