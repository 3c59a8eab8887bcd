// Networkproxy is the stand-alone program around the library: it serves the
// proxy that a configuration file describes until it is told to stop.
//
//	networkproxy -config config.toml
//
// Run it with -h for its flags. Its exit status is 0 after an orderly end, 1
// when something was wrong (the configuration, a port in use), and 2 when
// its flags were.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first signal asks for an orderly end; stop restores the default,
	// so that a second one ends the program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)

	p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, hangup: hangup}
	os.Exit(p.main(ctx, os.Args[1:]))
}
