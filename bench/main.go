//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch args := os.Args[1:]; {
	case len(args) > 0 && args[0] == serveBase:
		err = runBase(args[1:])
	case len(args) > 0 && args[0] == serveRelay:
		err = runRelay(args[1:])
	default:
		err = bench(ctx, args)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	program string
	peers   []candidate
	only    *regexp.Regexp
	rounds  int
	time    time.Duration
	limit   time.Duration
	idle    int
	user    string
	json    string
	svg     string
	read    string
}

func parseOptions(args []string) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), "usage: bench [flags]\n\n"+
			"Measures networkproxy and other proxies on this machine and compares them with a\n"+
			"minimal proxy made of net/http.\n\n")
		f.PrintDefaults()
	}
	f.StringVar(&o.program, "program", "", "`path` of networkproxy; if empty, bench builds it with the go command")
	f.Func("peer", "also measure this proxy: squid, tinyproxy, or `NAME=COMMAND` with {http} for its listen\naddress (candidate.go has more placeholders); repeatable", func(s string) error {
		c, err := parsePeer(s)
		o.peers = append(o.peers, c)
		return err
	})
	only := f.String("only", "", "run only the workloads whose names match this `regexp`")
	f.IntVar(&o.rounds, "rounds", 5, "number of rounds, 1 to 50; each measures every workload once")
	f.DurationVar(&o.time, "time", 500*time.Millisecond, "duration of each measurement, 50ms to 30s, after a warm-up of a quarter of it;\nrepeated at most twice if other programs use over 10% of the machine")
	f.DurationVar(&o.limit, "limit", 5*time.Minute, "start no further round if the run is expected to take longer than this")
	f.IntVar(&o.idle, "idle", 1200, "number of idle tunnels, 1 to 10000")
	f.StringVar(&o.user, "user", "nobody", "run the proxies as this `user` if bench runs as root; empty for root")
	f.StringVar(&o.json, "json", "", "write all readings to this `file`")
	f.StringVar(&o.svg, "svg", "", "write a plot to this `file`")
	f.StringVar(&o.read, "read", "", "measure nothing; report the readings that -json wrote to this `file`")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1 || o.rounds > 50:
		return nil, fmt.Errorf("-rounds %d: use 1 to 50", o.rounds)
	case o.time < 50*time.Millisecond || o.time > 30*time.Second:
		return nil, fmt.Errorf("-time %v: use 50ms to 30s", o.time)
	case o.idle < 1 || o.idle > 10_000:
		return nil, fmt.Errorf("-idle %d: use 1 to 10000", o.idle)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	return o, nil
}

// bench runs the program with the given arguments.
func bench(ctx context.Context, args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	r := new(run)
	if o.read != "" {
		text, err := os.ReadFile(o.read)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, r); err != nil {
			return fmt.Errorf("%s: %w", o.read, err)
		}
	} else if r, err = measureAll(ctx, o); r == nil {
		return err
	}
	return errors.Join(o.report(r), err)
}

