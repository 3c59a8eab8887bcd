package httprule

import (
	"net/http"
	"testing"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, target, field, want string
	}{
		{"GET", "/r.git/info/refs?service=git-receive-pack", "", "a push of git"},
		{"GET", "/r.git/info/refs?a=b&service=git%2dreceive-pack", "", "a push of git"},
		{"POST", "/r.git/git-receive-pack", "", "a push of git"},
		{"POST", "/x", "", ""},
		{"GET", "/x", "X-Http-Method-Override", "a method that a header field replaces"},
	} {
		q := &Request{Method: tt.method, Target: tt.target, Header: http.Header{}}
		if tt.field != "" {
			q.Header[tt.field] = []string{"POST"}
		}
		if got := Write(q); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.method, tt.target, got, tt.want)
		}
	}
}
