// Tests of run -ask on a pseudo-terminal. They run this test binary as the program,
// which runs it as the command.

package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy/internal/testnet"
)

// person sits at the terminal of a program.
type person struct {
	t       *testing.T
	control *os.File
	screen  testnet.Buffer // everything that the terminal has shown, also what was typed
	seen    int            // how much of screen sees has matched
	cmd     *exec.Cmd

	terminal *os.File
	shown    chan struct{} // closed when screen has everything
}

// atTerminal runs the program with args at a new terminal. stdin is its standard
// input; nil is the terminal.
func atTerminal(t *testing.T, stdin io.Reader, args ...string) *person {
	t.Helper()
	control, terminal := testnet.Terminal(t)
	p := &person{t: t, control: control, terminal: terminal, shown: make(chan struct{}), cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Env = append(os.Environ(), mainEnv+"=1", childEnv+"=1", "TERM=dumb", "HOME=/none", "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, terminal, terminal
	if stdin == nil {
		p.cmd.Stdin = terminal
	}
	p.cmd.ExtraFiles = []*os.File{terminal}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.shown)
		io.Copy(&p.screen, control) // until nobody has the terminal open
	}()
	t.Cleanup(func() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what is left of its process group
		terminal.Close()
		control.Close()
		<-p.shown
		if t.Failed() {
			t.Logf("the terminal shows:\n%s", p.screen.String())
		}
	})
	return p
}

// types types text. "\n" is Enter, and "\x03" is Ctrl-C.
func (p *person) types(text string) {
	p.t.Helper()
	if _, err := p.control.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// sees waits until the terminal shows a match for pattern after the last one, and
// returns what it has shown since then.
func (p *person) sees(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(waitTimeout)
	for {
		text := p.screen.String()[p.seen:]
		if at := re.FindStringIndex(text); at != nil {
			p.seen += at[1]
			return text[:at[1]]
		}
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("no match for %q in\n%s", pattern, text)
		}
	}
}

// exits waits until the program ends and checks its exit status. It returns what
// the terminal has shown since the last match.
func (p *person) exits(want int) string {
	p.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.t.Fatal(err)
		}
	case <-time.After(waitTimeout):
		p.t.Fatalf("the program does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		p.t.Errorf("exit status %d, want %d", got, want)
	}
	p.terminal.Close()
	wait(p.t, p.shown)
	return p.screen.String()[p.seen:]
}

// wait waits until done is closed.
func wait(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(waitTimeout):
		t.Fatal("timed out")
	}
}

// askedOrigin is an origin server on this machine that counts its requests.
func askedOrigin(t *testing.T) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	t.Cleanup(origin.Close)
	return origin.URL, requests
}

const prompt = `Allow it \[o\]nce, for this \[r\]un, or \[n\]o\? `

func TestAsk(t *testing.T) {
	t.Parallel()
	url, requests := askedOrigin(t)
	port := url[strings.LastIndexByte(url, ':')+1:]
	other := "http://localhost:" + port
	// Answers come from the terminal, not from standard input.
	p := atTerminal(t, strings.NewReader(strings.Repeat("o\n", 100)), "run", "-ask", "--", os.Args[0],
		"get-each "+strings.Join([]string{url, url, url, other, other, url}, " "))

	p.sees(`networkproxy: the command wants to reach 127\.0\.0\.1 port ` + port + `, a service on this machine \(http GET\)\.\r\n  ` + prompt)
	p.types("o\n")
	p.sees(`200`)
	p.sees(`127\.0\.0\.1 port ` + port + `.*\r\n  ` + prompt) // once was once
	p.types("yes\n")
	p.sees(prompt) // no answer yet
	p.types("\n")
	p.sees(prompt)
	p.types("RUN\n")
	p.sees(`200\r\n200\r\n`)
	p.sees(`localhost port ` + port + `.*\r\n  ` + prompt)
	p.types("no\n")
	p.sees(`403\r\n403\r\n200\r\n`)
	end := p.exits(0)
	if strings.Contains(end, "Allow") || !strings.Contains(end, "refused 2 requests") || !strings.Contains(end, "the user said no") {
		t.Errorf("at the end, the terminal shows %q", end)
	}
	if got := requests.Load(); got != 4 {
		t.Errorf("the origin server got %d requests, want 4", got)
	}
}

