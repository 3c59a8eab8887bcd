package udpbatch

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
)

// TestSendWithoutJoining checks that datagrams are sent one by one if the
// system does not accept joined ones.
func TestSendWithoutJoining(t *testing.T) {
	t.Parallel()
	to := listen(t, "127.0.0.1")
	conn := connect(t, to)
	s := newSender(t, conn, netip.AddrPort{}, "head")
	// The system cannot split datagrams on a socket without checksums (EINVAL),
	// just as for a path with a too small MTU.
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_NO_CHECK, 1) })
	if err != nil {
		t.Fatal(err)
	}
	before := s.joinLimit
	sent, scratch, buf := datagrams(repeat(100, MaxBatch)...), make([]byte, maxDatagram), make([]byte, maxDatagram)
	for range 2 {
		if lost := s.Send(sent, scratch); lost != 0 {
			t.Errorf("%d lost", lost)
		}
		for i, data := range sent {
			n, err := to.Read(buf)
			if want := append([]byte("head"), data...); err != nil || !bytes.Equal(buf[:n], want) {
				t.Fatalf("%d: received %q, %v; want %q", i, buf[:n], err, want)
			}
		}
	}
	if before != maxJoined || s.joinLimit != len("head")+100 {
		t.Errorf("joinLimit was %d and is %d now", before, s.joinLimit)
	}
}

// TestSegmentSize checks the parsing of control messages.
func TestSegmentSize(t *testing.T) {
	t.Parallel()
	gro := segmentMessage()
	binary.NativeEndian.PutUint32(gro[levelOffset+4:], udpGRO)
	gro = binary.NativeEndian.AppendUint32(gro[:valueOffset], 1200)
	for _, test := range []struct {
		name string
		in   []byte
		want int
	}{
		{"nothing", nil, 0},
		{"joined", gro, 1200},
		{"cut short", gro[:len(gro)-1], 0},
		{"another message", segmentMessage(), 0},
	} {
		if got := segmentSize(test.in); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}
