// Resources of a tunnel: descriptors, pipes, goroutines, and bytes in the
// kernel.

package tunnel

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"weak"

	"example.com/networkproxy/internal/testnet"
)

// inOwnProcess runs f in a separate process in which nothing else opens
// descriptors.
func inOwnProcess(t *testing.T, f func(t *testing.T)) {
	const key = "TUNNEL_TEST_ALONE"
	if os.Getenv(key) == t.Name() {
		f(t)
		return
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), key+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names) - 1 // without the directory itself
}

// eventually waits until get returns want.
func eventually(t *testing.T, what string, get func() int, want int) {
	t.Helper()
	var got int
	if !testnet.Poll(testTimeout, func() bool { got = get(); return got == want }) {
		t.Fatalf("%s: %d, want %d", what, got, want)
	}
}

// TestIdleTunnelHoldsTwoDescriptors moves enough bytes to splice, then none.
func TestIdleTunnelHoldsTwoDescriptors(t *testing.T) {
	inOwnProcess(t, func(t *testing.T) {
		const tunnels = 20
		descriptors(t)
		tcpPair(t) // makes the poller open its descriptors
		before := descriptors(t)
		var rigs []*rig
		for range tunnels {
			rigs = append(rigs, newRig(t, Options{}))
		}
		most := 0
		for _, r := range rigs {
			go io.CopyN(r.client, rand.NewChaCha8([32]byte{}), 1<<20)
			if _, err := io.CopyN(io.Discard, r.server, 1<<20); err != nil {
				t.Fatal(err)
			}
			most = max(most, descriptors(t)-before)
		}
		// Each rig has two connections with all four ends in this process.
		if most <= 4*tunnels {
			t.Errorf("at most %d descriptors while busy: no tunnel used a pipe", most)
		}
		eventually(t, "descriptors of idle tunnels", func() int { return descriptors(t) - before }, 4*tunnels)

		// A tunnel that has released its pipe takes another when it is busy
		// again.
		r := rigs[0]
		go io.CopyN(r.client, rand.NewChaCha8([32]byte{}), 1<<20)
		if _, err := io.CopyN(io.Discard, r.server, 1<<20); err != nil {
			t.Fatal(err)
		}
		if got := descriptors(t) - before; got != 4*tunnels+2 {
			t.Errorf("%d descriptors with one busy tunnel, want %d", got, 4*tunnels+2)
		}
	})
}

// TestIdleTunnelHoldsLittle checks that an idle tunnel holds two stacks and no
// buffers, even while it waits for the client's first bytes.
func TestIdleTunnelHoldsLittle(t *testing.T) {
	next := inspectFunc(func([]byte, SourceState) Inspection { return Inspection{Decision: PassHeld} })
	inOwnProcess(t, func(t *testing.T) {
		for _, tt := range []struct {
			name    string
			inspect Inspector
			silent  bool // the client has sent nothing
		}{
			{"plain", nil, false},
			{"inspected", next, false},
			{"inspected and silent", next, true},
		} {
			const tunnels, most = 60, 12 << 10
			var rigs []*rig
			for range tunnels {
				r := &rig{result: make(chan Result, 1)}
				r.client, r.a = tcpPair(t)
				r.b, r.server = tcpPair(t)
				rigs = append(rigs, r)
			}
			settle()
			before := held()
			for _, r := range rigs {
				go func() { r.result <- Relay(r.a, r.b, Options{IdleTimeout: time.Hour, Inspect: tt.inspect}) }()
				if !tt.silent {
					send(t, r.client, "x")
					expect(t, r.server, "x")
				}
				send(t, r.server, "x")
				expect(t, r.client, "x")
			}
			settle()
			if got := (held() - before) / tunnels; got > most {
				t.Errorf("%s: a tunnel holds %d bytes in addition to its connections, want at most %d", tt.name, got, most)
			} else {
				t.Logf("%s: a tunnel holds %d bytes in addition to its connections", tt.name, got)
			}
			for _, r := range rigs {
				Pair{r.a, r.b}.Close()
				r.wait(t)
			}
		}
	})
}

