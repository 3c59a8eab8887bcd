// Agent is an agent host without a language model. It runs the commands of a
// conversation, several at a time, asks the user about each host that they want to
// reach, and shows the events of the proxy.
//
//	go run ./examples/agent 'curl http://example.com/ & curl http://example.org/' 'curl http://example.com/'
//
// Each argument is a turn of the conversation, which a language model would write:
// commands that run at the same time, separated by " & ". There is no shell.
// README.md shows a run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"example.com/networkproxy"
)

// conversation is the group of all sessions. A host with several conversations uses
// a name for each.
const conversation = "conversation 1"

func main() {
	log.SetFlags(0)
	if err := start(networkproxy.NewBuilder(), os.Args[1:]); err != nil {
		log.Fatal("agent: ", err)
	}
}

// start reads the arguments of the program and runs it until it ends or the user
// presses Ctrl-C.
func start(b *networkproxy.Builder, args []string) error {
	flags := flag.NewFlagSet("agent", flag.ExitOnError)
	learned := flags.String("learned", "", "`file` of the hosts that are always allowed (default: agent-example/learned.toml in the user's configuration directory)")
	flags.Parse(args) // exits after an error
	if flags.NArg() == 0 {
		return errors.New(`no command: give each turn as one argument, such as "curl -s https://example.com & npm test"`)
	}
	if *learned == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return fmt.Errorf("%w; name a file with -learned", err)
		}
		*learned = filepath.Join(dir, "agent-example", "learned.toml")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	return run(ctx, b.LearnedFile(*learned), newTerminal(os.Stdin, os.Stdout), flags.Args())
}

// host is an agent host with one conversation.
type host struct {
	user    *terminal
	handle  *networkproxy.Handle             // set before the first session is opened, and so before the first question
	answers map[string]networkproxy.Decision // of the conversation, by host; guarded by the turn of user
}

// run runs the turns of the conversation. The proxy lives as long as ctx, so it is
// the context of the program.
func run(ctx context.Context, b *networkproxy.Builder, user *terminal, turns []string) error {
	h := &host{user: user, answers: make(map[string]networkproxy.Decision)}
	b.Config(networkproxy.DefaultConfig()).Embedded() // it allows no hosts
	b.PolicyDecider(h.decide).DeciderTimeout(0)       // the user may think as long as the command waits
	b.OnEvent(h.showEvent)
	if program, err := exec.LookPath("networkproxy"); err == nil {
		b.ConnectHelper(program, "connect") // otherwise git over ssh bypasses the proxy
	}
	proxy, err := b.Build()
	if err != nil {
		return err
	}
	if h.handle, err = proxy.Run(ctx); err != nil {
		return err
	}
	for _, turn := range turns {
		if ctx.Err() == nil {
			h.runTurn(ctx, turn)
		}
	}
	err = errors.Join(context.Cause(ctx), h.handle.CloseGroup(conversation))
	ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(err, h.handle.Shutdown(ending))
}

// runTurn runs the commands of a turn at the same time, and shows their results in
// the order in which they end.
func (h *host) runTurn(ctx context.Context, turn string) {
	var running sync.WaitGroup
	for command := range strings.SplitSeq(turn, " & ") {
		if argv := strings.Fields(command); len(argv) > 0 {
			running.Go(func() { h.user.showResult(h.runTool(ctx, argv)) })
		}
	}
	running.Wait()
}

// runTool runs a command in a session of its own and returns the result for the
// language model.
func (h *host) runTool(ctx context.Context, argv []string) string {
	session, err := h.handle.OpenSession(ctx, networkproxy.SessionConfig{
		Group:       conversation,
		Attribution: networkproxy.Attribution{Command: strings.Join(argv, " ")},
	})
	if err != nil { // never run it without a session
		return fmt.Sprintln("the command was not run:", err)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = session.Environ(os.Environ())
	cmd.WaitDelay = time.Second // for processes that it leaves behind with its output open
	output, err := cmd.CombinedOutput()
	session.Close() // cuts the connections of these processes
	if err != nil {
		output = fmt.Appendln(output, "the command failed:", err)
	}
	return string(output) + session.Report()
}

// decide is the decider: it asks the user, unless the answer to a question that was
// open meanwhile is about the same host.
func (h *host) decide(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
	if err := h.user.take(ctx); err != nil {
		return networkproxy.Decision{}, err
	}
	defer h.user.release()
	if decision, ok := h.answers[req.Host]; ok {
		return decision, nil
	}
	question := fmt.Sprintf("%q\n  wants to reach %q port %d.\n", req.Command, req.Host, req.Port) // the command chose these
	answer, err := h.user.ask(ctx, question, "  Allow the host [o]nce, for this [c]onversation, [a]lways, or [n]o? ", "o", "c", "a", "n")
	switch {
	case err != nil && ctx.Err() == nil:
		return networkproxy.Deny(err.Error()), nil
	case err != nil:
		return networkproxy.Decision{}, err // nobody waits for the answer any more
	case answer == "o":
		return networkproxy.Allow(), nil // for identical requests that wait
	}
	decision := networkproxy.Allow()
	switch answer {
	case "n":
		decision = networkproxy.Deny("the user said no")
	case "a":
		h.remember(context.WithoutCancel(ctx), req) // even if the command has just ended
	}
	h.answers[req.Host] = decision.ForGroup().AnyPort() // for all commands, those that wait and later ones
	return h.answers[req.Host], nil
}

// remember allows the host of a request in later runs, too.
func (h *host) remember(ctx context.Context, req networkproxy.PolicyRequest) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := h.handle.Remember(ctx, networkproxy.Amendment{Action: networkproxy.AmendAllow, Pattern: req.Host, Comment: req.Command})
	if err != nil {
		h.user.print("allowed for this conversation only: %q\n", err)
	}
}

// showEvent shows the events that a user wants to see. An event can have text that
// the command chose.
func (h *host) showEvent(e networkproxy.Event) {
	switch e.Kind {
	case networkproxy.EventAllowed, networkproxy.EventRefused, networkproxy.EventFailed, networkproxy.EventCut:
		h.user.show("%s: %s %q port %d\n", e.SessionID, e.Kind, e.Host, e.Port)
	case networkproxy.EventSessionClosed:
		h.user.show("%s: closed after %q, %d bytes sent, %d received\n", e.SessionID, e.Command, e.Sent, e.Received)
	case networkproxy.EventDropped:
		h.user.show("%d events are missing\n", e.Dropped)
	}
}
