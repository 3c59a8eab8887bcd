// The host's OnBlocked function: it is called for one refusal after the other,
// from a mailbox, so that no request waits for it.

package networkproxy

import (
	"runtime/debug"
	"strings"

	"example.com/networkproxy/internal/hostcall"
)

// newObserver returns the mailbox of OnBlocked; nil if f is nil.
func (e *enforcer) newObserver(f func(*refusal)) *hostcall.Mailbox[refusal] {
	if f == nil {
		return nil
	}
	return &hostcall.Mailbox[refusal]{
		Limit: hostcall.MailboxLimit, Calls: e.config.Calls, Kind: hostcall.OnBlocked,
		Deliver: func(r refusal) {
			defer func() {
				if p := recover(); p != nil && e.lines.allow(nil) {
					e.log.Error("OnBlocked panicked", "panic", p, "stack", string(debug.Stack()))
				}
			}()
			f(&r)
		},
		Resumed: func(n int) {
			e.log.Warn("OnBlocked was not called for some refusals, because it did not return in time", "refusals", n)
		},
	}
}

// notify passes a refusal to OnBlocked.
func (e *enforcer) notify(r refusal) {
	if e.observer.Backlog() {
		r.Host, r.Method, r.UnixSocket = strings.Clone(r.Host), strings.Clone(r.Method), strings.Clone(r.UnixSocket)
		r.Verdict.ServerName = strings.Clone(r.Verdict.ServerName)
	}
	if _, first := e.observer.Put(r); first {
		e.log.Warn("OnBlocked does not return; refusals for which it is not called are counted and recorded", "waiting", hostcall.MailboxLimit)
	}
}
