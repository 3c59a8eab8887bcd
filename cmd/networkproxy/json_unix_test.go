// Tests of -json, -json-file and -log-format json.

//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// decode decodes one JSON object without unknown fields.
func decode(t *testing.T, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("more than one object: %s", text)
	}
}

// runWith runs run with flags and a child.
func runWith(t *testing.T, child string, flags ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err testnet.Buffer
	p := program{stdin: strings.NewReader(""), stdout: &out, stderr: &err}
	args := append(append([]string{"run"}, flags...), "--")
	if child != "" {
		args = append(args, os.Args[0], child)
	}
	return p.main(t.Context(), args), out.String(), err.String()
}

// TestRunSummary checks the JSON summary of run, on standard error and in a file.
func TestRunSummary(t *testing.T) {
	setChildEnv(t)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "12345") }))
	t.Cleanup(origin.Close)
	target := strings.TrimPrefix(origin.URL, "http://")
	addr := netip.MustParseAddrPort(target)
	host, port := addr.Addr().String(), addr.Port()
	reached := networkproxy.Summary{Allowed: 1, Received: 5, Hosts: []networkproxy.HostSummary{{Host: host, Allowed: 1, Received: 5}}}
	nothing := networkproxy.Summary{Hosts: []networkproxy.HostSummary{}}
	for _, test := range []struct {
		name, child string
		flags       []string
		want        runSummary
		stdout      string
	}{
		{"allowed", "get-by-proxy " + origin.URL, []string{"-allow", target},
			runSummary{Outcome: networkproxy.OutcomeNothingRefused, Summary: reached, Refusals: []refusalCount{}}, "200\n"},
		{"refused", "get-and-fail " + origin.URL, []string{"-allow", "x.example", "-deny", host},
			runSummary{ExitStatus: 3, Outcome: networkproxy.OutcomeRefusedByPolicy, Summary: networkproxy.Summary{Refused: 1, Hosts: nothing.Hosts},
				Refusals: []refusalCount{{Host: host, Port: port, Protocol: networkproxy.ProtocolHTTP, Reason: networkproxy.ReasonDenied, Rule: host, Count: 1}}}, "403\n"},
		{"killed", "kill", []string{"-allow", target}, runSummary{ExitStatus: 128 + 9, Outcome: networkproxy.OutcomeNothingRefused, Summary: nothing, Refusals: []refusalCount{}}, ""},
		{"observed", "get-by-proxy " + origin.URL, []string{"-allow", host, "-observe", "-quiet"},
			runSummary{Outcome: networkproxy.OutcomeNothingRefused, Summary: reached, Refusals: []refusalCount{}, Observed: &suggestion{AllowedDomains: []string{target}}}, "200\n"},
		{"nothing observed", "exit 0", []string{"-allow", host, "-observe"},
			runSummary{Outcome: networkproxy.OutcomeNothingRefused, Summary: nothing, Refusals: []refusalCount{}, Observed: &suggestion{AllowedDomains: []string{}}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "summary.json")
			status, stdout, stderr := runWith(t, test.child, append(test.flags, "-json", "-json-file", file)...)
			if status != test.want.ExitStatus || stdout != test.stdout {
				t.Errorf("exit %d, output %q", status, stdout)
			}
			written, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(stderr, string(written)) || len(written) == 0 || strings.Contains(stderr, "networkproxy: refused") || strings.Contains(stderr, "allowed_domains = [") {
				t.Errorf("standard error\n%s\nfile\n%s", stderr, written)
			}
			var got runSummary
			decode(t, string(written), &got)
			if refused := got.Summary.Refused > 0; refused != strings.Contains(got.Report, host) {
				t.Errorf("report %q", got.Report)
			}
			got.Report = ""
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
		})
	}
	t.Run("after the log", func(t *testing.T) {
		t.Parallel()
		_, _, stderr := runWith(t, "exit 0", "-allow", "x.example", "-json", "-log-level", "info")
		log, summary, _ := strings.Cut(stderr, "{")
		if !strings.Contains(log, "networkproxy has ended") || strings.Count(summary, "\n") != 1 {
			t.Errorf("the summary is not the last line of\n%s", stderr)
		}
	})
	t.Run("a file alone", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "summary.json")
		_, _, stderr := runWith(t, "get http://refused.example/", "-allow", "x.example", "-json-file", file)
		if !strings.HasPrefix(stderr, "networkproxy: refused one request") || strings.Contains(stderr, "{") {
			t.Errorf("standard error %q", stderr)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
			t.Errorf("%v, %v", info, err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		t.Parallel()
		status, stdout, stderr := runWith(t, "exit 0", "-allow", "x.example", "-json-file", filepath.Join(t.TempDir(), "no", "summary.json"))
		if status != exitError || stdout != "" || !strings.Contains(stderr, "networkproxy: -json-file: open ") {
			t.Errorf("exit %d, %q", status, stderr)
		}
	})
	t.Run("more than are kept", func(t *testing.T) {
		t.Parallel()
		_, _, stderr := runWith(t, "get-twice http://refused.example/", "-allow", "x.example", "-limit", "blocked_kept=1")
		if !strings.HasPrefix(stderr, "networkproxy: refused 2 requests from this command; these are the newest 1:\n") {
			t.Errorf("standard error %q", stderr)
		}
	})
}

