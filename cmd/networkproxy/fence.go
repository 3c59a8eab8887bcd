// Fences of the run command, and the fence-check command.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/hostname"
)

// fenceLevels are the values of the flag -fence.
var fenceLevels = []string{
	string(networkproxy.FenceCapture), string(networkproxy.FenceSealed), string(networkproxy.FenceBest),
}

// fenceFlags are the flags of run for its fence.
type fenceFlags struct {
	level optional // empty: no fence
	udp   bool
	local list
}

// addFenceFlags defines the flags of run for its fence.
func addFenceFlags(f *flag.FlagSet) *fenceFlags {
	c := &fenceFlags{level: optional{values: fenceLevels, implied: string(networkproxy.FenceCapture)}}
	f.Var(&c.level, "fence", "make the proxy the only way out of COMMAND, on Linux; -fence=sealed and -fence=best accept less, see docs/fence.md")
	f.BoolVar(&c.udp, "fence-udp", false, "with -fence: let COMMAND send datagrams to the hosts that the policy allows")
	f.Func("fence-local", "with -fence: `host:port` of a service on this machine, such as localhost:5432, that COMMAND may reach if the policy allows it; may be repeated", func(s string) error {
		if _, err := hostname.ParseTarget(s); err != nil {
			return err
		}
		return c.local.Set(s)
	})
	return c
}

// check returns a usageError for flags that do not fit the arguments of run.
func (c *fenceFlags) check(argv []string) error {
	switch {
	case c.level.value != "":
		if _, err := exec.LookPath(argv[0]); err != nil && slices.Contains(fenceLevels, argv[0]) {
			return usagef("write -fence=%s, with an equals sign", argv[0])
		}
		return nil
	case c.udp:
		return usagef("-fence-udp needs -fence")
	case len(c.local) > 0:
		return usagef("-fence-local needs -fence")
	}
	return nil
}

// launcher starts the command of run.
type launcher struct {
	start   func(*exec.Cmd) error
	environ func(base []string) []string
	fence   *networkproxy.Fence // nil without -fence
}

// launcher returns the launcher for a session.
func (c *fenceFlags) launcher(ctx context.Context, session *networkproxy.Session) (*launcher, error) {
	if c.level.value == "" {
		return &launcher{start: (*exec.Cmd).Start, environ: session.Environ}, nil
	}
	fence, err := session.Fence(ctx, networkproxy.FenceConfig{
		Accept: networkproxy.FenceLevel(c.level.value), UDP: c.udp, Local: c.local,
	})
	if err != nil {
		return nil, err
	}
	return &launcher{start: fence.Start, environ: fence.Environ, fence: fence}, nil
}

// explainNoFence says why there is no fence, and what to do. It returns false for other
// errors.
func (p *program) explainNoFence(err error) bool {
	var failed *networkproxy.FenceError
	if !errors.As(err, &failed) {
		return false
	}
	problem := failed.Problem
	p.report(slog.LevelError, fmt.Sprintf("no fence, and so the command was not started: %s: %s", problem.Part, problem.Error), slog.Any("problem", problem))
	if problem.Fix != "" {
		p.report(slog.LevelError, "to get a fence: "+problem.Fix)
	}
	p.report(slog.LevelError, "for more, run networkproxy fence-check; -fence=best starts the command even if there can be no fence")
	return true
}

// warnOfFence warns about a fence that leaves ways out, or captures some ports only.
func (p *program) warnOfFence(r networkproxy.FenceReport) {
	if r.Level != networkproxy.FenceNone {
		if !r.AllPorts {
			p.report(slog.LevelWarn, "the fence captures some ports only: "+problems(r.Problems), slog.Any("fence", r))
		}
		return
	}
	if open := openWays(r.Enforced); r.Enforced.TCP {
		p.report(slog.LevelWarn, fmt.Sprintf("THE FENCE HAS HOLES: %s: %s", strings.Join(open, ", "), problems(r.Problems)), slog.Any("fence", r))
		return
	}
	p.report(slog.LevelWarn, "THERE IS NO FENCE: a command that ignores the proxy variables connects directly: "+problems(r.Problems), slog.Any("fence", r))
}

// problems returns problems as one line.
func problems(list []networkproxy.FenceProblem) string {
	var texts []string
	for _, problem := range list {
		text := problem.Part + ": " + problem.Error
		if problem.Fix != "" {
			text += " (" + problem.Fix + ")"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// wayOut is a way out of a fence, in words.
type wayOut struct {
	name   string
	closed bool
}

func waysOut(e networkproxy.FenceEnforced) []wayOut {
	return []wayOut{
		{"TCP", e.TCP},
		{"UDP", e.UDP},
		{"ICMP", e.ICMP},
		{"IPv6", e.IPv6},
		{"Unix sockets with a path", e.UnixPath},
		{"abstract Unix sockets", e.UnixAbstract},
		{"sockets of virtual machines", e.VSock},
		{"io_uring", e.IOUring},
		{"memory and descriptors of other processes", e.Ptrace},
	}
}

// openWays returns the ways out that a fence leaves open.
func openWays(e networkproxy.FenceEnforced) (names []string) {
	for _, w := range waysOut(e) {
		if !w.closed {
			names = append(names, w.name)
		}
	}
	return names
}

// fenceCheck is the command fence-check.
func (p *program) fenceCheck(f *flag.FlagSet) func(context.Context) error {
	level := &choice{value: string(networkproxy.FenceCapture), values: fenceLevels[:2]}
	f.Var(level, "level", "`level` of the fence that is needed")
	asJSON := f.Bool("json", false, "print one JSON object")
	return func(ctx context.Context) error {
		if err := noOperands(f); err != nil {
			return err
		}
		report, err := networkproxy.ProbeFence(ctx)
		if err != nil && !errors.As(err, new(*networkproxy.FenceError)) {
			return err
		}
		if err := p.printFence(report, *asJSON); err != nil {
			return err
		}
		if report.Level == networkproxy.FenceNone {
			return exitStatus(exitError)
		}
		return nil // on Linux, capture is the only level of a fence, and includes sealed
	}
}

// printFence prints the report of a fence.
func (p *program) printFence(r networkproxy.FenceReport, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(p.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(t, "%s\t%s\n", name, value) }
	choose := func(b bool, yes, no string) string {
		if b {
			return yes
		}
		return no
	}
	row("level", string(r.Level))
	if r.Mechanism != "" {
		row("mechanism", r.Mechanism)
	}
	row("TCP ports captured", choose(r.AllPorts, "all", choose(r.Level == networkproxy.FenceNone, "none", "22, 80, 443, 9418 and those that the policy names")))
	row("IPv6 inside", choose(r.IPv6, "yes", "no"))
	for _, w := range waysOut(r.Enforced) {
		row(w.name, choose(w.closed, "closed", "OPEN"))
	}
	row("signals to other processes", choose(r.Enforced.Signals, "closed", "open, but no way out"))
	for _, problem := range r.Problems {
		row("missing", problem.Part+": "+problem.Error)
		if problem.Fix != "" {
			row("what to do", problem.Fix)
		}
	}
	return t.Flush()
}
