package hostname

// Fuzz targets. They check properties of every host.

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var canonicalForm = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)

// atonPart matches a number that strtoul of C23 reads with base 0.
var atonPart = regexp.MustCompile(`^([0-9]+|0[xX][0-9a-fA-F]*|0[bB][01]*)$`)

// atonReadable is a model of inet_aton(3): one to four parts, each a number, where
// the last fills the remaining bytes. It accepts more than real implementations,
// because it checks neither the size of numbers nor the digits of octal ones.
func atonReadable(s string) bool {
	parts := strings.Split(strings.TrimSuffix(s, "."), ".")
	return len(parts) <= 4 && !slices.ContainsFunc(parts, func(p string) bool { return !atonPart.MatchString(p) })
}

func TestAtonReadable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"127.0.0.1": true, "127.1": true, "0x7f.1": true, "2130706433": true, "0177.0.0.1": true, "99999999999999999999999": true, "0b1.1": true,
		"example.com": false, "1.example": false, "1.2.3.4.5": false, "0xg": false, "a": false,
	} {
		if got := atonReadable(in); got != want {
			t.Errorf("atonReadable(%q) = %v, want %v", in, got, want)
		}
	}
}

// checkHost fails the test unless h, the result of parsing in, is canonical.
func checkHost(t *testing.T, in string, h Host) {
	t.Helper()
	again, err := Parse(h.String())
	if err != nil || again != h {
		t.Fatalf("Parse(%q) = %v, but Parse of that = %v, %v", in, h, again, err)
	}
	if h.IsIP() {
		a := h.Addr()
		if h.Name() != "" || a.Is4In6() || a.Zone() != "" {
			t.Fatalf("Parse(%q) = %#v is not a canonical address", in, h)
		}
		if scoped := h.ScopedAddr(); scoped.WithZone("") != a || scoped.Zone() != h.Zone() || h.IsLocalhost() {
			t.Fatalf("Parse(%q) = %v, but ScopedAddr = %v", in, h, scoped)
		}
		inBrackets := strings.Replace(h.String(), "%", "%25", 1)
		if bracketed, err := Parse("[" + inBrackets + "]"); a.Is6() && (err != nil || bracketed != h) {
			t.Fatalf("Parse(%q) = %v, but Parse of that in brackets = %v, %v", in, h, bracketed, err)
		}
		return
	}
	name := h.Name()
	if len(name) > 253 || !canonicalForm.MatchString(name) {
		t.Fatalf("Parse(%q) = %q is not a canonical name", in, name)
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > 63 {
			t.Fatalf("Parse(%q) = %q has a label of %d bytes", in, name, len(label))
		}
	}
	if _, err := netip.ParseAddr(name); err == nil || atonReadable(name) {
		t.Fatalf("Parse(%q) = %q, a name that some resolvers read as an address", in, name)
	}
	for _, same := range []string{name + ".", strings.ToUpper(name)} {
		if other, err := Parse(same); err != nil || other != h {
			t.Fatalf("Parse(%q) = %v, %v, want %q as for %q", same, other, err, name, in)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"example.com", "EXAMPLE.com.", "1.2.3.4", "::1", "[::1]", "[fe80::1%25eth0]", "fe80::1%25", "[fe80::1%251]", "fe80::1%2a", "ff02::1%lo", "::ffff:1.2.3.4", "2130706433", "0x7f.1", "127.1",
		"0177.0.0.1", "127.0.0.1.", "１２７.0.0.1", "foo.0x7f", "r3---sn-x.googlevideo.com", "bücher.example", "xn--bcher-kva.example",
		"xn--a", "faß.de", "a\u200db", "例え。テスト", "אבג.example", "_a._b", "a\x00b", "%31", "ⓛocalhost", "a℀b", "ℶz", "a.xn--", "-a", "a-", "..", "*",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := Parse(s)
		if err != nil {
			if !h.IsZero() || !printableASCII(err.Error()) || len(err.Error()) > 700 {
				t.Fatalf("Parse(%q) = %v, %q", s, h, err)
			}
			return
		}
		checkHost(t, s, h)
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{
		"example.com:443", "EXAMPLE.com.:1", "1.2.3.4:65535", "[::1]:80", "[::ffff:1.2.3.4]:80", "[fe80::1%eth0]:80", "a:0", "a:00080",
		"a:+1", "a:", ":80", "a", "::1", "[::1]", "[::1", "a:80:80", "例え。テスト:80",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := ParseTarget(s)
		if err != nil {
			if target != (Target{}) || !printableASCII(err.Error()) {
				t.Fatalf("ParseTarget(%q) = %v, %q", s, target, err)
			}
			return
		}
		checkHost(t, s, target.Host)
		if i := strings.LastIndexByte(s, ':'); target.Port == 0 || s[i+1:] != strconv.Itoa(int(target.Port)) {
			t.Fatalf("ParseTarget(%q) has port %d", s, target.Port)
		}
		again, err := ParseTarget(target.String())
		if err != nil || again != target {
			t.Fatalf("ParseTarget(%q) = %v, but ParseTarget of that = %v, %v", s, target, again, err)
		}
		if other, err := ParseTargetDefault(s, 9); err != nil || other != target {
			t.Fatalf("ParseTargetDefault(%q) = %v, %v, want %v", s, other, err, target)
		}
	})
}
