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

// childEnv makes this binary act as the command. Its value is a list of URLs.
const childEnv = "ASK_TEST_CHILD"

func TestMain(m *testing.M) {
	if urls, ok := os.LookupEnv(childEnv); ok {
		os.Exit(fetch(strings.Fields(urls)))
	}
	os.Exit(m.Run())
}

// fetch requests each URL and returns how many the proxy allowed, as an exit
// status. None of the names exists, so allowed requests get 502.
func fetch(urls []string) (passed int) {
	for _, url := range urls {
		resp, err := http.Get(url)
		if err != nil {
			return 100
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusBadGateway {
			passed++
		}
	}
	return passed
}

// person answers each question by the host that it is about.
type person struct {
	answers map[string]string
	asked   []string

	output *bufio.Reader  // what the program prints
	in     *io.PipeReader // what the program reads
	out    *io.PipeWriter
	w      *io.PipeWriter
}

func newPerson(answers map[string]string) *person {
	p := &person{answers: answers}
	r, w := io.Pipe()
	p.output, p.w = bufio.NewReader(r), w
	p.in, p.out = io.Pipe()
	return p
}

func (p *person) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *person) Write(b []byte) (int, error) { return p.w.Write(b) }

// answerAll answers questions until the program ends, and returns the rest of its
// output.
func (p *person) answerAll() (rest string) {
	for {
		line, err := p.output.ReadString('\n')
		if _, after, ok := strings.Cut(line, "wants to reach "); ok {
			host, _, _ := strings.Cut(after, " ")
			p.asked = append(p.asked, host)
			io.CopyN(io.Discard, p.output, int64(len("  Allow [o]nce, for this [s]ession, or [n]ever? ")))
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
		{"nobody there", "http://a.example/", nil, 0, "a.example", "refused:\n  a.example port 80 (http): no user to ask\n"},
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
			rest := p.answerAll()
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
				t.Errorf("output %q, want %q at the end", rest, test.refused)
			}
			p.out.Close()
		})
	}
}
