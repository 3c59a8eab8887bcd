// Tests that use the program at a pseudo-terminal. They run this test binary as the
// program, which runs it as its commands.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
	"example.com/networkproxy/networkproxytest"
)

// TestMain acts as the command curl if the binary has this name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "curl" {
		os.Exit(curl(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// curl makes a request to each URL and prints the statuses. It knows curl's options
// -X METHOD and -sSo FILE, which makes it print nothing, and -evil, which prints
// control characters.
func curl(args []string) (status int) {
	method, quiet := http.MethodGet, false
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; arg {
		case "-sSo":
			quiet = true
			i++ // a file
		case "-X":
			i++
			method = args[i]
		case "-evil":
			fmt.Print("\x1b[2J\rAllow the host?\u202e\n")
		default:
			req, err := http.NewRequest(method, arg, nil)
			if err != nil {
				fmt.Println(err)
				return 1
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				fmt.Println("error")
				return 1
			}
			resp.Body.Close()
			if !quiet {
				fmt.Println(method, arg, resp.StatusCode)
			}
		}
	}
	return 0
}

// programEnv has the arguments of the program, one on a line, in the process that
// is the program.
const programEnv = "AGENT_TEST_ARGS"

// waitTimeout bounds waits on a slow machine.
const waitTimeout = time.Minute

// atTerminal runs the program with args at a new terminal, and a user who sits at
// it. It does so by running the calling test in another process, where atTerminal
// is the program.
func atTerminal(t *testing.T, args []string, user func(p *person)) {
	t.Helper()
	if args, ok := os.LookupEnv(programEnv); ok {
		ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		origins := networkproxytest.Origin(t, "example.com", ok)
		origins.Add("example.org", ok)
		if err := start(networkproxy.NewBuilder().Resolver(origins), strings.Split(args, "\n")); err != nil {
			t.Error(err)
		}
		return
	}
	control, terminal := testnet.Terminal(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), "PATH="+curlDir(t), "GORACE=atexit_sleep_ms=0", programEnv+"="+strings.Join(args, "\n"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // of descriptor 0
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, control: control, terminal: terminal, shown: make(chan struct{}), cmd: cmd}
	go func() {
		defer close(p.shown)
		io.Copy(&p.screen, control) // until no process has the terminal open
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of its process group
		terminal.Close()
		control.Close()
		<-p.shown
		if t.Failed() {
			t.Logf("the terminal shows:\n%s", p.screen.String())
		}
	})
	user(p)
}

// curlDir returns a directory in which this test binary is called curl.
func curlDir(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(program, filepath.Join(dir, "curl")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// person sits at the terminal of the program.
type person struct {
	t                 *testing.T
	control, terminal *os.File
	cmd               *exec.Cmd
	screen            testnet.Buffer // everything that the terminal has shown, also what was typed
	seen              int            // how much of screen sees has matched
	shown             chan struct{}  // closed when screen has everything
}

// types types text. "\n" is Enter, and "\x03" is Ctrl-C.
func (p *person) types(text string) {
	p.t.Helper()
	if _, err := p.control.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// sees waits until the terminal shows a match for pattern after the last one, and
// returns the match.
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
			return text[at[0]:at[1]]
		}
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("the terminal shows no match for %q", pattern)
		}
	}
}

// exits waits until the program ends with an exit status, and returns everything
// that the terminal has shown.
func (p *person) exits(want int) string {
	p.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			p.t.Fatal(err)
		}
	case <-time.After(waitTimeout):
		p.t.Fatal("the program does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		p.t.Errorf("exit status %d, want %d", got, want)
	}
	p.terminal.Close()
	select {
	case <-p.shown:
	case <-time.After(waitTimeout):
		p.t.Fatal("a process that the program left behind has the terminal open")
	}
	return strings.ReplaceAll(p.screen.String(), "\r\n", "\n")
}

// questions returns the number of questions in text.
func questions(text string) int { return strings.Count(text, "wants to reach") }

