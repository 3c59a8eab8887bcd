//go:build e2e && linux

// This file tests the admin API with curl.

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// TestAdminOnDefaultAddresses runs the commands of the documentation on the default
// addresses.
func TestAdminOnDefaultAddresses(t *testing.T) {
	t.Parallel()
	const text = "[network_proxy]\nenabled = true\n[network_proxy.policy]\nallowed_domains = [\"allowed.example\"]\n"
	p := startFile(t, writeConfig(t, text), "127.0.0.1:3128", "127.0.0.1:8080", "")
	curl := func(args ...string) string {
		t.Helper()
		return harness.Run(t, directCommand(t, "curl", append([]string{"-sS", "--fail-with-body"}, args...)...)).MustSucceed(t).Stdout
	}

	for _, path := range []string{"/health", "/config", "/patterns", "/blocked"} {
		decodeJSON(t, curl("http://127.0.0.1:8080"+path))
	}
	if got := curl("http://127.0.0.1:8080/patterns"); !strings.Contains(got, "allowed.example") {
		t.Errorf("/patterns does not show the allowlist: %s", got)
	}

	put := func() int { return fetchMethod(t, p, "PUT", "http://allowed.example/digest") }
	if got := put(); got != http.StatusOK {
		t.Fatalf("PUT in full mode: status %d, want 200", got)
	}
	decodeJSON(t, curl("-X", "POST", "http://127.0.0.1:8080/mode", "-d", `{"mode":"limited"}`))
	if got := put(); got != http.StatusForbidden {
		t.Errorf("PUT in limited mode: status %d, want 403", got)
	}
	decodeJSON(t, curl("-sS", "-X", "POST", "http://127.0.0.1:8080/mode", "-d", `{"mode":"full"}`))
	if got := put(); got != http.StatusOK {
		t.Errorf("PUT in full mode again: status %d, want 200", got)
	}

	p.rewrite(t, strings.Replace(text, "allowed.example", "reload.example", 1))
	decodeJSON(t, curl("-X", "POST", "http://127.0.0.1:8080/reload"))
	if got := fetchCurl(t, p, "http://reload.example/hello"); got.status != http.StatusOK {
		t.Errorf("after the reload: status %d, want 200\n%s", got.status, got.detail)
	}
	if got := fetchCurl(t, p, "http://allowed.example/hello"); got.status != http.StatusForbidden {
		t.Errorf("after the reload, a host removed from the list: status %d, want 403\n%s", got.status, got.detail)
	}
	// Reading does not remove refusals: they are there twice.
	for range 2 {
		if got := curl("http://127.0.0.1:8080/blocked"); !strings.Contains(got, "method_not_allowed") || !strings.Contains(got, "not_allowed") {
			t.Errorf("/blocked lacks a refusal: %s", got)
		}
	}
}

// fetchMethod sends an empty request with curl and returns the status.
func fetchMethod(t *testing.T, p *program, method, url string) int {
	t.Helper()
	args := []string{"-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", method}
	if method == "HEAD" {
		args = append(args, "--head")
	}
	status, err := strconv.Atoi(p.run(t, "curl", append(args, url)...).MustSucceed(t).Stdout)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func TestAdminRefusesBadRequests(t *testing.T) {
	t.Parallel()
	p := start(t, config{})
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, []byte(`{"mode":"full","x":"`+strings.Repeat("x", 9<<10)+`"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		path   string
		args   []string
		status int
		header string // required in the response
	}{
		{"GET on /mode", "/mode", nil, 405, "Allow: POST"},
		{"GET on /reload", "/reload", nil, 405, "Allow: POST"},
		{"POST on /health", "/health", []string{"-X", "POST"}, 405, "Allow: GET"},
		{"DELETE on /blocked", "/blocked", []string{"-X", "DELETE"}, 405, "Allow: GET"},
		{"unknown path", "/nothing", nil, 404, ""},
		{"unknown mode", "/mode", []string{"-d", `{"mode":"open"}`}, 400, ""},
		{"not JSON", "/mode", []string{"-d", "mode=full"}, 400, ""},
		{"text after the value", "/mode", []string{"-d", `{"mode":"full"} {}`}, 400, ""},
		{"large body", "/mode", []string{"-d", "@" + large}, 413, ""},
		{"large body without a length", "/mode", []string{"-d", "@" + large, "-H", "Transfer-Encoding: chunked"}, 413, ""},
		{"a page of another site", "/mode", []string{"-d", `{"mode":"full"}`, "-H", "Sec-Fetch-Site: cross-site"}, 403, ""},
		{"a page of another origin", "/reload", []string{"-X", "POST", "-H", "Origin: http://attacker.example"}, 403, ""},
		{"a rebound name", "/config", []string{"-H", "Host: attacker.example"}, 403, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dump := filepath.Join(t.TempDir(), "headers")
			args := append([]string{"-sS", "-D", dump, "http://" + p.admin + test.path}, test.args...)
			res := harness.Run(t, directCommand(t, "curl", args...)).MustSucceed(t)
			headers, err := os.ReadFile(dump)
			if err != nil {
				t.Fatal(err)
			}
			if status, _ := lastHeader(string(headers)); status != test.status {
				t.Errorf("status %d, want %d: %s", status, test.status, res.Stdout)
			}
			if !strings.Contains(string(headers), test.header) {
				t.Errorf("the response lacks %q:\n%s", test.header, headers)
			}
			decodeJSON(t, res.Stdout)
		})
	}
}

func TestAdminToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("a-secret-of-the-run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config{Proxy: lab.addr(), Admin: lab.addr()}
	p := startFile(t, writeConfig(t, c.toml()), c.Proxy, c.Admin, "a-secret-of-the-run", "-admin-token-file", file)
	for _, test := range []struct{ name, header, status string }{
		{"without a token", "X-Nothing: 1", "401"},
		{"with another token", "Authorization: Bearer a-secret", "401"},
		{"with the token", "Authorization: Bearer a-secret-of-the-run", "200"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			res := harness.Run(t, directCommand(t, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}",
				"-H", test.header, "http://"+p.admin+"/config")).MustSucceed(t)
			if res.Stdout != test.status {
				t.Errorf("status %s, want %s", res.Stdout, test.status)
			}
		})
	}
	if strings.Contains(p.Log.String(), "a-secret-of-the-run") {
		t.Error("the program logged the token")
	}
}
