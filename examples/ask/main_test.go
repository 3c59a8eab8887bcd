package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// childEnv tells this binary to be the command that is run.
const childEnv = "ASK_TEST_CHILD"

func TestMain(m *testing.M) {
	if urls, ok := os.LookupEnv(childEnv); ok {
		os.Exit(fetch(strings.Fields(urls)))
	}
	os.Exit(m.Run())
}

// fetch tells the status of each URL by its exit status: how many were let
// through. None of the names exists, so that those get 502.
func fetch(urls []string) (passed int) {
	for _, url := range urls {
		answer, err := http.Get(url)
		if err != nil {
			return 100
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusBadGateway {
			passed++
		}
	}
	return passed
}

// person answers each question by the port that it is about.
type person struct {
	answers map[string]string
	asked   []string

	said *bufio.Reader  // what the program writes
	in   *io.PipeReader // what the program reads
	out  *io.PipeWriter
	w    *io.PipeWriter
}

func newPerson(answers map[string]string) *person {
	p := &person{answers: answers}
	r, w := io.Pipe()
	p.said, p.w = bufio.NewReader(r), w
	p.in, p.out = io.Pipe()
	return p
}

func (p *person) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *person) Write(b []byte) (int, error) { return p.w.Write(b) }

// sit answers until the program has nothing more to say, and returns the rest
// of what it said.
func (p *person) sit() (rest string) {
	for {
		line, err := p.said.ReadString('\n')
		if _, after, ok := strings.Cut(line, "wants to reach "); ok {
			host, _, _ := strings.Cut(after, " ")
			p.asked = append(p.asked, host)
			io.CopyN(io.Discard, p.said, int64(len("  Let it, [o]nce or for this [s]ession, or [n]ever? ")))
			for _, answer := range strings.Fields(p.answers[host]) {
				fmt.Fprintln(p.out, answer)
			}
			if p.answers[host] == "" {
				p.out.Close()
			}
			continue
		}
		rest += line
		if err != nil {
			return rest
		}
	}
}

func TestAsk(t *testing.T) {
	for _, test := range []struct {
		name, urls string
		answers    map[string]string
		passed     int
		asked      string
		refused    string
	}{
		{"once", "http://a.example/ http://a.example/", map[string]string{"a.example": "o"}, 2, "a.example a.example", ""},
		{"session", "http://a.example/1 http://a.example/2", map[string]string{"a.example": "s"}, 2, "a.example", ""},
		{"never", "http://a.example/1 http://a.example/2", map[string]string{"a.example": "n"}, 0, "a.example",
			"refused:\n  a.example port 80 (http): the user said never\n  a.example port 80 (http): the user said never\n"},
		{"each host", "http://a.example/ http://b.example/ http://192.168.0.1/", map[string]string{"a.example": "s", "b.example": "n"}, 1, "a.example b.example",
			"refused:\n  b.example port 80 (http): the user said never\n  192.168.0.1 port 80 (http): not_allowed_local\n"},
		{"nobody there", "http://a.example/", nil, 0, "a.example", "refused:\n  a.example port 80 (http): nobody is there to ask\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(childEnv, test.urls)
			t.Setenv("GORACE", "atexit_sleep_ms=0")
			p := newPerson(test.answers)
			ended := make(chan error, 1)
			go func() {
				defer p.w.Close()
				ended <- run(context.Background(), networkproxy.NewBuilder().Resolver(new(testnet.Resolver)), []string{os.Args[0]}, p)
			}()
			rest := p.sit()
			err := <-ended
			passed := 0
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				passed = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if passed != test.passed {
				t.Errorf("%d requests passed, want %d", passed, test.passed)
			}
			if got := strings.Join(p.asked, " "); got != test.asked {
				t.Errorf("asked about %s, want %s", got, test.asked)
			}
			if !strings.HasSuffix(rest, test.refused) || test.refused == "" && strings.Contains(rest, "refused") {
				t.Errorf("it says %q, want %q at the end", rest, test.refused)
			}
			p.out.Close()
		})
	}
}
