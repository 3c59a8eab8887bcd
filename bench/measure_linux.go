// The measurements of one workload: its instances, their slices, and what disturbs them.

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// measureWorkload measures all candidates with one workload in interleaved slices. The
// first candidate changes with the round and the slice, so that none always has the
// same predecessor.
func (s *suite) measureWorkload(ctx context.Context, round int, w *workload) error {
	fmt.Fprintf(os.Stderr, "round %d/%d  %-16s", round+1, s.rounds, w.name)
	defer fmt.Fprintln(os.Stderr)
	instances := s.startAll(ctx, w)
	defer func() {
		for _, inst := range instances {
			s.recordFailure(inst, inst.stop())
		}
	}()
	n := w.slices()
	for slice := range n {
		for i := range instances {
			inst := instances[(i+slice+round)%len(instances)]
			if inst.failed {
				continue
			}
			values, err := s.measureUndisturbed(ctx, w, inst, s.time/time.Duration(n))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.recordFailure(inst, err)
			inst.slices.add(values)
		}
	}
	for _, inst := range instances {
		if values := inst.slices.mean(); !inst.failed {
			s.run.add(w.name, w.title, w.metrics, inst.name, round, values)
			fmt.Fprintf(os.Stderr, "  %s %s", inst.name, quantity(values[w.metrics[0].Name], w.metrics[0].Unit))
		}
	}
	return nil
}

// instance is a running candidate with its own origin.
type instance struct {
	*candidate
	origin origin
	proxy  *process
	slices sliceReadings
	failed bool
}

// startAll starts every candidate that has the capabilities for w.
func (s *suite) startAll(ctx context.Context, w *workload) (instances []*instance) {
	for i := range s.candidates {
		c := &s.candidates[i]
		if c.can&w.needs != w.needs || s.cannotStart[w.name+" "+c.name] {
			continue
		}
		inst, err := s.start(ctx, w, c)
		if err != nil {
			s.recordFailure(&instance{candidate: c}, err)
			s.cannotStart[w.name+" "+c.name] = errors.Is(err, errStart)
			continue
		}
		instances = append(instances, inst)
	}
	return instances
}

func (s *suite) start(ctx context.Context, w *workload, c *candidate) (*instance, error) {
	o, err := w.origin()
	if err != nil {
		return nil, err
	}
	proxy, err := c.start(ctx, setup{
		dir: s.dir, program: s.program, self: s.self,
		allowed: w.allowlist(), origin: o.addr(), udp: w.needs&associates != 0, refuses: w.needs&refuses != 0, roots: s.roots,
	}, s.credential)
	if err != nil {
		return nil, errors.Join(err, o.close())
	}
	return &instance{candidate: c, origin: o, proxy: proxy}, nil
}

// stop stops the proxy and its origin.
func (inst *instance) stop() error {
	inst.proxy.stop()
	return inst.origin.close()
}

// recordFailure reports an error and excludes the instance from the round. It does
// nothing if err is nil.
func (s *suite) recordFailure(inst *instance, err error) {
	if err != nil {
		inst.failed = true
		fmt.Fprintf(os.Stderr, "  %s failed (%v)", inst.name, err)
	}
}

const (
	maxDisturbance = 10 // CPU share of other programs, in percent, above which a measurement is repeated
	maxRepeats     = 2
)

// errNothingDone means that a measurement has seen no work. It is repeated, because on a
// busy machine the proxy may not have been scheduled.
var errNothingDone = errors.New("nothing was done")

// measureUndisturbed measures, and repeats the measurement if other programs
// disturbed it. It returns the least disturbed measurement.
func (s *suite) measureUndisturbed(ctx context.Context, w *workload, inst *instance, d time.Duration) (readings, error) {
	values, others, err := measure(ctx, w, inst, d)
	for n := 0; n < maxRepeats && (err == nil && others > maxDisturbance || errors.Is(err, errNothingDone)); n++ {
		again, less, failed := measure(ctx, w, inst, d)
		switch {
		case failed == nil && (err != nil || less < others):
			values, others, err = again, less, nil
		case failed != nil && !errors.Is(failed, errNothingDone):
			err = failed
		}
	}
	if err == nil {
		s.others = append(s.others, others)
	}
	return values, err
}

// measure makes one measurement. others is the CPU share of other programs during
// it, in percent of the machine.
func measure(ctx context.Context, w *workload, inst *instance, d time.Duration) (_ readings, others float64, err error) {
	t := &trial{ctx: ctx, workload: w, candidate: inst.candidate, proxy: inst.proxy, origin: inst.origin, time: d}
	values, err := w.run(t)
	if err != nil {
		return nil, 0, fmt.Errorf("%w%s", err, inst.proxy.logTail())
	}
	return values, t.others, nil
}

// system returns the name and the release of the kernel.
func system() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS + "/" + runtime.GOARCH
	}
	return "Linux " + strings.TrimSpace(string(release)) + " " + runtime.GOARCH
}
