package policy

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/hostname"
)

// patterns parses entries of a list.
func patterns(t testing.TB, entries ...string) []domain.Pattern {
	t.Helper()
	list := make([]domain.Pattern, len(entries))
	for i, entry := range entries {
		p, err := domain.Parse(entry)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = p
	}
	return list
}

// rules returns a list of hosts. Entry i is on line i+1 of policy.toml.
func rules(t testing.TB, name string, entries ...string) *RuleSet {
	t.Helper()
	return &RuleSet{
		List:     name,
		Entries:  entries,
		Position: func(i int) Position { return Position{File: "policy.toml", Line: i + 1} },
		Set:      domain.Compile(patterns(t, entries...)),
	}
}

// allowing returns a policy in full mode that allows the entries.
func allowing(t testing.TB, entries ...string) *Policy {
	t.Helper()
	return &Policy{Generation: 7, Enabled: true, Mode: ModeFull, Allow: RuleSets{rules(t, "allowed_domains", entries...)}}
}

func target(t testing.TB, hostport string) hostname.Target {
	t.Helper()
	parsed, err := hostname.ParseTargetDefault(hostport, 443)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// get returns a GET request for a target over plain HTTP.
func get(t testing.TB, hostport string) *Query {
	t.Helper()
	return &Query{Protocol: ProtocolHTTP, Target: target(t, hostport), Method: "GET"}
}

func addrs(list ...string) []netip.Addr {
	parsed := make([]netip.Addr, len(list))
	for i, a := range list {
		parsed[i] = netip.MustParseAddr(a)
	}
	return parsed
}

func tcpAddr(addr string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)) }
func udpAddr(addr string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)) }

// listening returns the listeners of a proxy on TCP addresses.
func listening(list ...string) *SelfListeners {
	l := new(SelfListeners)
	for _, addr := range list {
		l.Add(tcpAddr(addr))
	}
	return l
}

// steps returns a trace in short form. A refusing check begins with "!". The
// pattern, source or address that settled a check follows it.
func steps(tr Trace) string {
	var list []string
	for _, s := range tr {
		step := s.Check.String()
		if !s.Passed {
			step = "!" + step
		}
		if s.Rule.Pattern != "" {
			step += "=" + s.Rule.Pattern
		}
		if s.Source != "" {
			step += "=" + string(s.Source)
		}
		if s.Address.IsValid() {
			step += "@" + s.Address.String()
		}
		list = append(list, step)
	}
	return strings.Join(list, " ")
}

// outcome is the part of a verdict that the tables compare.
type outcome struct {
	allowed bool
	check   Check
	reason  Reason
	source  Source
	rule    string // list and pattern of the rule that decided
}

func outcomeOf(v *Verdict) outcome {
	rule := v.Rule()
	return outcome{v.Allowed, v.Check, v.Reason, v.Source, strings.TrimSpace(rule.List + " " + rule.Pattern)}
}
