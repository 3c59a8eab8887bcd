// Tests of run -ask=page.

//go:build unix

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"testing"
)

// TestRunAsksOnThePage: the command waits until its question is answered, with the token
// that the link gives.
func TestRunAsksOnThePage(t *testing.T) {
	setChildEnv(t)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	t.Cleanup(origin.Close)
	p := start(t, "run", "-ask=page", "--", os.Args[0], "get-by-proxy "+origin.URL)
	page := p.stderr.await(t, `answer the questions of this command on http://(\S+)/#code=`)
	code := p.stderr.await(t, `/#code=(\S+)`)
	_, body := post(t, "http://"+page+"/login", fmt.Sprintf(`{"code": %q}`, code), "")
	token := regexp.MustCompile(`"token": "([^"]+)"`).FindStringSubmatch(body)
	if token == nil {
		t.Fatalf("login: %s", body)
	}
	until(t, func() bool {
		status, _ := post(t, "http://"+page+"/questions/answer", `{"id": 1, "answer": "once"}`, token[1])
		return status == 200
	}, func() string { return "no question: " + p.stderr.String() })
	if status := p.status(t); status != 0 || p.stdout.String() != "200\n" {
		t.Errorf("exit %d, %q, %s", status, &p.stdout, &p.stderr)
	}
}
