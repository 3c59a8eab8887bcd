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
	case len(args) > 0 && args[0] == serveAgent:
		err = runAgent(ctx, args[1:])
	case len(args) > 0 && args[0] == serveFence:
		err = runFence(ctx, args[1:])
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
	fence   bool
	inspect bool
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
	f.Func("peer", "also measure this proxy: squid, tinyproxy, haproxy, or `NAME=COMMAND` with {http} for its listen\naddress (candidate.go has more placeholders). audited, viewed and unviewed are networkproxy\nwith an audit log, a viewer of events, and 50 viewers that do not read; repeatable", func(s string) error {
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
	f.BoolVar(&o.fence, "fence", false, "measure fences instead: captured connections compared with CONNECT in the same fence,\nand the time that a fence adds to a start; needs user namespaces for the user")
	f.BoolVar(&o.inspect, "inspection", false, "measure TLS inspection instead: compared with plain requests, with tunnels that are not opened,\nand with a minimal proxy made of goproxy")
	f.StringVar(&o.json, "json", "", "write all readings to this `file`")
	f.StringVar(&o.svg, "svg", "", "write a plot to this `file`")
	f.StringVar(&o.read, "read", "", "measure nothing; report the readings that -json wrote to this `file`")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.fence && o.inspect:
		return nil, errors.New("-fence and -inspection exclude each other")
	case (o.fence || o.inspect) && (len(o.peers) > 0 || o.svg != ""):
		return nil, errors.New("-fence and -inspection have no peers and no plot")
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
	if o.fence {
		if err := s.measureFences(ctx); err != nil {
			return nil, err
		}
		return s.run, nil
	}
	if o.inspect {
		return s.measureInspection(ctx)
	}
	began := time.Now()
	err = s.eachRound(func(round int) error {
		for i := range s.work {
			if err := s.measureWorkload(ctx, round, &s.work[i]); err != nil {
				return err
			}
			s.measured(round)
		}
		return nil
	})
	if err == nil {
		fmt.Fprintf(os.Stderr, "bench: done in %v\n", time.Since(began).Round(time.Second))
	}
	return s.run, err
}

// eachRound calls measure for each round. It starts no further round if the run is
// expected to exceed -limit.
func (s *suite) eachRound(measure func(round int) error) error {
	began := time.Now()
	for round := range s.rounds {
		if spent := time.Since(began); round > 0 && spent+spent/time.Duration(round) > s.limit {
			fmt.Fprintf(os.Stderr, "bench: stopped after %d of %d rounds: another round would exceed -limit %v\n", round, s.rounds, s.limit)
			break
		}
		if err := measure(round); err != nil {
			return err
		}
		s.measured(round)
	}
	if s.run.Others > maxDisturbance {
		fmt.Fprintf(os.Stderr, "bench: other programs used %.0f%% of the machine: CPU time and ratios are more reliable than rates\n", s.run.Others)
	}
	return nil
}

// measured updates the run after a measurement in a round.
func (s *suite) measured(round int) {
	s.run.Rounds = round + 1
	others, _ := spreadOf(s.others)
	s.run.Others = others.Median
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
	roots       string          // a file with the authority of the origins, with -inspection
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
	if len(s.work) == 0 && !o.fence && !o.inspect {
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
