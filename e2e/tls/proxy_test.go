//go:build e2e && linux

// This file starts the program and reads what it reports.

package tls

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// config is the configuration of one program. The zero value opens TLS where the policy
// must see requests, in full mode, and allows nothing.
type config struct {
	Limited         bool // the mode
	Off             bool // mitm = false
	Domains, Exempt []string
	CACert, CAKey   string
	Hooks           string // the mitm_hooks tables
	Broker          bool   // credential_broker
	Plaintext       bool   // dangerously_allow_plaintext_credential_injection
	Providers       string // the credential_providers tables
	Allowed, Denied []string
	AllowLocal      bool
	Upstream        bool // allow_upstream_proxy
	UDP             bool // enable_socks5_udp

	Env     []string // of the program
	Program string   // its name; networkproxy by default
	Args    []string
}

// limited returns a configuration in limited mode.
func limited(allowed ...string) config { return config{Limited: true, Allowed: allowed} }

// full returns a configuration in full mode with hooks.
func full(hooks string, allowed ...string) config { return config{Hooks: hooks, Allowed: allowed} }

// hook returns a mitm_hooks table for a host.
func hook(host string, keys ...string) string {
	return fmt.Sprintf("[[network_proxy.mitm_hooks]]\nhost = %q\n%s\n", host, strings.Join(keys, "\n"))
}

// toml returns the text of the configuration file. The addresses may be empty.
func (c config) toml(http, socks, admin string) string {
	var b strings.Builder
	b.WriteString("[network_proxy]\nenabled = true\n")
	fmt.Fprintf(&b, "mitm = %t\n", !c.Off)
	if c.Limited {
		b.WriteString("mode = \"limited\"\n")
	} else {
		b.WriteString("mode = \"full\"\n")
	}
	for _, value := range []struct{ key, value string }{
		{"mitm_ca_cert", c.CACert}, {"mitm_ca_key", c.CAKey},
		{"proxy_url", url("http", http)}, {"admin_url", url("http", admin)}, {"socks_url", url("socks5h", socks)},
	} {
		if value.value != "" {
			fmt.Fprintf(&b, "%s = %q\n", value.key, value.value)
		}
	}
	if socks != "" {
		b.WriteString("enable_socks5 = true\n")
	}
	for _, flag := range []struct {
		key string
		set bool
	}{{"allow_upstream_proxy", c.Upstream}, {"enable_socks5_udp", c.UDP}, {"credential_broker", c.Broker}, {"dangerously_allow_plaintext_credential_injection", c.Plaintext}} {
		if flag.set {
			fmt.Fprintf(&b, "%s = true\n", flag.key)
		}
	}
	for _, list := range []struct {
		key    string
		values []string
	}{{"mitm_domains", c.Domains}, {"mitm_exempt_domains", c.Exempt}} {
		if list.values != nil {
			fmt.Fprintf(&b, "%s = %s\n", list.key, array(list.values))
		}
	}
	fmt.Fprintf(&b, "\n[network_proxy.policy]\nallowed_domains = %s\ndenied_domains = %s\nallow_local_binding = %t\n\n%s%s",
		array(c.Allowed), array(c.Denied), c.AllowLocal, c.Hooks, c.Providers)
	return b.String()
}

// url returns the URL of an address, or nothing for none.
func url(scheme, addr string) string {
	if addr == "" {
		return ""
	}
	return scheme + "://" + addr
}