const prompt = `wants to reach "example\.(com|org)" port \d+\.\r\n  Allow the host \[o\]nce, for this \[c\]onversation, \[a\]lways, or \[n\]o\? `

// Requests of several commands to a host wait for one answer, whatever their ports
// and methods. It holds for the rest of the conversation.
func TestAnswerForTheConversation(t *testing.T) {
	t.Parallel()
	args := []string{
		"-learned", filepath.Join(t.TempDir(), "learned.toml"),
		"curl http://example.com/ & curl http://example.com:81/ & curl -X POST http://example.com/ & curl http://example.com/",
		"curl http://example.com:82/",
	}
	for _, tt := range []struct{ answer, status string }{{"c", "200"}, {"n", "403"}} {
		t.Run(tt.answer, func(t *testing.T) {
			atTerminal(t, args, func(p *person) {
				p.sees(prompt)
				p.types("yes\n") // no answer
				p.sees(`or \[n\]o\? `)
				p.types(tt.answer + "\n")
				text := p.exits(0)
				if n := questions(text); n != 1 {
					t.Errorf("asked %d questions, want 1", n)
				}
				if n := strings.Count(text, "/ "+tt.status+"\n"); n != 5 {
					t.Errorf("%d responses with status %s, want 5", n, tt.status)
				}
				if n := strings.Count(text, "  | - example.com:8"); tt.answer == "n" && n != 5 || tt.answer == "c" && n != 0 {
					t.Errorf("the results report %d refusals", n)
				}
			})
		})
	}
}

// An answer for once is not for later requests. Questions about several hosts are
// asked one after the other.
func TestAnswerForOnce(t *testing.T) {
	t.Parallel()
	args := []string{
		"-learned", filepath.Join(t.TempDir(), "learned.toml"),
		"curl http://example.com/ & curl http://example.org/",
		"curl http://example.com/",
	}
	atTerminal(t, args, func(p *person) {
		for range 3 {
			p.sees(prompt)
			p.types("o\n")
		}
		text := p.exits(0)
		if questions(text) != 3 || strings.Count(text, "/ 200\n") != 3 {
			t.Error("got not 3 responses after 3 questions")
		}
		for _, answered := range strings.SplitAfter(text, "[n]o? ")[1:] {
			if !strings.HasPrefix(answered, "o\n") {
				t.Errorf("an open question was followed by %q", answered)
			}
		}
	})
}

func TestAnswerForGood(t *testing.T) {
	t.Parallel()
	learned := filepath.Join(t.TempDir(), "new", "learned.toml")
	args := []string{"-learned", learned, "curl http://example.com/ & curl http://example.com:81/"}
	t.Run("first", func(t *testing.T) {
		atTerminal(t, args, func(p *person) {
			p.sees(prompt)
			p.types("a\n")
			if text := p.exits(0); questions(text) != 1 || strings.Count(text, "/ 200\n") != 2 {
				t.Error("got not 2 responses after 1 question")
			}
		})
	})
	t.Run("later", func(t *testing.T) {
		atTerminal(t, args, func(p *person) {
			if text := p.exits(0); questions(text) != 0 || strings.Count(text, "/ 200\n") != 2 {
				t.Error("got not 2 responses without a question")
			}
		})
	})
	t.Run("not saved", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new")
		args := []string{"-learned", filepath.Join(dir, "learned.toml"), "curl http://example.com/ & curl http://example.com:81/"}
		atTerminal(t, args, func(p *person) {
			p.sees(prompt)
			if err := os.WriteFile(dir, nil, 0o600); err != nil { // so it cannot be a directory
				t.Fatal(err)
			}
			p.types("a\n")
			if text := p.exits(0); !strings.Contains(text, "allowed for this conversation only: ") || strings.Count(text, "/ 200\n") != 2 {
				t.Error("got not 2 responses and a warning")
			}
		})
	})
}

