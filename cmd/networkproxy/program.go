// The program as a function of arguments and streams that returns an exit
// status, so that tests can run it in-process.

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
	exitError   = 1
	exitUsage   = 2 // invalid flags or arguments
	exitRefused = 3 // check: the policy would refuse a target
)

// program is one run of the program.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	log            lineWriter          // writes to stderr
	held           heldLog             // drops log records that the program prints itself
	getenv         func(string) string // nil: the environment is empty
	hangup         <-chan os.Signal    // SIGHUP: serve reloads, connect ends
}

// command is one of the program's commands.
type command struct {
	name, summary string
	run           func(p *program, ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "serve the proxy (the default)", (*program).serve},
		{"run", "run a command in a session of its own, and report refused requests", (*program).run},
		{"check", "explain how the policy would treat a target", (*program).check},
		{"selftest", "test on this machine that the promises hold", (*program).selftest},
		{"connect", "open a tunnel from standard input and output, for ssh's ProxyCommand", (*program).connect},
	}
}

// errUsage is returned after a usage error was printed.
var errUsage = errors.New("usage")

// errRefused is returned after the explanation of a refusal was printed.
var errRefused = errors.New("refused")

// main runs the command named by args, or serve, and returns the exit status.
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

// newFlagSet returns a flag set that prints usage before its flags. The usage
// of serve also lists the commands.
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

// parseFlags parses args. It returns errUsage after printing what is wrong with
// them.
func parseFlags(f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	return nil
}
