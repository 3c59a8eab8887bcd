// The completion command prints a script for a shell. The scripts are made from
// the table of commands and their flags.

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// shells returns the names of the shells that have a script.
func shells() []string { return []string{"bash", "zsh", "fish"} }

func (p *program) completion(f *flag.FlagSet) func(context.Context) error {
	return func(context.Context) error {
		if f.NArg() == 0 {
			return usagef("name a shell: %s", alternatives(shells()))
		}
		if f.NArg() > 1 {
			return usagef("unexpected argument %s", quote(f.Arg(1)))
		}
		var script string
		switch f.Arg(0) {
		case "bash":
			script = bashScript(completedCommands())
		case "zsh":
			script = zshScript(completedCommands())
		case "fish":
			script = fishScript(completedCommands())
		default:
			return usagef("no completion for %s: the shells are %s", quote(f.Arg(0)), strings.Join(shells(), ", "))
		}
		_, err := io.WriteString(p.stdout, script)
		return err
	}
}

// completedCommand describes a command for a script.
type completedCommand struct {
	name, summary string
	flags         []completedFlag
	words         []string // what an operand can be
	file          bool     // the operand is a path
	commandLine   bool     // the operands are another command
}

// completedFlag describes a flag for a script.
type completedFlag struct {
	name, summary string
	value         string   // the name of the value; empty for a switch
	words         []string // what the value can be
	file          bool     // the value is a path
}

func completedCommands() []completedCommand {
	var all []completedCommand
	for _, c := range commands() {
		one := completedCommand{name: c.name, summary: c.summary, file: c.file, commandLine: c.commandLine}
		if c.words != nil {
			one.words = c.words()
		}
		flags, _ := c.flagSet(new(program))
		for _, f := range flagsOf(flags) {
			value, usage := flag.UnquoteUsage(f)
			known := completedFlag{name: f.Name, summary: briefly(usage), value: value, file: wantsFile(f)}
			if w, ok := f.Value.(interface{ words() []string }); ok {
				known.words = w.words()
			}
			one.flags = append(one.flags, known)
		}
		all = append(all, one)
	}
	return all
}

// briefly returns the first clause of a description.
func briefly(text string) string {
	for _, end := range []string{"; ", " (", ", "} {
		text, _, _ = strings.Cut(text, end)
	}
	return text
}

// shellQuote quotes s for bash, zsh and fish.
func shellQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `'\''`).Replace(s) + "'"
}

// bashScript returns the script for bash. Version 3.2, which macOS has, lacks
// mapfile and compopt.
func bashScript(commands []completedCommand) string {
	var values, replies, flags, operands strings.Builder
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
		var own, withValue []string
		for _, f := range c.flags {
			own = append(own, "-"+f.name)
			if f.value == "" {
				continue
			}
			withValue = append(withValue, c.name+":"+f.name)
			switch {
			case f.file:
				fmt.Fprintf(&replies, "\t\t%s:%s) _networkproxy_files \"$current\" ;;\n", c.name, f.name)
			case len(f.words) > 0:
				fmt.Fprintf(&replies, "\t\t%s:%s) _networkproxy_words %s \"$current\" ;;\n", c.name, f.name, shellQuote(strings.Join(f.words, " ")))
			}
		}
		if len(withValue) > 0 {
			fmt.Fprintf(&values, "\t%s) return 0 ;;\n", strings.Join(withValue, " | "))
		}
		fmt.Fprintf(&flags, "\t\t%s) _networkproxy_words %s \"$current\" ;;\n", c.name, shellQuote(strings.Join(own, " ")))
		switch {
		case len(c.words) > 0:
			fmt.Fprintf(&operands, "\t%s) _networkproxy_words %s \"$current\" ;;\n", c.name, shellQuote(strings.Join(c.words, " ")))
		case c.file:
			fmt.Fprintf(&operands, "\t%s) _networkproxy_files \"$current\" ;;\n", c.name)
		case c.commandLine:
			fmt.Fprintf(&operands, "\t%s) _networkproxy_command \"$operand\" \"$current\" ;;\n", c.name)
		}
	}
	return strings.NewReplacer(
		"@names@", strings.Join(names, " "),
		"\t@values@\n", values.String(),
		"\t\t@replies@\n", replies.String(),
		"\t\t@flags@\n", flags.String(),
		"\t@operands@\n", operands.String(),
	).Replace(bashTemplate)
}

// zshScript returns the script for zsh.
func zshScript(commands []completedCommand) string {
	var names, cases strings.Builder
	describe := strings.NewReplacer(`[`, `\[`, `]`, `\]`, `:`, `\:`)
	for _, c := range commands {
		fmt.Fprintf(&names, "\t\t%s\n", zshQuote(c.name+":"+c.summary))
		fmt.Fprintf(&cases, "\t(%s)\n\t\t_arguments -S -A '-*'", c.name)
		for _, f := range c.flags {
			spec := fmt.Sprintf("*-%s[%s]", f.name, describe.Replace(f.summary))
			switch {
			case f.value == "":
			case f.file:
				spec += ":" + f.value + ":_files"
			case len(f.words) > 0:
				spec += ":" + f.value + ":(" + strings.Join(f.words, " ") + ")"
			default:
				spec += ":" + describe.Replace(f.value) + ": "
			}
			fmt.Fprintf(&cases, " \\\n\t\t\t%s", zshQuote(spec))
		}
		switch {
		case len(c.words) > 0:
			fmt.Fprintf(&cases, " \\\n\t\t\t%s", zshQuote("1:operand:("+strings.Join(c.words, " ")+")"))
		case c.file:
			cases.WriteString(" \\\n\t\t\t'1:file:_files'")
		case c.commandLine:
			cases.WriteString(" \\\n\t\t\t'(-)1:command:_command_names -e' '*::argument:_normal'")
		}
		cases.WriteString("\n\t\t;;\n")
	}
	return strings.NewReplacer("\t\t@names@\n", names.String(), "\t@cases@\n", cases.String()).Replace(zshTemplate)
}

// zshQuote quotes s for zsh, in which a backslash between quotes is literal.
func zshQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// fishScript returns the script for fish.
func fishScript(commands []completedCommand) string {
	var b strings.Builder
	var withValue []string
	for _, c := range commands {
		fmt.Fprintf(&b, "complete -c networkproxy -n __networkproxy_first -a %s -d %s\n", c.name, shellQuote(c.summary))
		condition := shellQuote("__networkproxy_in " + c.name)
		for _, f := range c.flags {
			fmt.Fprintf(&b, "complete -c networkproxy -n %s -o %s -d %s", condition, f.name, shellQuote(f.summary))
			switch {
			case f.value == "":
			case f.file:
				b.WriteString(" -r -F")
			case len(f.words) > 0:
				fmt.Fprintf(&b, " -x -a %s", shellQuote(strings.Join(f.words, " ")))
			default:
				b.WriteString(" -x")
			}
			b.WriteByte('\n')
			if f.value != "" && !slices.Contains(withValue, f.name) {
				withValue = append(withValue, f.name)
			}
		}
		switch {
		case len(c.words) > 0:
			fmt.Fprintf(&b, "complete -c networkproxy -n %s -a %s\n", condition, shellQuote(strings.Join(c.words, " ")))
		case c.file:
			fmt.Fprintf(&b, "complete -c networkproxy -n %s -F\n", condition)
		case c.commandLine:
			fmt.Fprintf(&b, "complete -c networkproxy -n %s -a '(__networkproxy_command)'\n", condition)
		}
	}
	return strings.NewReplacer("@values@", strings.Join(withValue, " "), "@completions@\n", b.String()).Replace(fishTemplate)
}
