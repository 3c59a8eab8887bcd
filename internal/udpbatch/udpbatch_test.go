package udpbatch

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

// listen opens a socket until the end of the test.
func listen(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 0)))
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadBuffer(1 << 20)
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { conn.Close() })
	return conn
}

func addrOf(conn *net.UDPConn) netip.AddrPort { return conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// connect opens a socket that is connected to another.
func connect(t testing.TB, to *net.UDPConn) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, to.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func newReader(t testing.TB, conn *net.UDPConn, buffers *Buffers) *Reader {
	t.Helper()
	r, err := NewReader(conn, buffers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func newSender(t testing.TB, conn *net.UDPConn, to netip.AddrPort, header string) *Sender {
	t.Helper()
	s, err := NewSender(conn, to, []byte(header))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// datagrams returns one datagram of each length. No two are equal.
func datagrams(lengths ...int) [][]byte {
	out := make([][]byte, len(lengths))
	for i, length := range lengths {
		out[i] = bytes.Repeat([]byte{byte(i + 1)}, length)
	}
	return out
}

func repeat(length, n int) []int { return slices.Repeat([]int{length}, n) }

// bursts are sequences of lengths that joining could mishandle.
var bursts = []struct {
	name    string
	lengths []int
}{
	{"none", nil},
	{"one", []int{100}},
	{"an empty one", []int{0}},
	{"empty ones", []int{0, 0, 0}},
	{"of one length", repeat(100, 16)},
	{"more than a batch", repeat(100, 3*MaxBatch+1)},
	{"the last is shorter", []int{100, 100, 99}},
	{"a shorter one in between", []int{100, 100, 99, 100, 100}},
	{"a longer one in between", []int{100, 100, 101, 100, 100}},
	{"ascending", []int{1, 2, 3, 4, 5}},
	{"descending", []int{5, 4, 3, 2, 1}},
	{"an empty one in between", []int{100, 100, 0, 100}},
	{"an empty one at the end", []int{100, 100, 0}},
	{"of one byte", repeat(1, 10)},
	{"longer together than a datagram can be", repeat(9000, 10)},
	{"the longest", []int{65000, 65000, 65490, 10}},
	{"half of the longest", repeat(32500, 4)},
}

// TestSend reads one datagram at a time.
func TestSend(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"127.0.0.1", "::1"} {
		for _, header := range []string{"", "header"} {
			for _, connected := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %q %t", network, header, connected), func(t *testing.T) {
					t.Parallel()
					to := listen(t, network)
					s := newSender(t, listen(t, network), addrOf(to), header)
					if connected {
						s = newSender(t, connect(t, to), netip.AddrPort{}, header)
					}
					scratch, buf := make([]byte, maxDatagram), make([]byte, maxDatagram)
					for _, burst := range bursts {
						sent := datagrams(burst.lengths...)
						if lost := s.Send(sent, scratch); lost != 0 {
							t.Errorf("%s: %d lost", burst.name, lost)
						}
						for i, data := range sent {
							n, err := to.Read(buf)
							if err != nil {
								t.Fatalf("%s, %d: %v", burst.name, i, err)
							}
							if want := header + string(data); string(buf[:n]) != want {
								t.Errorf("%s, %d: received %.20q (%d bytes), want %.20q (%d bytes)", burst.name, i, buf[:n], n, want, len(want))
							}
						}
					}
				})
			}
		}
	}
}

// TestRead sends one datagram at a time, and in bursts.
func TestRead(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"127.0.0.1", "::1"} {
		for _, scratch := range []int{0, maxDatagram} {
			t.Run(fmt.Sprintf("%s %d", network, scratch), func(t *testing.T) {
				t.Parallel()
				var buffers Buffers
				conn := listen(t, network)
				r := newReader(t, conn, &buffers)
				from := connect(t, conn)
				s := newSender(t, from, netip.AddrPort{}, "")
				for _, burst := range bursts {
					sent := datagrams(burst.lengths...)
					s.Send(sent, make([]byte, scratch))
					for len(sent) > 0 {
						n, err := r.Read()
						if err != nil {
							t.Fatalf("%s: %v", burst.name, err)
						}
						for i := range n {
							if len(sent) == 0 || !bytes.Equal(r.Data(i), sent[0]) || r.From(i) != addrOf(from) {
								t.Fatalf("%s: received %.20q (%d bytes) from %s, with %d left", burst.name, r.Data(i), len(r.Data(i)), r.From(i), len(sent))
							}
							sent = sent[1:]
						}
					}
				}
			})
		}
	}
}