// TestOutputIsNoInput checks that no flag for an output overwrites a file that the
// program uses.
func TestOutputIsNoInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, learned, link := configText(t, ""), filepath.Join(dir, "learned.toml"), filepath.Join(dir, "link")
	if err := os.Symlink(config, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		flags []string
		want  int
	}{
		{[]string{"-config", config, "-json-file", config}, exitUsage},
		{[]string{"-config", config, "-json-file", link}, exitUsage},
		{[]string{"-config", config, "-audit", config}, exitUsage},
		{[]string{"-config", link, "-audit", config}, exitUsage},
		{[]string{"-allow", "x.example", "-learned", learned, "-audit", learned}, exitUsage},
		{[]string{"-allow", "x.example", "-requirements", config, "-json-file", config}, exitUsage},
		{[]string{"-allow", "x.example", "-audit", learned, "-json-file", learned}, exitUsage},
		{[]string{"-allow", "x.example", "-audit", os.DevNull, "-json-file", os.DevNull}, exitCannotRun},
	} {
		p := start(t, append(append([]string{"run"}, test.flags...), "--", dir)...)
		if got := p.status(t); got != test.want || test.want == exitUsage && !strings.Contains(p.stderr.String(), "name another file") {
			t.Errorf("%q: exit %d, want %d: %s", test.flags, got, test.want, p.stderr.String())
		}
	}
	if after, err := os.ReadFile(config); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the configuration is now %q, %v", after, err)
	}
	if _, err := os.Stat(learned); err == nil {
		t.Error("a refused output was created")
	}
}

