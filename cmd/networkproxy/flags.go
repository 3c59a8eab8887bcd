// Kinds of flags, and errors of one line about arguments.

package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/networkproxy/internal/typo"
)

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ", ") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// timeFlag is a flag with a time such as 5s. Unlike flag.Duration, it says what to
// write instead of an invalid value.
type timeFlag time.Duration

func (d *timeFlag) String() string { return time.Duration(*d).String() }

func (d *timeFlag) Set(s string) error {
	value, err := time.ParseDuration(s)
	if err != nil || value < 0 {
		return errors.New("use a time such as 5s, 2m or 0s")
	}
	*d = timeFlag(value)
	return nil
}

// choice is a flag with a few known values. Completion offers them.
type choice struct {
	value  string // initially the default
	values []string
	set    func(string) // called with each value that is set; may be nil
}

func (c *choice) String() string { return c.value }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.values, s) {
		return fmt.Errorf("use %s", alternatives(c.values))
	}
	c.value = s
	if c.set != nil {
		c.set(s)
	}
	return nil
}

// words returns the values for completion.
func (c *choice) words() []string { return c.values }

// optional is a flag whose value may be left out. It is empty if the flag is not given.
type optional struct {
	value   string
	values  []string
	implied string // the value if the flag is given without one
}

func (o *optional) String() string { return o.value }

func (o *optional) IsBoolFlag() bool { return true }

func (o *optional) Set(s string) error {
	if s == "true" { // package flag sets this for the flag without a value
		s = o.implied
	}
	if !slices.Contains(o.values, s) {
		return fmt.Errorf("use %s", alternatives(o.values))
	}
	o.value = s
	return nil
}

// alternatives joins words with commas and "or".
func alternatives(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// wantsFile reports whether the value of a flag is a path. The usage of such a flag
// has `file` as the name of the value.
func wantsFile(f *flag.Flag) bool {
	name, _ := flag.UnquoteUsage(f)
	return name == "file"
}

// flagsOf returns the flags of f in the order of their names.
func flagsOf(f *flag.FlagSet) []*flag.Flag {
	var flags []*flag.Flag
	f.VisitAll(func(one *flag.Flag) { flags = append(flags, one) })
	return flags
}

// parseFlags parses args. The error is flag.ErrHelp or a usageError.
func parseFlags(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	problem := err.Error()
	if name, ok := strings.CutPrefix(problem, "flag provided but not defined: -"); ok {
		problem = unknownFlag(f, name)
	}
	if rest, ok := strings.CutPrefix(problem, "invalid boolean value "); ok && hasOptional(f, rest) {
		problem = "invalid value " + rest // the value is optional, but not boolean
	}
	return usagef("%s", oneLine(problem))
}

// hasOptional reports whether problem, the error of package flag after "invalid boolean
// value", is about an optional.
func hasOptional(f *flag.FlagSet, problem string) bool {
	return slices.ContainsFunc(flagsOf(f), func(one *flag.Flag) bool {
		_, ok := one.Value.(*optional)
		return ok && strings.Contains(problem, " for -"+one.Name+": ")
	})
}

// unknownFlag describes a flag that f does not have. It suggests a flag with a
// similar name, or names the commands that have the flag.
func unknownFlag(f *flag.FlagSet, name string) string {
	var own []string
	for _, one := range flagsOf(f) {
		own = append(own, one.Name)
	}
	problem := "unknown flag -" + name
	var others []string
	for _, c := range commands() {
		if flags, _ := c.flagSet(new(program)); flags.Lookup(name) != nil {
			others = append(others, c.name)
		}
	}
	switch like := typo.Closest(name, own); {
	case len(others) > 0:
		return fmt.Sprintf("%s of %s: it is a flag of %s", problem, f.Name(), strings.Join(others, ", "))
	case like != "":
		return problem + ", did you mean -" + like + "?"
	}
	return problem
}

// noOperands returns a usageError if arguments follow the flags.
func noOperands(f *flag.FlagSet) error {
	if f.NArg() == 0 {
		return nil
	}
	first := f.Arg(0)
	if _, err := findCommand(first); err == nil && f.Name() == "serve" {
		return usagef("unexpected argument %s: the command comes first, as in networkproxy %s", quote(first), first)
	}
	return usagef("unexpected argument %s", quote(first))
}

// quote quotes an argument, and shortens a long one.
func quote(s string) string { return fmt.Sprintf("%.80q", s) }

// oneLine replaces line breaks, which an argument may contain.
func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "\r", " ").Replace(s)
}
