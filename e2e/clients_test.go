//go:build e2e && linux

// This file tests allowed and refused requests with common clients.

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// python is Debian's interpreter. Another python3 in the PATH may lack Debian's
// packages.
const python = "/usr/bin/python3"

// outcome is the result of one fetch as shown by the client.
type outcome struct {
	status     int    // of the origin, or of the proxy's refusal; 0 if the client does not show it
	proxyError string // the x-proxy-error header; empty if absent or not shown
	body       string
	detail     string // all output of the client, for failure messages
}

// client is one way to fetch a URL.
type client struct {
	name  string
	fetch func(t *testing.T, p *program, url string) outcome
	// showsConnectHeaders is true if the client shows the header of a refused
	// CONNECT. No client shows the body.
	showsConnectHeaders bool
	// bareIPv6 is true if the client sends CONNECT for an IPv6 address without
	// brackets. Such a target is malformed.
	bareIPv6 bool
}

var clients = []client{
	{name: "curl", fetch: fetchCurl, showsConnectHeaders: true},
	{name: "wget", fetch: fetchWget, bareIPv6: true},
	{name: "urllib", fetch: fetchUrllib, bareIPv6: true},
	{name: "net-http", fetch: fetchGo, showsConnectHeaders: true},
}

// TestNamespace checks that all clients work without the proxy: names resolve, and the
// certificates are trusted.
func TestNamespace(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		url := scheme + "://direct.example/hello"
		for _, cmd := range []*exec.Cmd{
			directCommand(t, "curl", "-sS", url),
			directCommand(t, "wget", "-q", "--ca-certificate="+lab.ca.file, "-O", "-", url),
		} {
			if got := harness.Run(t, cmd).MustSucceed(t).Stdout; got != helloBody("direct.example") {
				t.Errorf("%s: %q", cmd, got)
			}
		}
		fetch := harness.Run(t, directCommand(t, python, "testdata/fetch.py", url)).MustSucceed(t)
		if got := decodeJSON(t, fetch.Stdout)["body"]; got != helloBody("direct.example") {
			t.Errorf("urllib %s: %s", url, fetch.Stdout)
		}
		harness.Run(t, directCommand(t, "git", "ls-remote", scheme+"://direct.example/git/project.git", "main")).MustSucceed(t)
	}
	if lab.dns.queryCount("direct.example") == 0 {
		t.Error("the DNS server saw no query")
	}
}

func TestClientsReachWhatIsAllowed(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example", "**.wild.example", "*.example:8000", "v6.example", "dual.example"}})
	for _, c := range clients {
		for _, target := range []string{
			"http://allowed.example", "https://allowed.example",
			"http://sub.wild.example", "https://sub.wild.example",
			"http://v6.example", "https://v6.example",
			"http://dual.example", "https://dual.example",
			"http://direct.example:8000",
		} {
			t.Run(c.name+" "+target, func(t *testing.T) {
				t.Parallel()
				got := c.fetch(t, p, target+"/hello")
				_, host, _ := strings.Cut(target, "://")
				if want := helloBody(host); got.status != http.StatusOK || got.body != want {
					t.Errorf("status %d, body %q; want 200, %q\n%s", got.status, got.body, want, got.detail)
				}
			})
		}
	}
}

// refusals are hosts that no policy of this suite allows.
var refusals = []struct{ host, reason, proxyError string }{
	{"other.example", "not_allowed", "blocked-by-allowlist"},
	{"leak.other.example", "not_allowed", "blocked-by-allowlist"},
	{"denied.example", "denied", "blocked-by-denylist"},
	{"localhost", "not_allowed_local", "blocked-by-allowlist"},
	{"127.0.0.1", "not_allowed_local", "blocked-by-allowlist"},
	{"[::1]", "not_allowed_local", "blocked-by-allowlist"},
}

func TestClientsSeeTheRefusal(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example", "denied.example"}, Denied: []string{"denied.example"}})
	for _, c := range clients {
		for _, r := range refusals {
			t.Run(c.name+" http "+r.host, func(t *testing.T) {
				t.Parallel()
				got := c.fetch(t, p, "http://"+r.host+"/hello")
				if got.status != http.StatusForbidden || got.proxyError != r.proxyError {
					t.Errorf("status %d, x-proxy-error %q; want 403, %q\n%s", got.status, got.proxyError, r.proxyError, got.detail)
				}
				checkRefusalBody(t, got.body, r.host, r.reason)
			})
			t.Run(c.name+" https "+r.host, func(t *testing.T) {
				t.Parallel()
				got := c.fetch(t, p, "https://"+r.host+"/hello")
				status, proxyError := http.StatusForbidden, r.proxyError
				if !c.showsConnectHeaders {
					proxyError = ""
				}
				if c.bareIPv6 && strings.HasPrefix(r.host, "[") {
					status = http.StatusBadRequest
				}
				if got.status != status || got.proxyError != proxyError {
					t.Errorf("status %d, x-proxy-error %q; want %d, %q\n%s", got.status, got.proxyError, status, proxyError, got.detail)
				}
			})
		}
	}
	t.Cleanup(func() {
		for _, r := range refusals {
			if n := lab.dns.queryCount(r.host); n != 0 {
				t.Errorf("the DNS server got %d queries for %s", n, r.host)
			}
		}
	})
}

