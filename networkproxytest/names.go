// The kit's Resolver and its names with forbidden addresses.

package networkproxytest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// Resolver resolves the names of the kit, which are below names.invalid, and no
// others. If Start passes it to [networkproxy.Builder.Resolver], Run also checks
// names with forbidden addresses. The zero value is ready to use. It is safe for
// concurrent use.
type Resolver struct{}

// LookupNetIP implements [networkproxy.Resolver]. It ignores the network.
func (Resolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	label, _, inZone := strings.Cut(host, zone)
	list, known := answers()[label]
	if !inZone || !known {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var addrs []netip.Addr
	for _, text := range list {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs, nil
}

// zone is the suffix of all names.
const zone = ".names.invalid"

// answers returns the addresses of each name, by its first label.
func answers() map[string][]string {
	return map[string][]string{
		"public": {"93.184.216.34"},

		"local-loopback":    {"127.0.0.1"},
		"local-loopback-2":  {"127.1.2.3"},
		"local-unspecified": {"0.0.0.0"},
		"local-private":     {"10.0.0.1"},
		"local-private-2":   {"192.168.1.1"},
		"local-metadata":    {"169.254.169.254"},
		"local-shared":      {"100.64.0.1"},
		"local-multicast":   {"224.0.0.1"},
		"local-v6":          {"::1"},
		"local-v6-ula":      {"fd00:ec2::254"},
		"local-v6-link":     {"fe80::1"},
		"local-mapped":      {"::ffff:127.0.0.1"},
		"local-compatible":  {"::127.0.0.1"},
		"local-nat64":       {"64:ff9b::7f00:1"},
		"local-6to4":        {"2002:7f00:1::"},
		"local-last":        {"93.184.216.34", "2606:4700::1111", "127.0.0.1"},
		"local-first":       {"10.0.0.1", "93.184.216.34"},
		"local-v6-last":     {"93.184.216.34", "fd00::1"},

		"denied":        {"8.8.4.4"},
		"denied-last":   {"93.184.216.34", "8.8.4.4"},
		"denied-mapped": {"::ffff:8.8.4.4"},
		"denied-nat64":  {"64:ff9b::808:404"},
		"denied-v6":     {"2001:4860::1"},

		"self":             {"127.0.0.1"},
		"self-other":       {"127.0.0.2"},
		"self-unspecified": {"0.0.0.0"},
		"self-v6":          {"::1"},
		"self-mapped":      {"::ffff:127.0.0.1"},
		"self-last":        {"93.184.216.34", "127.0.0.1"},
	}
}

// nameTables returns tables of allowed names with forbidden addresses.
func nameTables() []TargetTable {
	allowed := networkproxy.PolicyConfig{AllowedDomains: []string{"*"}}
	denied := allowed
	denied.DeniedDomains = []string{"8.8.4.0/24", "2001:4860::/32"}
	local := allowed
	local.AllowLocalBinding = true
	var own []string
	for _, port := range []string{"{http}", "{admin}", "{socks}"} {
		own = append(own, namesOf("self", port)...)
	}
	return []TargetTable{
		{
			Promise: "a name with a local address is refused even if it has a public one, too",
			Policy:  allowed,
			Reason:  networkproxy.ReasonNotAllowedLocal,
			Targets: namesOf("local", "80"),
		},
		{
			Promise: "a name with a denied address is refused",
			Policy:  denied,
			Reason:  networkproxy.ReasonDenied,
			Targets: namesOf("denied", "443"),
		},
		{
			Promise: "a name with an address of the proxy is refused",
			Policy:  local,
			Reason:  networkproxy.ReasonNotAllowedLocal,
			Targets: own,
		},
	}
}

// namesOf returns the targets at port whose names begin with kind.
func namesOf(kind, port string) []string {
	var targets []string
	for label := range answers() {
		if strings.HasPrefix(label, kind) {
			targets = append(targets, label+zone+":"+port)
		}
	}
	return targets
}

// checkNames is check for names. It does nothing if the proxy does not use the
// kit's Resolver.
func (table TargetTable) checkNames(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, table.Policy, networkproxy.ModeFull)
	if err := r.usesKitResolver(); err != nil {
		t.Logf("not tested: %v", err)
		return
	}
	table.checkAll(r)
}

// usesKitResolver returns an error if the proxy does not use the kit's Resolver.
func (r *testProxy) usesKitResolver() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	x, err := r.ExplainURL(ctx, "http://public"+zone+"/", "", true)
	if err == nil && !x.Allowed {
		err = fmt.Errorf("public%s: %s", zone, x.Message)
	}
	if err != nil {
		return fmt.Errorf("the proxy does not use networkproxytest.Resolver (%w)", err)
	}
	return nil
}
