package httpproxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy/internal/gatetest"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/testnet"
)

// hello is a handler of origin servers.
func hello(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }

// openAll makes the policy open every tunnel in full mode.
func openAll(l *openedLab) func(*policy.Policy) {
	return func(p *policy.Policy) {
		p.Mode = policy.ModeFull
		p.Inspection = &policy.Inspection{Domains: gatetest.RuleSets(l.t, "mitm_domains", "*"), Exempt: gatetest.RuleSets(l.t, "mitm_exempt_domains", "exempt.test")}
	}
}

// reasons returns the reasons of the refusals that are recorded.
func (l *openedLab) reasons() string {
	var reasons []string
	blocked, _ := l.Gate.Blocked.List()
	for _, b := range blocked {
		reasons = append(reasons, string(b.Verdict.Reason))
	}
	return strings.Join(reasons, " ")
}

// await waits until cond is true.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	const limit = 20 * time.Second
	if !testnet.Poll(limit, cond) {
		t.Fatalf("%s: not within %v", what, limit)
	}
}

// TestOpenedAuthority: one name is the target, the server name and the authority.
func TestOpenedAuthority(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		l.origin("a.test", http2, hello, nil)
		l.origin("b.test", http2, hello, nil)
		c := l.client(http2)
		for _, tt := range []struct {
			host   string
			status int
		}{
			{"a.test", 200}, {"A.TEST.", 200}, {"a.test:443", 200}, {"a.test:80", 200},
			{"b.test", 421}, {"a.test:8443", 421}, {"a.test.evil.test", 421}, {"93.184.216.1", 421},
			{"user@a.test", 400}, {"a.test:0", 400}, {"0x7f.1", 400},
		} {
			r, _ := http.NewRequest("GET", "https://a.test/", nil)
			r.Host = tt.host
			resp, err := c.Do(r)
			if err != nil {
				if !http2 || tt.host != "user@a.test" { // the client of net/http refuses it
					t.Errorf("Host %s: %v", tt.host, err)
				}
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Errorf("Host %s: %d %s, want %d", tt.host, resp.StatusCode, body, tt.status)
			}
		}
		for _, request := range l.seen() {
			if request != "GET a.test /" {
				t.Errorf("the origin server saw %q", request)
			}
		}
		if got := l.reasons(); got != "host_mismatch host_mismatch host_mismatch host_mismatch" {
			t.Errorf("recorded: %s", got)
		}
	})
}

// TestOpenedMethods: neither a tunnel in the tunnel nor an echo of the request.
func TestOpenedMethods(t *testing.T) {
	both(t, func(t *testing.T, l *openedLab, http2 bool) {
		l.origin("a.test", http2, hello, nil)
		l.Install(openAll(l))
		c := l.client(http2)
		for _, method := range []string{"TRACE", "trace", "CONNECT"} {
			r, _ := http.NewRequest(method, "https://a.test/", nil)
			resp, err := c.Do(r)
			if err != nil {
				if method == "CONNECT" && http2 {
					continue // the client of net/http sends no such request
				}
				t.Errorf("%s: %v", method, err)
				continue
			}
			resp.Body.Close()
			if resp.StatusCode != 405 || resp.Header.Get("Allow") == "" {
				t.Errorf("%s: status %d, Allow %q; want 405", method, resp.StatusCode, resp.Header.Get("Allow"))
			}
		}
		if got := l.seen(); len(got) > 0 {
			t.Errorf("the origin server saw %q", got)
		}
	})
}

