//go:build e2e && linux

// This file tests the environment of commands: clients must trust the proxy's certificates
// without any configuration by the user.

package tls

import (
	"bufio"
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

func TestEnvironment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"env-matrix", testMatrix},
		{"env-cert-dir", testCertDir},
		{"env-parent-bundle", testParentBundle},
		{"env-off", testEnvironmentOff},
		{"bundle-removed", testBundleRemoved},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// matrixClient is a client that fetches a URL. It has no options for certificates.
type matrixClient struct {
	name string
	argv []string // the URL follows
	path string
	want string // in the output; empty means the body of /hello
	// needsFence is true for clients that ignore proxy variables. They run in a fence.
	needsFence bool
}

func matrix(t *testing.T) []matrixClient {
	t.Helper()
	java, err := filepath.Abs("testdata/TrustedFetch.java")
	if err != nil {
		t.Fatal(err)
	}
	script := func(name string) string {
		path, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	return []matrixClient{
		{name: "curl", argv: []string{"curl", "-sSf"}},
		{name: "wget", argv: []string{"wget", "-q", "--tries=1", "-O", "-"}},
		{name: "git", argv: []string{"git", "ls-remote"}, path: "/git/project.git", want: "refs/heads/main"},
		{name: "urllib", argv: []string{python, script("../testdata/fetch.py")}},
		{name: "requests", argv: []string{python, script("testdata/requestsfetch.py")}},
		{name: "node-tunnel", argv: []string{"node", script("../testdata/tunnel.mjs")}},
		{name: "node-fetch", argv: []string{"node", script("../testdata/fetch.mjs")}, needsFence: true},
		{name: "go", argv: []string{filepath.Join(lab.dir, "fetch")}},
		{name: "java", argv: []string{"java", "-XX:TieredStopAtLevel=1", java}},
		{name: "openssl", argv: []string{"sh", "-c", `
			host=${1#https://}; host=${host%%/*}
			printf 'GET /hello HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$host" |
			openssl s_client -quiet -verify_return_error -servername "$host" -verify_hostname "$host" -connect "$host:443" -proxy "${HTTPS_PROXY#http://}" 2>&1`, "sh"}},
	}
}

// matrixConfig writes a configuration that opens one host and not the other.
func matrixConfig(t *testing.T, opened, spliced string) string {
	t.Helper()
	text := full(hook(opened, `methods = ["GET", "POST"]`, `path_prefixes = ["/hello", "/git"]`), opened, spliced).toml("", "", "")
	return writeFile(t, "config.toml", []byte(text))
}

// testMatrix runs each client for a host that is opened and for one that is not. The
// certificates of the origin servers are those of a company, whose authority the parent
// trusts by a variable.
func testMatrix(t *testing.T) {
	for _, c := range matrix(t) {
		for _, fence := range []bool{false, true} {
			if c.needsFence && !fence || c.name == "openssl" && fence {
				continue
			}
			name := c.name
			if fence {
				name += " in a fence"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				opened, spliced := lab.host("web"), lab.host("web")
				flags := []string{"-config", matrixConfig(t, opened, spliced)}
				if fence {
					flags = append(flags, "-fence")
				}
				env := []string{"NODE_EXTRA_CA_CERTS=" + lab.ca.file}
				path := c.path
				if path == "" {
					path = "/hello"
				}
				for _, host := range []string{opened, spliced} {
					want := c.want
					if want == "" {
						want = strings.TrimSpace(helloBody(host))
					}
					got := runCommand(t, env, flags, append(c.argv, "https://"+host+path)...)
					if got.Exit != 0 || !strings.Contains(got.Stdout, want) {
						t.Errorf("%s: exit %d, want %q\nstdout: %s\nstderr: %s", host, got.Exit, want, got.Stdout, got.Stderr)
					}
				}
				// The rule sees the requests to the opened host, and only those.
				got := runCommand(t, env, flags, "curl", "-sS", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} ", "https://"+opened+"/v2", "https://"+spliced+"/v2")
				if !strings.HasPrefix(got.Stdout, "403 200") {
					t.Errorf("/v2 of both hosts: %q, want 403 and 200", got.Stdout)
				}
			})
		}
	}
}

