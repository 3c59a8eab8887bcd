package hostname

// Tests of Target, ParsePort and Quote.

import (
	"errors"
	"strings"
	"testing"
	"unsafe"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   string
		port uint16 // the default; 0 if the text must have one
		want string
	}{
		{"name", "example.com:443", 0, "example.com:443"},
		{"normalised", "EXAMPLE.com.:443", 0, "example.com:443"},
		{"IPv4", "192.0.2.1:80", 0, "192.0.2.1:80"},
		{"IPv6", "[2001:DB8::1]:80", 0, "[2001:db8::1]:80"},
		{"mapped", "[::ffff:192.0.2.1]:80", 0, "192.0.2.1:80"},
		{"zone", "[fe80::1%25eth0]:80", 0, "[fe80::1%25eth0]:80"},
		{"zone without an escape", "[fe80::1%eth0]:80", 0, "[fe80::1%25eth0]:80"},
		{"zone 25", "[fe80::1%2525]:80", 0, "[fe80::1%2525]:80"},
		{"zone that is dropped", "[::1%25lo]:80", 0, "[::1]:80"},
		{"empty port", "example.com:", 80, "example.com:80"},
		{"empty port, IPv4", "192.0.2.1:", 8080, "192.0.2.1:8080"},
		{"empty port, IPv6", "[::1]:", 80, "[::1]:80"},
		{"lowest port", "a:1", 0, "a:1"},
		{"highest port", "a:65535", 0, "a:65535"},
		{"default", "example.com", 80, "example.com:80"},
		{"default, IPv4", "192.0.2.1", 80, "192.0.2.1:80"},
		{"default, IPv6", "[::1]", 80, "[::1]:80"},
		{"explicit port overrides the default", "example.com:8080", 80, "example.com:8080"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseTargetDefault(tt.in, tt.port)
			if err != nil || got.String() != tt.want {
				t.Fatalf("ParseTargetDefault(%q, %d) = %v, %v, want %s", tt.in, tt.port, got, err, tt.want)
			}
			again, err := ParseTarget(got.String())
			if err != nil || again != got {
				t.Errorf("ParseTarget(%q) = %v, %v, want the same target", got, again, err)
			}
		})
	}
}

func TestParseTargetRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		in      string
		problem string
	}{
		{"empty", "", "no host"},
		{"no port", "example.com", "no port"},
		{"no port, IPv6", "[::1]", "no port"},
		{"no host", ":443", "no host"},
		{"empty port", "example.com:", "missing"},
		{"empty port, IPv6", "[::1]:", "missing"},
		{"port 0", "example.com:0", "0"},
		{"leading zero", "example.com:0443", "leading zeros"},
		{"port 65536", "example.com:65536", "too large"},
		{"port that wraps", "example.com:4295032833", "too large"},
		{"very long port", "example.com:" + strings.Repeat("9", 100), "too large"},
		{"plus", "example.com:+443", "decimal"},
		{"minus", "example.com:-1", "decimal"},
		{"space before port", "example.com: 443", "decimal"},
		{"space after port", "example.com:443 ", "decimal"},
		{"hexadecimal port", "example.com:0x50", "decimal"},
		{"service name", "example.com:https", "decimal"},
		{"full-width port", "example.com:４４３", "decimal"},
		{"two ports", "example.com:80:443", "more than one colon"},
		{"bare IPv6", "2001:db8::1", "brackets"},
		{"bare IPv6 and port", "::1:443", "brackets"},
		{"open bracket", "[::1:443", "closing"},
		{"text after bracket", "[::1]443", "closing bracket"},
		{"IPv4 in brackets", "[127.0.0.1]:80", "IPv6"},
		{"empty brackets", "[]:80", "IPv6"},
		{"URL", "http://example.com:80", "more than one colon"},
		{"path", "example.com:80/x", "decimal"},
		{"user", "user@example.com:80", "user"},
		{"password", "user:pw@example.com:80", "more than one colon"},
		{"IPv4 short", "127.1:80", "IPv4"},
		{"IPv4 trailing dot", "127.0.0.1.:80", "IPv4"},
		{"NUL", "example.com\x00:80", "NUL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseTarget(tt.in)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("ParseTarget(%q) = %v, %v, want an *Error", tt.in, got, err)
			}
			if got != (Target{}) || e.Text != tt.in || !strings.Contains(e.Problem, tt.problem) {
				t.Errorf("ParseTarget(%q) = %v, text %q, problem %q, want one that mentions %q", tt.in, got, e.Text, e.Problem, tt.problem)
			}
		})
	}
}

// TestParseTargetDefaultRefuses checks that a default port does not replace a
// malformed one.
func TestParseTargetDefaultRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", ":", "example.com::", "[::1]::", "example.com: ", "example.com:0", "::1", "[::1", "[::1]x", ":80"} {
		if got, err := ParseTargetDefault(in, 80); err == nil {
			t.Errorf("ParseTargetDefault(%q, 80) = %v, want an error", in, got)
		}
	}
}

func TestParsePort(t *testing.T) {
	t.Parallel()
	if p, err := ParsePort("8443"); p != 8443 || err != nil {
		t.Errorf("ParsePort(8443) = %d, %v", p, err)
	}
	for _, in := range []string{"", "0", "00", "080", "65536", "+1", "-1", " 1", "1 ", "1e3", "1_000"} {
		if p, err := ParsePort(in); err == nil || p != 0 {
			t.Errorf("ParsePort(%q) = %d, %v, want an error", in, p, err)
		}
	}
}

func TestTargetZero(t *testing.T) {
	t.Parallel()
	if s := (Target{}).String(); s != "" {
		t.Errorf("the zero Target prints as %q, want nothing", s)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a":                     `"a"`,
		"a\x1b[2J\n\u202e":      `"a\x1b[2J\n\u202e"`,
		"\xff":                  `"\xff"`,
		strings.Repeat("a", 80): `"` + strings.Repeat("a", 80) + `"`,
		strings.Repeat("a", 81): `"` + strings.Repeat("a", 80) + `"... (81 bytes)`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func BenchmarkParseTarget(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTarget("api.eu-west-1.example.com:443"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestClone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a.example:80", "A.example:80", "192.0.2.7:1", "[2001:db8::1]:65535"} {
		target, err := ParseTarget(text)
		if err != nil {
			t.Fatal(err)
		}
		clone := target.Clone()
		if clone != target {
			t.Errorf("Clone of %s = %v", text, clone)
		}
		if name := target.Host.name; name != "" && unsafe.StringData(name) == unsafe.StringData(clone.Host.name) {
			t.Errorf("Clone of %s shares memory with the original", text)
		}
	}
}
