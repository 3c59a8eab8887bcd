// The table of commands. Help, completion and the tests of the pages use it.

package main

import (
	"context"
	"flag"
	"io"

	"example.com/networkproxy/internal/typo"
)

// command is one of the program's commands.
type command struct {
	name     string
	operands string // for the usage line, such as "TARGET..."
	summary  string // one sentence without its period
	text     string // more lines for the help of the command
	example  string // a command line

	// setup defines the flags of the command on f. It returns the function that
	// runs the command after f has parsed the arguments.
	setup func(p *program, f *flag.FlagSet) func(ctx context.Context) error

	// For completion: the words that an operand can be, or whether the operand is a
	// file or the operands are another command.
	words       func() []string
	file        bool
	commandLine bool
}

// commands returns the table. To add a command, add a row here, in README.md, in
// docs/program.md and in the comment of package main.
func commands() []command {
	return []command{
		{
			name:    "serve",
			summary: "serves the proxy until SIGINT or SIGTERM; SIGHUP reloads (the default command)",
			example: "networkproxy -config config.toml",
			setup:   (*program).serve,
		},
		{
			name: "run", operands: "[--] COMMAND [ARG...]",
			summary: "runs a command in a session of its own, and prints its refused requests",
			text: "COMMAND has an environment that sends its requests through a proxy of its own.\n" +
				"The exit status is that of COMMAND, 126 if COMMAND cannot be executed, and 127\n" +
				"if it was not found.\n\n" +
				"Without -fence, a COMMAND that ignores the proxy variables connects directly. With\n" +
				"-fence, it has no other network than the proxy, and needs no proxy variables. If\n" +
				"this machine permits no fence, COMMAND is not started, and the exit status is 126.",
			example:     "networkproxy run -allow api.example.com -allow '*.npmjs.org' -- npm test",
			setup:       (*program).run,
			commandLine: true,
		},
		{
			name: "check", operands: "TARGET...",
			summary: "explains how the policy would treat targets, without contacting them",
			text: "A TARGET is a URL or host:port. socks5://host:port and udp://host:port stand for\n" +
				"SOCKS5 requests. The exit status is 0 if all targets are allowed, and 3 otherwise.",
			example: "networkproxy check -config config.toml https://api.example.com/",
			setup:   (*program).check,
		},
		{
			name:    "events",
			summary: "shows what a running proxy does: requests, refusals, questions and changes",
			text: "Prints the events that the admin API still has, and with -follow those to come. The\n" +
				"admin API begins to keep events with its first viewer: this command or the page.",
			example: "networkproxy events -follow",
			setup:   (*program).events,
		},
		{
			name: "init", operands: "[FILE]",
			summary: "writes a configuration to start from",
			text: "FILE is by default the one that the other commands read without -config. - means\n" +
				"standard output. An existing file is not changed.",
			example: "networkproxy init -preset github -preset npm",
			file:    true,
			setup:   (*program).initConfig,
		},
		{
			name:    "ca",
			summary: "writes a certificate authority for TLS inspection",
			text: "Without one of its own, the proxy makes a new authority at each start and keeps its\n" +
				"key in memory. Existing files are not changed.",
			example: "networkproxy ca -out ~/.config/networkproxy/ca",
			setup:   (*program).ca,
		},
		{
			name:    "selftest",
			summary: "tests on this machine that the promises hold",
			text: "Runs the proxy on free ports, sends it requests that it must refuse, and prints\n" +
				"the results. Nothing leaves the machine.",
			example: "networkproxy selftest -allow api.example.com",
			setup:   (*program).selftest,
		},
		{
			name:    "fence-check",
			summary: "tests whether this machine permits the fence of run -fence",
			text: "Starts a process in a fence, lets it try to get out, and prints what held. The exit\n" +
				"status is 0 if the level can be had, and 1 otherwise.",
			example: "networkproxy fence-check -json",
			setup:   (*program).fenceCheck,
		},
		{
			name: "connect", operands: "HOST:PORT",
			summary: "opens a tunnel from standard input and output, for ssh's ProxyCommand",
			example: "ssh -o 'ProxyCommand=networkproxy connect %h %p' git@github.com",
			setup:   (*program).connect,
		},
		{
			name: "completion", operands: "SHELL",
			summary: "prints a script that completes command lines in bash, zsh or fish",
			text: "To load the script, add one of these lines to the file that the shell reads at\n" +
				"its start:\n\n" +
				"  source <(networkproxy completion bash)    # in ~/.bashrc\n" +
				"  source <(networkproxy completion zsh)     # in ~/.zshrc, after compinit\n" +
				"  networkproxy completion fish | source     # in ~/.config/fish/config.fish",
			example: "networkproxy completion bash",
			setup:   (*program).completion,
			words:   shells,
		},
		{
			name:    "version",
			summary: "prints the version of the program",
			example: "networkproxy version",
			setup:   (*program).version,
		},
		{
			name: "help", operands: "[COMMAND]",
			summary: "describes the program, or one command and its flags",
			example: "networkproxy help run",
			setup:   (*program).help,
			words:   commandNames,
		},
	}
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

// findCommand returns the command with a name.
func findCommand(name string) (command, error) {
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
	}
	hint := ""
	if like := typo.Closest(name, commandNames()); like != "" {
		hint = ", did you mean " + like + "?"
	}
	return command{}, &usageError{problem: "unknown command " + quote(name) + hint, help: "networkproxy -h"}
}

// flagSet returns the flags of c, and the function that runs c after the flags
// were parsed.
func (c command) flagSet(p *program) (*flag.FlagSet, func(ctx context.Context) error) {
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // parseFlags returns the error
	f.Usage = func() {}
	return f, c.setup(p, f)
}

// usage returns the usage line of c.
func (c command) usage() string {
	usage := "networkproxy " + c.name
	if c.name == "serve" {
		usage = "networkproxy [serve]"
	}
	f, _ := c.flagSet(new(program))
	if len(flagsOf(f)) > 0 {
		usage += " [flags]"
	}
	if c.operands != "" {
		usage += " " + c.operands
	}
	return usage
}

// statusRow describes an exit status.
type statusRow struct{ status, meaning string }

// exitStatuses returns the exit statuses of the program.
func exitStatuses() []statusRow {
	return []statusRow{
		{"0", "success"},
		{"1", "error, such as an invalid configuration, a port in use, a failed self-test or no fence for fence-check"},
		{"2", "usage error: an unknown flag, or a missing or unexpected argument"},
		{"3", "from check: the policy would refuse a target"},
		{"126", "from run: the command cannot be executed, or there is no fence for it"},
		{"127", "from run: the command was not found"},
		{"128+n", "from run: signal n ended the command"},
		{"other", "from run: the exit status of the command"},
	}
}
