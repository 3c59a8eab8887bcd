// Tests of the flags of fences and of what the program says about them. The end-to-end
// suite runs commands in fences.

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"example.com/networkproxy"
)

func TestFenceFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"run -fence=bogus -- true", `invalid value "bogus" for -fence: use capture, sealed or best (networkproxy run -h for help)`},
		{"run -fence=false -- true", `invalid value "false" for -fence: use capture, sealed or best (networkproxy run -h for help)`},
		{"run -fence best -- true", "write -fence=best, with an equals sign (networkproxy run -h for help)"},
		{"run -fence sealed true", "write -fence=sealed, with an equals sign (networkproxy run -h for help)"},
		{"run -fence-udp -- true", "-fence-udp needs -fence (networkproxy run -h for help)"},
		{"run -fence-local localhost:1 -- true", "-fence-local needs -fence (networkproxy run -h for help)"},
		{"run -fence -allow x.example", "no command to run (networkproxy run -h for help)"},
		{"fence-check -level best", `invalid value "best" for flag -level: use capture or sealed (networkproxy fence-check -h for help)`},
		{"fence-check x", `unexpected argument "x" (networkproxy fence-check -h for help)`},
	} {
		p := start(t, strings.Fields(tt.args)...)
		if status := p.status(t); status != exitUsage || p.stderr.String() != "networkproxy: "+tt.want+"\n" {
			t.Errorf("%s: exit %d, %q; want 2, %q", tt.args, status, &p.stderr, tt.want)
		}
	}
	for _, args := range []string{"run -fence-local localhost -- true", "run -fence-local x:0 -- true"} {
		p := start(t, strings.Fields(args)...)
		if status := p.status(t); status != exitUsage || !strings.Contains(p.stderr.String(), "-fence-local") {
			t.Errorf("%s: exit %d, %q; want 2 and the name of the flag", args, status, &p.stderr)
		}
	}
}

func TestFenceFlagWithoutAValueIsCapture(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"-fence": "capture", "-fence=capture": "capture", "-fence=sealed": "sealed", "--fence=best": "best", "-quiet": ""} {
		c, err := findCommand("run")
		if err != nil {
			t.Fatal(err)
		}
		f, _ := c.flagSet(new(program))
		if err := f.Parse([]string{arg, "true"}); err != nil {
			t.Errorf("%s: %v", arg, err)
		}
		if got := f.Lookup("fence").Value.String(); got != want || f.NArg() != 1 {
			t.Errorf("%s: level %q and %d operands, want %q and 1", arg, got, f.NArg(), want)
		}
	}
}

// TestNoFenceIsExplained checks the lines for a fence that could not be had.
func TestNoFenceIsExplained(t *testing.T) {
	t.Parallel()
	var stderr output
	p := &program{stderr: &stderr}
	p.log.w = &stderr
	if p.explainNoFence(errors.New("another error")) || stderr.String() != "" {
		t.Errorf("another error: printed %q", &stderr)
	}
	err := fmt.Errorf("start: %w", &networkproxy.FenceError{Problem: networkproxy.FenceProblem{Part: "namespaces", Error: "not permitted", Fix: "permit them"}})
	if !p.explainNoFence(err) {
		t.Error("the error was not recognised")
	}
	want := "networkproxy: no fence, and so the command was not started: namespaces: not permitted\n" +
		"networkproxy: to get a fence: permit them\n" +
		"networkproxy: for more, run networkproxy fence-check; -fence=best starts the command even if there can be no fence\n"
	if stderr.String() != want {
		t.Errorf("printed\n%swant\n%s", &stderr, want)
	}
}

// TestWarningsOfFences checks that a run without a whole fence is never silent.
func TestWarningsOfFences(t *testing.T) {
	t.Parallel()
	closed := networkproxy.FenceEnforced{TCP: true, UDP: true, ICMP: true, IPv6: true, UnixPath: true, UnixAbstract: true, VSock: true, IOUring: true, Ptrace: true}
	holes := closed
	holes.UnixPath = false
	problem := []networkproxy.FenceProblem{{Part: "part", Error: "missing", Fix: "add it"}}
	for _, tt := range []struct {
		report networkproxy.FenceReport
		want   string
	}{
		{networkproxy.FenceReport{Level: networkproxy.FenceCapture, AllPorts: true, Enforced: closed, Problems: problem}, ""},
		{networkproxy.FenceReport{Level: networkproxy.FenceCapture, Enforced: closed, Problems: problem}, "the fence captures some ports only: part: missing (add it)"},
		{networkproxy.FenceReport{Level: networkproxy.FenceNone, AllPorts: true, Enforced: holes, Problems: problem}, "THE FENCE HAS HOLES: Unix sockets with a path: part: missing (add it)"},
		{networkproxy.FenceReport{Level: networkproxy.FenceNone, Problems: problem}, "THERE IS NO FENCE: a command that ignores the proxy variables connects directly: part: missing (add it)"},
	} {
		var stderr output
		p := &program{stderr: &stderr}
		p.log.w = &stderr
		p.warnOfFence(tt.report)
		want := tt.want
		if want != "" {
			want = "networkproxy: warning: " + want + "\n"
		}
		if stderr.String() != want {
			t.Errorf("%+v:\nprinted %q\nwant    %q", tt.report, &stderr, want)
		}
	}
}

func TestReportOfAFenceAsText(t *testing.T) {
	t.Parallel()
	var stdout output
	p := &program{stdout: &stdout}
	report := networkproxy.FenceReport{Level: networkproxy.FenceNone, Enforced: networkproxy.FenceEnforced{TCP: true}, Problems: []networkproxy.FenceProblem{{Part: "part", Error: "missing", Fix: "add it"}}}
	if err := p.printFence(report, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"level  none", "TCP  closed", "UDP  OPEN", "missing  part: missing", "what to do  add it"} {
		if !strings.Contains(strings.Join(strings.Fields(stdout.String()), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("no %q in\n%s", want, &stdout)
		}
	}
	stdout = output{}
	if err := p.printFence(report, true); err != nil || !strings.Contains(stdout.String(), `"unix_path": false`) {
		t.Errorf("as JSON: %v\n%s", err, &stdout)
	}
}
