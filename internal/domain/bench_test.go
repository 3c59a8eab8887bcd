package domain

// Benchmarks of parsing, compiling and matching, and a test that matching does not
// allocate.

import (
	"fmt"
	"runtime"
	"testing"

	"example.com/networkproxy/internal/hostname"
)

// benchPatterns returns n patterns: mostly exact names, with some wildcards, ports
// and addresses.
func benchPatterns(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		switch i % 10 {
		case 0:
			texts[i] = fmt.Sprintf("*.zone%d.example.net", i)
		case 1:
			texts[i] = fmt.Sprintf("host%d.example.org:443", i)
		case 2:
			texts[i] = fmt.Sprintf("198.%d.%d.%d", i>>16&255, i>>8&255, i&255)
		default:
			texts[i] = fmt.Sprintf("api.host%d.example.com", i)
		}
	}
	return texts
}

var benchTargets = []struct {
	name, target string
	hit          bool
}{
	{"exact", "api.host3.example.com:443", true},
	{"port", "host1.example.org:443", true},
	{"wildcard", "a.b.zone0.example.net:443", true},
	{"miss", "www.a.host3.example.com:443", false},
	{"addr", "198.0.0.2:443", true},
	{"addrmiss", "192.0.2.1:443", false},
}

// TestMatchDoesNotAllocate is not parallel because AllocsPerRun counts the
// allocations of other tests, too.
func TestMatchDoesNotAllocate(t *testing.T) {
	texts := append(benchPatterns(1000), "a*b.example.edu", "2001:db8::/32")
	set := Compile(patterns(t, texts...))
	for _, bt := range benchTargets {
		tg := target(t, bt.target)
		if _, ok := set.Match(tg); ok != bt.hit {
			t.Errorf("Match(%s) = %v, want %v", tg, ok, bt.hit)
		}
		if n := testing.AllocsPerRun(100, func() {
			set.Match(tg)
			set.MatchExplicit(tg)
			set.MatchAddr(tg.Host.Addr(), tg.Port)
		}); n != 0 {
			t.Errorf("matching %s allocates %v times, want 0", tg, n)
		}
	}
	for _, hostport := range []string{"axxb.example.edu:80", "[2001:db8::1]:80"} {
		tg := target(t, hostport)
		if n := testing.AllocsPerRun(100, func() { set.Match(tg) }); n != 0 {
			t.Errorf("matching %s allocates %v times, want 0", tg, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000} {
		set := Compile(patterns(b, benchPatterns(n)...))
		for _, bt := range benchTargets {
			b.Run(fmt.Sprintf("%s/%d", bt.name, n), func(b *testing.B) {
				tg := target(b, bt.target)
				b.ReportAllocs()
				for b.Loop() {
					if _, ok := set.Match(tg); ok != bt.hit {
						b.Fatalf("Match(%s) = %v", tg, ok)
					}
				}
			})
		}
	}
}

// BenchmarkMatchSpread matches a different exact name each time, to miss the
// processor's caches.
func BenchmarkMatchSpread(b *testing.B) {
	const n = 100_000
	set := Compile(patterns(b, benchPatterns(n)...))
	var targets []hostname.Target
	for i := range n {
		if i%10 > 2 {
			targets = append(targets, target(b, fmt.Sprintf("api.host%d.example.com:443", i)))
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, ok := set.Match(targets[i]); !ok {
			b.Fatal(targets[i])
		}
		i = (i + 7919) % len(targets)
	}
}

// BenchmarkLoad parses and compiles a million patterns. It reports the memory of
// the patterns and the set in MB, without the text.
func BenchmarkLoad(b *testing.B) {
	for _, bb := range []struct {
		name string
		text func(i int) string
	}{
		{"exact", func(i int) string { return fmt.Sprintf("api.host%d.example.com", i) }},
		{"subdomains", func(i int) string { return fmt.Sprintf("*.host%d.example.com", i) }},
		{"glob", func(i int) string { return fmt.Sprintf("a*.host%d.example.com", i) }},
		{"addr", func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			texts := make([]string, 1_000_000)
			for i := range texts {
				texts[i] = bb.text(i)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			b.ReportAllocs()
			var parsed []Pattern
			var set *Set
			for b.Loop() {
				parsed, set = make([]Pattern, len(texts)), nil
				for i, text := range texts {
					p, err := Parse(text)
					if err != nil {
						b.Fatal(err)
					}
					parsed[i] = p
				}
				set = Compile(parsed)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
			runtime.KeepAlive(texts)
			runtime.KeepAlive(parsed)
			runtime.KeepAlive(set)
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, text := range []string{"api.example.com", "*.example.com:443", "region*.v2.example.com", "10.0.0.0/8"} {
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
