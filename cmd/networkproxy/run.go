// The run command: one command in a session of its own, and then what the
// policy refused it.

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"example.com/networkproxy"
)

// Exit statuses of run where the command has none of its own: those of env(1)
// and the shells.
const (
	exitCannotRun = 126
	exitNotFound  = 127
	exitSignal    = 128 // and the number of the signal that ended it
)

// exitStatus is an error that says no more than how to exit.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func (p *program) run(ctx context.Context, args []string) error {
	f := p.newFlagSet("run", "networkproxy run -config FILE [flags] -- COMMAND [ARG...]\n\n"+
		"Runs COMMAND with an environment that leads it through a proxy of its own, and then\n"+
		"says on standard error what was refused. The exit status is that of COMMAND; 126 and\n"+
		"127 say that it cannot be run or was not found. It is not a sandbox: a COMMAND that\n"+
		"does not heed its environment connects by itself.")
	config := addConfigFlags(f)
	quiet := f.Bool("quiet", false, "do not say what was refused")
	level := f.Lookup("log-level")
	level.DefValue = "warn" // standard error is the command's
	level.Value.Set(level.DefValue)
	if err := parseFlags(f, args); err != nil {
		return err
	}
	argv := f.Args()
	if len(argv) == 0 {
		return p.usageError(f, "no command to run")
	}
	handle, session, err := p.openSession(ctx, config, argv, f)
	if err != nil {
		return err
	}
	defer handle.Close()

	err = p.execute(ctx, argv, session.Environ(os.Environ()))
	session.Close()
	if !*quiet {
		printRefused(p.stderr, session.Blocked())
	}
	if *config.observe {
		printSuggestion(p.stderr, handle.Suggest())
	}
	return err
}

// openSession starts a proxy for one command. Its ports are any free ones, so
// that it gets along with others, and nothing but the session is of use to
// the command.
func (p *program) openSession(ctx context.Context, config *configFlags, argv []string, f *flag.FlagSet) (*networkproxy.Handle, *networkproxy.Session, error) {
	b, err := p.builder(f, config)
	if err != nil {
		return nil, nil, err
	}
	b.HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").SOCKSAddr("127.0.0.1:0").RequireSession()
	if *config.tokenFile == "" {
		b.AdminToken(rand.Text()) // or the command could change its own policy
	}
	if self, err := os.Executable(); err == nil {
		b.ConnectHelper(self, "connect")
	}
	proxy, err := build(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	p.held.hold()
	defer p.held.release()
	handle, err := proxy.Run(context.WithoutCancel(ctx)) // the command ends first
	if err != nil {
		return nil, nil, err
	}
	session, err := handle.OpenSession(context.WithoutCancel(ctx), networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: strings.Join(argv, " ")}})
	if err != nil {
		return nil, nil, errors.Join(err, handle.Close())
	}
	printWarnings(p.stderr, handle)
	p.held.release(handle.Warnings()...)
	return handle, session, nil
}

// execute runs a command to its end. The error is its exit status.
func (p *program) execute(ctx context.Context, argv, env []string) error {
	if err := ctx.Err(); err != nil {
		return err // told to stop before it began
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.stdin, p.stdout, p.stderr

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(p.stderr, "networkproxy: %v\n", err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return exitStatus(exitNotFound)
		}
		return exitStatus(exitCannotRun)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	terminal := hasTerminal()
	for {
		select {
		case s := <-signals:
			// What a terminal sends, it sends to the command as well.
			if !terminal || s != os.Interrupt && s != syscall.SIGQUIT {
				cmd.Process.Signal(s) // it may have ended meanwhile
			}
		case err := <-ended:
			return statusOf(err)
		}
	}
}

// hasTerminal reports whether this process has a controlling terminal.
func hasTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

// statusOf is the exit status of a command that has run.
func statusOf(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err // nil, or its streams could not be copied
	}
	if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return exitStatus(exitSignal + int(w.Signal()))
	}
	return exitStatus(exit.ExitCode())
}

// printRefused says what was refused, each target and reason once.
func printRefused(w io.Writer, blocked []networkproxy.BlockedRequest) {
	if len(blocked) == 0 {
		return
	}
	counts := make(map[string]int)
	for _, b := range blocked {
		counts[blockedLine(b)]++
	}
	lines := make([]string, 0, len(counts))
	for line := range counts {
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	fmt.Fprintf(w, "networkproxy: refused %s of this command:\n", requestCount(len(blocked)))
	for _, line := range lines {
		fmt.Fprintf(w, "  %5d  %s\n", counts[line], line)
	}
	fmt.Fprintln(w, "networkproxy: \"networkproxy check -config FILE URL\" says why, and what could be changed")
}

// printSuggestion prints the allowlist that would have let the command do what
// it did while observing, as TOML to be pasted.
func printSuggestion(w io.Writer, allowed []string) {
	if len(allowed) == 0 {
		fmt.Fprintln(w, "networkproxy: observed nothing: the command reached no host through the proxy")
		return
	}
	fmt.Fprintln(w, "networkproxy: this allowlist would have been enough. Read it before you use it, because a command that was tricked reaches out, too:")
	fmt.Fprintln(w, "[network_proxy.policy]\nallowed_domains = [")
	for _, entry := range allowed {
		fmt.Fprintf(w, "  %q,\n", entry)
	}
	fmt.Fprintln(w, "]")
}

// blockedLine is one line of the summary.
func blockedLine(b networkproxy.BlockedRequest) string {
	line := fmt.Sprintf("%s port %d  %s  %s", b.Host, b.Port, b.Protocol, b.Reason)
	if b.Rule.Pattern != "" {
		line += fmt.Sprintf(" (%s)", b.Rule.Pattern)
	}
	return line
}

func requestCount(n int) string {
	if n == 1 {
		return "one request"
	}
	return fmt.Sprintf("%d requests", n)
}
