// Embed is the smallest agent host: it runs a command in a session, as an agent
// runs a tool, and prints the result that the language model would get. The result
// is the command's output, followed by the report of the session if the policy
// refused something.
//
//	go run ./examples/embed curl -sS https://example.com/ http://tracker.example/
//
// It allows example.com and its subdomains.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"example.com/networkproxy"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: embed COMMAND [ARG...]")
	}
	// The proxy lives as long as this context, so it is that of the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, networkproxy.NewBuilder(), os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, b *networkproxy.Builder, argv []string) error {
	config := networkproxy.DefaultConfig()
	config.Policy.AllowedDomains = []string{"**.example.com"}

	proxy, err := b.Config(config).Embedded().Build()
	if err != nil {
		return err
	}
	handle, err := proxy.Run(ctx)
	if err != nil {
		return err
	}
	defer handle.Close()

	fmt.Print(runTool(ctx, handle, argv))
	return nil
}

// runTool runs a command in a session of its own and returns the result for the
// language model.
func runTool(ctx context.Context, handle *networkproxy.Handle, argv []string) string {
	session, err := handle.OpenSession(ctx, networkproxy.SessionConfig{
		Attribution: networkproxy.Attribution{Command: strings.Join(argv, " ")},
	})
	if err != nil {
		return fmt.Sprintln("the command was not run:", err)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = session.Environ(os.Environ())
	output, err := cmd.CombinedOutput()
	session.Close() // cuts the connections of processes that the command left behind
	if err != nil {
		output = fmt.Appendln(output, "the command failed:", err)
	}
	return string(output) + session.Report()
}
