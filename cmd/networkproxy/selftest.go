// The selftest command tests that the promises hold on this machine with a given
// configuration.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"text/tabwriter"

	"example.com/networkproxy"
)

func (p *program) selftest(f *flag.FlagSet) func(context.Context) error {
	config := addConfigFlags(p, f)
	config.addLimitFlag(f)
	config.logLevel.value = "warn" // refusals are expected
	f.Lookup("log-level").DefValue = "warn"
	asJSON := f.Bool("json", false, "print one JSON object")
	fenced := f.Bool("fence", false, "test the fence of run -fence as well, on Linux")
	return func(ctx context.Context) error {
		if err := noOperands(f); err != nil {
			return err
		}
		results, err := p.selfTest(ctx, config, *fenced)
		if err != nil {
			return err
		}
		return p.printResults(results, *asJSON)
	}
}

// selfTest runs a proxy on free ports and tests it. fenced tests its fence as well.
func (p *program) selfTest(ctx context.Context, config *configFlags, fenced bool) ([]networkproxy.SelfTestResult, error) {
	b, err := p.builder(config)
	if err != nil {
		return nil, err
	}
	proxy, err := build(ctx, b.HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").SOCKSAddr("127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	handle, err := proxy.Run(ctx)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	results, err := handle.SelfTest(ctx)
	if err == nil && fenced {
		var more []networkproxy.SelfTestResult
		more, err = selfTestFence(ctx, handle)
		results = append(results, more...)
	}
	return results, errors.Join(err, handle.Close())
}

// printResults prints the results of a self-test. It returns an error if a check
// failed.
func (p *program) printResults(results []networkproxy.SelfTestResult, asJSON bool) error {
	failed := 0
	for _, r := range results {
		if !r.OK {
			failed++
		}
	}
	var err error
	if asJSON {
		e := json.NewEncoder(p.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		err = e.Encode(selfTestReport{Passed: failed == 0, Failed: failed, Checks: results})
	} else {
		err = p.printTable(results)
	}
	if err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(results))
	}
	if !asJSON {
		fmt.Fprintf(p.stdout, "%d checks passed\n", len(results))
	}
	return nil
}

// selfTestReport is the output of selftest -json.
type selfTestReport struct {
	Passed bool                          `json:"passed"`
	Failed int                           `json:"failed"`
	Checks []networkproxy.SelfTestResult `json:"checks"`
}

// printTable prints the results as text.
func (p *program) printTable(results []networkproxy.SelfTestResult) error {
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tPROMISE\tPROTOCOL\tTARGET\tRESULT")
	for _, r := range results {
		mark := "ok"
		switch {
		case !r.OK:
			mark = "FAIL"
		case r.Note != "":
			mark = "note"
		}
		result := r.Got
		if r.Note != "" {
			result += ": " + r.Note
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", mark, r.Promise, r.Protocol, r.Target, result)
	}
	return t.Flush()
}
