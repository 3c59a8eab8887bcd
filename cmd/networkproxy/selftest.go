// The selftest command tests that the promises hold on this machine with a given
// configuration.

package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
)

func (p *program) selftest(ctx context.Context, args []string) error {
	f := p.newFlagSet("selftest", "networkproxy selftest -config FILE [flags]\n\n"+
		"Runs the proxy on free ports, sends it requests that it must refuse, and prints\n"+
		"the results. Nothing leaves the machine.")
	config := addConfigFlags(f)
	if err := parseFlags(f, args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return p.usageError(f, fmt.Sprintf("unexpected argument %q", f.Arg(0)))
	}
	if *config.logs.level == "info" {
		*config.logs.level = "warn" // refusals are expected
	}
	b, err := p.builder(f, config)
	if err != nil {
		return err
	}
	proxy, err := build(ctx, b.HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").SOCKSAddr("127.0.0.1:0"))
	if err != nil {
		return err
	}
	handle, err := proxy.Run(ctx)
	if err != nil {
		return err
	}
	defer handle.Close()
	results, err := handle.SelfTest(ctx)
	if err != nil {
		return err
	}

	failed := 0
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tPROMISE\tPROTOCOL\tTARGET\tRESULT")
	for _, r := range results {
		mark := "ok"
		switch {
		case !r.OK:
			mark = "FAIL"
			failed++
		case r.Note != "":
			mark = "note"
		}
		result := r.Got
		if r.Note != "" {
			result += ": " + r.Note
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", mark, r.Promise, r.Protocol, r.Target, result)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(results))
	}
	fmt.Fprintf(p.stdout, "%d checks passed\n", len(results))
	return errors.Join(handle.Close())
}
