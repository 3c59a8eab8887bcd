package fence

import (
	"net"
	"sync"
)

// idleListener stands for a listener on an address that the room does not have.
type idleListener struct {
	addr   net.Addr
	once   sync.Once
	closed chan struct{}
}

func newIdleListener(a net.Addr) *idleListener {
	return &idleListener{addr: a, closed: make(chan struct{})}
}

// Accept waits until Close.
func (l *idleListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *idleListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *idleListener) Addr() net.Addr { return l.addr }
