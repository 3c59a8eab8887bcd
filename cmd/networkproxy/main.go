// Networkproxy runs the proxy of package example.com/networkproxy as a program.
//
//	networkproxy run -allow api.example.com -- npm test
//	networkproxy -config config.toml
//
// Its commands are:
//
//	serve       serves the proxy until SIGINT or SIGTERM; SIGHUP reloads (the default command)
//	run         runs a command in a session of its own, and prints its refused requests
//	check       explains how the policy would treat targets, without contacting them
//	events      shows what a running proxy does: requests, refusals, questions and changes
//	init        writes a configuration to start from
//	ca          writes a certificate authority for TLS inspection
//	selftest    tests on this machine that the promises hold
//	fence-check tests whether this machine permits the fence of run -fence
//	connect     opens a tunnel from standard input and output, for ssh's ProxyCommand
//	completion  prints a script that completes command lines in bash, zsh or fish
//	version     prints the version of the program
//	help        describes the program, or one command and its flags
//
// A command with -h prints its flags. The exit statuses are:
//
//	0       success
//	1       error, such as an invalid configuration, a port in use, a failed
//	        self-test or no fence for fence-check
//	2       usage error: an unknown flag, or a missing or unexpected argument
//	3       from check: the policy would refuse a target
//	126     from run: the command cannot be executed, or there is no fence for it
//	127     from run: the command was not found
//	128+n   from run: signal n ended the command
//	other   from run: the exit status of the command
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
