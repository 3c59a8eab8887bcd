// Tests of credentials: a command gets a placeholder, the origin server the secret.

package networkproxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// apiSecret is a secret that no test may find where it does not belong.
const apiSecret = "ghp_S3cr3tS3cr3tS3cr3tS3cr3tS3cr3tS3cr3t"

// brokered returns a configuration whose provider "api" is bound to https://example.com/v1/.
func brokered() networkproxy.Config {
	c := allow("example.com", "plain.example", "127.0.0.1")
	c.MITM, c.MITMDomains, c.CredentialBroker = true, []string{"example.com"}, true
	c.CredentialProviders = map[string]networkproxy.CredentialProvider{
		"api": {Env: []string{"API_TOKEN", "API_KEY"}, URLPrefixes: []string{"https://example.com/v1/"}},
	}
	return c
}

// credentialLab is a proxy with credentials and an origin server for example.com.
type credentialLab struct {
	*lab
	pool *x509.CertPool
	mu   sync.Mutex
	seen []string // the Authorization fields that the origin server has seen
}

func startBrokered(t testing.TB, c networkproxy.Config, http2 bool, change func(*networkproxy.Builder)) *credentialLab {
	t.Helper()
	l := &credentialLab{pool: x509.NewCertPool()}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization")
		l.mu.Lock()
		l.seen = append(l.seen, auth)
		l.mu.Unlock()
		w.Header().Set("X-Echo", auth)
		w.Header().Set("X-Coding", r.Header.Get("Accept-Encoding"))
		io.WriteString(w, "you sent "+auth)
		w.(http.Flusher).Flush()
		io.WriteString(w, " to me")
	}))
	s.EnableHTTP2 = http2
	s.StartTLS()
	t.Cleanup(s.Close)
	l.pool.AddCert(s.Certificate())
	l.lab = start(t, c, func(b *networkproxy.Builder) {
		b.UpstreamRoots(l.pool)
		if change != nil {
			change(b)
		}
	})
	l.mapHost("example.com", 443, s.Listener.Addr())
	return l
}

// agent returns a client of a session that trusts the proxy.
func (l *credentialLab) agent(s *networkproxy.Session, http2 bool) *http.Client {
	l.t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(l.CACertificate())
	proxy, err := url.Parse(s.ProxyURL())
	if err != nil {
		l.t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: http2}
	if !http2 {
		tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	l.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func (l *credentialLab) requests() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seen
	l.seen = nil
	return seen
}

func send(t testing.TB, c *http.Client, url, field, value string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(field, value)
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%t", http2), func(t *testing.T) {
			t.Parallel()
			l := startBrokered(t, brokered(), http2, nil)
			plain := l.origin("plain.example", 80, func(w http.ResponseWriter, r *http.Request) { t.Errorf("plain.example got %v", r.Header) })
			defer plain.Close()
			s, other := l.command("a"), l.command("b")
			env := s.Environ([]string{"API_TOKEN=" + apiSecret, "HOME=/x"})
			token := variable(env, "API_TOKEN")
			if token == "" || strings.Contains(strings.Join(env, " "), apiSecret) || !strings.HasPrefix(token, "ghp_") || variable(env, "API_KEY") != "" {
				t.Fatalf("the environment is %q", env)
			}
			theirs := variable(other.Environ([]string{"API_TOKEN=" + apiSecret}), "API_TOKEN")
			c := l.agent(s, http2)
			basic := func(user string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(user)) }
			for _, tt := range []struct{ url, field, value, want string }{
				{"https://example.com/v1/me", "Authorization", "Bearer " + token, "Bearer " + apiSecret},
				{"https://example.com/v1/me", "Authorization", basic("x:" + token), basic("x:" + apiSecret)},
				{"https://example.com/v2/me", "Authorization", "Bearer " + token, ""},
				{"https://example.com/v1/me", "X-Api-Key", token, ""},
				{"https://example.com/v1/me?t=" + token, "Accept", "x", ""},
				{"https://example.com/v1/me", "Authorization", "Bearer " + theirs, ""},
				{"http://plain.example/", "Authorization", "Bearer " + token, ""},
			} {
				status, header, body := send(t, c, tt.url, tt.field, tt.value)
				seen := strings.Join(l.requests(), ", ")
				if seen != tt.want {
					t.Errorf("%s with %s: the origin server saw %q, want %q", tt.url, tt.field, seen, tt.want)
				}
				_, encoded, _ := strings.Cut(basic("x:"+apiSecret), " ")
				if text := body + header.Get("X-Echo"); strings.Contains(text, apiSecret) || strings.Contains(text, encoded) {
					t.Errorf("%s: the client got the secret: %v %s", tt.url, header, body)
				}
				switch {
				case tt.want == "" && (status != 403 || header.Get("X-Proxy-Error") != "blocked-by-credential-policy" || !strings.Contains(body, "credential_not_allowed")):
					t.Errorf("%s with %s: %d %v %s", tt.url, tt.field, status, header, body)
				case tt.want != "" && (status != 200 || header.Get("X-Coding") != "" || !strings.HasSuffix(body, " to me")):
					t.Errorf("%s with %s: %d %v %s", tt.url, tt.field, status, header, body)
				}
			}
			for _, b := range l.Blocked() {
				if b.Reason != networkproxy.ReasonCredentialNotAllowed || strings.Contains(fmt.Sprintf("%+v", b), token) || !strings.Contains(b.Message, `"api"`) {
					t.Errorf("recorded: %+v", b)
				}
			}
			s.Close()
			status, _, _ := send(t, l.agent(other, http2), "https://example.com/v1/me", "Authorization", "Bearer "+token)
			if seen := l.requests(); status != 200 || len(seen) != 1 || seen[0] != "Bearer "+token {
				t.Errorf("after the session: status %d, the origin server saw %q", status, seen)
			}
		})
	}
}