// TestOpenedRequestTargets: what is judged is what is sent.
func TestOpenedRequestTargets(t *testing.T) {
	t.Parallel()
	l := newOpenedLab(t)
	l.origin("a.test", false, hello, nil)
	c := tls.Client(l.tunnel("a.test:443"), &tls.Config{RootCAs: l.proxyCA.pool, ServerName: "a.test"})
	br := bufio.NewReader(c)
	for _, tt := range []struct {
		line   string
		status int
		seen   string
	}{
		{"GET /a//b/../c;x?y=%2e#z HTTP/1.1", 200, "GET a.test /a//b/../c;x?y=%2e#z"},
		{"GET https://a.test/abs HTTP/1.1", 200, "GET a.test /abs"},
		{"GET https://a.test HTTP/1.1", 200, "GET a.test /"},
		{"GET HTTPS://A.test:443/abs HTTP/1.1", 200, "GET a.test /abs"},
		{"OPTIONS * HTTP/1.1", 200, ""}, // net/http answers by itself
		{"GET https://b.test/ HTTP/1.1", 421, ""},
	} {
		before := len(l.seen())
		fmt.Fprintf(c, "%s\r\nHost: a.test\r\n\r\n", tt.line)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.line, err)
		}
		io.Copy(io.Discard, resp.Body)
		seen := strings.Join(l.seen()[before:], ", ")
		if resp.StatusCode != tt.status || seen != tt.seen {
			t.Errorf("%s: status %d, the origin server saw %q; want %d and %q", tt.line, resp.StatusCode, seen, tt.status, tt.seen)
		}
	}
	fmt.Fprint(c, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 400 {
		t.Errorf("an http:// URL inside TLS: %v, %v; want status 400", resp, err)
	}
}

func TestOpenedServerName(t *testing.T) {
	t.Parallel()
	l := newOpenedLab(t)
	l.origin("a.test", true, hello, nil)
	for _, tt := range []struct {
		name   string
		config *tls.Config
		err    string // in the client's error; empty for none
	}{
		{"the target", &tls.Config{ServerName: "a.test"}, ""},
		{"another name", &tls.Config{ServerName: "b.test"}, "access denied"},
		{"no name", &tls.Config{InsecureSkipVerify: true}, "access denied"},
		{"no protocol that can be inspected", &tls.Config{ServerName: "a.test", NextProtos: []string{"acme-tls/1"}}, "no application protocol"},
		{"an old version", &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, "protocol version"},
		{"TLS 1.2", &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS12}, ""},
	} {
		tt.config.RootCAs = l.proxyCA.pool
		c := tls.Client(l.tunnel("a.test:443"), tt.config)
		err := c.Handshake()
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
		c.Close()
	}
	// A client that closes the connection after the handshake may distrust the
	// certificate.
	await(t, "the records", func() bool {
		reasons := strings.Fields(l.reasons())
		slices.Sort(reasons)
		return strings.Join(reasons, " ") == "certificate_distrusted mitm_required sni_mismatch sni_mismatch"
	})
	if got := l.seen(); len(got) > 0 {
		t.Errorf("the origin server saw %q", got)
	}
}

// TestOpenedWithoutTLS: plain HTTP in a tunnel is judged too, and nothing else passes.
func TestOpenedWithoutTLS(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, sent, want, reason string }{
		{"a read", "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200", ""},
		{"a write", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 403", "method_not_allowed"},
		{"another host", "GET /x HTTP/1.1\r\nHost: b.test\r\n\r\n", "HTTP/1.1 421", "host_mismatch"},
		{"SSH", "SSH-2.0-OpenSSH_9.9\r\n", "", "mitm_required"},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", "mitm_required"},
		{"SMTP", "EHLO x\r\n", "", "mitm_required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newOpenedLab(t)
			var got bytes.Buffer
			s := newPlainOrigin(t, &got)
			l.lead("a.test", s.Addr())
			c := l.tunnel("a.test:443")
			io.WriteString(c, tt.sent)
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			response := make([]byte, len(tt.want))
			if n, err := io.ReadFull(c, response); string(response[:n]) != tt.want {
				t.Errorf("the client got %q, %v; want %q", response[:n], err, tt.want)
			}
			if tt.want == "" {
				if rest, _ := io.ReadAll(c); len(rest) > 0 {
					t.Errorf("the client got %q", rest)
				}
			}
			await(t, "the record", func() bool { return l.reasons() == tt.reason })
			c.Close()
			s.Close()
			if tt.reason != "" && got.Len() > 0 {
				t.Errorf("the server got %q", got.String())
			}
		})
	}
}

