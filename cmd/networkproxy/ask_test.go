//go:build unix

package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

func TestQuestion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		req  networkproxy.PolicyRequest
		want string
	}{
		{"CONNECT", networkproxy.PolicyRequest{Protocol: networkproxy.ProtocolHTTPSConnect, Host: "api.example.com", Port: 443, Method: "CONNECT"},
			"\nnetworkproxy: the command wants to reach api.example.com port 443 (https_connect).\n"},
		{"local", networkproxy.PolicyRequest{Protocol: networkproxy.ProtocolHTTP, Host: "localhost", Port: 3000, Method: "GET", Local: true},
			"\nnetworkproxy: the command wants to reach localhost port 3000, a service on this machine (http GET).\n"},
		{"hostile", networkproxy.PolicyRequest{Protocol: networkproxy.ProtocolHTTP, Host: "a\x1b[2Jb\u202e\x00\xff\n\u009b2Kc.example", Port: 80, Method: "G\rE\x1b]0;T"},
			"\nnetworkproxy: the command wants to reach a[2Jb2Kc.example port 80 (http GE]0;T).\n"},
		{"long", networkproxy.PolicyRequest{Protocol: networkproxy.ProtocolHTTP, Host: "a.example", Port: 80, Method: strings.Repeat("x", 5000)},
			"\nnetworkproxy: the command wants to reach a.example port 80 (http " + strings.Repeat("x", 295) + "...).\n"},
	} {
		test.req.Client = netip.MustParseAddrPort("127.0.0.1:1")
		test.req.Command = "\x1b[2J"
		if got := question(test.req); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestReadLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ typed, want, err string }{
		{"run\nmore", "run", ""},
		{"run\rmore", "run", ""}, // the command has turned line mode off
		{"\n", "", ""},
		{"on\x7fce\bE\n", "ocE", ""},
		{"\x7f\x7fn\n", "n", ""},
		{"o\x03", "", "interrupted"},
		{strings.Repeat("n", 1000) + "\n", strings.Repeat("n", maxAnswer), ""},
		{"once", "", "cannot read the terminal: EOF"},
		{"", "", "cannot read the terminal: EOF"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.WriteString(test.typed)
		w.Close()
		c := &console{r}
		got, err := c.readLine(t.Context())
		if got != test.want || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("%.20q: got %q, %v; want %q, %s", test.typed, got, err, test.want, test.err)
		}
		c.close()
	}
}

// A read ends with its context, and the next one works.
func TestReadLineEnds(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c := &console{r}
	defer c.close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.readLine(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got the error %v", err)
	}
	w.WriteString("no\n")
	if got, err := c.readLine(t.Context()); got != "no" || err != nil {
		t.Errorf("then: got %q, %v", got, err)
	}
}