// TestCredentialSources: the command gets no variable that holds a secret of the proxy.
func TestCredentialSources(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(apiSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		provider networkproxy.CredentialProvider
		change   func(*networkproxy.Builder)
	}{
		"a variable": {networkproxy.CredentialProvider{SecretEnvVar: "PROXY_PAT"}, func(b *networkproxy.Builder) { b.UpstreamEnviron([]string{"PROXY_PAT=" + apiSecret}) }},
		"a file":     {networkproxy.CredentialProvider{SecretFile: path}, nil},
		"a function": {networkproxy.CredentialProvider{}, func(b *networkproxy.Builder) {
			b.Credential("api", func(context.Context, string) (networkproxy.Secret, error) {
				return networkproxy.Secret{Value: apiSecret}, nil
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := brokered()
			tt.provider.Env, tt.provider.URLPrefixes = []string{"API_TOKEN"}, []string{"https://example.com/v1/"}
			c.CredentialProviders = map[string]networkproxy.CredentialProvider{"api": tt.provider}
			l := startBrokered(t, c, true, tt.change)
			s := l.command("a")
			base := []string{"API_TOKEN=of the parent"}
			if tt.provider.SecretEnvVar != "" {
				base = append(base, tt.provider.SecretEnvVar+"="+apiSecret)
			}
			env := s.Environ(base)
			token := variable(env, "API_TOKEN")
			if strings.Contains(strings.Join(env, " "), apiSecret) || variable(env, "PROXY_PAT") != "" || token == "of the parent" {
				t.Fatalf("the environment is %q", env)
			}
			send(t, l.agent(s, true), "https://example.com/v1/", "Authorization", token)
			if seen := l.requests(); len(seen) != 1 || seen[0] != apiSecret {
				t.Errorf("the origin server saw %q", seen)
			}
		})
	}
}

// TestCredentialsOff: without the broker, the command gets nothing.
func TestCredentialsOff(t *testing.T) {
	t.Parallel()
	c := brokered()
	c.CredentialBroker = false
	l := startBrokered(t, c, false, nil)
	if env := l.command("a").Environ([]string{"API_TOKEN=" + apiSecret}); variable(env, "API_TOKEN") != "" || strings.Contains(strings.Join(env, " "), apiSecret) {
		t.Errorf("the environment is %q", env)
	}
	l.waitLogged(t, "credential_broker is false")
}

func TestCredentialErrors(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("secret with\nline ends and "+apiSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	provider := func(p networkproxy.CredentialProvider) func(*networkproxy.Config) {
		return func(c *networkproxy.Config) {
			if p.URLPrefixes == nil {
				p.URLPrefixes = []string{"https://example.com/"}
			}
			c.CredentialProviders["api"] = p
		}
	}
	for name, tt := range map[string]struct {
		change func(*networkproxy.Config)
		want   string
	}{
		"no inspection":         {func(c *networkproxy.Config) { c.MITM, c.MITMDomains = false, nil }, "credential_broker = true: needs mitm = true"},
		"plain HTTP":            {provider(networkproxy.CredentialProvider{URLPrefixes: []string{"http://example.com/"}}), "plain text"},
		"a missing variable":    {provider(networkproxy.CredentialProvider{SecretEnvVar: "NOT_SET"}), "NOT_SET is not set"},
		"a short variable":      {provider(networkproxy.CredentialProvider{SecretEnvVar: "SHORT"}), "has 5 bytes"},
		"a missing file":        {provider(networkproxy.CredentialProvider{SecretFile: "/does/not/exist"}), "secret_file"},
		"a relative file":       {provider(networkproxy.CredentialProvider{SecretFile: "token"}), "absolute"},
		"a file with line ends": {provider(networkproxy.CredentialProvider{SecretFile: bad}), "cannot be in a token"},
		"two sources":           {provider(networkproxy.CredentialProvider{SecretFile: bad, SecretEnvVar: "SHORT"}), "two sources"},
		"an exempt host":        {func(c *networkproxy.Config) { c.MITMExemptDomains = []string{"*.com", "example.com"} }, "never opened"},
		"two for one variable":  {func(c *networkproxy.Config) { c.CredentialProviders["b"] = c.CredentialProviders["api"] }, "has the same variable"},
		"a field that routes":   {provider(networkproxy.CredentialProvider{Headers: []string{"Host"}}), "frames or routes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := brokered()
			c.Enabled = true
			tt.change(&c)
			_, err := networkproxy.NewBuilder().Config(c).UpstreamEnviron([]string{"SHORT=short"}).Build()
			var e *networkproxy.ConfigError
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), apiSecret) || strings.Contains(err.Error(), "line ends and") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestSecretsAreNowhere searches everything that the proxy shows, after requests that
// succeed and fail in every way.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	var audit bytes.Buffer
	var events testnet.Buffer
	c := brokered()
	p := c.CredentialProviders["api"]
	p.SecretEnvVar = "PROXY_PAT"
	c.CredentialProviders["api"] = p
	l := startBrokered(t, c, true, func(b *networkproxy.Builder) {
		b.UpstreamEnviron([]string{"PROXY_PAT=" + apiSecret}).AuditLog(&audit).OnEvent(func(e networkproxy.Event) {
			fmt.Fprintf(&events, "%v %+v\n", e, e)
			json.NewEncoder(&events).Encode(e)
		})
	})
	s := l.command("a")
	token := variable(s.Environ(nil), "API_TOKEN")
	agent := l.agent(s, true)
	var texts []string
	for _, url := range []string{"https://example.com/v1/", "https://example.com/v2/", "https://example.com/v1/?" + token, "http://plain.example/" + token, "https://denied.example/"} {
		r, _ := http.NewRequest("GET", url, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := agent.Do(r)
		if err != nil {
			texts = append(texts, err.Error())
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		texts = append(texts, fmt.Sprint(resp.Header), string(body))
	}
	for _, path := range []string{"/config", "/blocked", "/grants", "/health", "/metrics", "/explain?url=https://example.com/v1/", "/ca.pem"} {
		texts = append(texts, l.admin("GET", path, "").body)
	}
	texts = append(texts, fmt.Sprintf("%v %+v %#v", l.Handle, l.Handle, l.Config()), fmt.Sprintf("%v %+v", s, s), s.Report(), fmt.Sprint(s.Summary()), strings.Join(l.Warnings(), " "))
	_, err := networkproxy.NewBuilder().Config(c).UpstreamEnviron([]string{"PROXY_PAT=" + apiSecret + "\x00"}).Build()
	texts = append(texts, fmt.Sprint(err), fmt.Sprintf("%v %+v %#v", networkproxy.Secret{Value: apiSecret}, networkproxy.Secret{Value: apiSecret}, networkproxy.Secret{Value: apiSecret}))
	s.Close()
	l.Close()
	texts = append(texts, l.log.String(), audit.String(), events.String())
	for _, text := range texts {
		if i := strings.Index(text, apiSecret); i >= 0 {
			t.Errorf("the secret is in %q", text[max(0, i-200):])
		}
	}
	if seen := l.requests(); len(seen) != 1 || seen[0] != "Bearer "+apiSecret {
		t.Errorf("the origin server saw %q", seen)
	}
}

// TestCredentialsRotateUnderLoad: every origin server sees the present secret, and no
// client ever sees one.
func TestCredentialsRotateUnderLoad(t *testing.T) {
	t.Parallel()
	requests := 10000
	if testing.Short() {
		requests = 200
	}
	var generation atomic.Int64
	secretOf := func(n int64) string { return fmt.Sprintf("%s%06d", apiSecret, n) }
	l := startBrokered(t, brokered(), true, func(b *networkproxy.Builder) {
		b.Credential("api", func(context.Context, string) (networkproxy.Secret, error) {
			return networkproxy.Secret{Value: secretOf(generation.Load())}, nil
		})
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := l.command(fmt.Sprint(i))
			defer s.Close()
			token := variable(s.Environ(nil), "API_TOKEN")
			c := l.agent(s, i%2 == 0)
			for range requests / 8 {
				generation.Add(1)
				r, _ := http.NewRequest("GET", "https://example.com/v1/", nil)
				r.Header.Set("Authorization", "Bearer "+token)
				resp, err := c.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || strings.Contains(string(body)+resp.Header.Get("X-Echo"), apiSecret) {
					t.Errorf("%d %s, %v", resp.StatusCode, body, err)
					return
				}
			}
		})
	}
	wg.Wait()
	seen := l.requests()
	if len(seen) != requests/8*8 {
		t.Errorf("the origin server saw %d requests", len(seen))
	}
	for _, auth := range seen {
		if !strings.HasPrefix(auth, "Bearer "+apiSecret) {
			t.Errorf("the origin server saw %q", auth)
		}
	}
}
