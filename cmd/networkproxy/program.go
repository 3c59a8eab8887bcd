// The program without its process: arguments and streams in, exit status out,
// so that tests can run it.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// Exit statuses.
const (
	exitOK      = 0
	exitError   = 1 // what was asked for could not be done
	exitUsage   = 2 // it was not clear what was asked for
	exitRefused = 3 // check: the policy would refuse a target
)

// program is one run of the program.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	log            lineWriter // to stderr
	held           heldLog    // of the log: what is printed as well
	getenv         func(string) string
	hangup         <-chan os.Signal // SIGHUP: reload, or for connect the end
}

// command is one of the program's commands.
type command struct {
	name, summary string
	run           func(p *program, ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "serve the proxy (the default)", (*program).serve},
		{"run", "run a command that reaches the network through the policy alone", (*program).run},
		{"check", "say what the policy would do with a target, and why", (*program).check},
		{"selftest", "prove on this machine that the promises hold", (*program).selftest},
		{"connect", "carry standard input and output through the proxy, as ssh's ProxyCommand", (*program).connect},
	}
}

// errUsage marks an error that was told already, with the usage.
var errUsage = errors.New("usage")

// errRefused marks refusals that were printed already.
var errRefused = errors.New("refused")

// main runs the command that the arguments name and returns the exit status.
func (p *program) main(ctx context.Context, args []string) int {
	run := (*program).serve
	for _, c := range commands() {
		if len(args) > 0 && args[0] == c.name {
			run, args = c.run, args[1:]
			break
		}
	}
	defer p.log.Flush()
	p.log.w = p.stderr
	var status exitStatus
	switch err := run(p, ctx, args); {
	case errors.As(err, &status):
		return int(status)
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errRefused):
		return exitRefused
	default:
		fmt.Fprintf(p.stderr, "networkproxy: %v\n", err)
		return exitError
	}
}

// flags is a flag set that tells its usage with the commands there are.
func (p *program) newFlagSet(name, usage string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(p.stderr)
	f.Usage = func() {
		fmt.Fprintf(p.stderr, "usage: %s\n\n", usage)
		f.PrintDefaults()
		if name == "serve" {
			fmt.Fprint(p.stderr, "\ncommands:\n")
			for _, c := range commands() {
				fmt.Fprintf(p.stderr, "  %-10s %s\n", c.name, c.summary)
			}
		}
	}
	return f
}

// parse parses flags; what is wrong has been told when it returns errUsage.
func parseFlags(f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	return nil
}
