// The run command runs a command in a session of its own and then prints the
// requests that the policy refused.

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
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

func (p *program) run(f *flag.FlagSet) func(context.Context) error {
	config := addConfigFlags(p, f)
	config.addLimitFlag(f)
	config.addTokenFlag(f)
	config.addAuditFlag(f)
	config.logLevel.value = "warn" // the command writes to standard error as well
	f.Lookup("log-level").DefValue = "warn"
	f.BoolVar(&config.limited, "limited", false, "let the command only read: GET, HEAD, OPTIONS and git fetch, over HTTPS as well (turns -mitm on)")
	f.Var(credentialFlag(&config.credential), "credential", "`name` of a credential that the command uses without seeing it, see docs/credentials.md; its hosts are allowed; may be repeated")
	config.addAskFlags(f, "ask about hosts that no list names, on the terminal; -ask=page asks on a page in the browser", askTerminal, askTerminal, askPage)
	fence := addFenceFlags(f)
	var summary summaryFlags
	f.BoolVar(&summary.quiet, "quiet", false, "do not print the refused requests")
	f.BoolVar(&summary.json, "json", false, "print a summary as the last line, as one JSON object, instead of the refused requests")
	f.StringVar(&summary.file, "json-file", "", "`file` to write the JSON summary to")
	return func(ctx context.Context) error {
		if f.NArg() == 0 {
			return usagef("no command to run")
		}
		if err := fence.check(f.Args()); err != nil {
			return err
		}
		return p.runCommand(ctx, config, fence, summary, f.Args())
	}
}

// runCommand runs the command argv in a session, and then prints a summary.
func (p *program) runCommand(ctx context.Context, config *configFlags, fenced *fenceFlags, flags summaryFlags, argv []string) (err error) {
	if config.ask.value == askTerminal {
		stop, err := config.startAsking()
		if err != nil {
			return err
		}
		defer stop()
	}
	// Open the file now, because the command may run for hours, and could replace
	// the file by a link.
	var file *os.File
	if flags.file != "" {
		if err := p.checkOutput(config, "-json-file", flags.file); err != nil {
			return err
		}
		if file, err = os.OpenFile(flags.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return fmt.Errorf("-json-file: %w", err)
		}
		defer file.Close()
	}
	defer config.audit.close() // after the end of the proxy
	handle, session, err := p.openSession(ctx, config, argv)
	if err != nil {
		return err
	}
	defer handle.Close()

	if (hasSecrets(handle.Config()) || config.ask.value == askPage) && fenced.level.value == "" {
		if err := makeUndumpable(); err != nil {
			return fmt.Errorf("cannot keep the command from reading secrets in this process: %w", err)
		}
	}
	l, err := fenced.launcher(ctx, session)
	if err != nil {
		return err
	}
	err = p.execute(ctx, argv, l)
	session.Close()
	summary := summarize(handle, session, config.observe, statusOf(err))
	if l.fence != nil {
		report := l.fence.Report()
		summary.Fence = &report
	}
	if file != nil {
		if err := errors.Join(summary.write(file), file.Close()); err != nil {
			p.report(slog.LevelError, fmt.Sprintf("-json-file: %v", err))
		}
	}
	if !flags.quiet && !flags.json {
		p.printRefused(summary, config.checkCommand(summary.Refusals))
	}
	if config.observe && !flags.json {
		p.printSuggestion(handle)
	}
	if flags.json {
		handle.Close() // logs the last lines
		p.log.Flush()
		summary.write(p.stderr) // an error cannot be reported anywhere
	}
	return err
}

// hasSecrets reports whether a proxy with this configuration holds secrets of the user.
func hasSecrets(c networkproxy.Config) bool {
	return len(c.CredentialProviders) > 0 || slices.ContainsFunc(c.MITMHooks, func(h networkproxy.MITMHook) bool { return len(h.InjectRequestHeaders) > 0 })
}

// openSession starts a proxy and opens a session for one command. It listens on
// any free ports, so that several can run at once. The shared listeners refuse
// requests without the session's token.
func (p *program) openSession(ctx context.Context, config *configFlags, argv []string) (*networkproxy.Handle, *networkproxy.Session, error) {
	b, err := p.builder(config)
	if err != nil {
		return nil, nil, err
	}
	b.HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").SOCKSAddr("127.0.0.1:0").RequireSession()
	if config.tokenFile == "" {
		b.AdminToken(rand.Text()) // otherwise the command could change its own policy
	}
	if self, err := os.Executable(); err == nil {
		b.ConnectHelper(self, "connect")
	}
	proxy, err := build(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	if err := config.audit.open(); err != nil {
		return nil, nil, err
	}
	p.held.hold()
	defer p.held.release()
	handle, err := proxy.Run(context.WithoutCancel(ctx)) // a signal ends the command before the proxy
	if err != nil {
		return nil, nil, err
	}
	config.handle = handle // before the command can cause a question
	session, err := handle.OpenSession(context.WithoutCancel(ctx), config.session(argv))
	if err == nil {
		_, err = session.CABundle() // without it, the command's clients would refuse the proxy's certificates
	}
	if err != nil {
		return nil, nil, errors.Join(err, handle.Close())
	}
	p.printWarnings(handle)
	if config.ask.value == askPage {
		p.report(slog.LevelInfo, "answer the questions of this command on "+handle.PageURL()+" (the link can be used once)")
	}
	p.held.release(handle.Warnings()...)
	return handle, session, nil
}

// session returns the settings of the session of a command.
func (c *configFlags) session(argv []string) networkproxy.SessionConfig {
	s := networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: strings.Join(argv, " ")}}
	if c.limited {
		s.Mode = networkproxy.ModeLimited
	}
	return s
}

// execute runs a command until it ends. It returns the command's exit status as an
// exitStatus.
func (p *program) execute(ctx context.Context, argv []string, l *launcher) error {
	if err := ctx.Err(); err != nil {
		return err // a signal arrived before the start
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = l.environ(os.Environ())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.stdin, p.stdout, p.stderr

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := l.start(cmd); err != nil {
		if p.explainNoFence(err) {
			return exitStatus(exitCannotRun)
		}
		p.report(slog.LevelError, err.Error())
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return exitStatus(exitNotFound)
		}
		return exitStatus(exitCannotRun)
	}
	if l.fence != nil {
		p.warnOfFence(l.fence.Report())
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
			return commandStatus(err)
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

// commandStatus converts the error of exec.Cmd.Wait to an exitStatus.
func commandStatus(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err // nil, or a stream could not be copied
	}
	if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return exitStatus(exitSignal + int(w.Signal()))
	}
	return exitStatus(exit.ExitCode())
}
