//go:build unix

package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

// TestRunLimited: -limited lets a command only read, whatever the mode of the file, and
// turns TLS inspection on. -mitm alone restricts nothing.
//
// The origin server's certificate is one that only the test knows. If the proxy opens
// TLS, its own certificate is trusted by the command, and it answers 502 for the server.
func TestRunLimited(t *testing.T) {
	setChildEnv(t)
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	plain, secure := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of failed handshakes
	secure.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	rules := configText(t, "[network_proxy.policy]\nallowed_domains = [\"127.0.0.1\"]\n[[network_proxy.mitm_hooks]]\nhost = \""+
		strings.TrimPrefix(secure.URL, "https://")+"\"\naccess = \"read-only\"\n")
	for _, test := range []struct {
		name, flags, request string
		want                 string // the beginning of standard output
	}{
		{"reading", "-limited", "GET " + plain.URL, "200 \n"},
		{"writing", "-limited", "POST " + plain.URL, "403 blocked-by-method-policy\n"},
		{"deleting", "-limited", "DELETE " + plain.URL, "403 blocked-by-method-policy\n"},
		{"writing, with -mitm alone", "-mitm", "POST " + plain.URL, "200 \n"},
		{"writing, without flags", "", "POST " + plain.URL, "200 \n"},
		{"HTTPS is opened", "-limited", "GET " + secure.URL, "502 \n"},
		{"HTTPS is not opened without a reason", "-mitm", "GET " + secure.URL, "tls: failed to verify certificate"},
		{"HTTPS is not opened without flags", "", "GET " + secure.URL, "tls: failed to verify certificate"},
		{"rules of a file need -mitm or -limited", "-mitm -config=" + rules, "GET " + secure.URL, "502 \n"},
		{"rules of a file with -limited", "-limited -config=" + rules, "POST " + plain.URL, "403 blocked-by-method-policy\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(test.want, "502") && runtime.GOOS != "linux" {
				t.Skip("Go reads no certificates from files here")
			}
			var stdout, stderr testnet.Buffer
			p := program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
			args := append([]string{"run", "-allow", "127.0.0.1"}, strings.Fields(test.flags)...)
			p.main(t.Context(), append(args, "--", os.Args[0], "request "+test.request))
			if got := stdout.String(); !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q; standard error:\n%s", got, test.want, &stderr)
			}
		})
	}
}

// TestLimitedUnderLimits: managed limits that forbid TLS inspection forbid -limited.
func TestLimitedUnderLimits(t *testing.T) {
	t.Parallel()
	limits := configText(t, "[network_proxy]\nmitm = false\n")
	for _, flag := range []string{"-limited", "-mitm"} {
		status, _, stderr := runProgram(nil, "run", "-allow", "a.example", "-requirements", limits, flag, "--", "true")
		if status != exitError || !strings.Contains(stderr, "network_proxy.mitm = true: exceeds a managed limit: must be false ("+limits+":2:8)") {
			t.Errorf("%s: exit status %d, %s", flag, status, stderr)
		}
	}
}

// TestLimitedHelp: the help says what -limited turns on, and only run has it.
func TestLimitedHelp(t *testing.T) {
	t.Parallel()
	if _, stdout, stderr := runProgram(nil, "help", "run"); !strings.Contains(stdout+stderr, "turns -mitm on") {
		t.Errorf("help run:\n%s%s", stdout, stderr)
	}
	if status, _, stderr := runProgram(nil, "serve", "-limited", "-allow", "a.example"); status != exitUsage || !strings.Contains(stderr, "-limited") {
		t.Errorf("serve -limited: exit status %d, %s", status, stderr)
	}
}
