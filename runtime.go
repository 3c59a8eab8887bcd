// The state of a running proxy, and what a host can change about it.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/learned"
	"example.com/networkproxy/internal/policy"
)

// status is a snapshot of the state of a proxy.
type status struct {
	policy    *policy.Policy // the policy in force
	loaded    *loadedConfig  // the configuration in force
	fault     error          // of the last reload; nil if it succeeded
	observing bool

	httpAddr, adminAddr, socksAddr string

	count *audit.Counters // the counters of the proxy, which still change

	clients        int    // open connections of clients
	clientsRefused uint64 // connections of clients beyond the limit
	sessions       int
	grants         int
	questions      int // questions that the decider has not answered yet
	blockedLimit   int // the maximum number of recorded refusals

	// Calls of the host's functions that were dropped because the function
	// did not return in time.
	droppedRefusals, droppedLogLines uint64
}

// status returns the state of the proxy. Policy, configuration and fault belong
// together. The other values may be a moment older.
func (h *Handle) status() status {
	g := h.gate
	s := status{
		observing:       g.Observations != nil,
		httpAddr:        h.httpAddr,
		adminAddr:       h.adminAddr,
		socksAddr:       h.socksAddr,
		count:           &g.Counters,
		clients:         h.live.Len(),
		clientsRefused:  h.live.Refused(),
		sessions:        h.sessions.len(),
		grants:          len(h.Grants()),
		questions:       g.Asker.Len(),
		blockedLimit:    h.settings.limits.BlockedKept,
		droppedRefusals: g.LostRefusals(),
		droppedLogLines: h.logQueue.Lost(),
	}
	s.loaded, s.policy, s.fault = h.active.state()
	return s
}

// refusals returns the recorded refusals, oldest first, and the number of
// refusals since the start.
func (h *Handle) refusals() (list []BlockedRequest, total uint64) {
	kept, total := h.gate.Blocked.List()
	return publicRefusals(kept), total
}

// adminReadOnly reports whether the configuration in force makes the admin API
// read-only.
func (h *Handle) adminReadOnly() bool {
	return h.active.current().Config.AdminReadOnly
}

// Config returns the configuration in force, without changes made at run time:
// see [Handle.Mode]. Values that exceed tightened managed limits are cut back
// in it. Entries of the [Builder.LearnedFile] come last. The caller owns the copy.
func (h *Handle) Config() Config { return h.active.current().config() }

// CACertificate returns, in PEM, the certificates that clients must trust where the
// proxy opens TLS. They do not change while the proxy runs. It returns nil while TLS
// inspection is off.
func (h *Handle) CACertificate() []byte {
	if !h.active.current().Config.MITM {
		return nil
	}
	text, err := h.certificates()
	if err != nil {
		h.log.Error("the certificate authority of TLS inspection cannot be used", "error", err)
	}
	return text
}

// Mode returns the mode in force.
func (h *Handle) Mode() Mode { return h.gate.Policy().Mode }

// SetMode changes the mode until the configuration's own mode changes or the
// proxy ends. It cuts open tunnels that the new mode forbids. A mode that
// exceeds the managed limits is refused.
func (h *Handle) SetMode(m Mode) error { return h.active.setMode(m) }

// AllowDomain adds an allowlist entry until the proxy ends: it survives
// reloads and is not written to any file. The denylist, the protection of
// local networks and the mode apply to it as to every other entry. An entry
// outside the managed limits is refused; one that a reload puts outside them
// is dropped, with a warning in the log.
func (h *Handle) AllowDomain(entry string) error {
	return h.publishChange(h.active.allow(entry), DecisionAllow, entry, "allowed until the proxy ends")
}

// DenyDomain adds a denylist entry until the proxy ends, as AllowDomain does
// for the allowlist. It cuts open connections that the entry denies.
func (h *Handle) DenyDomain(entry string) error {
	return h.publishChange(h.active.deny(entry), DecisionDeny, entry, "denied until the proxy ends")
}

// RemoveDomain removes an entry that AllowDomain or DenyDomain added. It does
// not remove entries of the configuration: the error says where such an entry
// is set.
func (h *Handle) RemoveDomain(entry string) error {
	return h.publishChange(h.active.remove(entry), "", entry, "no longer allowed or denied at run time")
}

// publishChange publishes a change of the rules if err is nil. It returns err.
func (h *Handle) publishChange(err error, d DecisionKind, pattern, message string) error {
	if err == nil {
		h.gate.PublishRule(nil, d, pattern, message)
	}
	return err
}

