// Measurements of TLS inspection: requests in opened tunnels compared with plain
// requests and with another proxy that opens TLS, and tunnels that are not opened.

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"example.com/networkproxy/internal/ca"
	"example.com/networkproxy/internal/hostname"
)

// inspectedName is the first column of a run with -inspection. The second is
// comparedName.
const inspectedName = "inspection"

// inspectionWork is a kind of work that several sides do in turn.
type inspectionWork struct {
	name  string
	sides []side
	pairs []pair
}

// side is a proxy and what it has to do.
type side struct {
	name   string
	proxy  candidate
	origin func() (origin, error)
	run    func(*trial) (readings, error)
}

// pair compares the readings of two sides.
type pair struct {
	subject, base string
	title         string
	metrics       []metric
}

// Sides. The proxies of "again" and of notInspecting are the same.
const (
	inOpened      = "opened"
	inOpened2     = "opened HTTP/2"
	inStreams     = "opened HTTP/2, 1 connection"
	inPlain       = "plain"
	inGoproxy     = "goproxy"
	inGoproxy2    = "goproxy HTTP/2"
	inPassed      = "passed"
	notInspecting = "mitm = false"
	again         = "again"
)

const (
	smallBody = 1 << 10
	largeBody = 16 << 20
)

// inspectionWorks returns the work of -inspection. cert is the certificate of the
// origins.
func inspectionWorks(cert *tls.Certificate) []inspectionWork {
	p := inspectionParts{cert: cert,
		opened: withInspection("opened", "opened.toml"),
		passed: withInspection("passed", "passed.toml"),
		off:    withInspection("off", "networkproxy.toml"),
		peer:   candidate{name: "goproxy", command: "{dir}/../goproxy {http}", can: tunnels},

		exchanging: withAgent(inExchanged, "brokered.toml"),
		sending:    withAgent(inSent, "opened.toml"),
	}
	return []inspectionWork{p.kept(), p.fresh(), p.freshWithoutClose(), p.bulk(), p.exchange(), p.masked(), p.connect(), p.connectBulk()}
}

// inspectionParts are the parts of the work.
type inspectionParts struct {
	cert                      *tls.Certificate
	opened, passed, off, peer candidate
	exchanging, sending       candidate // for commands with a token
}

// secure returns a starter of origins with TLS that respond with n bytes.
func (p inspectionParts) secure(n int) func() (origin, error) {
	config := &tls.Config{Certificates: []tls.Certificate{*p.cert}, NextProtos: []string{"http/1.1"}}
	return func() (origin, error) { return startHTTP1Origin(n, config) }
}

// session returns the script of a client that sends requests in a TLS connection.
func (p inspectionParts) session(t *trial, opened bool, fields ...string) session {
	return session{
		to: t.proxy.http, tunnel: t.connectRequest(), secure: true, opened: opened, origin: p.cert.Leaf,
		request: fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n%s\r\n",
			t.target(), strings.Join(append(fields, ""), "\r\n")),
	}
}

// kept is the work of connections that stay open.
func (p inspectionParts) kept() inspectionWork {
	const conns = 8
	http1 := func(t *trial) (readings, error) { return t.session(conns, p.session(t, true)) }
	http2 := func(n, streams int) func(t *trial) (readings, error) {
		return func(t *trial) (readings, error) {
			s := p.session(t, true)
			s.http2, s.streams, s.url = true, streams, "https://"+t.target()+"/"
			return t.session(n, s)
		}
	}
	origin2 := func() (origin, error) {
		return startHTTP2Origin(smallBody, &tls.Config{Certificates: []tls.Certificate{*p.cert}})
	}
	return inspectionWork{
		name: "inspect-kept",
		sides: []side{
			{inOpened, p.opened, p.secure(smallBody), http1},
			{inOpened2, p.opened, origin2, http2(conns, 1)},
			{inStreams, p.opened, origin2, http2(1, conns)},
			{inPlain, p.off, func() (origin, error) { return startHTTP1Origin(smallBody, nil) }, func(t *trial) (readings, error) {
				return t.session(conns, session{to: t.proxy.http, request: t.get().request})
			}},
			{inGoproxy, p.peer, p.secure(smallBody), http1},
			{inGoproxy2, p.peer, origin2, http2(conns, 1)},
		},
		pairs: []pair{
			{inOpened, inPlain, "kept HTTP/1.1, to plain requests", sessionMetrics("request", 1/1.5)},
			{inOpened, inGoproxy, "kept HTTP/1.1, to goproxy", sessionMetrics("request", 1/0.9)},
			{inOpened2, inOpened, "kept HTTP/2, to HTTP/1.1", sessionMetrics("request", 1.0/2)},
			{inStreams, inOpened, "HTTP/2, 8 streams in 1 connection, to HTTP/1.1", sessionMetrics("request", 1.0/2)},
			{inOpened2, inGoproxy2, "kept HTTP/2, to goproxy", sessionMetrics("request", 0)},
		},
	}
}