// One question is open at a time, and identical ones are one.
func TestAskOneAtATime(t *testing.T) {
	t.Parallel()
	url, _ := askedOrigin(t)
	other := strings.Replace(url, "127.0.0.1", "localhost", 1)
	p := atTerminal(t, nil, "run", "-ask", "--", os.Args[0], "get-at-once "+strings.Repeat(url+" "+other+" ", 4))
	for range 2 {
		p.sees(prompt)
		// A second question would be shown now if it did not wait: the other
		// requests have been sent.
		p.types("\n")
		if text := p.sees(prompt); strings.Contains(text, "wants to reach") {
			t.Errorf("two questions are open: %q", text)
		}
		p.types("r\n")
	}
	p.exits(0)
	if text := p.screen.String(); strings.Count(text, "200\r\n") != 8 || strings.Count(text, "wants to reach") != 2 {
		t.Errorf("got not 8 responses after 2 questions")
	}
}

func TestAskTimeout(t *testing.T) {
	t.Parallel()
	url, requests := askedOrigin(t)
	p := atTerminal(t, nil, "run", "-ask", "-ask-timeout", "30ms", "--", os.Args[0], "get-each "+url+" "+url)
	for range 2 { // the refusal is not remembered
		p.sees(prompt)
		p.sees(`no answer in time: refused\r\n`)
		p.sees(`403\r\n`)
	}
	if end := p.exits(0); !strings.Contains(end, "the user did not answer in time") || requests.Load() != 0 {
		t.Errorf("%d requests passed; at the end, the terminal shows %q", requests.Load(), end)
	}
}

// Ctrl-C answers no, and reaches the command.
func TestAskInterrupted(t *testing.T) {
	t.Parallel()
	url, requests := askedOrigin(t)
	p := atTerminal(t, nil, "run", "-ask", "--", os.Args[0], "get-until-interrupted "+url)
	p.sees(prompt)
	p.types("\x03")
	p.sees(`\r\n  no\r\n`)
	p.sees(`interrupted, got 403\r\n`)
	if end := p.exits(9); !strings.Contains(end, "the user interrupted the question") || requests.Load() != 0 {
		t.Errorf("%d requests passed; at the end, the terminal shows %q", requests.Load(), end)
	}
}