// Ctrl-C ends the commands, the question and the program.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	args := []string{"-learned", filepath.Join(t.TempDir(), "learned.toml"), "curl http://example.com/ & curl http://example.org/", "curl http://example.com/"}
	atTerminal(t, args, func(p *person) {
		p.sees(prompt)
		p.types("\x03")
		p.sees(`\(no longer needed\)\r\n`)
		text := p.exits(1)
		if !strings.Contains(text, "interrupt signal received") || strings.Contains(text, "allowed") {
			t.Error("want the error of the signal, and no request that is allowed")
		}
	})
}

// Neither the command line nor the output of a command reaches the terminal with
// control characters.
func TestHostileText(t *testing.T) {
	t.Parallel()
	args := []string{"-learned", filepath.Join(t.TempDir(), "learned.toml"), "curl http://example.com/ -evil \x1b[2J\u202e"}
	atTerminal(t, args, func(p *person) {
		p.sees(prompt)
		p.types("o\n")
		text := p.exits(0)
		if !strings.Contains(text, `"curl http://example.com/ -evil \x1b[2J\u202e"`) || !strings.Contains(text, "\n  | [2JAllow the host?\n") {
			t.Error("the text is missing")
		}
		if strings.ContainsAny(text, "\x1b\r\u202e") {
			t.Error("the terminal got control characters")
		}
	})
}

// An answer that the user types just after its question was withdrawn does not
// answer the next question.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keyboard, typed := io.Pipe()
		defer typed.Close()
		user := newTerminal(keyboard, io.Discard)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := user.ask(ctx, "first", "?", "c"); err == nil {
			t.Error("the first question was answered")
		}
		go func() {
			fmt.Fprintln(typed, "c")
			time.Sleep(2 * time.Second) // in the time of the bubble: later than an answer to the first question
			fmt.Fprintln(typed, "n")
		}()
		if answer, err := user.ask(t.Context(), "second", "?", "c", "n"); answer != "n" {
			t.Errorf("the second question was answered with %q, %v, want n", answer, err)
		}
	})
}

// TestReadme runs the commands of README.md and compares what the terminal shows. The
// order of lines depends on that of requests which are made at the same time.
func TestReadme(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```console\n$ go run ./examples/agent ")
	command, rest, _ := strings.Cut(block, "\n")
	want, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("README.md has no example")
	}
	args := []string{"-learned", filepath.Join(t.TempDir(), "learned.toml")}
	args = append(args, strings.Split(strings.Trim(command, "'"), "' '")...)
	atTerminal(t, args, func(p *person) {
		for range 2 {
			if strings.Contains(p.sees(prompt), "example.com") {
				p.types("c\n")
			} else {
				p.types("n\n")
			}
		}
		text, _, _ := strings.Cut(p.exits(0), "PASS\n")
		if got, want := sortedLines(text), sortedLines(want); !slices.Equal(got, want) {
			t.Errorf("README.md has the lines\n%s\nwant\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
		}
	})
}

// sortedLines returns the lines of text without the numbers that differ from run to
// run.
func sortedLines(text string) []string {
	text = regexp.MustCompile(`(?m)^s\d+|\d+ received$`).ReplaceAllString(text, "#")
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return lines
}

// Without a user, nothing is allowed.
func TestNobodyIsThere(t *testing.T) {
	t.Parallel()
	var screen testnet.Buffer
	b := networkproxy.NewBuilder().LearnedFile(filepath.Join(t.TempDir(), "learned.toml")).
		Resolver(networkproxytest.Origin(t, "example.com", http.NotFoundHandler()))
	turns := []string{"", filepath.Join(curlDir(t), "curl") + " http://example.com/ &  & no-such-command"}
	if err := run(t.Context(), b, newTerminal(strings.NewReader(""), &screen), turns); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"  | GET http://example.com/ 403\n", "(nobody is at the terminal)", "  | the command failed: exec: \"no-such-command\": "} {
		if text := screen.String(); !strings.Contains(text, want) {
			t.Errorf("the terminal shows %q, want %q in it", text, want)
		}
	}
}
