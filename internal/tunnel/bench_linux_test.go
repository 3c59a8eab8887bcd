// Benchmarks of tunnels. The peers run in a separate process, so that CPU time,
// memory and descriptors of this process are those of the relay.

package tunnel

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const peerKey = "TUNNEL_BENCH_PEER"

func TestMain(m *testing.M) {
	if front := os.Getenv(peerKey); front != "" {
		if err := peer(front); err != nil {
			fmt.Fprintln(os.Stderr, "peer:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// peer runs the process of both ends. As the origin server it listens and
// prints its address. As the client it opens a connection to front for every
// input line. The client asks for a number of bytes, and the origin sends them.
// With "hold" the client leaves the connection open.
func peer(front string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go origin(c)
		}
	}()
	var held []net.Conn
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var n int64
		var mode string
		fmt.Sscan(in.Text(), &n, &mode)
		c, err := net.Dial("tcp", front)
		if err != nil {
			return err
		}
		fmt.Fprintf(c, "%d\n", n)
		if _, err := io.CopyN(io.Discard, c, n); err != nil {
			return err
		}
		if mode == "hold" {
			held = append(held, c)
		} else {
			c.Close()
		}
		fmt.Println("done")
	}
	runtime.KeepAlive(held)
	return nil
}

func origin(c net.Conn) {
	defer c.Close()
	var n int
	if _, err := fmt.Fscanln(c, &n); err != nil {
		return
	}
	chunk := make([]byte, 256<<10)
	for n > 0 {
		w, err := c.Write(chunk[:min(n, len(chunk))])
		if err != nil {
			return
		}
		n -= w
	}
	c.Read(chunk)
}

// bench relays between the peers with the given function.
type bench struct {
	b      *testing.B
	relay  func(a, b *net.TCPConn)
	ln     net.Listener
	origin string
	in     io.WriteCloser
	out    *bufio.Scanner
	live   sync.WaitGroup
}

func newBench(b *testing.B, relay func(a, b *net.TCPConn)) *bench {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), peerKey+"="+ln.Addr().String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	e := &bench{b: b, relay: relay, ln: ln, in: in, out: bufio.NewScanner(out)}
	if !e.out.Scan() {
		b.Fatal("the peer did not start")
	}
	e.origin = e.out.Text()
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
		ln.Close()
		e.live.Wait()
	})
	return e
}

// fetch opens a tunnel, fetches n bytes through it, and waits for them.
func (e *bench) fetch(n int, mode string) {
	fmt.Fprintln(e.in, n, mode)
	a, err := e.ln.Accept()
	if err != nil {
		e.b.Fatal(err)
	}
	b, err := net.Dial("tcp", e.origin)
	if err != nil {
		e.b.Fatal(err)
	}
	e.live.Go(func() { e.relay(a.(*net.TCPConn), b.(*net.TCPConn)) })
	if !e.out.Scan() {
		e.b.Fatal("the peer ended")
	}
}

func relay(a, b *net.TCPConn) { Relay(a, b, Options{IdleTimeout: time.Hour}) }

// naive is the simplest relay with splice. It holds two pipes.
func naive(a, b *net.TCPConn) {
	done := make(chan struct{})
	go func() {
		io.Copy(b, a)
		b.CloseWrite()
		close(done)
	}()
	io.Copy(a, b)
	a.CloseWrite()
	<-done
	a.Close()
	b.Close()
}

// buffered copies through buffers only.
func buffered(a, b *net.TCPConn) {
	Relay(struct{ conn }{a}, struct{ conn }{b}, Options{IdleTimeout: time.Hour})
}

var relays = []struct {
	name  string
	relay func(a, b *net.TCPConn)
}{
	{"Relay", relay},
	{"ioCopy", naive},
	{"buffered", buffered},
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBulk moves 256 MiB through one tunnel, alone and next to 1,200 idle
// tunnels. Run it as an unprivileged user, because pipe limits do not apply to
// root.
func BenchmarkBulk(b *testing.B) {
	const size = 256 << 20
	for _, r := range relays {
		for _, idle := range []int{0, 1200} {
			b.Run(fmt.Sprintf("%s/idle=%d", r.name, idle), func(b *testing.B) {
				e := newBench(b, r.relay)
				for range idle {
					e.fetch(1000, "hold")
				}
				b.SetBytes(size)
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					e.fetch(size, "")
				}
				b.ReportMetric(float64((cpu(b)-before).Milliseconds())/(float64(b.N)*size/1e9), "CPU-ms/GB")
			})
		}
	}
}

// BenchmarkSize fetches bodies of many sizes, each through a new tunnel. It
// shows the cost of setup and where splicing starts to pay.
func BenchmarkSize(b *testing.B) {
	for _, r := range relays {
		for _, size := range []int{1 << 10, 32 << 10, 128 << 10, 512 << 10, 4 << 20} {
			b.Run(fmt.Sprintf("%s/%dKiB", r.name, size>>10), func(b *testing.B) {
				e := newBench(b, r.relay)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					e.fetch(size, "")
				}
				b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "CPU-µs/op")
			})
		}
	}
}

// BenchmarkIdle measures what an idle tunnel holds after a small stream and
// after a large one.
func BenchmarkIdle(b *testing.B) {
	const tunnels = 1000
	for _, r := range relays {
		for _, size := range []int{1 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/after=%dKiB", r.name, size>>10), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					e := newBench(b, r.relay)
					e.fetch(size, "hold")
					settle()
					fds, rss, heap := descriptors(b), resident(b), held()
					for range tunnels {
						e.fetch(size, "hold")
					}
					settle()
					b.ReportMetric(float64(descriptors(b)-fds)/tunnels, "fds/tunnel")
					b.ReportMetric(float64(resident(b)-rss)/tunnels/1024, "RSS-KiB/tunnel")
					b.ReportMetric(float64(held()-heap)/tunnels/1024, "Go-KiB/tunnel")
				}
			})
		}
	}
}

// settle waits until idle tunnels have released their pipes, and frees memory.
func settle() {
	<-time.After(3 * pipeCheckInterval)
	runtime.GC()
	debug.FreeOSMemory()
}

// held returns the bytes of live heap and goroutine stacks.
func held() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func resident(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, pages int64
	fmt.Fscan(strings.NewReader(string(text)), &size, &pages)
	return pages * int64(os.Getpagesize())
}
