// Measurements of fences: captured connections compared with CONNECT in the same fence,
// and the time that a fence adds to the start of a command.

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Candidates of a run with -fence.
const (
	fencedName   = "fence"
	comparedName = "compared"
)

// fenceWork is a workload of connections that leave a fence.
type fenceWork struct {
	name, title string
	conns       int
	origin      func() (origin, error)
	metrics     []metric
	read        func(fenceUsage) readings
}

func fenceWorks() []fenceWork {
	return []fenceWork{{
		name: "fence-bulk-8", title: "captured bulk, 8 connections, 4 each way, to CONNECT", conns: 8, origin: startStreamer,
		metrics: []metric{
			{Name: mRate, Unit: "GB/s", Goal: goal{Ratio: 1}},
			{Name: mCPU, Title: "CPU per GB", Unit: "ms", Lower: true},
		},
		read: func(u fenceUsage) readings {
			gigabytes := u.n / 1e9
			return readings{mRate: gigabytes / u.elapsed.Seconds(), mCPU: float64(u.cpu.Milliseconds()) / gigabytes}
		},
	}, {
		name: "fence-connect-32", title: "captured connections, 32 at a time, to CONNECT", conns: 32, origin: startResponder,
		metrics: []metric{
			{Name: mRate, Unit: "connections/s", Goal: goal{Ratio: 1.1}},
			{Name: mCPU, Title: "CPU per connection", Unit: unitTime, Lower: true, Goal: goal{Ratio: 1 / 0.95}},
		},
		read: func(u fenceUsage) readings { return readings{mRate: u.rate(), mCPU: u.perUnit(u.cpu)} },
	}}
}

// fenceStart is the workload of starts.
const (
	fenceStartName  = "fence-start"
	fenceStartTitle = "time that a fence adds to a command, to networkproxy run"
	mUndisturbed    = "p25"
	startTurns      = 8
	startsPerTurn   = 6
)

func fenceStartMetrics() []metric {
	return []metric{
		{Name: mAdded, Title: "median", Unit: "ms", Lower: true, Goal: goal{Ratio: 1 / 0.8}},
		{Name: mUndisturbed, Title: "fastest quarter", Unit: "ms", Lower: true}, // with less waiting for other programs
	}
}

// fenceUsage is the work of one measurement, and what it cost.
type fenceUsage struct {
	usage
	others float64
}

// measureFences makes the measurements of -fence.
func (s *suite) measureFences(ctx context.Context) error {
	s.run.Candidates, s.run.Subject, s.run.Base = []string{fencedName, comparedName}, fencedName, comparedName
	if err := s.fenceAvailable(ctx); err != nil {
		return err
	}
	began := time.Now()
	err := s.eachRound(func(round int) error {
		for _, w := range fenceWorks() {
			if s.only.MatchString(w.name) {
				if err := s.measureFence(ctx, round, w); err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
			}
		}
		if s.only.MatchString(fenceStartName) {
			if err := s.measureStarts(ctx, round); err != nil {
				return fmt.Errorf("%s: %w", fenceStartName, err)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d/%d of fences after %v\n", round+1, s.rounds, time.Since(began).Round(time.Second))
		return nil
	})
	if err == nil && len(s.run.Figures) == 0 {
		err = fmt.Errorf("-only %s matches no workload of fences", s.only)
	}
	return err
}

// fenceAvailable returns an error that says why there can be no fence.
func (s *suite) fenceAvailable(ctx context.Context) error {
	if out, err := s.command(ctx, serveFence, "probe").CombinedOutput(); err != nil {
		return fmt.Errorf("-fence needs fences for the user %s: %s", s.run.User, bytes.TrimSpace(out))
	}
	return nil
}

// command returns a command of this program, for the user of the proxies.
func (s *suite) command(ctx context.Context, args ...string) *exec.Cmd {
	return s.asUser(exec.CommandContext(ctx, s.self, args...))
}

func (s *suite) asUser(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential}
	return cmd
}

// measureFence measures both kinds of connections of one fence in turn.
func (s *suite) measureFence(ctx context.Context, round int, w fenceWork) error {
	o, err := w.origin()
	if err != nil {
		return err
	}
	defer o.close()
	h, err := s.startFence(ctx, o)
	if err != nil {
		return err
	}
	defer h.stop()
	const slices = 4
	sums := map[bool]*sliceReadings{true: new(sliceReadings), false: new(sliceReadings)}
	for slice := range 2 * slices {
		// The order changes with the round and the slice: A B, B A, A B, ...
		captured := (slice+slice/2+round)%2 == 0
		u, err := h.measure(fenceJob{Captured: captured, Conns: w.conns, Time: s.time / slices})
		if err != nil {
			return err
		}
		s.others = append(s.others, u.others)
		sums[captured].add(w.read(u))
	}
	s.run.add(w.name, w.title, w.metrics, fencedName, round, sums[true].mean())
	s.run.add(w.name, w.title, w.metrics, comparedName, round, sums[false].mean())
	return nil
}

// fenceHost is a running host with a fence, and the client in it.
type fenceHost struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *json.Decoder
	origin  origin
	client  int // process id
}

