// The host's OnBlocked function: it is called for one refusal after the other,
// from a mailbox, so that no request waits for it.

package gate

import (
	"runtime/debug"
	"strings"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostcall"
)

// newObserver returns the mailbox of OnBlocked; nil if f is nil.
func (e *Gate) newObserver(f func(*audit.Refusal)) *hostcall.Mailbox[audit.Refusal] {
	if f == nil {
		return nil
	}
	return &hostcall.Mailbox[audit.Refusal]{
		Limit: hostcall.MailboxLimit, Calls: e.config.Calls, Kind: hostcall.OnBlocked,
		Deliver: func(r audit.Refusal) {
			defer func() {
				if p := recover(); p != nil && e.Lines.Allow(nil) {
					e.Log.Error("OnBlocked panicked", "panic", p, "stack", string(debug.Stack()))
				}
			}()
			f(&r)
		},
		Resumed: func(n int) {
			e.Log.Warn("OnBlocked was not called for some refusals, because it did not return in time", "refusals", n)
		},
	}
}

// notify passes a refusal to OnBlocked.
func (e *Gate) notify(r audit.Refusal) {
	if e.Observer.Backlog() {
		r.Host, r.Method, r.UnixSocket = strings.Clone(r.Host), strings.Clone(r.Method), strings.Clone(r.UnixSocket)
		r.Verdict.ServerName = strings.Clone(r.Verdict.ServerName)
	}
	if _, first := e.Observer.Put(r); first {
		e.Log.Warn("OnBlocked does not return; refusals for which it is not called are counted and recorded", "waiting", hostcall.MailboxLimit)
	}
}
