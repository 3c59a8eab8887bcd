package fence

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// maxQuerySockets is the number of sockets for DNS queries that a room without a network of its
// own has at once.
const maxQuerySockets = 512

// maxQuery is the size of the longest DNS query that such a socket passes on.
const maxQuery = 4096

// querySockets holds the host's ends of socket pairs. The command uses the other ends as if they were
// UDP sockets that are connected to a name server.
type querySockets struct {
	queries chan query
	closed  chan struct{}
	tasks   sync.WaitGroup

	mu   sync.Mutex
	done bool
	last uint64
	open map[netip.AddrPort]*os.File // by the address that stands for the client
}

// query is a datagram that the command has sent.
type query struct {
	b              []byte
	client, server netip.AddrPort
}

func newQuerySockets() *querySockets {
	return &querySockets{queries: make(chan query), closed: make(chan struct{}), open: make(map[netip.AddrPort]*os.File)}
}

// add serves the host's end of a pair. It owns the file, and reports false if there are too many.
func (q *querySockets) add(f *os.File, server netip.AddrPort) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.done || len(q.open) >= maxQuerySockets {
		f.Close()
		return false
	}
	q.last++
	var a [16]byte
	binary.BigEndian.PutUint64(a[8:], q.last)
	client := netip.AddrPortFrom(netip.AddrFrom16(a), 1)
	q.open[client] = f
	q.tasks.Go(func() { q.read(f, client, server) })
	return true
}

// read passes on the queries of a socket until the command closes it.
func (q *querySockets) read(f *os.File, client, server netip.AddrPort) {
	defer func() {
		f.Close()
		q.mu.Lock()
		delete(q.open, client)
		q.mu.Unlock()
	}()
	b := make([]byte, maxQuery)
	for {
		n, err := f.Read(b)
		if err != nil {
			return
		}
		select {
		case q.queries <- query{append([]byte(nil), b[:n]...), client, server}:
		case <-q.closed:
			return
		}
	}
}

func (q *querySockets) receive(b []byte) (n int, client, server netip.AddrPort, err error) {
	select {
	case <-q.closed:
		return 0, client, server, net.ErrClosed
	case next := <-q.queries:
		return copy(b, next.b), next.client, next.server, nil
	}
}

// send sends a response. It is no error if the command has closed its socket, or reads nothing.
func (q *querySockets) send(b []byte, client netip.AddrPort) error {
	q.mu.Lock()
	f := q.open[client]
	q.mu.Unlock()
	if f == nil {
		return nil
	}
	err := sendNow(f, b)
	if errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

// close closes the sockets. It waits for the end of their goroutines, but not for long: a command can
// send a descriptor along that the kernel takes long to close. A call of Close would wait for that, too.
func (q *querySockets) close() {
	q.mu.Lock()
	first := !q.done
	q.done = true
	for _, f := range q.open {
		f.SetReadDeadline(time.Unix(1, 0)) // ends its read, after which the file is closed
	}
	q.mu.Unlock()
	if first {
		close(q.closed)
	}
	done := make(chan struct{})
	go func() {
		q.tasks.Wait()
		close(done)
	}()
	limit := time.NewTimer(closeTime)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	}
}