// report prints the table and writes the requested files.
func (o *options) report(r *run) error {
	if err := r.writeTable(os.Stdout); err != nil {
		return err
	}
	if o.json != "" {
		text, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.svg != "" {
		var b strings.Builder
		r.writePlot(&b)
		return os.WriteFile(o.svg, []byte(b.String()), 0o644)
	}
	return nil
}

// measureAll makes all measurements. It reports failed ones on standard error and
// leaves them out. If the run is interrupted, it returns the run so far with the
// error.
func measureAll(ctx context.Context, o *options) (*run, error) {
	s, err := newSuite(ctx, o)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(s.dir)
	began := time.Now()
	for round := range o.rounds {
		if spent := time.Since(began); round > 0 && spent+spent/time.Duration(round) > o.limit {
			fmt.Fprintf(os.Stderr, "bench: stopped after %d of %d rounds: another round would exceed -limit %v\n", round, o.rounds, o.limit)
			break
		}
		for i := range s.work {
			if err := s.measureWorkload(ctx, round, &s.work[i]); err != nil {
				return s.run, err
			}
			s.run.Rounds = round + 1
			others, _ := spreadOf(s.others)
			s.run.Others = others.Median
		}
	}
	fmt.Fprintf(os.Stderr, "bench: done in %v\n", time.Since(began).Round(time.Second))
	if s.run.Others > maxDisturbance {
		fmt.Fprintf(os.Stderr, "bench: other programs used %.0f%% of the machine: CPU time and ratios are more reliable than rates\n", s.run.Others)
	}
	return s.run, nil
}

// suite holds the state shared by the measurements of a run.
type suite struct {
	*options
	dir         string
	self        string
	credential  *syscall.Credential
	candidates  []candidate
	work        []workload
	cannotStart map[string]bool // by workload and candidate that does not start for it
	others      []float64       // CPU share of other programs in each measurement, see run.Others
	run         *run
}

func newSuite(ctx context.Context, o *options) (*suite, error) {
	s := &suite{options: o, cannotStart: make(map[string]bool)}
	s.candidates = append([]candidate{subject(), base(), relay()}, o.peers...)
	for _, w := range workloads(o.idle) {
		if o.only.MatchString(w.name) {
			s.work = append(s.work, w)
		}
	}
	if len(s.work) == 0 {
		var names []string
		for _, w := range workloads(o.idle) {
			names = append(names, w.name)
		}
		return nil, fmt.Errorf("-only %s matches no workload; use %s", o.only, strings.Join(names, ", "))
	}
	if err := raiseLimit(); err != nil {
		return nil, err
	}
	who, err := s.chooseUser()
	if err != nil {
		return nil, err
	}
	s.run = &run{
		Date: time.Now().UTC(), Go: runtime.Version(), System: system(), CPUs: runtime.NumCPU(),
		User: who, Seconds: o.time.Seconds(),
	}
	for _, c := range s.candidates {
		s.run.Candidates = append(s.run.Candidates, c.name)
	}
	if s.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		os.RemoveAll(s.dir)
		return nil, err
	}
	return s, nil
}

// raiseLimit raises the limit on open files of this process and its children to the
// maximum. An idle tunnel takes up to six.
func raiseLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	l.Cur = l.Max
	return os.NewSyscallError("setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l))
}

// chooseUser sets the credential of the proxies and returns the user's name.
func (s *suite) chooseUser() (string, error) {
	if os.Geteuid() != 0 || s.user == "" {
		me, err := user.Current()
		if err != nil {
			return "", err
		}
		return me.Username, nil
	}
	u, err := user.Lookup(s.user)
	if err != nil {
		return "", fmt.Errorf("-user: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return "", fmt.Errorf("-user %s: %w", s.user, err)
	}
	s.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return u.Username, nil
}

// prepare copies the programs to a place where the proxies' user may run them.
func (s *suite) prepare(ctx context.Context) error {
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.self = filepath.Join(s.dir, "bench")
	if err := copyProgram(self, s.self); err != nil {
		return err
	}
	built := filepath.Join(s.dir, subjectName)
	if s.program != "" {
		if err := copyProgram(s.program, built); err != nil {
			return fmt.Errorf("-program: %w", err)
		}
	} else {
		build := exec.CommandContext(ctx, "go", "build", "-o", built, "example.com/networkproxy/cmd/networkproxy")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build networkproxy (or use -program): %w", err)
		}
	}
	s.program = built
	return nil
}

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
		allowed: w.allowlist(), origin: o.addr(), udp: w.needs&associates != 0, refuses: w.needs&refuses != 0,
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

// measureUndisturbed measures, and repeats the measurement if other programs
// disturbed it. It returns the least disturbed measurement.
func (s *suite) measureUndisturbed(ctx context.Context, w *workload, inst *instance, d time.Duration) (readings, error) {
	values, others, err := measure(ctx, w, inst, d)
	for n := 0; n < maxRepeats && err == nil && others > maxDisturbance; n++ {
		var again readings
		var less float64
		if again, less, err = measure(ctx, w, inst, d); err == nil && less < others {
			values, others = again, less
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
