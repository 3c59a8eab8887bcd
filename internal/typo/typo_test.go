package typo

import (
	"strings"
	"testing"
)

func TestClosest(t *testing.T) {
	t.Parallel()
	known := []string{"check", "config", "log-format", "log-level", "run", "allow_local_binding"}
	for name, want := range map[string]string{
		"chekc":                      "check",
		"Config":                     "config",
		"cofnig":                     "config",
		"log_format":                 "log-format",
		"logformat":                  "log-format",
		"log-levels":                 "log-level",
		"rn":                         "run",
		"ruin":                       "run",
		"allow-local-binding":        "allow_local_binding",
		"rinse":                      "",
		"":                           "",
		"unrelated":                  "",
		strings.Repeat("config", 20): "",
	} {
		if got := Closest(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"abc", "abc", 0}, {"", "abc", 3}, {"abc", "", 3},
		{"abc", "abd", 1}, {"abc", "acb", 1}, {"abc", "xabc", 1}, {"abc", "bc", 1}, {"kitten", "sitting", 3},
	} {
		if got := Distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q to %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
