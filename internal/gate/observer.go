// Calls of the host's OnBlocked function. A mailbox calls it for one refusal at a
// time, so that no request waits for it.

package gate

import (
	"runtime/debug"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostcall"
)

// newObserver returns the mailbox of OnBlocked; nil if f is nil.
func (g *Gate) newObserver(f func(*audit.Refusal)) *hostcall.Mailbox[audit.Refusal] {
	if f == nil {
		return nil
	}
	return &hostcall.Mailbox[audit.Refusal]{
		Limit: hostcall.MailboxLimit, Calls: g.config.Calls, Kind: hostcall.OnBlocked,
		Deliver: func(r audit.Refusal) { g.observe("OnBlocked", func() { f(&r) }) },
		Resumed: func(n int) {
			g.Log.Warn("OnBlocked was not called for some refusals, because it did not return in time", "refusals", n)
		},
	}
}

// observe calls a function of the host and logs its panic.
func (g *Gate) observe(name string, f func()) {
	defer func() {
		if p := recover(); p != nil && g.LogLimiter.Allow(nil) {
			g.Log.Error(name+" panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// CloseObserver drops the waiting refusals and all later ones. It returns the number
// of those that waited. It does not wait for a running call of OnBlocked.
func (g *Gate) CloseObserver() int {
	if g.observer == nil {
		return 0
	}
	return g.observer.Close()
}

// LostRefusals returns the number of refusals that OnBlocked was not called
// for because it did not return in time.
func (g *Gate) LostRefusals() uint64 { return g.observer.Lost() }

// notify queues a refusal for OnBlocked. If many refusals wait, it copies the
// strings, because they are parts of whole request headers.
func (g *Gate) notify(r audit.Refusal) {
	if g.observer.Backlog() {
		r.CloneStrings()
	}
	if _, first := g.observer.Put(r); first {
		g.Log.Warn("OnBlocked does not return; refusals for which it is not called are counted and recorded", "waiting", hostcall.MailboxLimit)
	}
}
