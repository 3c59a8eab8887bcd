// Changing the policy of a running proxy: reload and mode. A change is made
// whole or not at all, and every request sees one whole policy.

package networkproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/filewatch"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
)

// runtimeMode is a mode set at run time. It stands until the configuration's
// own mode changes from what it was then.
type runtimeMode struct {
	mode Mode // empty: none is set
	over Mode // the configuration's mode when it was set
}

// effective is the mode in force over a configuration that says configured.
func (r runtimeMode) effective(configured Mode) Mode {
	if r.mode != "" && r.over == configured {
		return r.mode
	}
	return configured
}

// Config returns the configuration in force, without what was changed at run
// time: see [Handle.Mode]. What exceeds tightened managed limits is cut back in
// it. The caller owns the copy.
func (h *Handle) Config() Config {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.loaded.Config.clone()
}

// Mode returns the mode in force.
func (h *Handle) Mode() Mode { return h.enforcer.installed().Mode }

// SetMode changes the mode until the configuration's own mode changes or the
// proxy ends. Open tunnels that the new mode forbids are cut. The managed
// limits apply.
func (h *Handle) SetMode(m Mode) error {
	if _, err := ParseMode(string(m)); err != nil {
		return err
	}
	h.mu.Lock()
	err := h.alive()
	if err == nil {
		err = h.loaded.limits.checkMode(m)
	}
	if err == nil {
		h.mode = runtimeMode{mode: m, over: h.loaded.Config.Mode}
		h.install(h.loaded)
	}
	h.mu.Unlock()
	if err != nil {
		return err
	}
	cut := h.enforcer.rejudge()
	h.log.Info("mode set", "mode", string(m), "connections_cut", cut)
	return nil
}

// Reload reads the configuration again and puts it in force, whole. On an
// error nothing changes: the last good policy stays in force. Managed limits
// are the exception: as soon as they can be read they take force, also where
// the configuration cannot, and cut the last good configuration back. Open
// connections that the new policy refuses are cut. Keys that need a restart
// are logged and take effect then; everything else applies now.
//
// Reload waits until the files have been still for a moment, so that it never
// takes a file that is half written: 200 ms, or a second where a key is gone
// that was there before. The error says so when a file is still being written
// after eight times that. Reloads of files take turns.
//
// Where the configuration comes from a [Builder.ConfigSource], Reload returns
// [ErrReloading] at once while that function runs for another reload. Reload
// may be called from every callback. It returns early, with the reason, when
// ctx ends or the proxy begins to stop.
func (h *Handle) Reload(ctx context.Context) error {
	_, err := h.reload(ctx)
	return err
}

// reloaded is the result of a reload.
type reloaded struct {
	Generation uint64   `json:"generation"`
	Cut        int      `json:"connections_cut"`
	Restart    []string `json:"restart_required,omitempty"` // changed keys that take effect at the next start
	Warnings   []string `json:"warnings,omitempty"`         // what the configuration asks for and did not take effect
}

// reloadPatience is how long the proxy waits, when it ends, for reloads that do
// not return although their contexts have ended.
const reloadPatience = time.Second

// reloads makes reloads take turns.
type reloads struct {
	turn   chan struct{} // holds a token while a reload reads files and acts on them
	source chan struct{} // holds a token while the configuration source runs
	jobs   jobs
}

func newReloads() reloads {
	return reloads{turn: make(chan struct{}, 1), source: make(chan struct{}, 1)}
}

// reloading is one reload. It runs on a goroutine of its own, because a
// ConfigSource or a file system may never return. The caller waits no longer
// than its context allows.
//
// A reload succeeds or fails once. Its goroutine and its caller can both decide
// that: the first one to set ended writes result and err, and closes decided.
type reloading struct {
	h      *Handle
	ctx    context.Context
	cancel context.CancelCauseFunc
	quiet  time.Duration

	ended   atomic.Bool
	decided chan struct{}
	result  reloaded
	err     error

	calling  chan struct{}                       // closed before the ConfigSource is called, after the files have been handled
	done     chan struct{}                       // closed when the goroutine ends
	readings atomic.Pointer[[]filewatch.Reading] // what it read; nil before
	notes    []func()                            // functions that log; called when no lock is held
}

