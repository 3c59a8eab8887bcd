package fence

import (
	"net"
	"sync"
)

// handedListener is a listener whose connections another listener has accepted.
type handedListener struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newHandedListener(a net.Addr) *handedListener {
	return &handedListener{addr: a, conns: make(chan net.Conn, 16), closed: make(chan struct{})}
}

// hand passes a connection to Accept. It closes the connection if the listener is closed.
func (l *handedListener) hand(c net.Conn) {
	select {
	case <-l.closed:
		c.Close()
		return
	default:
	}
	select {
	case l.conns <- c:
		select {
		case <-l.closed:
			l.drain() // Close may have missed it
		default:
		}
	case <-l.closed:
		c.Close()
	}
}

func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case c := <-l.conns:
		return c, nil
	}
}

// Close closes the listener and the connections that were not accepted.
func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.drain()
	return nil
}

func (l *handedListener) drain() {
	for {
		select {
		case c := <-l.conns:
			c.Close()
		default:
			return
		}
	}
}

func (l *handedListener) Addr() net.Addr { return l.addr }
