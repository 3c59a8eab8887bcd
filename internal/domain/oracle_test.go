package domain

// Tests against an independent, naive matcher over all targets of a small
// universe.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/networkproxy/internal/hostname"
)

// naive matches like the pattern of a canonical text. It uses regular expressions
// and strings of bits.
type naive struct {
	name *regexp.Regexp // for patterns of names
	bits string         // for patterns of addresses: the family and the bits of the prefix
	addr bool
	any  bool
	port string
}

var patternForm = regexp.MustCompile(`^(?:\[(?P<v6>[0-9a-f:/]+)\]|(?P<bare>[0-9a-f:]*:[0-9a-f:]*:[0-9a-f:/]*)|(?P<other>[^:]+))(?::(?P<port>\d+))?$`)

func newNaive(text string) naive {
	m := patternForm.FindStringSubmatch(text)
	if m == nil {
		panic("not a pattern: " + text)
	}
	host, n := m[1]+m[2]+m[3], naive{port: m[4]}
	addr, length, hasLength := strings.Cut(host, "/")
	if a, err := netip.ParseAddr(addr); err == nil {
		n.addr, n.bits = true, bitString(a)
		if hasLength {
			l, _ := strconv.Atoi(length)
			n.bits = n.bits[:1+l]
		}
		return n
	}
	if host == "*" {
		n.any = true
		return n
	}
	expr := regexp.QuoteMeta(host)
	if rest, ok := strings.CutPrefix(expr, `\*\*\.`); ok {
		expr = `(.+\.)?` + rest
	} else if rest, ok := strings.CutPrefix(expr, `\*\.`); ok {
		expr = `.+\.` + rest
	}
	n.name = regexp.MustCompile("^" + strings.ReplaceAll(expr, `\*`, `[^.]*`) + "$")
	return n
}

// bitString returns the family of an address and all its bits.
func bitString(a netip.Addr) string {
	var b strings.Builder
	b.WriteString(map[bool]string{true: "4", false: "6"}[a.Is4()])
	for _, octet := range a.AsSlice() {
		fmt.Fprintf(&b, "%08b", octet)
	}
	return b.String()
}

func (n naive) matches(t hostname.Target) bool {
	host := t.Host.String()
	if n.port != "" && n.port != strconv.Itoa(int(t.Port)) {
		return false
	}
	a, err := netip.ParseAddr(host)
	switch {
	case n.any:
		return true
	case n.addr:
		return err == nil && strings.HasPrefix(bitString(a), n.bits)
	}
	return err != nil && n.name.MatchString(host)
}

// universe returns every target that has a name of one to four labels out of
// three, or one of a few dozen addresses, and one of three ports.
func universe(t *testing.T) []hostname.Target {
	names := []string{""}
	var hosts []string
	for range 4 {
		var longer []string
		for _, name := range names {
			for _, label := range []string{"a", "b", "ab"} {
				longer = append(longer, strings.TrimSuffix(label+"."+name, "."))
			}
		}
		hosts, names = append(hosts, longer...), longer
	}
	for i := range 18 {
		hosts = append(hosts, fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("[2001:db8::%x]", i))
	}
	hosts = append(hosts, "192.0.2.1", "[::1]")
	var targets []hostname.Target
	for _, host := range hosts {
		for port := range 3 {
			targets = append(targets, target(t, fmt.Sprintf("%s:%d", host, port+1)))
		}
	}
	return targets
}

// vocabulary returns patterns of all kinds, with and without ports. Each matches
// a target in the universe.
func vocabulary(t *testing.T) []Pattern {
	var hosts []string
	for _, name := range []string{"a", "b", "a.a", "b.a", "ab.a", "a.b", "ab.b", "a.b.a", "b.a.b"} {
		hosts = append(hosts, name, "*."+name, "**."+name)
	}
	hosts = append(hosts, "*", "a*.a", "*b.a", "a*b.b", "*a*.a", "a.*.a", "*a.*.a", "*b.a*.b", "a*.b.a", "b.*.*.a", "b*.*b.a", "*b*.a.b",
		"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/28", "10.0.0.8/29", "10.0.0.8/30", "10.0.0.8", "10.0.0.9", "10.0.0.16", "10.0.0.16/31",
		"::/0", "2001:db8::/32", "[2001:db8::8/125]", "2001:db8::8", "2001:db8::8/127")
	var list []Pattern
	for _, host := range hosts {
		p := pattern(t, host)
		list = append(list, p)
		for _, port := range []uint16{1, 2} {
			p.port = port
			list = append(list, pattern(t, p.String()))
		}
	}
	return list
}

