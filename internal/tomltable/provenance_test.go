package tomltable

import "testing"

// readFile lays a file of the given name and text over c.
func readFile(t *testing.T, c *config, p *Provenance, file, text string) *Table {
	t.Helper()
	table := Read(file, []byte(text), table, c.fields(), func(e *Error) { t.Fatal(e) })
	p.Add(table)
	return table
}

func TestProvenance(t *testing.T) {
	t.Parallel()
	c, p := defaults(), Provenance{}
	readFile(t, &c, &p, "a.toml", "[network_proxy]\nenabled = true\nmode = 'x'\n[network_proxy.policy]\nallowed_domains = ['a', 'b', 'c']\n")
	readFile(t, &c, &p, "b.toml", "[network_proxy]\nmode = 'y'\n")
	p.Override("network_proxy.sni_check")

	for _, test := range []struct{ key, want string }{
		{"network_proxy.enabled", "a.toml:2:11"},
		{"network_proxy.mode", "b.toml:2:8"},
		{"network_proxy.sni_check", SetFromGo},
		{"network_proxy.proxy_url", ByDefault},
		{keyAllowed, "a.toml:5:19"},
	} {
		if got := p.Describe(test.key); got != test.want {
			t.Errorf("Describe(%s) is %q, want %q", test.key, got, test.want)
		}
		if got, want := p.Has(test.key), test.want != ByDefault; got != want {
			t.Errorf("Has(%s) is %t, want %t", test.key, got, want)
		}
	}

	items := func(p *Provenance, want ...string) {
		t.Helper()
		for i, w := range want {
			if got := p.ItemPosition(keyAllowed, i).String(); got != w {
				t.Errorf("element %d is at %q, want %q", i, got, w)
			}
		}
	}
	cut := p.Clone()
	cut.Select(keyAllowed, []int{0, 2})
	cut.Extend(keyAllowed, 2, []Position{{File: "c.toml", Line: 7, Column: 1}})
	cut.CopyFrom(&Provenance{}, "network_proxy.enabled")
	items(&cut, "a.toml:5:20", "a.toml:5:30", "c.toml:7:1", "")
	items(&p, "a.toml:5:20", "a.toml:5:25", "a.toml:5:30", "")
	if got := p.Describe("network_proxy.enabled"); got != "a.toml:2:11" {
		t.Errorf("a change of a clone changed the original: %s", got)
	}
}

// A reload compares what a file sets with what it set before.
func TestTableKeys(t *testing.T) {
	t.Parallel()
	var p Provenance
	c := defaults()
	before := readFile(t, &c, &p, "a.toml", "[network_proxy]\nenabled = true\n[network_proxy.policy]\nallowed_domains = []\n")
	after := readFile(t, &c, &p, "a.toml", "[network_proxy]\nenabled = true\nmode = 'x'\n[network_proxy.policy]\n")
	if !after.Lacks(before) || before.Lacks(before) || before.Lacks(nil) {
		t.Error("Lacks does not report the missing key alone")
	}
	if !before.HasKeyIn("network_proxy.policy") || after.HasKeyIn("network_proxy.policy") || (*Table)(nil).HasKeyIn(table) {
		t.Error("HasKeyIn does not report the keys of the subtable alone")
	}
	if before.LastHeader != "" || after.LastHeader != "network_proxy.policy" {
		t.Errorf("the last headers are %q and %q", before.LastHeader, after.LastHeader)
	}
}