func TestOpenedExempt(t *testing.T) {
	t.Parallel()
	l := newOpenedLab(t)
	l.origin("exempt.test", true, hello, nil)
	if _, response := l.connect("exempt.test:443"); !strings.HasPrefix(response, "HTTP/1.1 403") || !strings.Contains(response, "mitm_exempt_domains") {
		t.Errorf("limited mode: %s", response)
	}
	if got := l.reasons(); got != "mitm_required" {
		t.Errorf("recorded: %s", got)
	}
	l.Install(openAll(l))
	c := tls.Client(l.tunnel("exempt.test:443"), &tls.Config{RootCAs: l.originCA.pool, ServerName: "exempt.test"})
	if err := c.Handshake(); err != nil {
		t.Errorf("full mode: %v; want the certificate of the origin server", err)
	}
	l.Install(func(p *policy.Policy) { p.Mode, p.Inspection = policy.ModeLimited, nil })
	if _, response := l.connect("a.test:443"); !strings.HasPrefix(response, "HTTP/1.1 403") || !strings.Contains(response, "mitm = true") {
		t.Errorf("without inspection: %s", response)
	}
}

// TestOpenedRuleCutsSplicedTunnels: a tunnel that was not opened ends when the policy
// wants it opened, and one that was opened goes on when the policy no longer does.
func TestOpenedRuleCutsSplicedTunnels(t *testing.T) {
	t.Parallel()
	l := newOpenedLab(t)
	l.origin("a.test", false, hello, nil)
	full := func(p *policy.Policy) { p.Mode = policy.ModeFull }
	l.Install(full)
	spliced := tls.Client(l.tunnel("a.test:443"), &tls.Config{RootCAs: l.originCA.pool, ServerName: "a.test"})
	if err := spliced.Handshake(); err != nil {
		t.Fatal(err)
	}
	l.Install(openAll(l))
	if _, err := spliced.Read(make([]byte, 1)); err == nil {
		t.Error("the spliced tunnel is still open")
	}
	c := l.client(false)
	get := func() int {
		resp, err := c.Get("https://a.test/")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode
	}
	get()
	l.Install(full)
	if got := get(); got != 200 {
		t.Errorf("after the end of inspection: %d", got)
	}
	l.Install(openAll(l))
	opened := tls.Client(l.tunnel("a.test:443"), &tls.Config{RootCAs: l.proxyCA.pool, ServerName: "a.test"})
	if err := opened.Handshake(); err != nil {
		t.Fatal(err)
	}
	l.Install(func(p *policy.Policy) { p.Deny = gatetest.RuleSets(t, "denied_domains", "a.test") })
	if _, err := opened.Read(make([]byte, 1)); err == nil {
		t.Error("the opened tunnel goes on after a deny")
	}
}

// TestOpenedTunnelsAreBounded: one session can have three quarters of them.
func TestOpenedTunnelsAreBounded(t *testing.T) {
	t.Parallel()
	l := newOpenedLab(t)
	l.origin("a.test", false, hello, nil)
	var open []net.Conn
	for {
		c, response := l.connect("a.test:443")
		if strings.HasPrefix(response, "HTTP/1.1 503") {
			if got := l.reasons(); got != "too_many_connections" {
				t.Errorf("recorded: %s", got)
			}
			break
		}
		if open = append(open, c); len(open) > 64 {
			t.Fatal("more than 64 tunnels")
		}
	}
	if len(open) != 48 {
		t.Errorf("%d tunnels of one session, want 48 of 64", len(open))
	}
	open[0].Close()
	await(t, "a free place", func() bool {
		c, response := l.connect("a.test:443")
		c.Close()
		return strings.HasPrefix(response, "HTTP/1.1 200")
	})
}
