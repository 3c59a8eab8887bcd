// Ask is a minimal agent host. It runs a command in a session, asks the user on
// the terminal about every host that the command wants to reach, and prints the
// refused requests at the end.
//
//	go run ./examples/ask curl -sS https://example.com/
//
// Its allowlist is empty, so it asks about every public host. Local and private
// addresses are refused without a question.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"example.com/networkproxy"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: ask COMMAND [ARG...]")
	}
	// The command reads standard input, so the user answers on the terminal.
	// Without a terminal every question is denied.
	var terminal io.ReadWriter = struct {
		io.Reader
		io.Writer
	}{strings.NewReader(""), os.Stderr}
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		defer tty.Close()
		terminal = tty
	}
	err := run(context.Background(), networkproxy.NewBuilder(), os.Args[1:], terminal)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		log.Fatal(err)
	}
}

// run runs a command until it ends, and asks its questions on terminal.
func run(ctx context.Context, b *networkproxy.Builder, argv []string, terminal io.ReadWriter) error {
	proxy, err := b.Config(networkproxy.Config{}).
		Embedded(). // on free ports, for sessions only, without an admin API
		PolicyDecider(newAsker(terminal).decide).
		Build()
	if err != nil {
		return err
	}
	handle, err := proxy.Run(ctx)
	if err != nil {
		return err
	}
	defer handle.Close()

	// The host names the command. A command cannot be trusted to name itself.
	session, err := handle.OpenSession(ctx, networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: strings.Join(argv, " ")}})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = session.Environ(os.Environ())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	session.Close() // cuts the connections of processes that the command left behind

	if blocked := session.Blocked(); len(blocked) > 0 {
		fmt.Fprintln(terminal, "refused:")
		for _, b := range blocked {
			fmt.Fprintf(terminal, "  %s port %d (%s): %s\n", b.Host, b.Port, b.Protocol, b.Reason)
		}
	}
	return err
}

// asker asks the user, one question at a time.
type asker struct {
	terminal io.Writer
	lines    <-chan string // lines typed by the user; closed at the end of input
	turn     chan struct{} // holds one token while a question is open
	never    map[string]bool
}

func newAsker(terminal io.ReadWriter) *asker {
	lines := make(chan string)
	go func() { // runs until the process exits, because a read from a terminal cannot be interrupted
		defer close(lines)
		for s := bufio.NewScanner(terminal); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return &asker{terminal: terminal, lines: lines, turn: make(chan struct{}, 1), never: make(map[string]bool)}
}

// decide is the proxy's decider.
func (a *asker) decide(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return networkproxy.Decision{}, ctx.Err()
	}
	target := net.JoinHostPort(req.Host, strconv.Itoa(int(req.Port)))
	if a.never[target] {
		return networkproxy.Deny("the user said never"), nil
	}
	select {
	case <-a.lines: // typed before the question
	default:
	}
	fmt.Fprintf(a.terminal, "%s\n  wants to reach %s port %d over %s.\n", req.Command, req.Host, req.Port, req.Protocol)
	for {
		fmt.Fprint(a.terminal, "  Allow [o]nce, for this [s]ession, or [n]ever? ")
		select {
		case line, ok := <-a.lines:
			switch {
			case !ok:
				fmt.Fprintln(a.terminal)
				return networkproxy.Deny("no user to ask"), nil
			case line == "o":
				return networkproxy.Allow(), nil
			case line == "s":
				return networkproxy.Allow().ForSession(), nil
			case line == "n":
				a.never[target] = true
				return networkproxy.Deny("the user said never"), nil
			}
		case <-ctx.Done(): // the client has gone, or the user did not answer in time
			fmt.Fprintln(a.terminal)
			return networkproxy.Decision{}, ctx.Err()
		}
	}
}
