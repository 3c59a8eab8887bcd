package policy

import "testing"

func TestBoundsContain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		bounds  []string
		pattern string
		want    bool
	}{
		{"same name", []string{"a.example"}, "a.example", true},
		{"another name", []string{"a.example"}, "b.example", false},
		{"name below a wildcard", []string{"*.example"}, "a.example", true},
		{"wildcard within a wildcard", []string{"*.example"}, "*.a.example", true},
		{"wildcard wider than the bounds", []string{"a.example"}, "*.example", false},
		{"any within any", []string{"*"}, "*", true},
		{"port within all ports", []string{"a.example"}, "a.example:443", true},
		{"all ports within one port", []string{"a.example:443"}, "a.example", false},
		{"block within a block", []string{"10.0.0.0/8"}, "10.1.0.0/16", true},
		{"block wider than the bounds", []string{"10.1.0.0/16"}, "10.0.0.0/8", false},
		{"public address within any", []string{"*"}, "1.1.1.1", true},
		{"private address within any", []string{"*"}, "10.0.0.1", false},
		{"localhost within any", []string{"*"}, "localhost", false},
		{"localhost by name", []string{"*", "localhost"}, "localhost", true},
		{"block within any", []string{"*"}, "1.1.1.0/24", false},
		{"no entry", nil, "a.example", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := NewBounds(patterns(t, test.bounds...))
			if got := b.Contain(patterns(t, test.pattern)[0]); got != test.want {
				t.Errorf("bounds %q, pattern %s: got %t, want %t", test.bounds, test.pattern, got, test.want)
			}
		})
	}
	if !(*Bounds)(nil).Contain(patterns(t, "*")[0]) {
		t.Error("nil bounds do not contain a pattern")
	}
}

func TestBoundsAdmit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		bounds []string
		target string
		want   bool
	}{
		{"name", []string{"*.example"}, "a.example:443", true},
		{"another port", []string{"a.example:443"}, "a.example:80", false},
		{"name outside", []string{"*.example"}, "a.test:443", false},
		{"private address within any", []string{"*"}, "10.0.0.1:80", false},
		{"private address within a block", []string{"10.0.0.0/8"}, "10.0.0.1:80", true},
		{"localhost within any", []string{"*"}, "localhost:80", false},
		{"no entry", nil, "a.example:443", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := NewBounds(patterns(t, test.bounds...)).admit(target(t, test.target)); got != test.want {
				t.Errorf("bounds %q, target %s: got %t, want %t", test.bounds, test.target, got, test.want)
			}
		})
	}
	if !(*Bounds)(nil).admit(target(t, "a.example:443")) {
		t.Error("nil bounds do not admit a target")
	}
}
