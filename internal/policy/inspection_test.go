package policy

import (
	"net/http"
	"testing"

	"example.com/networkproxy/internal/httprule"
)

// TestContentInEveryMode checks that limited mode checks the body of a fetch of git,
// whichever of the proxy and the session is limited.
func TestContentInEveryMode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		proxy, session Mode
		want           httprule.Content
	}{
		{ModeFull, "", httprule.ContentAny},
		{ModeFull, ModeFull, httprule.ContentAny},
		{ModeFull, ModeLimited, httprule.ContentGitFetch},
		{ModeLimited, "", httprule.ContentGitFetch},
		{ModeLimited, ModeFull, httprule.ContentGitFetch},
		{ModeLimited, ModeLimited, httprule.ContentGitFetch},
	} {
		p := allowing(t, "git.test")
		p.Mode = tt.proxy
		q := get(t, "git.test:80")
		q.Method, q.Overlay = "POST", NewOverlay(nil, nil, tt.session)
		q.HTTP = &httprule.Request{Method: "POST", Target: "/r/git-upload-pack", Header: http.Header{"Content-Type": {"application/x-git-upload-pack-request"}}}
		v, _ := p.Judge(q, "", nil)
		if !v.Allowed || v.Content != tt.want {
			t.Errorf("mode %q, session %q: got allowed %v with %v, want %v", tt.proxy, tt.session, v.Allowed, v.Content, tt.want)
		}
	}
}
