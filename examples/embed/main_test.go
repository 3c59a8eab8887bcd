package main

import (
	"regexp"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

// TestRun compares the output of the example, except for the ports.
func TestRun(t *testing.T) {
	const want = `^proxy on 127\.0\.0\.1:\d+
http://127\.0\.0\.1:\d+ +200 OK 
http://ads\.example\.com/ +403 Forbidden blocked-by-denylist
http://elsewhere\.example/ +403 Forbidden blocked-by-allowlist
http://10\.0\.0\.1/ +403 Forbidden blocked-by-allowlist
refused:
  ads\.example\.com:80 \(denied\)
  elsewhere\.example:80 \(not_allowed\)
  10\.0\.0\.1:80 \(not_allowed_local\)
$`
	if got := testnet.CaptureStdout(t, run); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("output:\n%s", got)
	}
}
