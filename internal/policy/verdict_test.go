package policy

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestChecksHaveDistinctNames(t *testing.T) {
	t.Parallel()
	seen := make(map[string]Check)
	for i := range checkNames {
		c := Check(i)
		if other, ok := seen[c.String()]; ok || (c.String() == "") != (c == CheckNone) {
			t.Errorf("check %d has the name %q, like check %d", c, c, other)
		}
		seen[c.String()] = c
	}
}

func TestVerdictWords(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		verdict  Verdict
		decision DecisionKind
		token    string
		approval Source
	}{
		{"zero", Verdict{}, "deny", "blocked-by-policy", ""},
		{"allowed by a list", Verdict{Allowed: true, Source: SourceBaselinePolicy}, "allow", "blocked-by-policy", ""},
		{"allowed by the decider", Verdict{Allowed: true, Source: SourceDecider}, "allow", "blocked-by-policy", SourceDecider},
		{"allowlist", Verdict{Reason: ReasonNotAllowed, Source: SourceBaselinePolicy}, "deny", "blocked-by-allowlist", ""},
		{"local", Verdict{Reason: ReasonNotAllowedLocal, Source: SourceBaselinePolicy}, "deny", "blocked-by-allowlist", ""},
		{"denylist", Verdict{Reason: ReasonDenied, Source: SourceBaselinePolicy}, "deny", "blocked-by-denylist", ""},
		{"mode", Verdict{Reason: ReasonMethodNotAllowed, Source: SourceModeGuard}, "deny", "blocked-by-method-policy", SourceModeGuard},
		{"disabled", Verdict{Reason: ReasonProxyDisabled, Source: SourceProxyState}, "deny", "blocked-by-policy", SourceProxyState},
		{"decider asks", Verdict{Ask: true, Reason: "approval", Source: SourceDecider}, "ask", "blocked-by-policy", SourceDecider},
		{"decider uses a reason of the denylist", Verdict{Reason: ReasonDenied, Source: SourceDecider}, "deny", "blocked-by-policy", SourceDecider},
		{"decider uses a reason of the allowlist", Verdict{Reason: ReasonNotAllowed, Source: SourceDecider}, "deny", "blocked-by-policy", SourceDecider},
		{"revoked", Revoked(7), "deny", "blocked-by-policy", SourceDecider},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := test.verdict
			if d, token, approval := v.Decision(), v.ErrorToken(), v.Approval(); d != test.decision || token != test.token || approval != test.approval {
				t.Errorf("got %q, %q, %q; want %q, %q, %q", d, token, approval, test.decision, test.token, test.approval)
			}
		})
	}
}

func TestByUser(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		verdict Verdict
		want    bool
	}{
		{"allowlist", Verdict{Reason: ReasonNotAllowed, Source: SourceBaselinePolicy}, false},
		{"denied", Verdict{Reason: "no", Source: SourceDecider}, true},
		{"asked", Verdict{Reason: "first use", Source: SourceDecider, Ask: true}, true},
		{"allowed", Verdict{Allowed: true, Source: SourceDecider}, false},
		{"no answer", Verdict{Reason: ReasonDeciderTimeout, Source: SourceDecider, OwnReason: true}, false},
		{"denied with a reason of the proxy", Verdict{Reason: ReasonDeciderTimeout, Source: SourceDecider}, true},
		{"revoked", Revoked(7), true},
	} {
		if got := test.verdict.ByUser(); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
	}
}

func TestCleanText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		limit      int
		want       string
	}{
		{"plain", "not now", 200, "not now"},
		{"line breaks", "a\r\nx-header: b", 200, "ax-header: b"},
		{"escape sequence", "\x1b[31mred", 200, "[31mred"},
		{"C1 and DEL", "a\u0085\u009b\x7fb", 200, "ab"},
		{"invalid UTF-8", "a\xffb", 200, "ab"},
		{"surrounding space", "  a b ", 200, "a b"},
		{"over the limit", "abcdef", 3, "abc"},
		{"limit within a character", "ab\u20ac", 4, "ab"},
		{"space at the limit", "ab cd", 3, "ab"},
		{"marks of direction", "a\u202eb\u2066c\u200fd", 200, "abcd"},
		{"line separators", "a\u2028b\u2029c", 200, "abc"},
		{"other scripts", "nein, späte\u00a0日本", 200, "nein, späte\u00a0日本"},
		{"empty", "", 200, ""},
	}
	for _, test := range tests {
		if got := CleanText(test.text, test.limit); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
	if got := CleanReason(strings.Repeat("a", 300)); len(got) != 200 {
		t.Errorf("CleanReason of 300 bytes: got %d, want 200", len(got))
	}
}

func FuzzCleanText(f *testing.F) {
	f.Add("a\r\n\x1b\u0085\xff\u20ac", 4)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = max(0, limit%1000)
		got := CleanText(text, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("CleanText(%q, %d): got %q", text, limit, got)
		}
		if again := CleanText(got, limit); again != got {
			t.Errorf("CleanText(%q, %d): got %q, and %q when applied again", text, limit, got, again)
		}
	})
}
