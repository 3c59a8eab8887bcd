package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"example.com/networkproxy/internal/hostname"
)

func target(t *testing.T, text string) hostname.Target {
	t.Helper()
	got, err := hostname.ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestObservations(t *testing.T) {
	t.Parallel()
	var o Observations
	for _, text := range []string{"b.example:443", "a.example:8080", "b.example:80", "a.example:80", "c.example:443", "b.example:443"} {
		o.Add(target(t, text))
	}
	private := netip.MustParseAddr("10.0.0.1")
	o.AddLocal(target(t, "localhost:3000"), netip.Addr{})
	o.AddLocal(target(t, "inner.example:80"), private)
	o.AddLocal(target(t, "inner.example:80"), netip.MustParseAddr("10.0.0.2")) // the first counts
	list, complete := o.Suggest()
	if want := []string{"a.example:80", "a.example:8080", "b.example", "c.example"}; !slices.Equal(list, want) || !complete {
		t.Errorf("got %q, complete %t; want %q", list, complete, want)
	}
	if got, want := o.Local(), []LocalTarget{{target(t, "inner.example:80"), private}, {Target: target(t, "localhost:3000")}}; !slices.Equal(got, want) {
		t.Errorf("local targets: got %v, want %v", got, want)
	}

	var none *Observations
	none.Add(target(t, "a.example:80"))
	none.AddLocal(target(t, "localhost:80"), netip.Addr{})
	if list, complete := none.Suggest(); list != nil || !complete || none.Local() != nil {
		t.Errorf("nil: got %q, complete %t", list, complete)
	}
}

// Local targets, which a command can invent without limit, do not displace those
// that were reached.
func TestObservationsAreBounded(t *testing.T) {
	t.Parallel()
	var o Observations
	for i := range MaxObserved + 10 {
		o.AddLocal(target(t, fmt.Sprintf("127.0.%d.%d:80", i>>8, i&255)), netip.Addr{})
	}
	o.Add(target(t, "a.example:80"))
	if list, complete := o.Suggest(); len(list) != 1 || complete || len(o.Local()) != MaxObserved {
		t.Errorf("got %q, complete %t, and %d local targets", list, complete, len(o.Local()))
	}
}