// Remember allows or denies a host for good: it puts an entry in force at once, as
// AllowDomain and DenyDomain do, and saves it in the [Builder.LearnedFile] or with
// the [Builder.AmendmentWriter]. An entry that was remembered before is no error.
// The denylist overrides an allowed entry, as always.
//
// If the error is [ErrNotSaved], the entry is in force until the proxy ends, but
// was not saved, and Remember may be called again. If ctx ended before the entry was
// saved, it may still be saved later. After any other error, nothing has changed.
// Examples are an invalid pattern, a pattern that exceeds the managed limits, and
// an allow of a pattern that Remember has denied.
func (h *Handle) Remember(ctx context.Context, a Amendment) error {
	parse, done, decision := parseAllowed, "allowed", DecisionAllow
	switch a.Action {
	case AmendAllow:
	case AmendDeny:
		parse, done, decision = parseDenied, "denied", DecisionDeny
	default:
		return fmt.Errorf("unknown action %q of an amendment: use AmendAllow or AmendDeny", string(a.Action))
	}
	p, err := parse(a.Pattern)
	if err == nil {
		err = h.checkAmend(ctx)
	}
	if err == nil {
		err = h.publishChange(h.active.remember(a.Action, p), decision, p.String(), done+" for good")
	}
	if err != nil {
		return err
	}
	a.Pattern = p.String()
	if _, err := h.save(ctx, a, p); err != nil {
		return fmt.Errorf("%q is %s until the proxy ends, but %w: %w", a.Pattern, done, ErrNotSaved, err)
	}
	h.log.Info("remembered for good", "action", string(a.Action), "pattern", a.Pattern)
	return nil
}

// Forget removes an entry that [Handle.Remember] added, now or in an earlier run,
// from both lists. An [AmendmentWriter] is called with [AmendForget], and has to
// remove the entry from the configuration if that contains it. It is an error if the
// [Builder.LearnedFile] does not contain the entry. After an error, nothing has
// changed, except that the entry may still be forgotten later if ctx ended.
func (h *Handle) Forget(ctx context.Context, pattern string) error {
	p, err := domain.Parse(pattern)
	if err == nil {
		err = h.checkAmend(ctx)
	}
	if err != nil {
		return err
	}
	a := Amendment{Action: AmendForget, Pattern: p.String()}
	saved, err := h.save(ctx, a, p)
	if err != nil {
		return fmt.Errorf("%q cannot be forgotten: %w", a.Pattern, err)
	}
	if found := h.active.forget(p); !found && !saved {
		return fmt.Errorf("%q was not remembered", a.Pattern)
	}
	h.gate.PublishRule(nil, "", a.Pattern, "forgotten")
	h.log.Info("forgotten", "pattern", a.Pattern)
	return nil
}

// canSave reports whether there is a learned file or an AmendmentWriter.
func (h *Handle) canSave() bool { return h.settings.learned != nil || h.settings.amend != nil }