// fresh is the work of connections with one request each, which says that it is the
// last one. Proxies cannot use a connection with the origin again.
func (p inspectionParts) fresh() inspectionWork {
	run := func(opened bool) func(*trial) (readings, error) {
		return func(t *trial) (readings, error) {
			s := p.session(t, opened, "Connection: close")
			s.fresh = true
			return t.session(4, s)
		}
	}
	return inspectionWork{
		name: "inspect-fresh",
		sides: []side{
			{inOpened, p.opened, p.secure(smallBody), run(true)},
			{inGoproxy, p.peer, p.secure(smallBody), run(true)},
			{inPassed, p.passed, p.secure(smallBody), run(false)},
		},
		pairs: []pair{
			{inOpened, inGoproxy, "fresh connections, to goproxy", sessionMetrics("connection", 1)},
			{inOpened, inPassed, "fresh connections, to tunnels that are not opened", sessionMetrics("connection", 1/3.5)},
		},
	}
}

// freshWithoutClose is the work of connections with one request each, which does not say
// so. A proxy may use its connection with the origin for several clients.
func (p inspectionParts) freshWithoutClose() inspectionWork {
	run := func(t *trial) (readings, error) {
		s := p.session(t, true)
		s.fresh = true
		return t.session(4, s)
	}
	return inspectionWork{
		name: "inspect-shared",
		sides: []side{
			{inOpened, p.opened, p.secure(smallBody), run},
			{inGoproxy, p.peer, p.secure(smallBody), run},
		},
		pairs: []pair{{inOpened, inGoproxy, "fresh connections without Connection: close, to goproxy", sessionMetrics("connection", 0)}},
	}
}

// bulk is the work of downloads.
func (p inspectionParts) bulk() inspectionWork {
	run := func(t *trial) (readings, error) { return t.download(p.session(t, true)) }
	return inspectionWork{
		name:  "inspect-bulk",
		sides: []side{{inOpened, p.opened, p.secure(largeBody), run}, {inGoproxy, p.peer, p.secure(largeBody), run}},
		pairs: []pair{{inOpened, inGoproxy, "download of 16 MiB, 2 connections, to goproxy", bulkMetrics(1 / 1.1)}},
	}
}

// notOpened returns work of tunnels that are not opened.
func (p inspectionParts) notOpened(name, title string, metrics func(ratio float64) []metric, start func() (origin, error), run func(*trial) (readings, error)) inspectionWork {
	return inspectionWork{
		name:  name,
		sides: []side{{inPassed, p.passed, start, run}, {notInspecting, p.off, start, run}, {again, p.off, start, run}},
		pairs: []pair{
			{inPassed, notInspecting, title + ", not opened, to mitm = false", metrics(1 / 1.02)},
			{again, notInspecting, title + ", mitm = false twice", metrics(0)},
		},
	}
}

func (p inspectionParts) connect() inspectionWork {
	metrics := func(ratio float64) []metric { return sessionMetrics("tunnel", ratio) }
	return p.notOpened("inspect-connect", "CONNECT set-up, 32 at a time", metrics, startResponder, func(t *trial) (readings, error) {
		s := t.get("Connection: close")
		s.reconnect, s.tunnel = true, t.connectRequest()
		return t.requests(32, s)
	})
}

func (p inspectionParts) connectBulk() inspectionWork {
	return p.notOpened("inspect-through", "CONNECT bulk, 8 tunnels, 4 each way", bulkMetrics, startStreamer, func(t *trial) (readings, error) {
		return t.bulk(8)
	})
}

// sessionMetrics returns the metrics of consecutive units, such as requests. ratio is
// the goal of the CPU time; 0 is none.
func sessionMetrics(unit string, ratio float64) []metric {
	return []metric{
		{Name: mCPU, Title: "CPU per " + unit, Unit: unitTime, Lower: true, Goal: goal{Ratio: ratio}},
		{Name: mRate, Unit: unit + "s/s"},
	}
}

func bulkMetrics(ratio float64) []metric {
	return []metric{
		{Name: mCPU, Title: "CPU per GB", Unit: "ms", Lower: true, Goal: goal{Ratio: ratio}},
		{Name: mRate, Unit: "GB/s"},
	}
}

// sessions measures n connections of a session.
func (t *trial) sessions(n int, s session) (*sessionClient, usage, error) {
	c := s.start(n)
	u, err := t.measure(t.time, c.done.Load, func() {})
	if failed := c.stop(); failed != nil {
		err = failed
	}
	if err == nil && u.n == 0 {
		err = fmt.Errorf("%w in %v", errNothingDone, t.time)
	}
	return c, u, err
}

// session measures n connections of a session whose units are requests or connections.
func (t *trial) session(n int, s session) (readings, error) {
	_, u, err := t.sessions(n, s)
	return readings{mRate: u.rate(), mCPU: u.perUnit(u.cpu)}, err
}

