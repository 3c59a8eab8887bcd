package main

import (
	"regexp"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

// TestRun runs the example. The decider is asked about two of the four targets, and
// each refusal states its reason.
func TestRun(t *testing.T) {
	const want = `^http://upload\.example/
  asked about upload\.example:80 \(http GET\)
  403 Forbidden
  \{.*"reason":"uploads need the user's approval","source":"decider","decision":"ask".*\}
http://games\.example/
  asked about games\.example:80 \(http GET\)
  403 Forbidden
  \{.*"reason":"this task does not need games\.example","source":"decider","decision":"deny".*\}
http://docs\.evil\.example/
  403 Forbidden
  \{.*"reason":"denied","source":"baseline_policy","decision":"deny","rule":"docs\.evil\.example".*\}
http://192\.168\.0\.1/
  403 Forbidden
  \{.*"reason":"not_allowed_local".*\}
$`
	if got := testnet.CaptureStdout(t, run); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("output:\n%s", got)
	}
}