// TestEarlyBytesAreNotKept checks that a tunnel keeps no reference to early
// bytes once they are written.
func TestEarlyBytesAreNotKept(t *testing.T) {
	t.Parallel()
	client, a := tcpPair(t)
	b, server := tcpPair(t)
	defer client.Close()
	result := make(chan Result, 1)
	early := func() weak.Pointer[byte] {
		data := make([]byte, 1<<16)
		go func() { result <- Relay(a, b, Options{Early: data}) }()
		return weak.Make(&data[0])
	}()
	io.CopyN(io.Discard, server, 1<<16)
	eventually(t, "references", func() int {
		runtime.GC()
		if early.Value() == nil {
			return 0
		}
		return 1
	}, 0)
	Pair{a, b}.Close()
	await(t, result)
}

// TestDatagramsAreNotAStream checks that message-based Unix sockets are left to
// package net.
func TestDatagramsAreNotAStream(t *testing.T) {
	t.Parallel()
	at := &net.UnixAddr{Net: "unixgram", Name: t.TempDir() + "/s"}
	c, err := net.ListenUnixgram("unixgram", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if rawStream(c) != nil {
		t.Error("rawStream returned a connection for a datagram socket")
	}
	stream, _ := unixPair(t)
	if rawStream(stream) == nil {
		t.Error("rawStream returned nil for a stream socket")
	}
}

// TestNoLeaks ends tunnels in every way and counts goroutines and descriptors.
func TestNoLeaks(t *testing.T) {
	inOwnProcess(t, func(t *testing.T) {
		tcpPair(t)
		fds, goroutines := descriptors(t), runtime.NumGoroutine()
		for i := range 40 {
			r := newRig(t, Options{IdleTimeout: time.Minute, Early: []byte("early")})
			if err := useAndEnd(i, r.client, r.server, Pair{r.a, r.b}); err != nil {
				t.Fatal(err)
			}
			r.wait(t)
			r.client.Close()
			r.server.Close()
		}
		eventually(t, "descriptors", func() int { return descriptors(t) }, fds)
		eventually(t, "goroutines", runtime.NumGoroutine, goroutines)
	})
}

// TestWithoutPipes uses up the descriptors so that no stream gets a pipe.
func TestWithoutPipes(t *testing.T) {
	inOwnProcess(t, func(t *testing.T) {
		r := newRig(t, Options{})
		expectEcho := func() {
			t.Helper()
			exchange(t, r.client, r.server, 7, 8<<20, large)
		}
		limit := syscall.Rlimit{Cur: uint64(descriptors(t)), Max: 4096}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		if _, err := newPipe(); err == nil {
			t.Fatal("newPipe succeeded, so the test is void")
		}
		expectEcho()
		if got, want := r.wait(t), (Result{Sent: 8 << 20, Received: 8 << 20}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// TestPipeIsNonBlocking checks that neither an empty socket nor an empty pipe
// blocks.
func TestPipeIsNonBlocking(t *testing.T) {
	t.Parallel()
	p, err := newPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	client, server := tcpPair(t)
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if n, err := p.fill(int(fd)); err != syscall.EAGAIN {
			t.Errorf("fill from an empty socket: %d, %v; want EAGAIN", n, err)
		}
		if n, err := p.drain(int(fd), 10); err != syscall.EAGAIN {
			t.Errorf("drain of an empty pipe: %d, %v; want EAGAIN", n, err)
		}
	})
	client.Close()
}

// TestCorkedBytesAreSent checks that the last bytes of a stream, which wait in
// the kernel for its end, are sent even if the tunnel has broken and no end
// follows.
func TestCorkedBytesAreSent(t *testing.T) {
	t.Parallel()
	client, a := tcpPair(t)
	b, server := tcpPair(t)
	send(t, server, "this is why")
	server.Close()
	const closeWait = 8 // TCP_CLOSE_WAIT: the end of the stream has arrived
	eventually(t, "state of b", func() int { return tcpState(t, b) }, closeWait)

	// The state after a failed write to b.
	tun := &tunnel{decided: true, cause: CauseResetByB}
	tun.forward = direction{tunnel: tun, src: a, dst: b, done: true}
	tun.back = direction{tunnel: tun, src: b, dst: a, rawSrc: rawStream(b), rawDst: rawStream(a)}
	tun.back.run()
	if !tun.back.copier.corked {
		t.Fatal("the bytes were not corked, so the test is void")
	}
	expect(t, client, "this is why")
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("then read %d bytes, %v; want a reset", n, err)
	}
}

// tcpState returns the first field of struct tcp_info (tcp(7)).
func tcpState(t *testing.T, c *net.TCPConn) (state int) {
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		var info int
		info, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		state = info & 0xff
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}
