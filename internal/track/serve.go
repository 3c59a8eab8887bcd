// Serve: the accept loop for protocols that are served one connection at a
// time.

package track

import (
	"errors"
	"net"
	"runtime/debug"
)

// Serve accepts connections until the listener or its group is closed, or Inner
// fails permanently. It calls handle for each connection in a new goroutine.
// When handle returns or panics, the connection is closed and its entry
// released. A panic is logged with its stack and affects that connection only.
//
// handle may use [Entry.SetCloser] and [Entry.AfterHandler]; it need not
// release the entry.
//
// Serve returns nil after a close, otherwise the error of Inner. Handlers may
// still be running then; [Group.Wait] waits for them.
func (l *Listener) Serve(handle func(c net.Conn, e *Entry)) error {
	for {
		c, e, err := l.accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go func() {
			growStack(0)
			l.run(c, e, handle)
		}()
	}
}

// run serves c with handle, then with the functions passed to AfterHandler.
func (l *Listener) run(c net.Conn, e *Entry, handle func(net.Conn, *Entry)) {
	defer e.Release()
	more := l.callSafely(c, func() bool {
		handle(c, e)
		return e.afterHandler != nil
	})
	for more {
		then := e.afterHandler
		e.afterHandler = nil
		more = l.callSafely(c, func() bool {
			then()
			return e.afterHandler != nil
		})
	}
}

// callSafely runs f, which serves c, and recovers a panic. It closes c unless f
// returns true.
func (l *Listener) callSafely(c net.Conn, f func() (more bool)) (more bool) {
	defer func() {
		if !more {
			c.Close()
		}
	}()
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		l.logger().Error("panic while serving a connection",
			"addr", l.Addr().String(), "client", c.RemoteAddr(),
			"panic", v, "stack", string(debug.Stack()))
	}()
	return f()
}