// TestReadDistinguishesSenders checks that interleaved bursts of several
// senders arrive with the right addresses, and in order for each sender.
func TestReadDistinguishesSenders(t *testing.T) {
	t.Parallel()
	var buffers Buffers
	conn := listen(t, "127.0.0.1")
	r := newReader(t, conn, &buffers)
	var senders [3]*Sender
	expected := make(map[netip.AddrPort][][]byte)
	var addrs [len(senders)]netip.AddrPort
	for i := range senders {
		from := connect(t, conn)
		senders[i], addrs[i] = newSender(t, from, netip.AddrPort{}, "head"), addrOf(from)
	}
	random := rand.New(rand.NewPCG(7, 68))
	scratch := make([]byte, maxDatagram)
	left := 0
	for round := range 300 {
		for range 1 + random.IntN(4) {
			who := random.IntN(len(senders))
			burst := make([][]byte, random.IntN(20))
			for i := range burst {
				burst[i] = bytes.Repeat([]byte{byte(random.IntN(256))}, 20+random.IntN(2))
				expected[addrs[who]] = append(expected[addrs[who]], append([]byte("head"), burst[i]...))
				left++
			}
			if lost := senders[who].Send(burst, scratch); lost != 0 {
				t.Fatalf("round %d: %d lost", round, lost)
			}
		}
		for left > 0 {
			n, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				queue := expected[r.From(i)]
				if len(queue) == 0 || !bytes.Equal(queue[0], r.Data(i)) {
					t.Fatalf("round %d: received %q from %s, which sent %q", round, r.Data(i), r.From(i), queue)
				}
				expected[r.From(i)] = queue[1:]
				left--
			}
		}
	}
}

func TestReadEnds(t *testing.T) {
	t.Parallel()
	var buffers Buffers
	conn := listen(t, "127.0.0.1")
	r := newReader(t, conn, &buffers)
	conn.SetReadDeadline(time.Now())
	if n, err := r.Read(); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %d, %v", n, err)
	}
	conn.SetReadDeadline(time.Time{})
	ended := make(chan error)
	go func() {
		_, err := r.Read()
		ended <- err
	}()
	conn.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read while the socket is closed: %v", err)
	}
	if n, err := r.Read(); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after the socket was closed: %d, %v", n, err)
	}
	if _, err := NewReader(conn, &buffers); err == nil {
		t.Error("NewReader succeeded with a closed socket")
	}
	if _, err := NewSender(conn, netip.AddrPort{}, nil); err == nil {
		t.Error("NewSender succeeded with a closed socket")
	}
}

func TestSendCountsWhatIsLost(t *testing.T) {
	t.Parallel()
	conn := listen(t, "127.0.0.1")
	s := newSender(t, conn, addrOf(listen(t, "127.0.0.1")), "head")
	scratch := make([]byte, 128<<10)
	if lost := s.Send(datagrams(100, 70_000, 100), scratch); lost != 1 {
		t.Errorf("%d lost, want the one that is too long", lost)
	}
	conn.Close()
	if lost := s.Send(datagrams(100, 100, 100), scratch); lost != 3 {
		t.Errorf("%d of 3 lost, want all because the socket is closed", lost)
	}
}

func BenchmarkRelay(b *testing.B) {
	for _, burst := range []int{1, MaxBatch} {
		b.Run(fmt.Sprint(burst), func(b *testing.B) {
			var buffers Buffers
			near, far := listen(b, "127.0.0.1"), listen(b, "127.0.0.1")
			client := newSender(b, connect(b, near), netip.AddrPort{}, "")
			in := newReader(b, near, &buffers)
			out := newSender(b, connect(b, far), netip.AddrPort{}, "0123456789")
			end := newReader(b, far, &buffers)
			sent, scratch := datagrams(repeat(100, burst)...), make([]byte, maxDatagram)
			data := make([][]byte, 0, burst)
			b.ReportAllocs()
			for b.Loop() {
				client.Send(sent, scratch)
				for left := burst; left > 0; {
					n, err := in.Read()
					if err != nil {
						b.Fatal(err)
					}
					data = data[:0]
					for i := range n {
						data = append(data, in.Data(i))
					}
					out.Send(data, in.Scratch())
					left -= n
				}
				for left := burst; left > 0; {
					n, err := end.Read()
					if err != nil {
						b.Fatal(err)
					}
					left -= n
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*burst), "ns/datagram")
		})
	}
}

// TestBuffersAreBounded checks that any number of Readers use bounded memory,
// because most of them read one message at a time, and that they read the same
// datagrams.
func TestBuffersAreBounded(t *testing.T) {
	t.Parallel()
	var buffers Buffers
	sent := datagrams(bursts[len(bursts)-2].lengths...)
	var readers []*Reader
	full := 0
	for range 3 * maxFullBatches {
		conn := listen(t, "127.0.0.1")
		r := newReader(t, conn, &buffers)
		readers = append(readers, r)
		newSender(t, connect(t, conn), netip.AddrPort{}, "").Send(sent, nil)
		var got [][]byte
		for len(got) < len(sent) {
			n, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				got = append(got, bytes.Clone(r.Data(i)))
			}
		}
		if !slices.EqualFunc(got, sent, bytes.Equal) {
			t.Fatalf("reader %d received other datagrams than were sent", len(readers))
		}
		if r.batch.size == MaxBatch {
			full++
		}
	}
	if full != maxFullBatches {
		t.Errorf("%d of %d readers have a full batch, want %d", full, len(readers), maxFullBatches)
	}
	for _, r := range readers {
		r.Close()
	}
	if b := buffers.get(); b.size != MaxBatch || buffers.fullInUse.Load() != 1 {
		t.Errorf("after all readers have closed: batch of %d messages, %d batches in use", b.size, buffers.fullInUse.Load())
	}
}
