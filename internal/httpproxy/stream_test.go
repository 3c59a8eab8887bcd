package httpproxy

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"example.com/networkproxy/internal/credential"
)

// TestStreamRequestHeader: fields that concern the client's connection are left out, and
// the client's map, which is passed on if there are none, stays as it was.
func TestStreamRequestHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		in, want http.Header
	}{
		{"all", http.Header{"User-Agent": {"a"}, "X": {"1", "2"}}, http.Header{"User-Agent": {"a"}, "X": {"1", "2"}}},
		{"no user agent", http.Header{"X": {"1"}}, http.Header{"X": {"1"}, "User-Agent": nil}},
		{"empty user agent", http.Header{"User-Agent": {""}}, http.Header{"User-Agent": {""}}},
		{"te", http.Header{"User-Agent": {"a"}, "Te": {"trailers, gzip"}}, http.Header{"User-Agent": {"a"}, "Te": {"trailers"}}},
		{"host", http.Header{"User-Agent": {"a"}, "Host": {"a.test"}}, http.Header{"User-Agent": {"a"}}},
		{"proxy", http.Header{"User-Agent": {"a"}, "Proxy-Authorization": {"x"}}, http.Header{"User-Agent": {"a"}}},
		{"socket", http.Header{"User-Agent": {"a"}, socketHeader: {"/s"}}, http.Header{"User-Agent": {"a"}}},
		{"trailer", http.Header{"User-Agent": {"a"}, "Trailer": {"X"}}, http.Header{"User-Agent": {"a"}}},
	} {
		before := maps.Clone(tt.in)
		x := &stream{r: &http.Request{Header: tt.in}, exchange: new(credential.Exchange)}
		if got := x.requestHeader(); !maps.EqualFunc(got, tt.want, slices.Equal) {
			t.Errorf("%s: requestHeader() = %v, want %v", tt.name, got, tt.want)
		}
		if !maps.EqualFunc(tt.in, before, slices.Equal) {
			t.Errorf("%s: the client's header is now %v, was %v", tt.name, tt.in, before)
		}
	}
}

// TestStreamRequestHeaderAllocates: a header that is passed on as it is costs no memory.
func TestStreamRequestHeaderAllocates(t *testing.T) {
	x := &stream{r: &http.Request{Header: http.Header{"User-Agent": {"a"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"}}}, exchange: new(credential.Exchange)}
	if n := testing.AllocsPerRun(10, func() { x.requestHeader() }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
