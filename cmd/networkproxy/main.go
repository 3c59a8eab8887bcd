// Networkproxy runs the proxy of package
// example.com/networkproxy as a program. Without the name of a command it
// serves the proxy that a configuration file describes, until SIGINT or
// SIGTERM.
//
//	networkproxy -config config.toml
//
// Run it with -h for its flags and commands, and a command with -h for its
// own flags. The exit statuses are:
//
//	0      success
//	1      error, such as an invalid configuration, a port in use or a failed
//	       self-test
//	2      usage error: an unknown flag, or a missing or unexpected argument
//	3      check: the policy would refuse a target
//	126    run: the command cannot be executed
//	127    run: the command was not found
//	128+n  run: signal n ended the command
//
// If run could start the command, its exit status is that of the command.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first signal begins an orderly shutdown. stop restores the default
	// action, so that a second signal ends the program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)

	p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, hangup: hangup}
	os.Exit(p.main(ctx, os.Args[1:]))
}