// What was typed before the question does not answer it.
func TestAskIgnoresTypeAhead(t *testing.T) {
	t.Parallel()
	url, requests := askedOrigin(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := atTerminal(t, r, "run", "-ask", "--", os.Args[0], "get-on-cue "+url)
	p.sees("ready")
	p.types("r\nr\nr")
	p.sees("r\r\nr\r\nr")
	w.WriteString("\n") // the cue
	p.sees(prompt)
	p.types("n\n")
	p.sees(`403\r\n`)
	p.exits(0)
	if got := requests.Load(); got != 0 {
		t.Errorf("%d requests passed", got)
	}
}

// A question ends when the command no longer waits for it.
func TestAskWithdrawn(t *testing.T) {
	t.Parallel()
	url, _ := askedOrigin(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := atTerminal(t, r, "run", "-ask", "-ask-timeout", "0", "--", os.Args[0], "get-and-leave "+url+" "+strings.Replace(url, "127.0.0.1", "localhost", 1))
	p.sees(prompt)
	w.WriteString("\n") // the command closes its connection, and makes another request
	p.sees(`no longer needed\r\n`)
	p.sees(`localhost.*\r\n  ` + prompt)
	p.types("once\n")
	p.sees(`200\r\n`)
	p.exits(0)
}

// If "always" cannot be saved, the terminal shows that, and the host is allowed for the
// run.
func TestAskAlwaysFails(t *testing.T) {
	t.Parallel()
	url, _ := askedOrigin(t)
	learned := filepath.Join(t.TempDir(), "learned.toml")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := atTerminal(t, r, "run", "-ask", "-learned", learned, "--", os.Args[0], "get-each-on-cue "+url+" "+url)
	p.sees("ready")
	if err := os.Mkdir(learned, 0o700); err != nil { // after the start
		t.Fatal(err)
	}
	w.WriteString("\n") // the cue
	p.sees(`\[a\]lways, or \[n\]o\? `)
	p.types("always\n")
	p.sees(`networkproxy: allowed for this run only: .*learned\.toml`)
	p.sees(`200\r\n200\r\n`)
	p.exits(0)
}

// Without a terminal, nothing starts.
func TestAskWithoutTerminal(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "run", "-ask", "--", os.Args[0], "env PATH")
	cmd.Env = append(os.Environ(), mainEnv+"=1", childEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitError || !strings.HasPrefix(string(out), "networkproxy: -ask needs a terminal to ask on: open /dev/tty: ") ||
		strings.Count(string(out), "\n") != 1 {
		t.Errorf("got %v and\n%s", err, out)
	}
}

// The managed limits forbid targets without a question. With a file, it decides
// whether servers on this machine are asked about.
func TestAskStaysWithinThePolicy(t *testing.T) {
	t.Parallel()
	url, requests := askedOrigin(t)
	host := strings.TrimPrefix(url, "http://")
	limits := configText(t, "[network_proxy]\npolicy.ask_local = false\n")
	for name, args := range map[string][]string{
		"limits":         {"-requirements", limits},
		"a file":         {"-config", configText(t, "")},
		"denied":         {"-deny", host},
		"limits, a file": {"-requirements", limits, "-config", configText(t, "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := atTerminal(t, nil, append(append([]string{"run", "-ask"}, args...), "--", os.Args[0], "get-each "+url)...)
			p.sees(`403\r\n`)
			p.exits(0)
			if strings.Contains(p.screen.String(), "Allow it") || requests.Load() != 0 {
				t.Errorf("asked, or allowed")
			}
		})
	}
	t.Run("a file that asks", func(t *testing.T) {
		t.Parallel()
		p := atTerminal(t, nil, "run", "-ask", "-config", configText(t, "policy.ask_local = true\n"), "--", os.Args[0], "get-each "+url)
		p.sees(prompt)
		p.types("n\n")
		p.exits(0)
	})
}

func TestAskFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-ask", "-observe"}, "-ask and -observe exclude each other"},
		{[]string{"-ask", "-ask-timeout", "-1s"}, "-ask-timeout is negative"},
	} {
		status, _, stderr := runProgram(nil, append(append([]string{"run"}, test.args...), "--", "true")...)
		if status != exitUsage || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: exit status %d, %q", test.args, status, stderr)
		}
	}
}

// With a learned file, the user can allow a host and port in later runs as well,
// and nothing else.
func TestAskAlways(t *testing.T) {
	t.Parallel()
	url, requests := askedOrigin(t)
	host := strings.TrimPrefix(url, "http://")
	other := strings.Replace(url, "127.0.0.1", "localhost", 1)
	learned := filepath.Join(t.TempDir(), "learned.toml")
	const prompt = `Allow it \[o\]nce, for this \[r\]un, \[a\]lways, or \[n\]o\? `
	p := atTerminal(t, nil, "run", "-ask", "-learned", learned, "--", os.Args[0], "get-each "+url+" "+url+" "+other)
	p.sees(`127\.0\.0\.1.*\r\n  ` + prompt)
	p.types("a\n")
	p.sees(`200\r\n200\r\n`)
	p.sees(`localhost.*\r\n  ` + prompt)
	p.types("n\n")
	p.exits(0)
	if text := read(t, learned); strings.Count(text, `  "`) != 1 || !strings.Contains(text, `  "`+host+`", # `) || !strings.Contains(text, "run -ask\n") {
		t.Errorf("the learned file has\n%s", text)
	}
	// Later runs, with and without -ask.
	p = atTerminal(t, nil, "run", "-ask", "-learned", learned, "--", os.Args[0], "get-each "+url)
	if end := p.exits(0); strings.Contains(end, "wants to reach") {
		t.Errorf("asked again: %q", end)
	}
	p = atTerminal(t, nil, "run", "-learned", learned, "--", os.Args[0], "get-each "+url+" "+other)
	p.sees(`200\r\n403\r\n`)
	p.exits(0)
	if got := requests.Load(); got != 4 {
		t.Errorf("the origin server got %d requests, want 4", got)
	}
}
