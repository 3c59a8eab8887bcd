// The program as a function of arguments and streams that returns an exit
// status, so that tests can run it in-process.

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// Exit statuses. exitStatuses describes them.
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
	json           bool                // -log-format json: write JSON to stderr
	color          bool                // stderr is a terminal that shows colors
	getenv         func(string) string // nil: the environment is empty
	hangup         <-chan os.Signal    // SIGHUP: serve reloads, connect ends
}

// errRefused is returned after the explanation of a refusal was printed.
var errRefused = errors.New("refused")

// usageError is a mistake in the arguments.
type usageError struct{ problem, help string }

func (e *usageError) Error() string { return e.problem }

// usagef returns a usageError. dispatch adds the command line that prints help.
func usagef(format string, args ...any) error {
	return &usageError{problem: fmt.Sprintf(format, args...)}
}

// main runs the command named by args, or serve, and returns the exit status.
func (p *program) main(ctx context.Context, args []string) int {
	defer p.log.Flush()
	p.log.w = p.stderr
	p.color = showsColors(p.stderr, p.env)
	err := p.dispatch(ctx, args)
	status := statusOf(err)
	switch usage := (*usageError)(nil); {
	case errors.As(err, &usage):
		p.json = p.json || asksForJSON(args)
		if p.json {
			p.record(slog.LevelError, usage.problem, slog.String("help", usage.help))
		} else {
			p.print(fmt.Sprintf("networkproxy: %s (%s for help)\n", usage.problem, usage.help))
		}
	case status == exitError && !errors.As(err, new(exitStatus)):
		p.report(slog.LevelError, err.Error())
	}
	return status
}

// statusOf returns the exit status for the error of a command.
func statusOf(err error) int {
	var status exitStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, new(*usageError)):
		return exitUsage
	case errors.Is(err, errRefused):
		return exitRefused
	}
	return exitError
}

// asksForJSON reports whether args have -log-format json. It is for arguments that
// could not be parsed, in which the flag may follow the mistake.
func asksForJSON(args []string) bool {
	for i, arg := range args {
		switch flag := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"); {
		case arg == "--":
			return false
		case flag == arg: // not a flag
		case flag == "log-format=json", flag == "log-format" && i+1 < len(args) && args[i+1] == "json":
			return true
		}
	}
	return false
}

// env returns an environment variable.
func (p *program) env(name string) string {
	if p.getenv == nil {
		return ""
	}
	return p.getenv(name)
}

// dispatch parses args and runs a command.
func (p *program) dispatch(ctx context.Context, args []string) error {
	name, help := "serve", ""
	if len(args) == 0 {
		help = "networkproxy -h"
	} else {
		switch first := args[0]; {
		case first == "-h" || first == "-help" || first == "--help":
			name = "help"
			args = args[1:]
		case first == "-version" || first == "--version":
			name = "version"
			args = args[1:]
		case !strings.HasPrefix(first, "-"):
			name = first
			args = args[1:]
		}
	}
	c, err := findCommand(name)
	if err != nil {
		return err
	}
	f, run := c.flagSet(p)
	err = parseFlags(f, args)
	if errors.Is(err, flag.ErrHelp) {
		return p.printHelp(c)
	}
	if err == nil {
		err = run(ctx)
	}
	if usage := (*usageError)(nil); errors.As(err, &usage) && usage.help == "" {
		usage.help = cmp.Or(help, "networkproxy "+name+" -h")
	}
	return err
}
