//go:build linux

// The workloads.

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"
)

// origin is the server behind the proxies.
type origin interface {
	addr() netip.AddrPort
	close() error
}

// readings are the values of one measurement, by name of the metric.
type readings map[string]float64

// sliceReadings are the readings of one candidate within a round.
type sliceReadings []readings

func (s *sliceReadings) add(r readings) { *s = append(*s, r) }

// mean returns the mean of each metric.
func (s sliceReadings) mean() readings {
	mean := make(readings)
	for _, r := range s {
		for name, value := range r {
			mean[name] += value / float64(len(s))
		}
	}
	return mean
}

// workload is one kind of work with its metrics.
type workload struct {
	name     string
	title    string
	needs    capabilities
	host     string // the origin's host in requests; 127.0.0.1 if empty
	patterns int    // number of additional names in the allowlist
	whole    bool   // measure in one piece, not in slices
	origin   func() (origin, error)
	metrics  []metric // the plot shows the first
	run      func(*trial) (readings, error)
}

// workloads returns the workloads, with the given number of idle tunnels.
func workloads(idle int) []workload {
	list := []workload{{
		name: "get-1", title: "forward GET, 1 connection", needs: forwards, origin: startResponder,
		metrics: []metric{
			{Name: mAdded, Title: "p50 added", Unit: unitTime, Lower: true, Goal: goal{AtMost: 150}},
			{Name: mP50, Unit: unitTime, Lower: true},
			{Name: mP99, Unit: unitTime, Lower: true},
			{Name: mCPU, Title: "CPU per request", Unit: unitTime, Lower: true},
		},
		run: func(t *trial) (readings, error) { return t.addedLatency() },
	}}
	for _, n := range []int{32, 256} {
		list = append(list, workload{
			name: fmt.Sprintf("get-%d", n), title: fmt.Sprintf("forward GET, %d connections", n), needs: forwards,
			origin: startResponder, metrics: requestMetrics("request", 1.25),
			run: func(t *trial) (readings, error) { return t.requests(n, t.get()) },
		})
	}
	for _, body := range []struct {
		name  string
		size  int
		conns int
		ratio float64 // the goal; 0 means none
	}{
		{"body-64k", 64 << 10, 8, 0},
		{"body-64k-32", 64 << 10, 32, 1.5},
		{"body-1024k", 1 << 20, 8, 0},
	} {
		list = append(list, workload{
			name: body.name, title: fmt.Sprintf("forward GET of %s KiB, %d connections", formatInt(body.size>>10), body.conns), needs: forwards,
			origin: func() (origin, error) { return startBodies(body.size) },
			metrics: []metric{
				{Name: mRate, Unit: "GB/s", Goal: goal{Ratio: body.ratio}},
				{Name: mCPU, Title: "CPU per GB", Unit: "ms", Lower: true},
			},
			run: func(t *trial) (readings, error) { return t.bodies(body.conns, body.size) },
		})
	}
	list = append(list, workload{
		name: "refuse-32", title: "refused GET, 32 connections", needs: refuses, host: "refused.example",
		origin: startResponder, metrics: requestMetrics("request", 1.5),
		run: func(t *trial) (readings, error) {
			s := t.get()
			s.status = 403
			return t.requests(32, s)
		},
	}, workload{
		name: "connect-32", title: "CONNECT set-up, 32 at a time", needs: tunnels,
		origin: startResponder, metrics: requestMetrics("tunnel", 1.25),
		run: func(t *trial) (readings, error) {
			s := t.get("Connection: close")
			s.reconnect = true
			if !t.candidate.rawTCP {
				s.tunnel = t.connectRequest()
			}
			return t.requests(32, s)
		},
	}, workload{
		name: "bulk-8", title: "CONNECT bulk, 8 tunnels, 4 each way", needs: tunnels, origin: startStreamer,
		metrics: []metric{
			{Name: mRate, Unit: "GB/s", Goal: goal{Ratio: 1.1}},
			{Name: mCPU, Title: "CPU per GB", Unit: "ms", Lower: true, Goal: goal{AtMost: 350}},
		},
		run: func(t *trial) (readings, error) { return t.bulk(8) },
	}, workload{
		name: "bulk-8-discarded", title: "CONNECT bulk, receivers discard the data", needs: tunnels, origin: startSink,
		metrics: []metric{
			{Name: mRate, Unit: "GB/s"},
			{Name: mCPU, Title: "CPU per GB", Unit: "ms", Lower: true, Goal: goal{AtMost: 350}},
		},
		run: func(t *trial) (readings, error) { return t.bulk(8) },
	}, workload{
		name: "idle", title: fmt.Sprintf("idle tunnel (%s open)", formatInt(idle)), needs: tunnels, whole: true, origin: startStreamer,
		metrics: []metric{
			{Name: mMemory, Title: "memory per tunnel", Unit: "KiB", Lower: true, Goal: goal{AtMost: 18}},
			{Name: mFiles, Title: "descriptors per tunnel", Lower: true, Goal: goal{AtMost: 2}},
		},
		run: func(t *trial) (readings, error) { return t.idle(idle) },
	}, workload{
		name: "bulk-idle", title: fmt.Sprintf("bulk with %s idle tunnels", formatInt(idle)), needs: tunnels, whole: true, origin: startStreamer,
		metrics: []metric{
			{Name: mRetained, Title: "share of rate kept", Unit: "%", Goal: goal{AtLeast: 60}},
			{Name: mRate, Title: "rate with idle tunnels", Unit: "GB/s"},
		},
		run: func(t *trial) (readings, error) { return t.bulkWithIdle(idle) },
	})
	for _, n := range []int{10, 1_000, 100_000} {
		list = append(list, workload{
			name: fmt.Sprintf("policy-%d", n), title: fmt.Sprintf("forward GET, policy of %s names", formatInt(n)), needs: forwards | filters,
			host: "localhost", patterns: n, origin: startResponder, metrics: requestMetrics("request", 1.25),
			run: func(t *trial) (readings, error) { return t.requests(32, t.get()) },
		})
	}
	for _, udp := range []struct {
		name, title string
		burst       int
		goal        goal
	}{
		{"udp", "UDP datagrams, sent in batches", inFlight, goal{Ratio: 2}},
		{"udp-single", "UDP datagrams, sent one by one", 1, goal{}},
	} {
		list = append(list, workload{
			name: udp.name, title: udp.title, needs: associates,
			origin: func() (origin, error) { return startEchoer(udp.burst) },
			metrics: []metric{
				{Name: mPerCPU, Unit: "/CPU s", Goal: udp.goal},
				{Name: mRate, Unit: "/s"},
				{Name: mLost, Unit: "%", Lower: true},
			},
			run: func(t *trial) (readings, error) { return t.datagrams(udp.burst) },
		})
	}
	return list
}