// download measures the bodies of a session of 2 connections.
func (t *trial) download(s session) (readings, error) {
	s.bytes = true
	_, u, err := t.sessions(2, s)
	gigabytes := u.n / 1e9
	return readings{mRate: gigabytes / u.elapsed.Seconds(), mCPU: float64(u.cpu.Milliseconds()) / gigabytes}, err
}

// measureInspection makes the measurements of -inspection. As in measureAll, it returns
// the run so far with an error.
func (s *suite) measureInspection(ctx context.Context) (*run, error) {
	s.run.Candidates, s.run.Subject, s.run.Base = []string{inspectedName, comparedName}, inspectedName, comparedName
	cert, err := s.certify()
	if err != nil {
		return nil, err
	}
	var works []inspectionWork
	for _, w := range inspectionWorks(cert) {
		if s.only.MatchString(w.name) {
			works = append(works, w)
		}
	}
	if len(works) == 0 {
		return nil, fmt.Errorf("-only %s matches no workload of inspection", s.only)
	}
	if err := s.buildGoproxy(ctx); err != nil {
		return nil, err
	}
	err = s.eachRound(func(round int) error {
		for i := range works {
			if err := s.measureSides(ctx, round, &works[i]); err != nil {
				return err
			}
			s.measured(round)
		}
		return nil
	})
	return s.run, err
}

// certify makes a certificate for origins, and writes the authority that the proxies
// have to trust.
func (s *suite) certify() (*tls.Certificate, error) {
	authority, err := ca.New()
	if err != nil {
		return nil, err
	}
	s.roots = filepath.Join(s.dir, "roots.pem")
	if err := os.WriteFile(s.roots, authority.PEM(), 0o644); err != nil {
		return nil, err
	}
	host, err := hostname.Parse(loopback.String())
	if err != nil {
		return nil, err
	}
	return authority.Leaf(host)
}

// buildGoproxy builds the peer, which is in a module of its own.
func (s *suite) buildGoproxy(ctx context.Context) error {
	list := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "example.com/networkproxy/bench")
	list.Stderr = os.Stderr
	dir, err := list.Output()
	if err != nil {
		return fmt.Errorf("find the source of goproxy: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(strings.TrimSpace(string(dir)), "goproxy"), "-o", filepath.Join(s.dir, "goproxy"), ".")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build goproxy: %w", err)
	}
	return nil
}

// measureSides measures the sides of a work in interleaved slices, as measureWorkload
// does, and adds the figures of its pairs.
func (s *suite) measureSides(ctx context.Context, round int, w *inspectionWork) error {
	fmt.Fprintf(os.Stderr, "round %d/%d  %-16s", round+1, s.rounds, w.name)
	defer fmt.Fprintln(os.Stderr)
	works, instances := make([]workload, len(w.sides)), make([]*instance, len(w.sides))
	for i := range w.sides {
		works[i] = workload{name: w.name, origin: w.sides[i].origin, run: w.sides[i].run}
		inst, err := s.start(ctx, &works[i], &w.sides[i].proxy)
		if err != nil {
			s.recordFailure(&instance{candidate: &w.sides[i].proxy}, err)
			inst = nil
		} else {
			defer func() { s.recordFailure(inst, inst.stop()) }()
			// The first connections load the roots and make a certificate.
			_, _, err := measure(ctx, &works[i], inst, s.time/5)
			if !errors.Is(err, errNothingDone) {
				s.recordFailure(inst, err)
			}
		}
		instances[i] = inst
	}
	n := works[0].slices()
	for slice := range n {
		for i := range instances {
			at := (i + slice + round) % len(instances)
			inst := instances[at]
			if inst == nil || inst.failed {
				continue
			}
			values, err := s.measureUndisturbed(ctx, &works[at], inst, s.time/time.Duration(n))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.recordFailure(inst, err)
			inst.slices.add(values)
		}
	}
	means := make(map[string]readings)
	for i, inst := range instances {
		if inst != nil && !inst.failed {
			means[w.sides[i].name] = inst.slices.mean()
		}
	}
	fmt.Fprint(os.Stderr, s.addPairs(w, round, means))
	return nil
}

// addPairs adds the figures of the pairs whose sides both have readings. It returns a
// line about them.
func (s *suite) addPairs(w *inspectionWork, round int, means map[string]readings) string {
	var line strings.Builder
	for _, p := range w.pairs {
		subject, base := means[p.subject], means[p.base]
		if subject == nil || base == nil {
			continue
		}
		name := w.name + ": " + p.subject + ", " + p.base
		s.run.add(name, p.title, p.metrics, inspectedName, round, subject)
		s.run.add(name, p.title, p.metrics, comparedName, round, base)
		fmt.Fprintf(&line, "  %s/%s %s/%s", p.subject, p.base, quantity(subject[mCPU], p.metrics[0].Unit), quantity(base[mCPU], p.metrics[0].Unit))
	}
	return line.String()
}