// testCertDir has a parent that trusts the company's authority by a directory alone. curl
// prefers SSL_CERT_DIR to SSL_CERT_FILE.
func testCertDir(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile(lab.ca.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "company.pem"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	harness.Run(t, exec.CommandContext(t.Context(), "openssl", "rehash", dir)).MustSucceed(t)
	opened, spliced := lab.host("web"), lab.host("web")
	for _, host := range []string{opened, spliced} {
		got := runCommand(t, []string{"SSL_CERT_FILE=", "SSL_CERT_DIR=" + dir}, []string{"-config", matrixConfig(t, opened, spliced)},
			"curl", "-sSf", "https://"+host+"/hello")
		if got.Exit != 0 || got.Stdout != helloBody(host) {
			t.Errorf("%s: exit %d, stdout %q, stderr %s", host, got.Exit, got.Stdout, got.Stderr)
		}
	}
}

// testParentBundle has a parent with a variable for one client.
func testParentBundle(t *testing.T) {
	company, _ := writeAuthority(t, nil)
	text, err := os.ReadFile(company)
	if err != nil {
		t.Fatal(err)
	}
	want, err := parseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	host := lab.host("web")
	got := runCommand(t, []string{"CURL_CA_BUNDLE=" + company}, []string{"-config", matrixConfig(t, host, host)}, "sh", "-c", `cat "$CURL_CA_BUNDLE"`).MustSucceed(t)
	certs, err := parseCertificates([]byte(got.Stdout))
	if err != nil {
		t.Fatal(err)
	}
	found, ours := false, false
	for _, cert := range certs {
		found = found || cert.Equal(want[0])
		ours = ours || strings.HasPrefix(cert.Subject.CommonName, "networkproxy CA")
	}
	if !found || !ours || len(certs) < 50 {
		t.Errorf("the bundle has %d certificates, the company's: %t, the proxy's: %t; want both, and the system's", len(certs), found, ours)
	}
	curl := runCommand(t, []string{"CURL_CA_BUNDLE=" + company}, []string{"-config", matrixConfig(t, host, host)}, "curl", "-sSf", "https://"+host+"/hello").MustSucceed(t)
	if curl.Stdout != helloBody(host) {
		t.Errorf("curl: %q", curl.Stdout)
	}
}

// testEnvironmentOff checks that nothing is touched while TLS is not opened.
func testEnvironmentOff(t *testing.T) {
	host := lab.host("web")
	parent := []string{"CURL_CA_BUNDLE=/the/parent's.pem", "SSL_CERT_DIR=/the/parent's", "NODE_EXTRA_CA_CERTS=/the/parent's.pem"}
	got := runCommand(t, parent, []string{"-allow", host}, "env").MustSucceed(t)
	for _, want := range append(parent, "SSL_CERT_FILE="+lab.ca.file) {
		if !strings.Contains(got.Stdout, want+"\n") {
			t.Errorf("the environment lacks %s", want)
		}
	}
	for _, variable := range []string{"GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "WGETRC", "javax.net.ssl.trustStore"} {
		if strings.Contains(got.Stdout, variable+"=") {
			t.Errorf("the environment has %s", variable)
		}
	}
}

// testBundleRemoved checks that the files go with the session, and that the next start
// removes those of a process that was killed.
func testBundleRemoved(t *testing.T) {
	host := lab.host("web")
	temp := t.TempDir()
	env, flags := []string{"TMPDIR=" + temp}, []string{"-allow", host, "-limited"}
	const show = `for f in "$SSL_CERT_FILE" "$NODE_EXTRA_CA_CERTS"; do grep -c CERTIFICATE- "$f" >/dev/null || exit 9; echo "$f"; done; ls -lR "$TMPDIR"; ! grep -r "PRIVATE KEY" "$TMPDIR"`
	got := runCommand(t, env, flags, "sh", "-c", show).MustSucceed(t)
	wantGone(t, got.Stdout)
	wantEmpty(t, temp)

	// A killed process leaves its files.
	cmd := exec.Command(filepath.Join(lab.dir, "networkproxy"), append(append([]string{"run"}, flags...), "--", "sh", "-c", `echo "$SSL_CERT_FILE"; read line`)...)
	cmd.Env = append(harness.GitEnv(t.TempDir()), "SSL_CERT_FILE="+lab.ca.file, "TMPDIR="+temp)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close() // ends the command
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	file, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	other := runCommand(t, env, flags, "sh", "-c", `test -s "`+strings.TrimSpace(file)+`"`)
	if other.Exit != 0 {
		t.Error("a second process removed the files of one that runs")
	}
	cmd.Process.Signal(syscall.SIGKILL)
	stdin.Close()
	cmd.Wait()
	if _, err := os.Stat(strings.TrimSpace(file)); err != nil {
		t.Fatalf("the files of the killed process: %v, want that they are left", err)
	}
	runCommand(t, env, flags, "true").MustSucceed(t)
	wantGone(t, file)
	wantEmpty(t, temp)
}

// wantGone fails the test if one of the files, which are on lines of their own, exists.
func wantGone(t *testing.T, text string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(text) {
		path := strings.TrimSpace(line)
		if !filepath.IsAbs(path) || strings.HasSuffix(path, ":") {
			continue
		}
		n++
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if n == 0 {
		t.Errorf("no file in %q", text)
	}
}

// wantEmpty fails the test if certificates are left below dir.
func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if text, _ := os.ReadFile(path); bytes.Contains(text, []byte("CERTIFICATE")) || bytes.HasPrefix(text, []byte("\xfe\xed\xfe\xed")) {
				t.Errorf("%s is left", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRoutes runs the core cases through each route to an opened connection.
func TestRoutes(t *testing.T) {
	t.Parallel()
	t.Run("socks-limited", func(t *testing.T) {
		t.Parallel()
		eachVersion(t, func(t *testing.T, version string) {
			checkCore(t, func(*testing.T) config { return config{} }, bySOCKS, version)
		})
	})
	t.Run("connect", func(t *testing.T) {
		t.Parallel()
		eachVersion(t, func(t *testing.T, version string) {
			checkCore(t, func(*testing.T) config { return config{} }, byConnect, version)
		})
	})
	t.Run("upstream-proxy", func(t *testing.T) {
		t.Parallel()
		for _, by := range []route{byConnect, bySOCKS} {
			eachVersion(t, func(t *testing.T, version string) {
				upstream := startUpstream(t)
				host := checkCore(t, func(*testing.T) config {
					return config{Upstream: true, Env: []string{"HTTPS_PROXY=http://" + upstream.addr, "HTTP_PROXY=http://" + upstream.addr}}
				}, by, version)
				upstream.check(t, host)
			})
		}
	})
	t.Run("fence", func(t *testing.T) {
		t.Parallel()
		testFence(t)
	})
}

// checkCore runs the core cases and returns the host that it has reached.
func checkCore(t *testing.T, base func(*testing.T) config, by route, version string) string {
	t.Helper()
	host, other, expired := lab.host("web"), lab.host("web"), lab.host("expired")
	settings := base(t)
	settings.Limited, settings.Allowed = true, []string{host, expired}
	p := start(t, settings)
	c := p.clientBy(t, by, version)
	if got := c.get(t, "https://"+host+"/hello").wantStatus(t, http.StatusOK); !got.opened(p) || got.body != helloBody(host) {
		t.Errorf("issuer %s, body %q; want the proxy and %q", got.leaf.Issuer, got.body, helloBody(host))
	}
	if got := c.get(t, "https://"+host+"/early").wantStatus(t, http.StatusOK); len(got.informational) != 1 {
		t.Errorf("informational responses %v, want 103", got.informational)
	}
	c.send(t, "POST", "https://"+host+"/v1/x", "data").
		wantRefusal(t, http.StatusForbidden, "method_not_allowed", "blocked-by-method-policy")
	p.wantBlocked(t, refusal{Host: host, Port: 443, Protocol: "https", Method: "POST", Reason: "method_not_allowed"})
	wrong := request(t, "GET", "https://"+host+"/hello", "")
	wrong.Host = other
	c.do(t, wrong).wantRefusal(t, http.StatusMisdirectedRequest, "host_mismatch", "blocked-by-host-mismatch")
	c.get(t, "https://"+expired+"/hello").wantRefusal(t, http.StatusBadGateway, "upstream_certificate", "")
	if _, err := c.try(request(t, "GET", "https://"+other+"/hello", "")); err == nil {
		t.Error("a host that is not allowed responded")
	}
	wantNothing(t, other, expired)
	if received := lab.origins.received(host); len(received) != 2 {
		t.Errorf("the origin server received %d requests, want 2: %+v", len(received), received)
	}
	return host
}

// testFence runs clients in a fence without any proxy variable.
func testFence(t *testing.T) {
	for _, version := range []string{"--http1.1", "--http2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			host, other, expired := lab.host("web"), lab.host("web"), lab.host("expired")
			summary := filepath.Join(t.TempDir(), "summary.json")
			flags := []string{"-fence", "-limited", "-allow", host, "-allow", expired, "-json-file", summary}
			curl := func(args ...string) string {
				t.Helper()
				argv := append([]string{"curl", "-sS", "--noproxy", "*", version, "-w", "\n%{http_code} %{ssl_verify_result}"}, args...)
				return runCommand(t, nil, flags, argv...).Stdout
			}
			if got := curl("https://" + host + "/hello"); got != helloBody(host)+"\n200 0" {
				t.Errorf("GET: %q", got)
			}
			got := curl("-d", "data", "https://"+host+"/v1/x")
			if !strings.Contains(got, `"method_not_allowed"`) || !strings.HasSuffix(got, "403 0") {
				t.Errorf("POST: %q", got)
			}
			text, err := os.ReadFile(summary)
			if err != nil || !bytes.Contains(text, []byte("method_not_allowed")) {
				t.Errorf("the summary: %s, %v", text, err)
			}
			if got := curl("-H", "Host: "+other, "https://"+host+"/hello"); !strings.Contains(got, `"host_mismatch"`) || !strings.HasSuffix(got, "421 0") {
				t.Errorf("another Host: %q", got)
			}
			if got := curl("https://" + expired + "/hello"); !strings.Contains(got, `"upstream_certificate"`) || !strings.HasSuffix(got, "502 0") {
				t.Errorf("an expired certificate: %q", got)
			}
			wantNothing(t, other, expired)
			if received := lab.origins.received(host); len(received) != 1 {
				t.Errorf("the origin server received %d requests, want 1", len(received))
			}
		})
	}
}
