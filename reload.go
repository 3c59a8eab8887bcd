// Reloading the configuration of a running proxy. A reload takes effect as a
// whole or not at all, and every request sees one whole policy.

package networkproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"example.com/networkproxy/internal/filewatch"
	"example.com/networkproxy/internal/hostcall"
)

// reloader reloads the configuration. Safe for concurrent use.
type reloader struct {
	settings *settings
	active   *activeConfig
	calls    *hostcall.Calls // counts the calls of the configuration source
	stopping <-chan struct{} // closed when the proxy begins to stop
	started  Config          // the first configuration, which the listeners were opened for

	shared     singleflight.Group  // has the reload that waits for its turn, under the key ""
	turn       chan struct{}       // holds a token while a reload reads files and acts on them
	source     chan struct{}       // holds a token while the configuration source runs
	files      *filesRead          // the files of the configuration in force; guarded by turn
	goroutines hostcall.Goroutines // of the reloads and of the watcher
}

func newReloader(s *settings, active *activeConfig, files *filesRead, calls *hostcall.Calls, stopping <-chan struct{}) *reloader {
	return &reloader{
		settings: s,
		active:   active,
		calls:    calls,
		stopping: stopping,
		started:  active.loaded.Config,
		turn:     make(chan struct{}, 1),
		source:   make(chan struct{}, 1),
		files:    files.withoutData(),
	}
}

// reloading is one reload. It runs on a goroutine of its own, because a
// ConfigSource or a file system may never return. The caller waits no longer
// than its context allows.
//
// A reload succeeds or fails once. Its goroutine and its caller can both decide
// that: the first one to set ended writes result and err, and closes decided.
type reloading struct {
	reloader *reloader
	ctx      context.Context
	cancel   context.CancelCauseFunc
	quiet    time.Duration

	ended   atomic.Bool
	decided chan struct{}
	result  reloaded
	err     error

	calling  chan struct{}                       // closed before the ConfigSource is called, after the files have been handled
	done     chan struct{}                       // closed when the goroutine ends
	readings atomic.Pointer[[]filewatch.Reading] // the files that it read; nil before
	outdated atomic.Bool                         // the learned file was changed while it was read
}

// reload reloads because a caller asked for it, and waits for the end.
func (l *reloader) reload(ctx context.Context) (reloaded, error) {
	if l.settings.source != nil && len(l.source) > 0 {
		return reloaded{}, ErrReloading
	}
	r, err := l.join(ctx, l.settings.hooks.quiet)
	if err != nil {
		return reloaded{}, err
	}
	r.wait(nil)
	return r.result, r.err
}

// join starts a reload. If it reads files only, join waits for its end. Other
// callers join it until it begins to read. It goes on when ctx ends, because the
// others wait for it as well.
func (l *reloader) join(ctx context.Context, quiet time.Duration) (*reloading, error) {
	if l.settings.source != nil {
		return l.start(ctx, quiet)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	shared := l.shared.DoChan("", func() (any, error) {
		r, err := l.start(context.Background(), quiet)
		if err == nil {
			r.wait(nil)
		}
		return r, err
	})
	select {
	case result := <-shared:
		return result.Val.(*reloading), result.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("stopped waiting for the reload, which continues: %w", context.Cause(ctx))
	}
}

// start starts a reload, which first waits until the files have been still for
// quiet.
func (l *reloader) start(ctx context.Context, quiet time.Duration) (*reloading, error) {
	if err := l.active.alive(); err != nil {
		return nil, err
	}
	r := &reloading{
		reloader: l, quiet: quiet,
		decided: make(chan struct{}), calling: make(chan struct{}), done: make(chan struct{}),
	}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	l.goroutines.Go(r.run)
	return r, nil
}

// watch reloads whenever a file changes, until ctx ends. It must be called before
// the first reload.
func (l *reloader) watch(ctx context.Context) {
	if w := filewatch.NewWatcher(l.files.readings); !w.Empty() {
		l.goroutines.Go(func() { w.Run(ctx, l.reloadChanged) })
	}
}

// reloadChanged reloads after a file has changed: see [filewatch.Watcher]. The
// reload logs its error, and /health reports it.
func (l *reloader) reloadChanged(ctx context.Context) (readings []filewatch.Reading, again bool) {
	r, err := l.join(ctx, filewatch.LongQuiet)
	if err != nil {
		return nil, false
	}
	r.wait(r.calling) // a ConfigSource that does not return must not block the watcher
	if p := r.readings.Load(); p != nil {
		readings = *p
	}
	select {
	case <-r.decided:
		again = errors.Is(r.err, filewatch.ErrBeingWritten)
	default:
	}
	return readings, again || r.outdated.Load()
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
	case <-r.reloader.stopping:
		r.giveUp(ErrClosed)
	}
}