// requestMetrics returns the metrics of workloads made of consecutive units, such
// as requests.
func requestMetrics(unit string, ratio float64) []metric {
	return []metric{
		{Name: mRate, Unit: unit + "s/s", Goal: goal{Ratio: ratio}},
		{Name: mCPU, Title: "CPU per " + unit, Unit: unitTime, Lower: true},
		{Name: mP50, Unit: unitTime, Lower: true},
		{Name: mP99, Unit: unitTime, Lower: true},
		{Name: mMemory, Unit: "MiB", Lower: true},
	}
}

// slices returns the number of slices of a measurement. The slices of the candidates
// are interleaved, so that noise that lasts less than a second, such as neighbours
// on the same cores, does not hit one candidate only.
func (w *workload) slices() int {
	if w.whole {
		return 1
	}
	return 5
}

// allowlist returns the allowed hosts: the origin's two names, and additional names
// that no request uses.
func (w *workload) allowlist() []string {
	names := make([]string, 0, w.patterns+2)
	for i := range w.patterns {
		names = append(names, fmt.Sprintf("host-%d.service-%d.example", i, i%97))
	}
	return append(names, "127.0.0.1", "localhost")
}

// trial is one measurement of one candidate with its own origin.
type trial struct {
	ctx       context.Context
	workload  *workload
	candidate *candidate
	proxy     *process
	origin    origin
	time      time.Duration // duration of the measurement
	others    float64       // largest CPU share of other programs, in percent of the machine
}

