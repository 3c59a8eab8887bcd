// Tests of the events command, and of -ask on the page.

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// adminOf returns the address of the admin API that serve prints.
func (p *process) adminOf(t *testing.T) string {
	t.Helper()
	return p.stderr.await(t, `admin API  on http://(\S+)`)
}

func TestEvents(t *testing.T) {
	t.Parallel()
	proxy := start(t, "-config", configText(t, ""))
	addr := proxy.stderr.await(t, `HTTP proxy on http://(\S+)`)
	admin := proxy.adminOf(t)

	text := start(t, "events", "-follow", "-admin", admin)
	lines := start(t, "events", "-json", "-follow", "-admin", admin)
	n := 0
	for _, p := range []*process{text, lines} { // until both have connected
		until(t, func() bool {
			n++
			get(t, addr, fmt.Sprintf("http://refused%d.example/", n), "")
			return p.stdout.String() != ""
		}, func() string { return "no events: " + p.stderr.String() })
	}
	text.stdout.await(t, `(?m)^\d\d:\d\d:\d\d refused http GET refused\d+\.example:80 \(deny, not_allowed, `)
	var e networkproxy.Event
	first := lines.stdout.await(t, `(?m)^(\{.*\})$`)
	if err := json.Unmarshal([]byte(first), &e); err != nil || e.Kind != networkproxy.EventRefused {
		t.Errorf("%v in %s", err, first)
	}

	past := start(t, "events", "-admin", admin)
	if status := past.status(t); status != 0 || !strings.Contains(past.stdout.String(), " refused http GET refused") {
		t.Errorf("exit %d, %s%s", status, &past.stdout, &past.stderr)
	}
	text.stop()
	if status := text.status(t); status != 0 {
		t.Errorf("exit %d after a signal: %s", status, &text.stderr)
	}
	proxy.stop()
	lines.stderr.await(t, "the connection to the admin API is lost; trying again")
}

// TestEventsConnectAgain checks that the command goes on after a loss, from the last event.
func TestEventsConnectAgain(t *testing.T) {
	t.Parallel()
	last := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last <- r.Header.Get("Last-Event-ID") + " " + r.Header.Get("Authorization")
		fmt.Fprint(w, "retry: 2000\n\n: heartbeat\n\nid: x-1\ndata: {\"kind\":\"mode\",\"mode\":\"limited\"}\n\n")
	}))
	t.Cleanup(s.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a-token-of-sixteen\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "events", "-follow", "-admin", strings.TrimPrefix(s.URL, "http://"), "-admin-token-file", token)
	for _, want := range []string{" Bearer a-token-of-sixteen", "x-1 Bearer a-token-of-sixteen"} {
		if got := <-last; got != want {
			t.Errorf("Last-Event-ID and Authorization %q, want %q", got, want)
		}
	}
	p.stdout.await(t, `mode \(mode limited\)`)
}

func TestEventsErrors(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error": "admin token required"}`)
	}))
	t.Cleanup(s.Close)
	for args, want := range map[string]string{
		"-follow -admin " + strings.TrimPrefix(s.URL, "http://"): "networkproxy: the admin API answers: admin token required",
		"-follow -admin " + testnet.ClosedPort(t).String():       "networkproxy: cannot reach the admin API; -admin names its address",
		"-admin-token-file " + t.TempDir() + "/none":             "networkproxy: -admin-token-file: open",
		"more": `networkproxy: unexpected argument "more"`,
	} {
		p := start(t, append([]string{"events"}, strings.Fields(args)...)...)
		if status := p.status(t); status == 0 || !strings.HasPrefix(p.stderr.String(), want) {
			t.Errorf("%s: exit %d, %s", args, status, &p.stderr)
		}
	}
}

// TestServeAsks checks the link that serve prints with -ask, and that it prints none
// without a terminal otherwise, because its output may be a log.
func TestServeAsks(t *testing.T) {
	t.Parallel()
	p := start(t, "-ask", "-config", configText(t, ""))
	p.stderr.await(t, `page       on http://\S+/#code=\S+   \(can be used once\)`)
	if status, _ := get(t, "", "http://"+p.adminOf(t)+"/questions", ""); status != 401 {
		t.Errorf("the questions without a token: %d", status)
	}
	quiet := start(t, "-config", configText(t, ""))
	quiet.stderr.await(t, `to use it: export`)
	if strings.Contains(quiet.stderr.String(), "code=") {
		t.Errorf("a link in what may be a log: %s", &quiet.stderr)
	}
	for args, want := range map[string]string{
		"run -ask=no -- true":                    `invalid value "no" for -ask: use terminal or page`,
		"-ask=terminal":                          `invalid value "terminal" for -ask: use page`,
		"run -ask=page -observe -- true":         "-ask and -observe exclude each other",
		"-ask -observe -allow a.example":         "-ask and -observe exclude each other",
		"-ask -ask-timeout -1s -allow a.example": "-ask-timeout is negative",
	} {
		p := start(t, strings.Fields(args)...)
		if status := p.status(t); status != exitUsage || !strings.Contains(p.stderr.String(), want) {
			t.Errorf("%s: exit %d, %s", args, status, &p.stderr)
		}
	}
}