// checkRefusalBody checks the JSON of a refused plain-HTTP GET.
func checkRefusalBody(t *testing.T, body, host, reason string) {
	t.Helper()
	got := decodeJSON(t, body)
	want := map[string]any{
		"status": "blocked", "host": strings.Trim(host, "[]"), "port": 80.0, "protocol": "http", "method": "GET",
		"reason": reason, "source": "baseline_policy", "decision": "deny",
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %v, want %v", key, got[key], value)
		}
	}
	for _, key := range []string{"message", "hint"} {
		if text, _ := got[key].(string); text == "" {
			t.Errorf("%s is %v, want a text", key, got[key])
		}
	}
	// Only a denial has a rule, because an entry of a list decides it.
	wantRule := ""
	if reason == "denied" {
		wantRule = "denied.example"
	}
	if rule, _ := got["rule"].(string); rule != wantRule {
		t.Errorf("rule is %v, want %q", got["rule"], wantRule)
	}
}

// TestRefusedConnect reads the body of the refusal, which most clients hide.
func TestRefusedConnect(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example"}, Denied: []string{"denied.example"}})
	for _, r := range refusals {
		t.Run(r.host, func(t *testing.T) {
			t.Parallel()
			resp := rawRoundTrip(t, p, "CONNECT "+r.host+":443 HTTP/1.1\r\nHost: "+r.host+":443\r\n\r\n")
			if resp.StatusCode != http.StatusForbidden || resp.Header.Get("X-Proxy-Error") != r.proxyError {
				t.Fatalf("status %d, x-proxy-error %q; want 403, %q", resp.StatusCode, resp.Header.Get("X-Proxy-Error"), r.proxyError)
			}
			if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
				t.Errorf("content-type %q, want text/plain", got)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(body), strings.Trim(r.host, "[]")) {
				t.Errorf("the text does not name %s: %q", r.host, body)
			}
		})
	}
}

// rawRoundTrip writes a raw request to the proxy and reads the response header.
func rawRoundTrip(t *testing.T, p *program, request string) *http.Response {
	t.Helper()
	conn := p.connect(t)
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	// Without a method, because a refused CONNECT has a body like any other
	// response.
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("read the response to %q: %v", request, err)
	}
	return resp
}

// fetchCurl fetches a URL with curl, which writes the headers of both proxy and origin
// to a file.
func fetchCurl(t *testing.T, p *program, url string) outcome {
	t.Helper()
	headers := filepath.Join(t.TempDir(), "headers")
	res := p.run(t, "curl", "-sS", "-v", "-D", headers, url)
	dump, err := os.ReadFile(headers)
	if err != nil {
		t.Fatalf("%v\n%s", err, res.Stderr)
	}
	status, header := lastHeader(string(dump))
	if status == http.StatusOK && res.Exit != 0 {
		status = 0
	}
	return outcome{status, header.Get("X-Proxy-Error"), res.Stdout, res.Stderr}
}

// lastHeader parses the last of several response headers.
func lastHeader(dump string) (status int, header textproto.MIMEHeader) {
	for block := range strings.SplitSeq(dump, "\r\n\r\n") {
		line, fields, _ := strings.Cut(block, "\r\n")
		if words := strings.Fields(line); len(words) >= 2 {
			status, _ = strconv.Atoi(words[1])
			header, _ = textproto.NewReader(bufio.NewReader(strings.NewReader(fields + "\r\n\r\n"))).ReadMIMEHeader()
		}
	}
	return status, header
}

// wgetStatus matches the status lines in the output of wget -S. For a refused tunnel,
// wget prints only the reason phrase.
var wgetStatus = regexp.MustCompile(`(?m)^ *HTTP/1\.\d (\d{3})|^Proxy tunneling failed: (Forbidden|Bad Request)`)

func fetchWget(t *testing.T, p *program, url string) outcome {
	t.Helper()
	res := p.run(t, "wget", "-S", "--tries=1", "--timeout=30", "--content-on-error",
		"--ca-certificate="+lab.ca.file, "-O", "-", url)
	out := outcome{body: res.Stdout, detail: res.Stderr}
	for _, m := range wgetStatus.FindAllStringSubmatch(res.Stderr, -1) {
		switch m[2] {
		case "Forbidden":
			out.status = http.StatusForbidden
		case "Bad Request":
			out.status = http.StatusBadRequest
		default:
			out.status, _ = strconv.Atoi(m[1])
		}
	}
	for line := range strings.Lines(res.Stderr) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && strings.EqualFold(name, "x-proxy-error") {
			out.proxyError = value
		}
	}
	return out
}

func fetchUrllib(t *testing.T, p *program, url string) outcome {
	t.Helper()
	res := p.run(t, python, "testdata/fetch.py", url).MustSucceed(t)
	var got struct {
		Status  int
		Headers map[string]string
		Body    string
		Error   string
	}
	if err := json.Unmarshal([]byte(res.Stdout), &got); err != nil {
		t.Fatalf("%v: %q", err, res.Stdout)
	}
	// Status stays 0 for other errors.
	fmt.Sscanf(got.Error, "Tunnel connection failed: %d", &got.Status)
	return outcome{got.Status, got.Headers["x-proxy-error"], got.Body, res.Stdout + res.Stderr}
}

func fetchGo(t *testing.T, p *program, target string) outcome {
	t.Helper()
	transport := p.transport()
	defer transport.CloseIdleConnections()
	var out outcome
	transport.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			out.status, out.proxyError = resp.StatusCode, resp.Header.Get("X-Proxy-Error")
		}
		return nil
	}
	resp, err := (&http.Client{Transport: transport, Timeout: timeout}).Get(target)
	if err != nil {
		out.detail = err.Error()
		return out
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return outcome{detail: err.Error()}
	}
	return outcome{resp.StatusCode, resp.Header.Get("X-Proxy-Error"), body.String(), fmt.Sprint(resp.Header)}
}

// transport returns a net/http transport that uses the proxy.
func (p *program) transport() *http.Transport {
	return &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: p.proxy}),
		TLSClientConfig: &tls.Config{RootCAs: lab.ca.pool},
	}
}