// target returns the origin's host and port for requests.
func (t *trial) target() string {
	if t.workload.host == "" {
		return t.origin.addr().String()
	}
	return fmt.Sprintf("%s:%d", t.workload.host, t.origin.addr().Port())
}

func (t *trial) connectRequest() []byte {
	return fmt.Appendf(nil, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", t.target())
}

// get returns the script of a client that sends GET requests with typical fields
// and the given ones.
func (t *trial) get(fields ...string) script {
	return script{
		to:     t.proxy.http,
		status: 200,
		request: fmt.Appendf(nil, "GET http://%[1]s/ HTTP/1.1\r\nHost: %[1]s\r\nUser-Agent: bench\r\n"+
			"Accept: */*\r\nAccept-Encoding: gzip\r\n%[2]s\r\n", t.target(), strings.Join(append(fields, ""), "\r\n")),
	}
}

// usage is the work that a proxy did and the CPU time that it used.
type usage struct {
	n       float64 // units of work
	elapsed time.Duration
	cpu     time.Duration
}

// perUnit returns d per unit of work, in microseconds.
func (u usage) perUnit(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / max(u.n, 1) }

func (u usage) rate() float64 { return u.n / u.elapsed.Seconds() }

// measure waits for the warm-up, calls begin, and measures for d. done returns the
// units of work done so far.
func (t *trial) measure(d time.Duration, done func() int64, begin func()) (usage, error) {
	if err := sleep(t.ctx, d/4); err != nil {
		return usage{}, err
	}
	begin()
	before, err := t.cpuTimes()
	if err != nil {
		return usage{}, err
	}
	n, began := done(), time.Now()
	if err := sleep(t.ctx, d); err != nil {
		return usage{}, err
	}
	u := usage{n: float64(done() - n), elapsed: time.Since(began)}
	after, err := t.cpuTimes()
	if err != nil {
		return usage{}, err
	}
	u.cpu = after.proxy - before.proxy
	known := u.cpu + after.self - before.self
	all := u.elapsed * time.Duration(runtime.NumCPU())
	t.others = max(t.others, 100*float64(after.machine-before.machine-known)/float64(all))
	return u, nil
}

// cpuTimes is the CPU time used so far by the proxy, this process, and the machine.
type cpuTimes struct{ proxy, self, machine time.Duration }

func (t *trial) cpuTimes() (a cpuTimes, err error) {
	if a.machine, err = machineTime(); err != nil {
		return a, err
	}
	if a.self, err = cpuTime(os.Getpid()); err != nil {
		return a, err
	}
	a.proxy, err = cpuTime(t.proxy.pid())
	return a, err
}

// load measures n connections of a client with a script for d.
func (t *trial) load(d time.Duration, n int, s script) (*client, usage, error) {
	c := &client{script: s}
	ended := make(chan error, 1)
	go func() { ended <- c.run(n) }()
	u, err := t.measure(d, c.done.Load, func() { c.record.Store(true) })
	c.stop.Store(true)
	if failed := <-ended; failed != nil {
		err = failed
	}
	if err == nil && u.n == 0 {
		err = fmt.Errorf("%w in %v", errNothingDone, d)
	}
	return c, u, err
}

// requests measures a client of n connections.
func (t *trial) requests(n int, s script) (readings, error) {
	c, u, err := t.load(t.time, n, s)
	if err != nil {
		return nil, err
	}
	resident, err := memory(t.proxy.pid())
	return readings{
		mRate: u.rate(), mCPU: u.perUnit(u.cpu), mMemory: float64(resident) / (1 << 20),
		mP50: micros(c.percentile(0.50)), mP99: micros(c.percentile(0.99)),
	}, err
}

// bodies measures a client of n connections that downloads bodies of a size.
func (t *trial) bodies(n, size int) (readings, error) {
	_, u, err := t.load(t.time, n, t.get())
	gigabytes := u.n * float64(size) / 1e9
	return readings{mRate: gigabytes / u.elapsed.Seconds(), mCPU: float64(u.cpu.Milliseconds()) / gigabytes}, err
}

// addedLatency measures one connection directly to the origin and one through the
// proxy.
func (t *trial) addedLatency() (readings, error) {
	s := t.get()
	s.to = t.origin.addr()
	bare, _, err := t.load(t.time/2, 1, s)
	if err != nil {
		return nil, err
	}
	c, u, err := t.load(t.time, 1, t.get())
	if err != nil {
		return nil, err
	}
	p50 := c.percentile(0.50)
	return readings{
		mP50: micros(p50), mAdded: micros(p50 - bare.percentile(0.50)),
		mP99: micros(c.percentile(0.99)), mCPU: u.perUnit(u.cpu),
	}, nil
}

// bulk measures n tunnels at full speed.
func (t *trial) bulk(n int) (readings, error) {
	s, err := t.openStreams(n)
	if err != nil {
		return nil, err
	}
	defer s.close()
	u, err := t.measure(t.time, s.moved, func() {})
	if err == nil && u.n == 0 {
		err = fmt.Errorf("%w in %v", errNothingDone, t.time)
	}
	gigabytes := u.n / 1e9
	return readings{mRate: gigabytes / u.elapsed.Seconds(), mCPU: float64(u.cpu.Milliseconds()) / gigabytes}, err
}

// settleTime is the time for idle tunnels to release buffers.
const settleTime = 500 * time.Millisecond

// idle measures the memory and the descriptors of n idle tunnels.
func (t *trial) idle(n int) (readings, error) {
	warm, err := t.openIdle(1)
	if err != nil {
		return nil, err
	}
	defer warm()
	bytes, files, err := t.footprint()
	if err != nil {
		return nil, err
	}
	closeAll, err := t.openIdle(n)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	moreBytes, moreFiles, err := t.footprint()
	return readings{
		mMemory: float64(moreBytes-bytes) / 1024 / float64(n),
		mFiles:  float64(moreFiles-files) / float64(n),
	}, err
}

// footprint returns the memory and the descriptors of the proxy after settleTime.
func (t *trial) footprint() (bytes int64, files int, err error) {
	if err := sleep(t.ctx, settleTime); err != nil {
		return 0, 0, err
	}
	if bytes, err = memory(t.proxy.pid()); err != nil {
		return 0, 0, err
	}
	files, err = descriptors(t.proxy.pid())
	return bytes, files, err
}

// bulkWithIdle measures one tunnel at full speed alone, and another one after n
// idle tunnels were opened.
func (t *trial) bulkWithIdle(n int) (readings, error) {
	alone, err := t.bulk(1)
	if err != nil {
		return nil, err
	}
	closeAll, err := t.openIdle(n)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	if err := sleep(t.ctx, settleTime); err != nil {
		return nil, err
	}
	beside, err := t.bulk(1)
	if err != nil {
		return nil, err
	}
	return readings{mRate: beside[mRate], mRetained: 100 * beside[mRate] / alone[mRate]}, nil
}

// datagrams measures round trips of datagrams. The relay forwards two datagrams in
// each.
func (t *trial) datagrams(burst int) (readings, error) {
	u := &udpClient{burst: burst}
	ended := make(chan error, 1)
	go func() { ended <- u.run(t.proxy.socks, t.origin.addr()) }()
	n, err := t.measure(t.time, u.done.Load, func() {})
	u.stop.Store(true)
	if failed := <-ended; failed != nil {
		err = failed
	}
	if err == nil && (n.n == 0 || n.cpu == 0) {
		err = fmt.Errorf("%w in %v", errNothingDone, t.time)
	}
	lost := float64(u.lost.Load())
	return readings{
		mPerCPU: 2 * n.n / n.cpu.Seconds(), mRate: 2 * n.rate(),
		mLost: 100 * lost / (lost + float64(u.done.Load()) + 1),
	}, err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
