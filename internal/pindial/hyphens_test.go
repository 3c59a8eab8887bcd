// Stand-ins for names with a hyphen at the edge of a label.

package pindial

import (
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

// TestStandInAvoidsHostsFile checks names whose stand-in is in the hosts file,
// with an address that is not the name's own.
func TestStandInAvoidsHostsFile(t *testing.T) {
	t.Parallel()
	var all []string // stand-ins for -x.test.
	for _, c := range fills {
		all = append(all, string(c)+"x.test.")
	}
	for _, tt := range []struct {
		name, of string
		file     []string
		want     string // empty if there is none
	}{
		{name: "an empty file", of: "-x.test.", want: "_x.test."},
		{name: "another name", of: "-x.test.", file: []string{"x.test.", "_x_.test."}, want: "_x.test."},
		{name: "the first", of: "-x.test.", file: []string{"_x.test."}, want: "ax.test."},
		{name: "some", of: "-x.test.", file: all[:5], want: "ex.test."},
		{name: "all", of: "-x.test.", file: all},
		{name: "several hyphens", of: "-x-.--.test.", file: []string{"_x_.__.test."}, want: "axa.aa.test."},
		{name: "no dot", of: "x-", file: []string{"x_"}, want: "xa"},
		{name: "no hyphen at an edge", of: "x-y.test."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, ok := unusedStandIn(tt.of, func(name string) bool { return slices.Contains(tt.file, name) })
			if ok != (tt.want != "") || s.name != tt.want {
				t.Fatalf("unusedStandIn = %q, %v, want %q", s.name, ok, tt.want)
			}
			if !ok || !strings.Contains(tt.of, ".") {
				return
			}
			server := testnet.NewDNS(t)
			server.Set(strings.TrimSuffix(tt.of, "."), testnet.Addrs("93.184.215.14"))
			got, err := s.lookup(t.Context(), server.Resolver(), tt.of)
			if err != nil || !slices.Equal(got, addrs("93.184.215.14")) {
				t.Errorf("lookup = %v, %v", got, err)
			}
			for _, asked := range server.Queries() {
				if asked != tt.of {
					t.Errorf("the name server was asked for %q", asked)
				}
			}
		})
	}
}