// reload reloads because a caller asked for it, and waits for the end.
func (h *Handle) reload(ctx context.Context) (reloaded, error) {
	if h.settings.source != nil && len(h.reloads.source) > 0 {
		return reloaded{}, ErrReloading
	}
	r, err := h.startReload(ctx, h.settings.hooks.quiet)
	if err != nil {
		return reloaded{}, err
	}
	r.wait(nil)
	return r.result, r.err
}

// startReload starts a reload, which first waits until the files have been still
// for quiet.
func (h *Handle) startReload(ctx context.Context, quiet time.Duration) (*reloading, error) {
	h.mu.Lock()
	err := h.alive()
	h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	r := &reloading{
		h: h, quiet: quiet,
		decided: make(chan struct{}), calling: make(chan struct{}), done: make(chan struct{}),
	}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	h.reloads.jobs.start(r.run)
	return r, nil
}

// watched returns the files whose change causes a reload: those of the
// configuration, and last that of the managed limits.
func (s *settings) watched() []string {
	paths := slices.Clone(s.files)
	if s.requirements != "" {
		paths = append(paths, s.requirements)
	}
	return paths
}

// reloadChanged reloads after a file has changed: see [filewatch.Watcher]. The
// reload logs its error, and /health reports it.
func (h *Handle) reloadChanged(ctx context.Context) (readings []filewatch.Reading, again bool) {
	r, err := h.startReload(ctx, filewatch.LongQuiet)
	if err != nil {
		return nil, false
	}
	r.wait(r.calling) // a ConfigSource that does not return must not block the watcher
	if p := r.readings.Load(); p != nil {
		readings = *p
	}
	select {
	case <-r.decided:
		return readings, errors.Is(r.err, filewatch.ErrBeingWritten)
	default:
		return readings, false
	}
}

// wait waits for the end of the reload. It makes the reload fail when its
// context ends or the proxy begins to stop. Once leave is closed, it returns and
// lets the reload continue.
func (r *reloading) wait(leave <-chan struct{}) {
	select {
	case <-r.done:
	case <-leave:
	case <-r.ctx.Done():
		r.giveUp(context.Cause(r.ctx))
	case <-r.h.stopping:
		r.giveUp(ErrClosed)
	}
}

// giveUp makes the reload fail, unless it has succeeded or failed before.
func (r *reloading) giveUp(cause error) {
	r.cancel(cause)
	if r.fail(cause) {
		// On a goroutine of its own, because a log handler may never return.
		r.h.reloads.jobs.start(func() { r.h.logFailure(cause) })
		return
	}
	<-r.decided
}

// fail makes the reload fail. It returns false if the reload has succeeded or
// failed before.
func (r *reloading) fail(cause error) bool {
	if !r.ended.CompareAndSwap(false, true) {
		return false
	}
	r.err = fmt.Errorf("reload failed, the last good configuration stays in force: %w", cause)
	r.h.enforcer.count.reloadsFailed.Add(1)
	r.h.mu.Lock()
	r.h.fault = cause
	r.h.mu.Unlock()
	close(r.decided)
	return true
}

func (h *Handle) logFailure(cause error) {
	h.log.Error("reload failed; the last good configuration stays in force", "error", cause)
}

// run is the goroutine of the reload.
func (r *reloading) run() {
	defer close(r.done)
	defer r.cancel(nil)
	err := errSourceExited
	defer func() {
		r.writeNotes()
		if err != nil && r.fail(err) {
			r.h.logFailure(err)
		}
	}()
	err = r.load()
}

// errSourceExited is the error of a ConfigSource that calls runtime.Goexit.
var errSourceExited = errors.New("the configuration source ended its goroutine in place of returning")

// writeNotes logs the notes. The caller must hold no lock and no turn, because
// the host's log handler may start a reload itself.
func (r *reloading) writeNotes() {
	for _, note := range r.notes {
		note()
	}
	r.notes = nil
}

// note adds a line for the log.
func (r *reloading) note(level slog.Level, msg string, args ...any) {
	r.notes = append(r.notes, func() { r.h.log.Log(context.Background(), level, msg, args...) })
}

