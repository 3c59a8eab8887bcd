// Questions of -ask, which asks the user about hosts that no list names: on the terminal,
// or on the page of the admin API.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"example.com/networkproxy"
)

// Values of the flag -ask: where the user answers.
const (
	askTerminal = "terminal"
	askPage     = "page"
)

// addAskFlags defines the flags -ask and -ask-timeout. -ask has the given values, and
// means implied without a value.
func (c *configFlags) addAskFlags(f *flag.FlagSet, usage, implied string, values ...string) {
	c.ask = optional{values: values, implied: implied}
	f.Var(&c.ask, "ask", usage)
	f.DurationVar(&c.askTimeout, "ask-timeout", time.Minute, "`time` to answer a question of -ask, after which the request is refused; 0 means no limit")
}

// checkAsk returns a usageError if -ask is combined with -observe, or -ask-timeout is
// negative.
func (c *configFlags) checkAsk() error {
	switch {
	case c.ask.value == "":
		return nil
	case c.observe:
		return usagef("-ask and -observe exclude each other: -observe allows what -ask would ask about")
	case c.askTimeout < 0:
		return usagef("-ask-timeout is negative")
	}
	return nil
}

// startAsking makes c ask on the terminal until stop is called.
func (c *configFlags) startAsking() (stop func(), err error) {
	if err := c.checkAsk(); err != nil {
		return nil, err
	}
	a := newAsker(c.askTimeout)
	if a.console, err = openConsole(); err != nil {
		return nil, err
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	a.interrupts = interrupts
	c.decider = a.decide
	if c.learned != "" {
		a.always = func(host string, port uint16) error {
			// The answer holds even if the command no longer waits for it.
			ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
			defer cancel()
			return c.handle.Remember(ctx, networkproxy.Amendment{
				Action:  networkproxy.AmendAllow,
				Pattern: net.JoinHostPort(host, strconv.Itoa(int(port))),
				Comment: "run -ask",
			})
		}
	}
	return func() {
		signal.Stop(interrupts)
		a.console.close()
	}, nil
}

// saveTimeout bounds the wait for other processes that change the learned file.
const saveTimeout = 5 * time.Second

// errInterrupted ends a question when the user presses Ctrl-C.
var errInterrupted = errors.New("interrupted")

// asker asks the user about one target at a time. Its method decide is a
// PolicyDecider.
//
// It reads the terminal only while a question is open, because the command may
// read it as well.
type asker struct {
	console    *console
	timeout    time.Duration    // for an answer, from the moment the question is shown; 0 means no limit
	interrupts <-chan os.Signal // SIGINT

	// always allows a target from now on, in later runs as well. If it is nil, the
	// user cannot choose that.
	always func(host string, port uint16) error

	turn chan struct{} // holds one token while a call asks; guards answered

	// answered holds the decisions that last. A question that waits for its turn
	// while its target is decided is not shown.
	answered map[askedTarget]networkproxy.Decision
}

type askedTarget struct {
	host string
	port uint16
}

// newAsker returns an asker without a console.
func newAsker(timeout time.Duration) *asker {
	return &asker{timeout: timeout, turn: make(chan struct{}, 1), answered: make(map[askedTarget]networkproxy.Decision)}
}

// decide asks the user about a request.
func (a *asker) decide(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return networkproxy.Decision{}, ctx.Err()
	}
	target := askedTarget{req.Host, req.Port}
	if d, ok := a.answered[target]; ok {
		return d, nil
	}
	answer, err := a.ask(ctx, req)
	switch {
	case errors.Is(err, errInterrupted):
		return networkproxy.Deny("the user interrupted the question"), nil
	case errors.Is(err, context.DeadlineExceeded):
		return networkproxy.Deny("the user did not answer in time").For(0), nil
	case err != nil:
		return networkproxy.Decision{}, err
	case answer == "once":
		return networkproxy.Allow(), nil
	case answer == "no":
		a.answered[target] = networkproxy.Deny("the user said no").ForSession()
	case answer == "always" && a.save(req):
		a.answered[target] = networkproxy.Allow() // later requests match the new allowlist entry
	default:
		a.answered[target] = networkproxy.Allow().ForSession()
	}
	return a.answered[target], nil
}

// save allows the target of a request in later runs as well. If that fails, it
// tells the user and returns false.
func (a *asker) save(req networkproxy.PolicyRequest) bool {
	err := a.always(req.Host, req.Port)
	if err != nil {
		a.console.show("networkproxy: allowed for this run only: " + printable(err.Error()) + "\n")
	}
	return err == nil
}

// ask shows a question until it is answered. The error is errInterrupted, the cause
// of the end of ctx, context.DeadlineExceeded after the timeout, or an error of the
// terminal.
func (a *asker) ask(ctx context.Context, req networkproxy.PolicyRequest) (answer string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if a.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, a.timeout)
		defer stop()
	}
	select {
	case <-a.interrupts: // discard an interrupt from before the question
	default:
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-a.interrupts:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()

	a.console.discardInput() // the user typed it before the question
	a.console.show(question(req))
	choices, prompt := a.choices()
	for {
		a.console.show(prompt)
		line, err := a.console.readLine(ctx)
		if err != nil {
			outcome := "no longer needed"
			switch {
			case errors.Is(err, errInterrupted):
				outcome = "no"
			case errors.Is(err, context.DeadlineExceeded):
				outcome = "no answer in time: refused"
			}
			a.console.show("\n  " + outcome + "\n")
			return "", err
		}
		for _, choice := range choices {
			if line = strings.ToLower(strings.TrimSpace(line)); line == choice || line == choice[:1] {
				return choice, nil
			}
		}
	}
}

// choices returns the answers that the user can give, and the prompt for them.
func (a *asker) choices() (words []string, prompt string) {
	if a.always == nil {
		return []string{"once", "run", "no"}, "  Allow it [o]nce, for this [r]un, or [n]o? "
	}
	return []string{"once", "run", "always", "no"}, "  Allow it [o]nce, for this [r]un, [a]lways, or [n]o? "
}

// question describes a request. The command chooses the host and the method, so
// they are made safe to show.
func question(req networkproxy.PolicyRequest) string {
	what := string(req.Protocol)
	if req.Protocol == networkproxy.ProtocolHTTP {
		what += " " + req.Method
	}
	where := fmt.Sprintf("%s port %d", req.Host, req.Port)
	if req.Local {
		where += ", a service on this machine"
	}
	return fmt.Sprintf("\nnetworkproxy: the command wants to reach %s (%s).\n", printable(where), printable(what))
}

// printable removes the characters from s that a terminal would not print, such as
// control characters, and shortens a long s.
func printable(s string) string {
	const longest = 300 // no host name is longer
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return s
}

// maxAnswer is the length of the longest line that readLine returns whole.
const maxAnswer = 64

// readLine reads a line from the terminal. It also understands a terminal that the
// command has taken out of line mode. The error is errInterrupted, the cause of the
// end of ctx, or an error of the terminal.
func (c *console) readLine(ctx context.Context) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for {
		n, err := c.read(ctx, b)
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err != nil || n == 0 {
			return "", fmt.Errorf("cannot read the terminal: %w", err)
		}
		switch b[0] {
		case '\n', '\r':
			return string(line), nil
		case 0x03: // Ctrl-C without a signal
			return "", errInterrupted
		case '\b', 0x7f:
			line = line[:max(0, len(line)-1)]
		default:
			if len(line) < maxAnswer {
				line = append(line, b[0])
			}
		}
	}
}