// fenceJob is a job for the client in a fence.
type fenceJob struct {
	Captured bool          `json:"captured"` // else by CONNECT
	Conns    int           `json:"conns"`
	Bulk     bool          `json:"bulk"` // set by measure
	Time     time.Duration `json:"time"`
}

// fenceMessage is what the client in a fence says: first its process, then for each job the
// begin and the end of the measurement.
type fenceMessage struct {
	Process int           `json:"process,omitempty"`
	Begin   bool          `json:"begin,omitempty"`
	Done    int64         `json:"done,omitempty"`
	Elapsed time.Duration `json:"elapsed,omitempty"`
	Error   string        `json:"error,omitempty"`
}

func (s *suite) startFence(ctx context.Context, o origin) (*fenceHost, error) {
	h := &fenceHost{origin: o, command: s.command(ctx, serveFence, "host", o.addr().String())}
	log, err := os.Create(filepath.Join(s.dir, "fence.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	h.command.Stderr = log
	if h.in, err = h.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = json.NewDecoder(bufio.NewReader(out))
	if err := h.command.Start(); err != nil {
		return nil, err
	}
	hello, err := h.receive()
	if err != nil {
		h.stop()
		text, _ := os.ReadFile(log.Name()) // ignore the error: there is already one
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(text[max(0, len(text)-400):]))
	}
	h.client = hello.Process
	return h, nil
}

func (h *fenceHost) stop() {
	h.in.Close()
	h.command.Process.Kill()
	h.command.Wait()
}

func (h *fenceHost) receive() (m fenceMessage, err error) {
	if err := h.out.Decode(&m); err != nil {
		return m, fmt.Errorf("the client in the fence has ended: %w", err)
	}
	if m.Error != "" {
		return m, errors.New(m.Error)
	}
	return m, nil
}

// measure makes one measurement.
func (h *fenceHost) measure(j fenceJob) (u fenceUsage, err error) {
	uploads, isBulk := h.origin.(*streamer)
	j.Bulk = isBulk
	text, err := json.Marshal(j)
	if err != nil {
		return u, err
	}
	if _, err := h.in.Write(append(text, '\n')); err != nil {
		return u, err
	}
	if _, err := h.receive(); err != nil {
		return u, err
	}
	before, err := h.cpuTimes()
	if err != nil {
		return u, err
	}
	uploaded := int64(0)
	if isBulk {
		uploaded = uploads.received.Load()
	}
	end, err := h.receive()
	if err != nil {
		return u, err
	}
	if isBulk {
		end.Done += uploads.received.Load() - uploaded
	}
	after, err := h.cpuTimes()
	if err != nil {
		return u, err
	}
	if end.Done == 0 {
		return u, fmt.Errorf("nothing was done in %v", end.Elapsed)
	}
	u.usage = usage{n: float64(end.Done), elapsed: end.Elapsed, cpu: after.proxy - before.proxy}
	known := u.cpu + after.self - before.self
	u.others = 100 * float64(after.machine-before.machine-known) / float64(end.Elapsed*time.Duration(runtime.NumCPU()))
	return u, nil
}

// cpuTimes returns the CPU times of the host, of this program with the client, and of the
// machine.
func (h *fenceHost) cpuTimes() (a cpuTimes, err error) {
	if a.machine, err = machineTime(); err != nil {
		return a, err
	}
	if a.self, err = cpuTime(os.Getpid()); err != nil {
		return a, err
	}
	client, err := cpuTime(h.client)
	if err != nil {
		return a, err
	}
	a.self += client
	a.proxy, err = cpuTime(h.command.Process.Pid)
	return a, err
}

// fenceStarts are the durations of commands, from the start to the end.
type fenceStarts struct {
	Plain  []time.Duration `json:"plain"`
	Fenced []time.Duration `json:"fenced"`
}

// measureStarts measures the time that a fence adds to a command, and that of networkproxy run,
// in short turns.
func (s *suite) measureStarts(ctx context.Context, round int) error {
	var starts fenceStarts
	var runs []time.Duration
	for range startTurns {
		more, err := s.measureTurn(ctx)
		if err != nil {
			return err
		}
		starts.Plain, starts.Fenced = append(starts.Plain, more.Plain...), append(starts.Fenced, more.Fenced...)
		for range startsPerTurn {
			run := s.asUser(exec.CommandContext(ctx, s.program, "run", "-allow", fenceOrigin, "--", "true"))
			began := time.Now()
			if out, err := run.CombinedOutput(); err != nil {
				return fmt.Errorf("networkproxy run: %w: %s", err, out)
			}
			runs = append(runs, time.Since(began))
		}
	}
	for _, list := range [][]time.Duration{starts.Plain, starts.Fenced, runs} {
		slices.Sort(list)
	}
	fenced, compared := make(readings), make(readings)
	for name, share := range map[string]float64{mAdded: 0.5, mUndisturbed: 0.25} {
		fenced[name] = micros(percentile(starts.Fenced, share)-percentile(starts.Plain, share)) / 1e3
		compared[name] = micros(percentile(runs, share)) / 1e3
	}
	s.run.add(fenceStartName, fenceStartTitle, fenceStartMetrics(), fencedName, round, fenced)
	s.run.add(fenceStartName, fenceStartTitle, fenceStartMetrics(), comparedName, round, compared)
	return nil
}

// measureTurn starts a host that measures its own commands.
func (s *suite) measureTurn(ctx context.Context) (starts fenceStarts, err error) {
	var failure bytes.Buffer
	host := s.command(ctx, serveFence, "starts")
	host.Stderr = &failure
	text, err := host.Output()
	if err != nil {
		return starts, fmt.Errorf("%w: %s", err, failure.Bytes())
	}
	return starts, json.Unmarshal(text, &starts)
}

// runFenceClient runs in a fence. It does the jobs that it reads from r. captured is the
// address that stands for the origin in the fence, proxy is the proxy of the session.
func runFenceClient(r io.Reader, w io.Writer, captured, proxy netip.AddrPort) error {
	jobs, messages := json.NewDecoder(r), json.NewEncoder(w)
	if err := messages.Encode(fenceMessage{Process: os.Getpid()}); err != nil {
		return err
	}
	for {
		var j fenceJob
		if err := jobs.Decode(&j); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		to := proxy
		if j.Captured {
			to = captured
		}
		run := j.connect
		if j.Bulk {
			run = j.bulk
		}
		n, elapsed, err := run(to, fmt.Sprintf("%s:%d", fenceOrigin, captured.Port()), func() { messages.Encode(fenceMessage{Begin: true}) })
		m := fenceMessage{Done: n, Elapsed: elapsed}
		if err != nil {
			m.Error = err.Error()
		}
		if err := messages.Encode(m); err != nil {
			return err
		}
	}
}

// connectTo is the CONNECT request, or nothing if the connection is captured.
func (j fenceJob) connectTo(target string) []byte {
	if j.Captured {
		return nil
	}
	return fmt.Appendf(nil, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target)
}

// connect measures connections with one small exchange each. The first line is not that of
// HTTP, because captured HTTP is judged by request.
func (j fenceJob) connect(to netip.AddrPort, target string, begin func()) (int64, time.Duration, error) {
	c := &client{script: script{
		to: to, tunnel: j.connectTo(target), request: []byte("bench 1\r\nConnection: close\r\n\r\n"), status: 200, reconnect: true,
	}}
	ended := make(chan error, 1)
	go func() { ended <- c.run(j.Conns) }()
	n, elapsed := j.count(c.done.Load, begin)
	c.stop.Store(true)
	return n, elapsed, <-ended
}

// bulk measures connections at full speed, every second one an upload. It counts the
// downloads only; the origin counts the uploads.
func (j fenceJob) bulk(to netip.AddrPort, target string, begin func()) (int64, time.Duration, error) {
	t := &trial{
		ctx: context.Background(), candidate: &candidate{rawTCP: j.Captured}, proxy: &process{http: to},
		workload: &workload{host: fenceOrigin}, origin: &farOrigin{at: netip.AddrPortFrom(to.Addr(), portOf(target))},
	}
	s := &streams{origin: new(streamer)}
	var once sync.Once
	defer once.Do(s.close)
	for i := range j.Conns {
		if err := s.add(t, i%2 == 1); err != nil {
			return 0, 0, err
		}
	}
	n, elapsed := j.count(s.received.Load, begin)
	once.Do(s.close)
	return n, elapsed, nil
}

// farOrigin is an origin in another process.
type farOrigin struct{ at netip.AddrPort }

func (o *farOrigin) addr() netip.AddrPort { return o.at }

func (o *farOrigin) close() error { return nil }

func portOf(target string) uint16 {
	a, _ := netip.ParseAddrPort("0.0.0.0" + target[bytes.LastIndexByte([]byte(target), ':'):]) // the port is a number
	return a.Port()
}

// count waits for the warm-up and counts for the time of the job.
func (j fenceJob) count(done func() int64, begin func()) (int64, time.Duration) {
	time.Sleep(j.Time / 4)
	n, began := done(), time.Now()
	begin()
	time.Sleep(j.Time)
	return done() - n, time.Since(began)
}