// TestLogFormatJSON checks that -log-format json leaves nothing but JSON on
// standard error.
func TestLogFormatJSON(t *testing.T) {
	setChildEnv(t)
	config := configText(t, "")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	run := func(child string, flags ...string) []string {
		return append(append([]string{"run", "-log-format", "json"}, flags...), "--", os.Args[0], child)
	}
	for _, test := range []struct {
		name string
		args []string
		want []string // one in each line
	}{
		{"usage", []string{"-log-format", "json", "-cofnig"}, []string{`"level":"ERROR","msg":"unknown flag -cofnig, did you mean -config?","help":"networkproxy serve -h"`}},
		{"usage before the flag", []string{"run", "-nonsense", "-log-format=json"}, []string{`"msg":"unknown flag -nonsense"`}},
		{"an unknown command", []string{"serv", "--log-format", "json"}, []string{`"msg":"unknown command \"serv\", did you mean serve?","help":"networkproxy -h"`}},
		{"no configuration", []string{"check", "-log-format=json", "x:1"}, []string{`"msg":"-config is missing`}},
		{"no file", []string{"check", "-log-format=json", "-config", config + ".none", "x:1"}, []string{`"level":"ERROR"`}},
		{"several problems", []string{"-log-format=json", "-config", configText(t, "mode = \"open\"\n[network_proxy.policy]\nallowed_domains = [\"*.\"]\n")}, []string{`:7:20: `}},
		{"not enabled", []string{"-log-format=json", "-config", configText(t, "[network_proxy]\n")}, []string{`enabled is false`, `networkproxy has ended`}},
		{"port in use", []string{"-log-format=json", "-config", config, "-http", taken.Addr().String()}, []string{`"msg":"cannot listen on `}},
		{"refused", run("get http://refused.example/", "-config", config), []string{`"level":"WARN","msg":"refused one request from this command","refusals":[{"host":"refused.example","port":80,`}},
		{"a summary", run("get http://refused.example/", "-config", config, "-json"), []string{`{"exit_status":0,"outcome":"refused_by_policy",`}},
		{"observing", run("exit 1", "-config", config, "-observe", "-json-file", os.DevNull), []string{`"msg":"OBSERVING`, `"msg":"nothing to suggest`}},
		{"no command", []string{"run", "-log-format=json", "-config", config, "/no/such/command"}, []string{`"level":"ERROR","msg":"fork/exec /no/such/command`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, test.args...)
			p.status(t)
			checkJSONLines(t, p.stderr.String(), test.want)
		})
	}
	t.Run("the user's configuration", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "networkproxy"), 0o700); err != nil {
			t.Fatal(err)
		}
		writeConfig(t, filepath.Join(dir, "networkproxy", "config.toml"), "")
		status, out := checkTarget(t, map[string]string{"XDG_CONFIG_HOME": dir}, "-log-format=json", "-json", "x.example:1")
		line, out, _ := strings.Cut(out, "\n")
		checkJSONLines(t, line, []string{`"msg":"configuration from ` + dir})
		var x networkproxy.Explanation
		if err := json.Unmarshal([]byte(out), &x); err != nil || status != exitRefused || x.Reason != networkproxy.ReasonNotAllowed {
			t.Errorf("exit %d, %v: %s", status, err, out)
		}
	})
	t.Run("serve", func(t *testing.T) {
		t.Parallel()
		config := configText(t, "enable_socks5 = true\nsocks_url = \"socks5h://127.0.0.1:0\"\n")
		p := start(t, "-config", config, "-log-format=json", "-admin", "0.0.0.0:0")
		proxy := p.stderr.await(t, `"msg":"serving","http_proxy":"http://([^"]+)","admin_api":"http://[^"]+","socks5_proxy":"socks5h://[^"]+","socks5_udp":false,"mode":"full"}`)
		get(t, proxy, "http://other.example/", "")
		writeConfig(t, config, "mode = 7\n")
		p.hangup <- nil
		p.stderr.await(t, "reload failed")
		p.stop()
		p.status(t)
		text := p.stderr.String()
		checkJSONLines(t, text, nil)
		for _, want := range []string{`"level":"WARN","msg":"the admin API listens on`, `"msg":"refused"`, `"msg":"stopping`} {
			if n := strings.Count(text, want); n != 1 {
				t.Errorf("%d times %s in\n%s", n, want, text)
			}
		}
	})
}

// checkJSONLines checks that every line of text is a JSON object, and that each
// text of want is in the line at its place.
func checkJSONLines(t *testing.T, text string, want []string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(text) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Errorf("%v in %q", err, line)
		}
		if want != nil && (n >= len(want) || !strings.Contains(line, want[n])) {
			t.Errorf("line %d is %s want %q", n, line, want)
		}
		n++
	}
	if n < len(want) || n == 0 {
		t.Errorf("%d lines, want %q:\n%s", n, want, text)
	}
}

func TestSelftestJSON(t *testing.T) {
	t.Parallel()
	p := start(t, "selftest", "-json", "-allow", "a.example")
	status := p.status(t)
	var report selfTestReport
	decode(t, p.stdout.String(), &report)
	if status != 0 || p.stderr.String() != "" || !report.Passed || report.Failed != 0 || len(report.Checks) < 5 {
		t.Errorf("exit %d, %s, %+v", status, &p.stderr, report)
	}
	for _, check := range report.Checks {
		if !check.OK || check.Target == "" || check.Promise == "" {
			t.Errorf("%+v", check)
		}
	}
	var out bytes.Buffer
	failing := program{stdout: &out}
	err := failing.printResults([]networkproxy.SelfTestResult{{OK: true}, {Promise: "x"}}, true)
	report = selfTestReport{}
	decode(t, out.String(), &report)
	if err == nil || err.Error() != "1 of 2 checks failed" || report.Passed || report.Failed != 1 || len(report.Checks) != 2 {
		t.Errorf("%v, %+v", err, report)
	}
}