// checkAmend returns an error if no amendment can be saved: nothing saves them, the
// proxy has ended or is off, or ctx has ended.
func (h *Handle) checkAmend(ctx context.Context) error {
	if !h.canSave() {
		return errors.New("there is no place to save the change: set Builder.LearnedFile or Builder.AmendmentWriter, " +
			"or use AllowDomain and DenyDomain, whose entries last until the proxy ends")
	}
	if err := h.alive(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// errWriterExited is the error of an AmendmentWriter that calls runtime.Goexit.
var errWriterExited = errors.New("the AmendmentWriter ended its goroutine without returning")

// save saves an amendment. It waits no longer than ctx allows. found reports
// whether the entry may have been saved before. It is exact for the learned file, and
// always true with an AmendmentWriter.
func (h *Handle) save(ctx context.Context, a Amendment, p domain.Pattern) (found bool, err error) {
	type result struct {
		found bool
		err   error
	}
	results := make(chan result, 1)
	writeCtx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(h.drain, func() { cancel(ErrClosed) })
	h.reloader.goroutines.Go(func() {
		r := result{err: errWriterExited}
		defer func() { stop(); cancel(nil); results <- r }()
		if h.settings.learned != nil {
			r.found, r.err = h.learn(writeCtx, a, p)
			return
		}
		r.found, r.err = hostcall.Call(writeCtx, h.calls, hostcall.AmendmentWriter, func(ctx context.Context) (bool, error) {
			return true, h.settings.amend(ctx, a)
		})
	})
	select {
	case r := <-results:
		return r.found, r.err
	case <-ctx.Done():
		return false, fmt.Errorf("stopped waiting for the write: %w", context.Cause(ctx))
	case <-h.done:
		return false, ErrClosed
	}
}

// learn writes an amendment to the learned file, and puts the file's new content
// in force.
func (h *Handle) learn(ctx context.Context, a Amendment, p domain.Pattern) (found bool, err error) {
	change := learned.Change{List: learned.Allowed, Comment: a.Comment, Time: time.Now(), Same: func(entry string) bool {
		q, err := domain.Parse(entry)
		return err == nil && q == p
	}}
	if a.Action != AmendForget {
		change.Add = a.Pattern
	}
	if a.Action == AmendDeny {
		change.List = learned.Denied
	}
	var rules runtimeRules
	found, err = h.settings.learned.Edit(ctx, change,
		func(c learned.Content) (err error) {
			rules, err = parseLearned(h.settings.learned.Path, c)
			return err
		},
		func(learned.Content) { h.active.learn(rules) })
	h.gate.Rejudge()
	return found, err
}

// Allow adds allowlist entries to the session until it ends, so that a command
// can be repeated after the user has approved a host that was refused. They have
// the rank of [SessionConfig.AllowedDomains]: the denylists, the protection of
// local networks and the mode apply to them.
//
// A request that begins after Allow has returned is judged with the entries,
// even if the decider has just denied the same request. Allow does not affect
// a question that the decider is considering. An entry that the session has
// already is no error. If a later reload tightens the managed limits, entries
// that exceed them have no effect.
//
// If an entry is invalid or exceeds the managed limits, Allow adds none and the
// error names each such entry. After the end of the session, the error is the
// cause of that end. [Handle.AllowGroup] does the same for a group.
func (s *Session) Allow(patterns ...string) error {
	limits, err := s.handle.active.limits()
	if err == nil {
		err = context.Cause(s.principal.Context)
	}
	if err != nil {
		return err
	}
	entries, err := parseAllowedEntries(patterns, limits)
	if err != nil {
		return fmt.Errorf("session %s: %w", s.id, err)
	}
	s.rules.allow(entries)
	for _, pattern := range entries.entries {
		s.handle.gate.PublishRule(s.principal, DecisionAllow, pattern, "allowed for the session")
	}
	s.handle.log.Info("session rules changed", "session", s.id, "allowed", entries.entries)
	return nil
}

// Questions returns the questions of [Builder.AskOnPage] that wait, oldest first. Those
// of a PolicyDecider are not among them. [EventAsked] and [EventAnswered] tell when to
// look again.
func (h *Handle) Questions() []Question {
	waiting := h.inbox.List()
	list := make([]Question, len(waiting))
	for i, q := range waiting {
		list[i] = publicQuestion(q)
	}
	return list
}

// Answer answers a question. The first answer counts: the error is [ErrNoQuestion] if
// Questions does not list the ID any more.
func (h *Handle) Answer(id uint64, d Decision) error {
	_, answer, err := h.inbox.Take(id)
	if err != nil {
		return err
	}
	answer(d.d)
	return nil
}

// Reload reads the configuration again and puts all of it in force. On an
// error nothing changes: the last good policy stays in force. Managed limits
// are the exception. If they can be read, they take effect even if the
// configuration cannot be read, and cut the last good configuration back.
// Open connections that the new policy refuses are cut. Changes of keys that
// need a restart are logged and take effect at the restart. All other changes
// take effect at once.
//
// Reload waits until the files have not changed for 200 ms, or for a second if
// a key that was there before is missing. This keeps it from reading a
// half-written file. If a file is still being written after eight times that
// wait, the error says so. Only one reload of files runs at a time. Calls that
// come while another waits for its turn share one reload.
//
// Where the configuration comes from a [Builder.ConfigSource], Reload returns
// [ErrReloading] at once while that function runs for another reload. Reload
// may be called from every callback. It returns early, with the reason, when
// ctx ends or the proxy begins to stop. A reload of files goes on when ctx ends,
// because other calls may share it.
func (h *Handle) Reload(ctx context.Context) error {
	_, err := h.reload(ctx)
	return err
}

// reload is Reload, and also returns what the reload did.
func (h *Handle) reload(ctx context.Context) (reloaded, error) { return h.reloader.reload(ctx) }

// Events returns the events from now on. Until the loop takes them, they wait in a
// queue that is bounded as for [Builder.OnEvent], so begin the loop soon. The sequence
// ends when ctx ends, or after the last event of the proxy. It can be used once. The
// queue is removed when the loop or ctx ends.
func (h *Handle) Events(ctx context.Context) iter.Seq[Event] {
	events := h.gate.FollowEvents(ctx)
	return func(yield func(Event) bool) {
		events(func(e *audit.Event) bool { return yield(publicEvent(e)) })
	}
}
