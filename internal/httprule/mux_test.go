package httprule

// A differential test with the router of net/http.

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// inside are rules, and patterns of http.ServeMux for the same paths.
var inside = []struct {
	rule  Spec
	muxes []string
}{
	{get("/v1"), []string{"/v1", "/v1/"}},
	{get("/v1/"), []string{"/v1/"}},
	{get("/a/b"), []string{"/a/b", "/a/b/"}},
	{get("/@"), []string{"/@", "/@/"}},
	{get("pattern:/v1/*"), []string{"/v1/{x}"}},
	{get("pattern:/a/*/b"), []string{"/a/{x}/b"}},
	{get("pattern:/a/*/"), []string{"/a/{x}/{$}"}},
	{get("pattern:/a/**"), []string{"/a", "/a/{rest...}"}},
	{Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/v1"}, AllowEncodedSlash: true}, []string{"/v1", "/v1/"}},
	{Spec{Methods: []string{"GET"}, PathPrefixes: []string{"pattern:/a/*"}, AllowEncodedSlash: true}, []string{"/a/{x}"}},
}

// TestServeMuxReadsTheSame checks with random paths that net/http routes no path
// that a rule allows to another place, and no path that a deny rule lets pass to the
// place that is denied.
func TestServeMuxReadsTheSame(t *testing.T) {
	t.Parallel()
	rounds := 40_000
	if testing.Short() {
		rounds = 2_000
	}
	for _, tt := range inside {
		t.Run(strings.Join(tt.rule.PathPrefixes, " "), func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
			for _, pattern := range tt.muxes {
				mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
			}
			deny := tt.rule
			deny.Deny, deny.AllowEncodedSlash = true, false
			allows := hostRules(t, tt.rule)
			denies := hostRules(t, Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/"}, AllowEncodedSlash: true}, deny)
			r := random(4)
			allowed, passed := 0, 0
			for range rounds {
				path := randomPath(r, 0.1)
				switch r.IntN(3) {
				case 0:
					path = pick(r, "/v1", "/v%31", "/a", "/%61", "/a/b", "/@", "/%40") + path
				case 1:
					path = pick(r, "/v1", "/v%31", "/a", "/%61", "/a/b", "/@", "/%40") + path[1:]
				}
				path += pick(r, "", "", "/b", "/%62", "/")
				q := request("GET " + path)
				read := route(mux, path)
				if allows.Judge(q).Allowed {
					allowed++
					if read != http.StatusOK {
						t.Fatalf("the rule allows %q, and net/http answers %d", path, read)
					}
				}
				if denies.Judge(q).Allowed {
					passed++
					if read == http.StatusOK {
						t.Fatalf("the deny rule lets %q pass, and net/http serves it", path)
					}
				}
			}
			t.Logf("of %d paths, %d are allowed, and %d pass the deny rule", rounds, allowed, passed)
			if least := rounds / 400; min(allowed, passed) < least {
				t.Errorf("want at least %d of each", least)
			}
		})
	}
}

// route returns the status with which net/http answers a GET for path, or 0 if it
// cannot parse the request.
func route(mux *http.ServeMux, path string) int {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + path + " HTTP/1.1\r\nHost: api.test\r\n\r\n")))
	if err != nil {
		return 0
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w.Code
}