func TestOracleMatches(t *testing.T) {
	t.Parallel()
	targets := universe(t)
	for _, p := range vocabulary(t) {
		n, some := newNaive(p.String()), false
		for _, target := range targets {
			want := n.matches(target)
			some = some || want
			if got := p.Matches(target); got != want {
				t.Errorf("%s matches %s: %v, want %v", p, target, got, want)
			}
		}
		if !some {
			t.Errorf("%s matches no target in the universe: remove it from the vocabulary", p)
		}
	}
}

func TestOracleCovers(t *testing.T) {
	t.Parallel()
	targets, vocabulary := universe(t), vocabulary(t)
	matched := make([][]bool, len(vocabulary))
	for i, p := range vocabulary {
		n := newNaive(p.String())
		for _, target := range targets {
			matched[i] = append(matched[i], n.matches(target))
		}
	}
	for i, p := range vocabulary {
		for j, q := range vocabulary {
			inAll := !slices.ContainsFunc(indices(matched[j]), func(k int) bool { return !matched[i][k] })
			// Covers is false if a target in the universe is a counterexample, and
			// true otherwise. Globs are excepted because a name with other
			// characters may be a counterexample.
			covers := p.Covers(q)
			if covers && !inAll {
				t.Errorf("Covers = true, but some target matches %[2]s and not %[1]s", p, q)
			}
			if !covers && inAll && p.kind != Glob && q.kind != Glob {
				t.Errorf("Covers = false, but every target that matches %[2]s matches %[1]s", p, q)
			}
		}
	}
}

func indices(set []bool) []int {
	var list []int
	for i, ok := range set {
		if ok {
			list = append(list, i)
		}
	}
	return list
}

// rank returns how specific p is among the patterns that match t.
func rank(p Pattern, t hostname.Target) int {
	switch p.kind {
	case Any:
		return -1
	case Addr, CIDR:
		return p.Prefix().Bits()
	case Exact:
		return 1000
	}
	labels := strings.Split(p.host, ".")
	if p.kind == ApexAndSubdomains && p.host == t.Host.Name() {
		return 2 * len(labels)
	}
	n := 0
	for i := len(labels) - 1; i >= 0 && !strings.Contains(labels[i], "*"); i-- {
		n++
	}
	if p.kind == Glob {
		return 2*n + 1
	}
	return 2 * n
}

// model is a list of patterns with their naive matchers.
type model struct {
	list  []Pattern
	naive []naive
}

func newModel(list []Pattern) model {
	m := model{list: list, naive: make([]naive, len(list))}
	for i, p := range list {
		if p != (Pattern{}) {
			m.naive[i] = newNaive(p.String())
		}
	}
	return m
}

// best returns the index that a Set must return, or -1.
func (m model) best(t hostname.Target, eligible func(Pattern) bool) int {
	best := -1
	for i, p := range m.list {
		if p == (Pattern{}) || !eligible(p) || !m.naive[i].matches(t) {
			continue
		}
		if best < 0 {
			best = i
			continue
		}
		b := m.list[best]
		if r, rb := rank(p, t), rank(b, t); r > rb || r == rb && p.port != 0 && b.port == 0 {
			best = i
		}
	}
	return best
}

func TestOracleSet(t *testing.T) {
	t.Parallel()
	targets, vocabulary := universe(t), vocabulary(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		list := make([]Pattern, rng.IntN(25))
		for i := range list {
			list[i] = vocabulary[rng.IntN(len(vocabulary))]
			if rng.IntN(20) == 0 {
				list[i] = Pattern{}
			}
		}
		model := newModel(list)
		set := Compile(list)
		for _, target := range targets {
			if rng.IntN(4) != 0 {
				continue
			}
			check := func(what string, got int, ok bool, eligible func(Pattern) bool) {
				t.Helper()
				if want := model.best(target, eligible); got != want || ok != (want >= 0) {
					t.Fatalf("%v: %s(%s) = %d, %v, want %d", list, what, target, got, ok, want)
				}
			}
			i, ok := set.Match(target)
			check("Match", i, ok, func(Pattern) bool { return true })
			i, ok = set.MatchExplicit(target)
			check("MatchExplicit", i, ok, Pattern.Explicit)
			i, ok = set.MatchAddr(target.Host.Addr(), target.Port)
			check("MatchAddr", i, ok, func(p Pattern) bool { return p.kind == Addr || p.kind == CIDR })
		}
	}
}
