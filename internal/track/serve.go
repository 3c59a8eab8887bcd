// The accept loop for protocols that are served connection by connection.

package track

import (
	"errors"
	"net"
	"runtime/debug"
)

// Serve accepts until the listener or its group is closed, or Inner fails for
// good, and calls handle for each connection in a goroutine of its own. The
// connection is closed and its entry released when handle returns, and when it
// panics: a panic is logged with its stack, and costs that connection only.
//
// handle may put the entry to use with [Entry.SetCloser] and [Entry.AfterHandler]; it need
// not release it.
//
// Serve returns nil after a close, else the error of Inner. Handlers may still
// run then: [Group.Wait] waits for them.
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

// run serves c with handle, and then with what is to come after that.
func (l *Listener) run(c net.Conn, e *Entry, handle func(net.Conn, *Entry)) {
	defer e.Release()
	again := l.callSafely(c, func() bool {
		handle(c, e)
		return e.afterHandler != nil
	})
	for again {
		then := e.afterHandler
		e.afterHandler = nil
		again = l.callSafely(c, func() bool {
			then()
			return e.afterHandler != nil
		})
	}
}

// guard runs f, which serves c, and closes c unless f returns true.
func (l *Listener) callSafely(c net.Conn, f func() (again bool)) (again bool) {
	defer func() {
		if !again {
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
