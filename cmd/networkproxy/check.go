// The check command explains how the policy would treat a target.

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"example.com/networkproxy"
)

func (p *program) check(f *flag.FlagSet) func(context.Context) error {
	config := addConfigFlags(p, f)
	method := f.String("method", "", "HTTP `method` of the request (default GET; CONNECT for https)")
	resolve := f.Bool("resolve", false, "look up allowed names and check their addresses as well")
	asJSON := f.Bool("json", false, "print one JSON object for each TARGET")
	return func(ctx context.Context) error {
		if f.NArg() == 0 {
			return usagef("no target to check")
		}
		for _, target := range f.Args() {
			if strings.HasPrefix(target, "-") {
				return usagef("%s is not a target: flags come before the targets", quote(target))
			}
		}
		proxy, err := p.checkedProxy(ctx, config)
		if err != nil {
			return err
		}
		return p.explain(ctx, proxy, f.Args(), *method, *resolve, *asJSON)
	}
}

// checkedProxy builds a proxy that is not run.
func (p *program) checkedProxy(ctx context.Context, config *configFlags) (*networkproxy.NetworkProxy, error) {
	b, err := p.builder(config)
	if err != nil {
		return nil, err
	}
	return build(ctx, b)
}

// explain prints the policy's decision about each target.
func (p *program) explain(ctx context.Context, proxy *networkproxy.NetworkProxy, targets []string, method string, resolve, asJSON bool) error {
	refused := false
	for _, target := range targets {
		x, err := proxy.ExplainURL(ctx, target, method, resolve)
		if err != nil {
			return err
		}
		refused = refused || !x.Allowed
		if asJSON {
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
	fmt.Fprintf(w, "%s: %s", printable(target), verdict) // a target may come from an untrusted command
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
		fmt.Fprintf(t, "  %s\t%s", mark, c.Name)
		if by := decidedBy(c); by != "" {
			fmt.Fprintf(t, "\t%s", by)
		}
		fmt.Fprintln(t)
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