// giveUp makes the reload fail, unless it has succeeded or failed before.
func (r *reloading) giveUp(cause error) {
	r.cancel(cause)
	if !r.fail(cause) {
		<-r.decided
	}
}

// fail makes the reload fail. It returns false if the reload has succeeded or
// failed before.
func (r *reloading) fail(cause error) bool {
	if !r.ended.CompareAndSwap(false, true) {
		return false
	}
	r.err = fmt.Errorf("reload failed, the last good configuration stays in force: %w", cause)
	r.reloader.active.gate.Counters.ReloadsFailed.Add(1)
	r.reloader.active.failed(cause)
	r.reloader.active.gate.PublishReload(0, cause)
	r.reloader.active.log.Error("reload failed; the last good configuration stays in force", "error", cause)
	close(r.decided)
	return true
}

// run is the goroutine of the reload.
func (r *reloading) run() {
	defer close(r.done)
	defer r.cancel(nil)
	err := errSourceExited
	defer func() {
		if err != nil {
			r.fail(err)
		}
	}()
	err = r.load()
}

// errSourceExited is the error of a ConfigSource that calls runtime.Goexit.
var errSourceExited = errors.New("the configuration source ended its goroutine without returning")

// load reads the files and puts the configuration in force.
func (r *reloading) load() error {
	l, source := r.reloader, r.reloader.settings.source != nil
	select {
	case l.turn <- struct{}{}:
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
	release := sync.OnceFunc(func() { <-l.turn })
	defer release()
	l.shared.Forget("") // later callers may have changed files that were read before

	was, current := l.files, l.active.current().limits
	files, err := r.read(was)
	if err != nil {
		return err
	}
	limits, err := l.settings.limitsFrom(files, was)
	if err != nil {
		return err
	}
	if limits != nil && bytes.Equal(limits.text, current.text) {
		limits = current // the same pointer, so that sessions keep the allowlists that they bounded by it
	}
	if source {
		// The limits take effect before the host's function returns.
		r.tighten(limits, files)
		release()
		select {
		case l.source <- struct{}{}:
			defer func() { <-l.source }()
		default:
			return ErrReloading
		}
		close(r.calling)
	}
	next, err := r.configuration(files, was)
	if err == nil {
		err = r.put(next, limits, files)
	}
	if err != nil && !source {
		r.tighten(limits, files)
	}
	return err
}

// read returns the files once they are still. If a key is missing that was there
// before, its writer may not have finished: read then waits as long as for a
// change that nobody announced.
func (r *reloading) read(was *filesRead) (*filesRead, error) {
	reader := &filewatch.Reader{Paths: r.reloader.settings.watched(), Pipes: was.pipes}
	a := r.reloader.active
	files := &filesRead{pipes: was.pipes, learned: a.learned()}
	defer func() { r.outdated.Store(a.learned() != files.learned) }()
	quiet := r.quiet
	for {
		readings, err := reader.Read(r.ctx, quiet)
		r.readings.Store(&readings)
		files.readings = readings
		if err != nil || quiet >= filewatch.LongQuiet || !r.reloader.settings.lacksKeys(readings, was) {
			return files, err
		}
		quiet = filewatch.LongQuiet
	}
}

// configuration loads the configuration and checks it, without the managed
// limits.
func (r *reloading) configuration(files, was *filesRead) (*loadedConfig, error) {
	s := r.reloader.settings
	src, err := s.sourceFrom(r.ctx, r.reloader.calls, files, was)
	if err != nil {
		return nil, err
	}
	next, err := s.check(src)
	if err == nil {
		next.learnedAll, err = s.learnedFrom(files)
		err = errors.Join(err, r.reloader.active.checkAuthority(next))
	}
	return next, err
}

// put puts a configuration in force. It refuses a configuration that exceeds the
// limits, unless it is the last good one, which tightened limits have cut back.
func (r *reloading) put(next *loadedConfig, limits *requirements, files *filesRead) error {
	l, a := r.reloader, r.reloader.active
	for {
		a.mu.Lock()
		before := a.loaded
		same := reflect.DeepEqual(next.Config, a.base.Config)
		if files.learned != a.learnings { // the learned file may have been read before the last change
			next.learnedAll = a.base.learnedAll
		}
		a.mu.Unlock()
		if l.settings.source != nil {
			limits = before.limits // they may have changed while the function ran
		}
		if err := limits.check(next.sourcedConfig); err != nil && !same {
			return err
		}
		bounded := next.within(limits)
		a.mu.Lock()
		if a.loaded != before {
			a.mu.Unlock()
			continue
		}
		if err := a.alive(); err != nil {
			a.mu.Unlock()
			return err
		}
		if !r.ended.CompareAndSwap(false, true) {
			a.mu.Unlock()
			return nil // giveUp has reported the failure
		}
		a.base, a.fault, a.remembered = next, nil, a.remembered.except(next.learnedAll)
		change := a.change(bounded)
		withheld := a.socketsWithheld(bounded)
		a.mu.Unlock()
		if l.settings.source == nil {
			l.files = files.withoutData()
		}
		r.succeed(change, bounded, withheld)
		return nil
	}
}

// succeed reports the result of a reload that has taken effect.
func (r *reloading) succeed(c change, bounded *loadedConfig, withheld string) {
	g, log := r.reloader.active.gate, r.reloader.active.log
	g.Counters.ReloadsOK.Add(1)
	r.result = reloaded{
		Generation: c.policy.Generation,
		Cut:        g.Rejudge(),
		Restart:    changedAtRestart(&r.reloader.started, &bounded.Config),
		Warnings:   slices.Concat(bounded.cutBack, bounded.withoutEffect),
	}
	if withheld != "" {
		r.result.Warnings = append(r.result.Warnings, withheld)
	}
	close(r.decided)
	log.Info("reloaded", "generation", r.result.Generation, "mode", string(c.policy.Mode), "connections_cut", r.result.Cut)
	if len(r.result.Restart) > 0 {
		log.Warn("changed keys that take effect at the next start", "keys", r.result.Restart)
	}
	if withheld != "" {
		log.Warn(withheld)
	}
	r.reloader.logChange(c)
}

// tighten puts managed limits in force over the last good configuration, if
// they have changed.
func (r *reloading) tighten(limits *requirements, files *filesRead) {
	l, a := r.reloader, r.reloader.active
	for limits != nil {
		a.mu.Lock()
		before, base := a.loaded, a.base
		a.mu.Unlock()
		if limits == before.limits {
			return
		}
		bounded := base.within(limits)
		a.mu.Lock()
		if a.loaded != before {
			a.mu.Unlock()
			continue
		}
		if a.alive() != nil {
			a.mu.Unlock()
			return
		}
		change := a.change(bounded)
		a.mu.Unlock()
		known := *l.files
		known.limits = files.limits
		l.files = &known

		cut := a.gate.Rejudge()
		a.log.Info("the managed limits have changed", "generation", change.policy.Generation,
			"mode", string(change.policy.Mode), "connections_cut", cut)
		l.logChange(change)
		return
	}
}

// logChange logs the warnings about a change, and a change of the route.
func (l *reloader) logChange(c change) {
	for _, w := range c.warnings {
		l.active.log.Warn(w)
	}
	if c.policy.Upstream != c.before.Upstream {
		l.settings.logRoute(l.active.log, c.policy.Upstream)
	}
}
