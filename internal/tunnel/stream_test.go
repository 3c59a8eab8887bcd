// Streams: every byte arrives once and in order, for all kinds of connections
// and speeds.

package tunnel

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// conn is the interface of the outer connections in these tests.
type conn interface {
	net.Conn
	CloseWrite() error
}

// sendRandom sends n random bytes in chunks sized by next, and half-closes.
func sendRandom(c conn, seed uint64, n int64, next func(*rand.Rand) int) ([]byte, error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	data := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	sum := sha256.New()
	buf := make([]byte, 256<<10)
	for n > 0 {
		chunk := buf[:min(int64(next(rng)), int64(len(buf)), n)]
		data.Read(chunk)
		sum.Write(chunk)
		if _, err := c.Write(chunk); err != nil {
			return nil, err
		}
		n -= int64(len(chunk))
		if rng.IntN(64) == 0 {
			runtime.Gosched()
		}
	}
	return sum.Sum(nil), c.CloseWrite()
}

// collect hashes all received bytes, reading in random sizes.
func collect(c conn, seed uint64, next func(*rand.Rand) int) (hash.Hash, int64, error) {
	rng := rand.New(rand.NewPCG(seed, 2))
	sum := sha256.New()
	buf := make([]byte, 256<<10)
	var total int64
	for {
		n, err := c.Read(buf[:min(next(rng), len(buf))])
		sum.Write(buf[:n])
		total += int64(n)
		if err == io.EOF {
			return sum, total, nil
		}
		if err != nil {
			return nil, total, err
		}
	}
}

// exchange sends n bytes in each direction at the same time and checks what
// arrives.
func exchange(t *testing.T, client, server conn, seed uint64, n int64, next func(*rand.Rand) int) {
	t.Helper()
	var wg sync.WaitGroup
	oneWay := func(name string, from, to conn, seed uint64) {
		sent := make(chan []byte, 1)
		wg.Go(func() {
			sum, err := sendRandom(from, seed, n, next)
			if err != nil {
				t.Errorf("%s: sending: %v", name, err)
			}
			sent <- sum
		})
		wg.Go(func() {
			sum, got, err := collect(to, seed, next)
			if err != nil {
				t.Errorf("%s: after %d bytes: %v", name, got, err)
				from.Close() // the sender may be waiting for this reader
				return
			}
			if want := <-sent; got != n || string(sum.Sum(nil)) != string(want) {
				t.Errorf("%s: the %d received bytes, of %d, have a different hash", name, got, n)
			}
		})
	}
	oneWay("client to server", client, server, seed)
	oneWay("server to client", server, client, seed+1)
	wg.Wait()
}

func large(*rand.Rand) int { return 256 << 10 }

// mixedSizes returns small, medium and large sizes, so that a stream starts to
// splice, falls back and starts again.
func mixedSizes(rng *rand.Rand) int { return 1 + rng.IntN(1<<(1+rng.IntN(18))) }

// mixedSizesWithPauses also pauses now and then for longer than a tunnel keeps
// its pipe.
func mixedSizesWithPauses(rng *rand.Rand) int {
	if rng.IntN(200) == 0 {
		<-time.After(130 * time.Millisecond)
	}
	return 1 + rng.IntN(128<<10)
}

func TestStreams(t *testing.T) {
	t.Parallel()
	ends := map[string]func(t *testing.T) (client, a, b, server conn){
		"tcp to tcp": func(t *testing.T) (client, a, b, server conn) {
			client, a = tcpPair(t)
			b, server = tcpPair(t)
			return
		},
		"tcp to unix": func(t *testing.T) (client, a, b, server conn) {
			client, a = tcpPair(t)
			b, server = unixPair(t)
			return
		},
		"unix to unix": func(t *testing.T) (client, a, b, server conn) {
			client, a = unixPair(t)
			b, server = unixPair(t)
			return
		},
		"tcp to something else": func(t *testing.T) (client, a, b, server conn) {
			client, a = tcpPair(t)
			b, server = tcpPair(t)
			return client, a, struct{ conn }{b}, server
		},
	}
	paces := []struct {
		name string
		n    int64
		next func(*rand.Rand) int
	}{
		{"large chunks", 64 << 20, large},
		{"chunks of mixed sizes", 8 << 20, mixedSizes},
		{"pauses", 16 << 20, mixedSizesWithPauses},
		{"less than a splice", 50_000, mixedSizes},
		{"nothing", 0, large},
	}
	for name, dial := range ends {
		for i, pace := range paces {
			t.Run(name+"/"+pace.name, func(t *testing.T) {
				t.Parallel()
				n := pace.n
				if testing.Short() && n > 1<<20 {
					n /= 8
				}
				client, a, b, server := dial(t)
				result := make(chan Result, 1)
				go func() { result <- Relay(a, b, Options{IdleTimeout: time.Minute}) }()
				exchange(t, client, server, uint64(i), n, pace.next)
				if got, want := await(t, result), (Result{Sent: n, Received: n}); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			})
		}
	}
}

// TestManyTunnels runs tunnels that end in every way at the same time.
func TestManyTunnels(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for i := range 200 {
		client, a := tcpPair(t)
		b, server := tcpPair(t)
		result := make(chan Result, 1)
		go func() { result <- Relay(a, b, Options{IdleTimeout: time.Minute, Early: []byte("early")}) }()
		wg.Go(func() {
			if err := useAndEnd(i, client, server, Pair{a, b}); err != nil {
				t.Errorf("tunnel %d: %v", i, err)
			}
			select {
			case <-result:
			case <-time.After(testTimeout):
				t.Errorf("tunnel %d did not end", i)
			}
		})
	}
	wg.Wait()
}

func useAndEnd(i int, client, server *net.TCPConn, cut Pair) error {
	n := int64(1+i%5) * 40_000
	go io.CopyN(client, rand.NewChaCha8([32]byte{}), n)
	if got, err := io.CopyN(io.Discard, server, n+5); err != nil {
		return fmt.Errorf("got %d bytes of %d: %w", got, n+5, err)
	}
	switch i % 4 {
	case 0:
		client.Close()
		server.Close()
	case 1:
		client.SetLinger(0)
		client.Close()
	case 2:
		server.CloseWrite()
		client.Close()
	case 3:
		cut.Close()
	}
	return nil
}
