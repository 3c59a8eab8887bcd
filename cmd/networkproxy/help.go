// The commands help and version, and the help of each command.

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
)

// helpWidth is the width in columns to which help is wrapped.
const helpWidth = 80

func (p *program) help(f *flag.FlagSet) func(context.Context) error {
	return func(context.Context) error {
		switch f.NArg() {
		case 0:
			return printOverview(p.stdout)
		case 1:
			c, err := findCommand(f.Arg(0))
			if err != nil {
				return err
			}
			return p.printHelp(c)
		}
		return usagef("unexpected argument %s", quote(f.Arg(1)))
	}
}

// printOverview prints the help of the whole program.
func printOverview(w io.Writer) error {
	fmt.Fprint(w, "usage: networkproxy COMMAND [flags] [arguments]\n\n"+
		"networkproxy decides which network hosts the commands of an AI agent may reach.\n\ncommands:\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(t, "  %s\t%s\n", c.name, c.summary)
	}
	t.Flush()
	fmt.Fprint(w, "\n\"networkproxy help COMMAND\" describes a command and its flags.\n\nexamples:\n")
	for _, name := range []string{"run", "serve", "check"} {
		if c, err := findCommand(name); err == nil {
			fmt.Fprintf(w, "  %s\n", c.example)
		}
	}
	fmt.Fprint(w, "\nexit statuses:\n")
	for _, row := range exitStatuses() {
		fmt.Fprintf(t, "  %s\t%s\n", row.status, row.meaning)
	}
	return t.Flush()
}

// printHelp prints the help of a command to standard output, because it was
// requested.
func (p *program) printHelp(c command) error {
	f, _ := c.flagSet(new(program))
	flags := flagsOf(f)
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s\n\n%s.\n", c.usage(), strings.ToUpper(c.summary[:1])+c.summary[1:])
	if c.text != "" {
		fmt.Fprintf(&b, "%s\n", c.text)
	}
	fmt.Fprintf(&b, "\nexample:\n  %s\n", c.example)
	if len(flags) > 0 {
		b.WriteString("\nflags:\n")
	}
	for _, one := range flags {
		value, text := describeFlag(one)
		if value != "" {
			value = " " + value
		}
		fmt.Fprintf(&b, "  -%s%s\n", one.Name, value)
		wrap(&b, text, "      ")
	}
	_, err := io.WriteString(p.stdout, b.String())
	return err
}

// describeFlag returns the name of a flag's value, or "" if it takes none, and the
// description of the flag with its values and its default.
func describeFlag(f *flag.Flag) (value, text string) {
	value, text = flag.UnquoteUsage(f)
	if c, ok := f.Value.(*choice); ok {
		name, rest, _ := strings.Cut(text, ";")
		text = name + ": " + alternatives(c.values)
		if rest != "" {
			text += ";" + rest
		}
	}
	if f.DefValue != "" && f.DefValue != "false" {
		text += " (default " + f.DefValue + ")"
	}
	return value, text
}

// wrap writes text in lines of helpWidth, each after indent.
func wrap(b *strings.Builder, text, indent string) {
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
			b.WriteString(indent)
			column = len(indent)
		case column+1+len(word) > helpWidth:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
}

func (p *program) version(f *flag.FlagSet) func(context.Context) error {
	return func(context.Context) error {
		if err := noOperands(f); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.stdout, "networkproxy %s\n", versionText())
		return err
	}
}

// versionText returns the version of the module, which has the commit if the build
// was from a repository, and the version of Go and the system.
func versionText() string {
	version := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	return fmt.Sprintf("%s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
