// The run command runs a command in a session of its own and then prints the
// requests that the policy refused.

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

// Exit statuses of run when the command does not return one. Shells and env(1)
// use the same.
const (
	exitCannotRun = 126
	exitNotFound  = 127
	exitSignal    = 128 // plus the number of the signal that ended the command
)

// exitStatus is an error that stands for an exit status and is not printed.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func (p *program) run(ctx context.Context, args []string) error {
	f := p.newFlagSet("run", "networkproxy run [-config FILE] [-allow PATTERN]... [flags] -- COMMAND [ARG...]\n"+
		"example: networkproxy run -allow api.example.com -allow '*.npmjs.org' -- npm test\n\n"+
		"Runs COMMAND with an environment that sends it through a proxy of its own, and then\n"+
		"prints the refused requests on standard error. The exit status is that of COMMAND,\n"+
		"126 if COMMAND cannot be executed, and 127 if it was not found. This is not a sandbox:\n"+
		"a COMMAND that ignores the proxy variables connects directly.")
	config := addConfigFlags(f)
	quiet := f.Bool("quiet", false, "do not print the refused requests")
	level := f.Lookup("log-level")
	level.DefValue = "warn" // the command writes to standard error as well
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

// openSession starts a proxy and opens a session for one command. It listens on
// any free ports, so that several can run at once. The shared listeners refuse
// requests without the session's token.
func (p *program) openSession(ctx context.Context, config *configFlags, argv []string, f *flag.FlagSet) (*networkproxy.Handle, *networkproxy.Session, error) {
	b, err := p.builder(f, config)
	if err != nil {
		return nil, nil, err
	}
	b.HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").SOCKSAddr("127.0.0.1:0").RequireSession()
	if *config.tokenFile == "" {
		b.AdminToken(rand.Text()) // otherwise the command could change its own policy
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
	handle, err := proxy.Run(context.WithoutCancel(ctx)) // a signal ends the command before the proxy
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

// execute runs a command until it ends. It returns the command's exit status as an
// exitStatus.
func (p *program) execute(ctx context.Context, argv, env []string) error {
	if err := ctx.Err(); err != nil {
		return err // a signal arrived before the start
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
			// A terminal sends its signals to the command as well.
			if !terminal || s != os.Interrupt && s != syscall.SIGQUIT {
				cmd.Process.Signal(s) // fails if the command has just ended
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

// statusOf converts the error of exec.Cmd.Wait to an exitStatus.
func statusOf(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err // nil, or a stream could not be copied
	}
	if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return exitStatus(exitSignal + int(w.Signal()))
	}
	return exitStatus(exit.ExitCode())
}

// printRefused prints each refused target and reason once, with its count.
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
	fmt.Fprintf(w, "networkproxy: refused %s from this command:\n", requestCount(len(blocked)))
	for _, line := range lines {
		fmt.Fprintf(w, "  %5d  %s\n", counts[line], line)
	}
	fmt.Fprintln(w, "networkproxy: \"networkproxy check\" with the same -config, -allow and -deny, and the URL, explains a refusal and what would allow the request")
}

// printSuggestion prints, as TOML, an allowlist that covers the hosts that the
// command reached while observing.
func printSuggestion(w io.Writer, allowed []string) {
	if len(allowed) == 0 {
		fmt.Fprintln(w, "networkproxy: nothing to suggest: the command reached no host through the proxy")
		return
	}
	fmt.Fprintln(w, "networkproxy: this allowlist covers the observed requests. Review it before use: a command that was tricked may have reached hosts it should not:")
	fmt.Fprintln(w, "[network_proxy.policy]\nallowed_domains = [")
	for _, entry := range allowed {
		fmt.Fprintf(w, "  %q,\n", entry)
	}
	fmt.Fprintln(w, "]")
}

// blockedLine returns a line of the summary, without its count.
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
