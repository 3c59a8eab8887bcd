// The check command explains how the policy would treat a target.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"example.com/networkproxy"
)

func (p *program) check(ctx context.Context, args []string) error {
	f := p.newFlagSet("check", "networkproxy check [-config FILE] [-allow PATTERN]... [flags] TARGET...\n\n"+
		"Explains whether the policy allows each TARGET, without contacting it.\n"+
		"A TARGET is a URL or host:port. socks5://host:port and udp://host:port stand for\n"+
		"SOCKS5 requests. The exit status is 0 if all targets are allowed, and 3 otherwise.")
	config := addConfigFlags(f)
	method := f.String("method", "", "HTTP `method` of the request (default GET; CONNECT for https)")
	resolve := f.Bool("resolve", false, "look up allowed names and check their addresses as well")
	asJSON := f.Bool("json", false, "print JSON")
	if err := parseFlags(f, args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return p.usageError(f, "no target to check")
	}
	b, err := p.builder(f, config)
	if err != nil {
		return err
	}
	proxy, err := build(ctx, b)
	if err != nil {
		return err
	}
	refused := false
	for _, target := range f.Args() {
		x, err := proxy.ExplainURL(ctx, target, *method, *resolve)
		if err != nil {
			return err
		}
		refused = refused || !x.Allowed
		if *asJSON {
			e := json.NewEncoder(p.stdout)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			if err := e.Encode(x); err != nil {
				return err
			}
			continue
		}
		if err := printExplanation(p.stdout, target, x); err != nil {
			return err
		}
	}
	if refused {
		return errRefused
	}
	return nil
}

// printExplanation prints an explanation as text.
func printExplanation(w io.Writer, target string, x networkproxy.Explanation) error {
	verdict := "refused"
	switch {
	case x.Allowed:
		verdict = "allowed"
	case x.Decider:
		verdict = "left to the decider"
	}
	fmt.Fprintf(w, "%s: %s", target, verdict)
	if x.Reason != "" && !x.Decider {
		fmt.Fprintf(w, " (%s)", x.Reason)
	}
	fmt.Fprintf(w, "\n  %s\n", x.Message)
	if x.Hint != "" {
		fmt.Fprintf(w, "  %s\n", x.Hint)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range x.Checks {
		mark := "stop"
		if c.Passed {
			mark = "pass"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", mark, c.Name, decidedBy(c))
	}
	return t.Flush()
}

// decidedBy describes the rule, address or source that settled a check.
func decidedBy(c networkproxy.Check) string {
	switch {
	case c.Rule.Pattern != "":
		return fmt.Sprintf("%q in %s (%s)", c.Rule.Pattern, c.Rule.List, c.Rule.Position)
	case c.Address.IsValid():
		return c.Address.String()
	}
	return string(c.Source)
}
