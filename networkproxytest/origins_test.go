// Tests of Origin with a proxy, as the author of a host would use it.

package networkproxytest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/networkproxytest"
)

// says returns a handler that responds with text.
func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) })
}

// startOrigins runs a proxy that uses origins as its resolver.
func startOrigins(t *testing.T, origins *networkproxytest.Origins, policy networkproxy.PolicyConfig) *networkproxy.Handle {
	t.Helper()
	c := networkproxy.DefaultConfig()
	c.Enabled = true
	c.EnableSOCKS5 = true
	c.Policy = policy
	h := startWith(t, networkproxy.NewBuilder().Config(c).HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").SOCKSAddr("127.0.0.1:0").Resolver(origins))
	t.Cleanup(func() { h.Close() })
	return h
}

// fetch returns the status and the body of a request through a proxy, or its
// error.
func fetch(t *testing.T, origins *networkproxytest.Origins, proxy, target string) string {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{RootCAs: origins.Roots()}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get(target)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return resp.Status + " " + string(body)
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	origins := networkproxytest.Origin(t, "Yes.test", says("hello"))
	origins.Add("other.test", says("other"))
	origins.Add("denied.test", says("denied"))
	h := startOrigins(t, origins, networkproxy.PolicyConfig{
		AllowedDomains: []string{"*.test", "93.184.216.35"}, DeniedDomains: []string{"denied.test", "127.0.0.0/8"},
	})
	for target, want := range map[string]string{
		"http://yes.test/":        "200 OK hello",
		"http://yes.test:8080/":   "200 OK hello",
		"https://yes.test/":       "200 OK hello",
		"http://other.test/":      "200 OK other",
		"https://other.test/":     "200 OK other",
		"http://93.184.216.35/":   "200 OK other", // the address of the second name
		"http://denied.test/":     "the denylist forbids it",
		"http://93.184.216.34/":   "the host is not on the allowlist",
		"http://unknown.test/":    "could not reach it",
		"https://unknown.test/":   "Bad Gateway",
		"http://no.example/":      "the host is not on the allowlist",
		"http://127.0.0.1:65535/": "the denylist forbids it",
	} {
		for _, proxy := range []string{"http://" + h.HTTPAddr(), "socks5://" + h.SOCKSAddr()} {
			if strings.HasPrefix(proxy, "socks5:") && !strings.HasPrefix(want, "200") {
				want = "socks connect" // SOCKS5 has only a number for a refusal
			}
			if got := fetch(t, origins, proxy, target); !strings.Contains(got, want) {
				t.Errorf("%s through %s: got %q, want %q in it", target, proxy, got, want)
			}
		}
	}
	resp, err := (&http.Client{Transport: h.Transport(networkproxy.Attribution{})}).Get("http://yes.test/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a request of the host: got %s", resp.Status)
	}
}

// TestOriginOpensNothingElse checks that the names and addresses of other servers
// keep their meaning, and that local addresses stay protected.
func TestOriginOpensNothingElse(t *testing.T) {
	t.Parallel()
	local := httptest.NewServer(says("a service of this machine"))
	t.Cleanup(local.Close)
	origins := networkproxytest.Origin(t, "yes.test", says("hello"))
	h := startOrigins(t, origins, networkproxy.PolicyConfig{AllowedDomains: []string{"*"}})
	for _, target := range []string{local.URL, strings.Replace(local.URL, "127.0.0.1", "localhost", 1), "http://169.254.169.254/"} {
		if got := fetch(t, origins, "http://"+h.HTTPAddr(), target); !strings.Contains(got, "not_allowed_local") {
			t.Errorf("%s: got %q, want a refusal", target, got)
		}
	}
	// An entry opens the local server, which is not redirected.
	h = startOrigins(t, origins, networkproxy.PolicyConfig{AllowedDomains: []string{"127.0.0.1"}})
	if got := fetch(t, origins, "http://"+h.HTTPAddr(), local.URL); got != "200 OK a service of this machine" {
		t.Errorf("the local server: got %q", got)
	}
}

// TestOriginForCommands makes an HTTPS request from a command in a session: this
// test binary, which trusts RootsFile.
func TestOriginForCommands(t *testing.T) {
	t.Parallel()
	origins := networkproxytest.Origin(t, "yes.test", says("hello"))
	h := startOrigins(t, origins, networkproxy.PolicyConfig{AllowedDomains: []string{"yes.test"}})
	s, err := h.OpenSession(context.Background(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperFetches$", "-test.v")
	cmd.Env = append(s.Environ(os.Environ()), "FETCH_ROOTS="+origins.RootsFile(), "FETCH=https://yes.test/")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "got hello") {
		t.Errorf("the command printed %s, %v; want the response", out, err)
	}
	if got := s.Report(); got != "" {
		t.Errorf("got the report %q", got)
	}
}

// TestHelperFetches is the command of TestOriginForCommands.
func TestHelperFetches(t *testing.T) {
	target := os.Getenv("FETCH")
	if target == "" {
		return
	}
	pem, err := os.ReadFile(os.Getenv("FETCH_ROOTS"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := http.DefaultTransport.(*http.Transport).Clone() // uses the proxy of the environment
	tr.TLSClientConfig = &tls.Config{RootCAs: roots}
	resp, err := (&http.Client{Transport: tr}).Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	t.Logf("got %s, %v", body, err)
}

// failer records the failure of a test in place of the test.
type failer struct {
	testing.TB
	failed string
}

func (f *failer) Helper() {}

func (f *failer) Fatalf(format string, args ...any) {
	f.failed = format
	panic(f) // like runtime.Goexit, but the caller can continue
}

func TestOriginRefusesNames(t *testing.T) {
	t.Parallel()
	fails := func(name string, add func(t testing.TB)) {
		f := &failer{TB: t}
		defer func() {
			if recover() == nil || f.failed == "" {
				t.Errorf("the name %q is accepted", name)
			}
		}()
		add(f)
	}
	for _, name := range []string{"", "127.0.0.1", "localhost", "a.localhost", "http://yes.test/", "yes.test:80"} {
		fails(name, func(t testing.TB) { networkproxytest.Origin(t, name, says("")) })
	}
	fails("yes.test, again", func(t testing.TB) {
		networkproxytest.Origin(t, "yes.test", says("")).Add("YES.test.", says(""))
	})
}