// array returns a TOML array of strings. Go and TOML quote these values alike.
func array(entries []string) string {
	quoted := make([]string, len(entries))
	for i, entry := range entries {
		quoted[i] = fmt.Sprintf("%q", entry)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// proxy is a running program.
type proxy struct {
	*harness.Process
	http, socks, admin string // its addresses, host:port
	configFile         string
	caFile             string // the certificate of GET /ca.pem; empty if TLS is not opened
	ca                 *x509.Certificate
	pool               *x509.CertPool // this certificate, and that of the origin servers
}

// launch starts the program without waiting.
func launch(t *testing.T, c config) *proxy {
	t.Helper()
	p := &proxy{http: lab.addr(), socks: lab.addr(), admin: lab.addr(), configFile: filepath.Join(t.TempDir(), "config.toml")}
	p.rewrite(t, c)
	program := c.Program
	if program == "" {
		program = "networkproxy"
	}
	env := append([]string{"SSL_CERT_FILE=" + lab.ca.file}, c.Env...)
	p.Process = harness.Start(t, filepath.Join(lab.dir, program), env, append([]string{"-config", p.configFile}, c.Args...)...)
	return p
}

// start starts the program and returns when it responds. At the end of the test it stops
// the program and checks that it exits without an error, a data race or a panic.
func start(t *testing.T, c config) *proxy {
	t.Helper()
	p := launch(t, c)
	t.Cleanup(func() { p.Finish(t) })
	harness.Eventually(t, "the program responds on "+p.admin, func() bool {
		if p.Ended() {
			t.Fatalf("the program exited with code %d before it responded", p.Cmd.ProcessState.ExitCode())
		}
		status, _ := p.call("GET", "/health", "")
		return status == http.StatusOK
	})
	p.pool = lab.ca.pool.Clone()
	if !c.Off {
		p.fetchCA(t)
	}
	return p
}

// fetchCA reads the certificate of GET /ca.pem.
func (p *proxy) fetchCA(t *testing.T) {
	t.Helper()
	status, text := p.call("GET", "/ca.pem", "")
	if status != http.StatusOK {
		t.Fatalf("GET /ca.pem: %d %s", status, text)
	}
	p.trust(t, text)
}

// trust makes the clients of p trust the first certificate of a PEM text.
func (p *proxy) trust(t *testing.T, text string) {
	t.Helper()
	certs, err := parseCertificates([]byte(text))
	if err != nil {
		t.Fatalf("the proxy's certificate: %v: %q", err, text)
	}
	p.ca, p.pool = certs[0], lab.ca.pool.Clone()
	p.pool.AddCert(p.ca)
	p.caFile = writeFile(t, "ca.pem", []byte(text))
}

// rewrite replaces the configuration file.
func (p *proxy) rewrite(t *testing.T, c config) {
	t.Helper()
	next := p.configFile + ".next"
	if err := os.WriteFile(next, []byte(c.toml(p.http, p.socks, p.admin)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, p.configFile); err != nil {
		t.Fatal(err)
	}
}

// reload puts a configuration in force.
func (p *proxy) reload(t *testing.T, c config) {
	t.Helper()
	p.rewrite(t, c)
	if status, text := p.call("POST", "/reload", ""); status != http.StatusOK {
		t.Fatalf("POST /reload: %d %s", status, text)
	}
}

// call sends a request to the admin API. The status is 0, and the text an error, if there
// is no response.
func (p *proxy) call(method, path, body string) (status int, text string) {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.admin+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// refusal is the part of a recorded refusal that the tests compare. Fields that are empty
// in an expected refusal match everything.
type refusal struct {
	Host     string
	Port     int
	Protocol string
	Method   string
	Reason   string
	Path     string
	Rule     json.RawMessage
	Message  string
	Hint     string
}

func (r refusal) matches(want refusal) bool {
	return r.Host == want.Host && (want.Port == 0 || r.Port == want.Port) &&
		(want.Protocol == "" || r.Protocol == want.Protocol) && (want.Method == "" || r.Method == want.Method) &&
		(want.Reason == "" || r.Reason == want.Reason) && (want.Path == "" || r.Path == want.Path)
}

// blocked returns the recorded refusals.
func (p *proxy) blocked(t *testing.T) []refusal {
	t.Helper()
	_, text := p.call("GET", "/blocked", "")
	var list struct{ Blocked []refusal }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("GET /blocked: %v: %s", err, text)
	}
	return list.Blocked
}

// wantBlocked waits for a refusal and returns it.
func (p *proxy) wantBlocked(t *testing.T, want refusal) (found refusal) {
	t.Helper()
	list := p.waitBlocked(t, want)
	i := slices.IndexFunc(list, func(r refusal) bool { return r.matches(want) })
	if i < 0 {
		t.Fatalf("/blocked has %+v, want %+v", list, want)
	}
	return list[i]
}

// waitBlocked waits at most a few seconds for a refusal, because some are recorded after
// the client has got its response, and returns the list.
func (p *proxy) waitBlocked(t *testing.T, want refusal) []refusal {
	t.Helper()
	deadline := newDeadline()
	for {
		list := p.blocked(t)
		if slices.ContainsFunc(list, func(r refusal) bool { return r.matches(want) }) || deadline.passed() {
			return list
		}
	}
}

// wantNothing fails the test if an origin server has received a request for a host.
func wantNothing(t *testing.T, hosts ...string) {
	t.Helper()
	for _, host := range hosts {
		if got := lab.origins.received(host); len(got) != 0 {
			t.Errorf("the origin server of %s received %d requests, want none: %+v", host, len(got), got)
		}
	}
}
