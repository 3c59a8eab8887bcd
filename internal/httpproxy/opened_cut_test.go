package httpproxy_test

import (
	"io"
	"net/http"
	"testing"

	"example.com/networkproxy/internal/policy"
)

// TestOpenedCutsOpenRequests: a request that a new policy refuses ends while its body is on
// its way. So does one whose body the new policy would have checked at its beginning.
func TestOpenedCutsOpenRequests(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		begun := make(chan struct{}, 2)
		l.origin("a.test", http2, func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			rc.EnableFullDuplex()
			rc.Flush()
			begun <- struct{}{}
			io.Copy(io.Discard, r.Body)
		}, nil)
		for _, path := range []string{"/x", "/r.git/git-upload-pack"} {
			l.Install(openAll(l))
			pr, pw := io.Pipe()
			defer pw.Close()
			r, _ := http.NewRequest("POST", "https://a.test"+path, pr)
			r.Header.Set("Content-Type", "application/x-git-upload-pack-request")
			go io.WriteString(pw, "0011command=fetch")
			resp, err := l.client(http2).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			<-begun
			l.Install(func(p *policy.Policy) {}) // limited
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s: the request goes on", path)
			}
		}
	})
}