// load reads the files and puts the configuration in force.
func (r *reloading) load() error {
	h, s := r.h, r.h.settings
	select {
	case h.reloads.turn <- struct{}{}:
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
	release := sync.OnceFunc(func() { <-h.reloads.turn })
	defer release()

	h.mu.Lock()
	was, current := h.files, h.loaded.limits
	h.mu.Unlock()
	files, err := r.read(was)
	if err != nil {
		return err
	}
	limits, err := s.limitsFrom(files, was)
	if err != nil {
		return err
	}
	if limits != nil && bytes.Equal(limits.text, current.text) {
		limits = current // the same pointer, so that sessions keep the allowlists that they bounded by it
	}
	if s.source != nil {
		// The limits take effect before the host's function returns.
		r.tighten(limits, files)
		release()
		r.writeNotes()
		select {
		case h.reloads.source <- struct{}{}:
			defer func() { <-h.reloads.source }()
		default:
			return ErrReloading
		}
		close(r.calling)
	}
	next, err := r.configuration(files, was)
	if err == nil {
		err = r.put(next, limits, files)
	}
	if err != nil && s.source == nil {
		r.tighten(limits, files)
	}
	return err
}

// read returns the files once they are still. If a key is missing that was there
// before, its writer may not have finished: read then waits as long as for a
// change that nobody announced.
func (r *reloading) read(was *filesRead) (*filesRead, error) {
	s := r.h.settings
	reader := &filewatch.Reader{Paths: s.watched(), Pipes: was.pipes}
	files := &filesRead{pipes: was.pipes}
	quiet := r.quiet
	for {
		readings, err := reader.Read(r.ctx, quiet)
		r.readings.Store(&readings)
		files.readings = readings
		if err != nil || quiet >= filewatch.LongQuiet || !r.lacks(readings, was) {
			return files, err
		}
		quiet = filewatch.LongQuiet
	}
}

// lacks reports whether a key is missing from a file that set it before.
func (r *reloading) lacks(readings []filewatch.Reading, was *filesRead) bool {
	for i, reading := range readings {
		before := was.limits
		if i < len(r.h.settings.files) {
			before = was.tables[reading.Path]
		}
		if reading.Err != nil || reading.Pipe {
			continue
		}
		var errs errorList
		t := newSourcedConfig().read(reading.Path, reading.Data, &errs)
		checkWhole(t, before, &errs)
		if errs.len() == 0 && t.Lacks(before) { // otherwise the reload fails anyway
			return true
		}
	}
	return false
}

// configuration loads the configuration and checks it, without the managed
// limits.
func (r *reloading) configuration(files, was *filesRead) (*loadedConfig, error) {
	src, err := r.h.settings.sourceFrom(r.ctx, r.h.calls, files, was)
	if err != nil {
		return nil, err
	}
	return r.h.settings.check(src)
}

// put puts a configuration in force. It refuses a configuration that exceeds the
// limits, unless it is the last good one, which tightened limits have cut back.
func (r *reloading) put(next *loadedConfig, limits *requirements, files *filesRead) error {
	h := r.h
	for {
		h.mu.Lock()
		before := h.loaded
		same := reflect.DeepEqual(next.Config, h.base.Config)
		h.mu.Unlock()
		if h.settings.source != nil {
			limits = before.limits // they may have changed while the function ran
		}
		if err := limits.check(next.sourcedConfig); err != nil && !same {
			return err
		}
		under := next.within(limits)
		h.mu.Lock()
		if h.loaded != before {
			h.mu.Unlock()
			continue
		}
		if err := h.alive(); err != nil {
			h.mu.Unlock()
			return err
		}
		if !r.ended.CompareAndSwap(false, true) {
			h.mu.Unlock()
			return nil // giveUp has reported the failure
		}
		h.base, h.fault = next, nil
		if h.settings.source == nil {
			h.files = files.withoutData()
		}
		change := h.change(under)
		restart := changedAtRestart(&h.started, &under.Config)
		withheld := h.socketsWithheld(under)
		h.mu.Unlock()

		h.enforcer.count.reloadsOK.Add(1)
		r.result = reloaded{
			Generation: change.policy.Generation, Cut: h.enforcer.rejudge(), Restart: restart, Warnings: slices.Clone(under.cutBack),
		}
		if withheld != "" {
			r.result.Warnings = append(r.result.Warnings, withheld)
		}
		close(r.decided)
		r.note(slog.LevelInfo, "reloaded", "generation", r.result.Generation, "mode", string(change.policy.Mode), "connections_cut", r.result.Cut)
		if len(restart) > 0 {
			r.note(slog.LevelWarn, "changed keys that take effect at the next start", "keys", restart)
		}
		if withheld != "" {
			r.note(slog.LevelWarn, withheld)
		}
		r.noteChange(change)
		return nil
	}
}

// tighten puts managed limits in force over the last good configuration, if
// they have changed.
func (r *reloading) tighten(limits *requirements, files *filesRead) {
	h := r.h
	for limits != nil {
		h.mu.Lock()
		before, base := h.loaded, h.base
		h.mu.Unlock()
		if limits == before.limits {
			return
		}
		under := base.within(limits)
		h.mu.Lock()
		if h.loaded != before {
			h.mu.Unlock()
			continue
		}
		if h.alive() != nil {
			h.mu.Unlock()
			return
		}
		known := *h.files
		known.limits = files.limits
		h.files = &known
		change := h.change(under)
		h.mu.Unlock()

		cut := h.enforcer.rejudge()
		r.note(slog.LevelInfo, "the managed limits have changed", "generation", change.policy.Generation,
			"mode", string(change.policy.Mode), "connections_cut", cut)
		r.noteChange(change)
		return
	}
}

// change is the effect of a new configuration or of new limits.
type change struct {
	policy, before *policy.Policy
	warnings       []string
}

// change puts a configuration in force that is within its limits. It drops a
// mode and rules set at run time that exceed them. h.mu is held.
func (h *Handle) change(under *loadedConfig) change {
	c := change{before: h.enforcer.installed(), warnings: h.bounded(under.limits)}
	c.policy = h.install(under)
	c.warnings = append(c.warnings, under.cutBack...)
	return c
}

// noteChange adds the lines about a change for the log.
func (r *reloading) noteChange(c change) {
	for _, w := range c.warnings {
		r.note(slog.LevelWarn, w)
	}
	if c.policy.Upstream != c.before.Upstream {
		r.notes = append(r.notes, r.h.logRoute)
	}
}

// install compiles a configuration and puts it in force. h.mu is held. After
// releasing it, the caller must call enforcer.rejudge.
func (h *Handle) install(l *loadedConfig) *policy.Policy {
	h.loaded = l
	if l.Config.Mode != h.mode.over {
		h.mode = runtimeMode{}
	}
	next := l.compile(h.enforcer.installed().Generation+1, h.mode.effective(l.Config.Mode), h.rules, &h.enforcer.self)
	if h.socketsWithheld(l) != "" {
		next.Sockets = nil
	}
	h.enforcer.install(next)
	return next
}

// alive returns an error if the proxy has no policy to change, because it is off
// or has ended.
func (h *Handle) alive() error {
	select {
	case <-h.stopping:
		return ErrClosed
	default:
	}
	if h.drain.Err() != nil {
		return ErrClosed
	}
	if h.listeners.http == nil {
		return ErrDisabled
	}
	return nil
}

// jobs counts goroutines that may not end in time. The zero value counts none.
// Safe for concurrent use.
type jobs struct {
	mu      sync.Mutex
	running int
	idle    chan struct{} // closed when running becomes 0; nil while nobody waits for that
}

// start runs f on a goroutine of its own.
func (j *jobs) start(f func()) {
	j.mu.Lock()
	j.running++
	j.mu.Unlock()
	go func() {
		defer j.ended()
		f()
	}()
}

func (j *jobs) ended() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running--
	if j.running == 0 && j.idle != nil {
		close(j.idle)
		j.idle = nil
	}
}

// wait waits until the goroutines have ended, for at most patience, and returns
// the number of those that have not.
func (j *jobs) wait(patience time.Duration) int {
	j.mu.Lock()
	if j.running == 0 {
		j.mu.Unlock()
		return 0
	}
	idle := make(chan struct{})
	j.idle = idle
	j.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.running
}

// bounded drops a mode and rules set at run time that the limits forbid.
// notes says which, for the log.
func (h *Handle) bounded(limits *requirements) (notes []string) {
	if h.mode.mode != "" {
		if err := limits.checkMode(h.mode.mode); err != nil {
			h.mode = runtimeMode{}
			notes = append(notes, fmt.Sprintf("the mode set at run time is outside the managed limits and is dropped: %v", err))
		}
	}
	h.rules = h.rules.within(limits, func(entry string, err error) {
		notes = append(notes, fmt.Sprintf("the run-time rule %s is outside the managed limits and is dropped: %v", tomltable.Quote(entry), err))
	})
	return notes
}
