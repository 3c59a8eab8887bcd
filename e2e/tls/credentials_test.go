//go:build e2e && linux

// This file tests credentials: a command gets a placeholder, and only the origin server
// the secret.

package tls

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"example.com/networkproxy/e2e/harness"
	"example.com/networkproxy/internal/testnet"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"cred-exchange", testExchange},
		{"cred-echo", testEcho},
		{"cred-places", testPlaces},
		{"cred-other-host", testPlacesOfOtherHosts},
		{"cred-plain-http", testPlainHTTP},
		{"cred-absolute", testAbsoluteExchange},
		{"cred-websocket", testWebSocketExchange},
		{"cred-redirect", testRedirect},
		{"cred-file", testSecretFile},
		{"cred-bad-secret", testBadSecret},
		{"cred-off", testBrokerOff},
		{"cred-reload", testBrokerReload},
		{"cred-hidden", testHidden},
		{"cred-preset", testPreset},
		{"cred-git", testGitBasic},
		{"cred-npm", testPublish},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// provider returns a credential_providers table.
func provider(name string, keys ...string) string {
	return fmt.Sprintf("[network_proxy.credential_providers.%s]\n%s\n", name, strings.Join(keys, "\n"))
}

// brokered returns a configuration with a credential "api" in API_TOKEN for URLs. The
// proxy opens TLS with the hosts.
func brokered(urls []string, hosts ...string) config {
	return config{Allowed: hosts, Domains: hosts, Broker: true,
		Providers: provider("api", `env = ["API_TOKEN"]`, "url_prefixes = "+array(urls))}
}

// file writes the configuration for the flag -config of run.
func (c config) file(t *testing.T) string {
	t.Helper()
	return writeFile(t, "config.toml", []byte(c.toml("", "", "")))
}

// session is a command of "networkproxy run" that waits for the end of the test, and the
// proxy for it.
type session struct {
	*proxy
	t      *testing.T
	token  string // the placeholder that the command has
	secret string // the secret of the host
	stderr *testnet.Buffer
	close  func()
}

// startSession starts a command. Its proxy exchanges the secret of host. When the test
// ends, nothing that the program has written may have the secret.
func startSession(t *testing.T, c config, host string) *session {
	t.Helper()
	s := &session{proxy: &proxy{configFile: filepath.Join(t.TempDir(), "config.toml")}, t: t, secret: secretOf(host), stderr: new(testnet.Buffer)}
	s.rewrite(t, c)
	summary := filepath.Join(t.TempDir(), "summary.json")
	ctx, cancel := context.WithTimeout(context.Background(), 4*harness.Timeout) // it outlives t.Context
	t.Cleanup(cancel)
	cmd := newRun(ctx, t.TempDir(), append(c.Env, "API_TOKEN="+s.secret), []string{"-config", s.configFile, "-json-file", summary},
		"sh", "-c", `echo "$HTTPS_PROXY $API_TOKEN"; cat "$DENO_CERT"; echo; read line; exit 0`)
	cmd.Stderr = s.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	s.close = func() {
		if ended {
			return
		}
		ended = true
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("networkproxy run: %v", err)
		}
		text, err := os.ReadFile(summary)
		if err != nil {
			t.Error(err)
		}
		s.wantHidden(s.stderr.String()+string(text), "the output of the program")
		if s.token != "" && strings.Contains(string(text), s.token) {
			t.Errorf("the summary has the placeholder: %s", text)
		}
		if t.Failed() {
			t.Logf("standard error of the program: %s", s.stderr)
		}
	}
	t.Cleanup(s.close)
	var certificate bytes.Buffer
	lines := bufio.NewScanner(stdout)
	lines.Scan()
	url, token, _ := strings.Cut(lines.Text(), " ")
	s.http, s.token = strings.TrimPrefix(url, "http://"), token
	for lines.Scan() && lines.Text() != "" {
		certificate.Write(append(lines.Bytes(), '\n'))
	}
	s.trust(t, certificate.String())
	return s
}

// wantHidden fails the test if a text has the secret, as it is or as Basic sends it.
func (s *session) wantHidden(text, where string) {
	s.t.Helper()
	for _, secret := range []string{s.secret, base64Of(s.secret + ":"), base64Of("x:" + s.secret)} {
		if strings.Contains(text, secret) {
			s.t.Errorf("%s has the secret: %s", where, text)
		}
	}
}

// wantRefused fails the test unless a response is the refusal of a placeholder.
func wantRefused(t *testing.T, got answer) {
	t.Helper()
	r := got.wantRefusal(t, http.StatusForbidden, "credential_not_allowed", "blocked-by-credential-policy")
	if !strings.Contains(r.Message, `"api"`) {
		t.Errorf("the refusal does not name the credential: %s", r.Message)
	}
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// authorized returns a request with an Authorization field.
func authorized(t *testing.T, url, value string) *http.Request {
	t.Helper()
	req := request(t, "GET", url, "")
	req.Header.Set("Authorization", value)
	return req
}

// lastReceived returns the last request that named a host.
func lastReceived(t *testing.T, host string) seen {
	t.Helper()
	received := lab.origins.received(host)
	if len(received) == 0 {
		t.Fatalf("the origin server of %s received nothing", host)
	}
	return received[len(received)-1]
}

// testExchange sends the placeholder in each form in which it is exchanged.
func testExchange(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		s := startSession(t, brokered([]string{"https://" + host + "/v1/"}, host), host)
		if s.token == s.secret || len(s.token) < 40 || !strings.HasPrefix(s.token, "ghp_") {
			t.Fatalf("the placeholder is %q", s.token)
		}
		c := s.client(t, version)
		for value, want := range map[string]string{
			s.token:                             s.secret,
			"Bearer " + s.token:                 "Bearer " + s.secret,
			"bearer " + s.token:                 "bearer " + s.secret,
			"token " + s.token:                  "token " + s.secret,
			"Basic " + base64Of("x:"+s.token):   "Basic " + base64Of("x:"+s.secret),
			"basic " + base64Of(s.token+":"):    "basic " + base64Of(s.secret+":"),
			"Bearer of someone who knows a key": "Bearer of someone who knows a key",
		} {
			for _, path := range []string{"/v1/me", "/v1/", "/v1/a%20b?q=%7E", "/%761/me"} {
				got := c.do(t, authorized(t, "https://"+host+path, value)).wantStatus(t, http.StatusOK)
				s.wantHidden(got.body+fmt.Sprint(got.header), "the response")
				last := lastReceived(t, host)
				if auth := last.Header["Authorization"]; len(auth) != 1 || auth[0] != want || last.URI != path {
					t.Errorf("%s: the origin server received %s with %q, want %s with %q", value, last.URI, auth, path, want)
				}
				if coding := last.Header.Get("Accept-Encoding"); coding != "" {
					t.Errorf("the origin server may compress with %s what must be masked", coding)
				}
			}
		}
	})
}

// testEcho uses an origin server that repeats what it gets, everywhere and byte by byte.
func testEcho(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		s := startSession(t, brokered([]string{"https://" + host + "/v1/"}, host), host)
		c := s.client(t, version)
		for _, scheme := range []string{"", "Bearer ", "token "} {
			got := c.do(t, authorized(t, "https://"+host+"/v1/echo", scheme+s.token)).wantStatus(t, http.StatusOK)
			s.wantHidden(got.hints.Get("Link"), "the informational response")
			if len(got.hints) == 0 {
				t.Error("there was no informational response")
			}
			for where, text := range map[string]string{"body": got.body, "field": got.header.Get("X-Echo"), "trailer": got.trailer.Get("X-Echo-Trailer")} {
				s.wantHidden(text, "the "+where)
				if len(text) != len(scheme+s.secret) || !strings.HasPrefix(text, scheme) {
					t.Errorf("the %s is %q, want the length of what the server sent", where, text)
				}
			}
		}
		got := c.do(t, authorized(t, "https://"+host+"/v1/echo", "Basic "+base64Of("x:"+s.token))).wantStatus(t, http.StatusOK)
		s.wantHidden(got.body+fmt.Sprint(got.header, got.trailer, got.hints), "the response to Basic")
	})
}

// testPlaces puts the placeholder where it is not exchanged, at the host that it is bound to.
func testPlaces(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		s := startSession(t, brokered([]string{"https://" + host + "/v1/"}, host), host)
		c := s.client(t, version)
		bearer := "Bearer " + s.token
		for _, v := range []struct{ path, field, value string }{
			{"/v2/me", "Authorization", bearer},
			{"/v10", "Authorization", bearer},
			{"/v1", "Authorization", bearer}, // the prefix ends with a slash
			{"/V1/me", "Authorization", bearer},
			{"/", "Authorization", bearer},
			{"/v1/../v2/me", "Authorization", bearer},
			{"/v1/%2e%2e/v2/me", "Authorization", bearer},
			{"/v1/..%2fv2/me", "Authorization", bearer},
			{"//v1/me", "Authorization", bearer},
			{"/v1/me", "X-Api-Key", s.token},
			{"/v1/me", "Cookie", "session=" + s.token},
			{"/v1/me", "Referer", "https://" + host + "/?t=" + s.token},
			{"/v1/me", "X-Basic", "Basic " + base64Of("x:"+s.token)},
			{"/v1/me", "Authorization", bearer + "x"},
			{"/v1/me", "Authorization", "Bearer x" + s.token},
			{"/v1/me", "Authorization", "Bearer " + s.token + "," + s.token},
			{"/v1/me", "Authorization", `Digest username="` + s.token + `"`},
			{"/v1/me", "Authorization", "Basic " + base64Of(s.token+":"+s.token)},
			{"/v1/me", "Authorization", "Basic " + base64Of("x:"+s.token+"x")},
			{"/v1/me", "Authorization", "Basic " + base64Of(s.token)},
			{"/v1/me?t=" + s.token, "Accept", "*/*"},
			{"/v1/" + s.token, "Accept", "*/*"},
		} {
			req := request(t, "GET", "https://"+host+v.path, "")
			req.Header.Set(v.field, v.value)
			got := c.do(t, req)
			if got.status != http.StatusForbidden {
				t.Errorf("%s with %s: %q: status %d, want 403", v.path, v.field, v.value, got.status)
				continue
			}
			wantRefused(t, got)
		}
		// One misplaced placeholder refuses a request whose other one is in its place.
		both := authorized(t, "https://"+host+"/v1/me", bearer)
		both.Header.Set("X-Api-Key", s.token)
		wantRefused(t, c.do(t, both))
		wantNothing(t, host)
		s.close()
		if !strings.Contains(s.stderr.String(), "credential_not_allowed") {
			t.Errorf("the program does not report the refusals: %s", s.stderr)
		}
	})
}

// testPlacesOfOtherHosts sends the placeholder to hosts and ports that it is not bound to.
func testPlacesOfOtherHosts(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host, other := lab.host("web"), lab.host("web")
		s := startSession(t, brokered([]string{"https://" + host + "/v1/"}, host, other), host)
		c := s.client(t, version)
		for _, authority := range []string{other, host + ":8443", other + ":8443"} {
			wantRefused(t, c.do(t, authorized(t, "https://"+authority+"/v1/me", "Bearer "+s.token)))
		}
		// The host of the connection counts, not that of the request.
		misdirected := authorized(t, "https://"+other+"/v1/me", "Bearer "+s.token)
		misdirected.Host = host
		c.do(t, misdirected).wantRefusal(t, http.StatusMisdirectedRequest, "host_mismatch", "blocked-by-host-mismatch")
		wantNothing(t, host, other)
		c.get(t, "https://"+other+"/v1/me").wantStatus(t, http.StatusOK)
	})
}

// testPlainHTTP sends the placeholder without TLS.
func testPlainHTTP(t *testing.T) {
	host := lab.host("web")
	// The port is that of the request, and only the scheme differs.
	secure := brokered([]string{"https://" + host + "/v1/", "https://" + host + ":80/v1/"}, host)
	s := startSession(t, secure, host)
	get := func(s *session) answer {
		t.Helper()
		return s.client(t, http1).do(t, authorized(t, "http://"+host+"/v1/me", "Bearer "+s.token))
	}
	if got := get(s); got.status != http.StatusForbidden || got.header.Get("X-Proxy-Error") != "blocked-by-credential-policy" {
		t.Errorf("status %d, %v; want 403, blocked-by-credential-policy", got.status, got.header)
	}
	wantNothing(t, host)

	plain := brokered([]string{"http://" + host + "/v1/"}, host)
	got := runCommand(t, []string{"API_TOKEN=" + s.secret}, []string{"-config", plain.file(t)}, "true")
	if got.Exit == 0 || !strings.Contains(got.Stderr, "https://") {
		t.Errorf("an http:// prefix: exit %d, %s; want a failure that asks for https://", got.Exit, got.Stderr)
	}
	plain.Plaintext = true
	s = startSession(t, plain, host)
	s.wantHidden(get(s).wantStatus(t, http.StatusOK).body, "the response")
	if last := lastReceived(t, host); last.Header.Get("Authorization") != "Bearer "+s.secret || last.ServerName != "" {
		t.Errorf("the origin server received %+v", last)
	}
}

// testAbsoluteExchange sends https:// URLs to the proxy in place of CONNECT.
func testAbsoluteExchange(t *testing.T) {
	host := lab.host("web")
	s := startSession(t, brokered([]string{"https://" + host + "/v1/"}, host), host)
	get := func(path string) answer {
		t.Helper()
		return exchange(t, dialProxy(t, s.proxy), "GET https://"+host+path+" HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+s.token+"\r\nConnection: close\r\n\r\n")
	}
	wantRefused(t, get("/v2/me"))
	wantNothing(t, host)
	s.wantHidden(get("/v1/me").wantStatus(t, http.StatusOK).body, "the response")
	if last := lastReceived(t, host); last.Header.Get("Authorization") != "Bearer "+s.secret || last.ServerName != host {
		t.Errorf("the origin server received %+v", last)
	}
}

// testWebSocketExchange sends the placeholder in the request that upgrades a connection.
func testWebSocketExchange(t *testing.T) {
	host := lab.host("web")
	s := startSession(t, brokered([]string{"https://" + host + "/v1/"}, host), host)
	fields := "\r\nAuthorization: Bearer " + s.token + "\r\n\r\n"
	upgrade := func(path string) string {
		return strings.TrimSuffix(harness.UpgradeRequest(path, host), "\r\n\r\n") + fields
	}
	wantRefused(t, s.raw(t, host, upgrade("/v2/ws")))
	wantNothing(t, host)
	conn := s.tls(t, host+":443", host, http1)
	fmt.Fprint(conn, upgrade("/v1/ws"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v; want status 101", resp, err)
	}
	if auth := lastReceived(t, host).Header.Get("Authorization"); auth != "Bearer "+s.secret {
		t.Errorf("the origin server received %q", auth)
	}
	// The server repeats the field in the response that switches protocols.
	s.wantHidden(fmt.Sprint(resp.Header), "the response that switches protocols")
	if echo := resp.Header.Get("X-Echo"); len(echo) != len("Bearer "+s.secret) || !strings.HasPrefix(echo, "Bearer ") {
		t.Errorf("the field X-Echo is %q, want the length of what the server sent", echo)
	}
}

// testRedirect uses curl, which sends the field to another host only if it is told to.
func testRedirect(t *testing.T) {
	for _, version := range []string{"--http1.1", "--http2"} {
		host, other := lab.host("web"), lab.host("web")
		s := startSession(t, brokered([]string{"https://" + host + "/v1/"}, host, other), host)
		curl := func(flag string) string {
			t.Helper()
			return s.run(t, "curl", "-sS", version, flag, "-w", "\n%{http_code}", "-H", "Authorization: Bearer "+s.token, "https://"+host+"/v1/redirect?"+other+"/v1/me").Stdout
		}
		if got := curl("--location-trusted"); !strings.Contains(got, `"credential_not_allowed"`) || !strings.HasSuffix(got, "\n403") {
			t.Errorf("a redirection with the field: %s", got)
		}
		wantNothing(t, other)
		if got := curl("--location"); !strings.HasSuffix(got, "\n200") {
			t.Errorf("a redirection without the field: %s", got)
		}
		if last := lastReceived(t, other); last.Header.Get("Authorization") != "" {
			t.Errorf("the other host received %+v", last)
		}
		if auth := lastReceived(t, host).Header.Get("Authorization"); auth != "Bearer "+s.secret {
			t.Errorf("the first host received %q", auth)
		}
	}
}

// testSecretFile changes the secret while a command runs.
func testSecretFile(t *testing.T) {
	host := lab.host("web")
	file := writeFile(t, "token", []byte(secretOf("of the past")+"\n"))
	c := brokered([]string{"https://" + host + "/v1/"}, host)
	c.Providers += fmt.Sprintf("secret_file = %q\n", file)
	s := startSession(t, c, host)
	get := func(secret string) {
		t.Helper()
		for _, version := range []string{http1, http2} {
			got := s.client(t, version).do(t, authorized(t, "https://"+host+"/v1/me", "Bearer "+s.token)).wantStatus(t, http.StatusOK)
			if strings.Contains(got.body, secret) {
				t.Errorf("the response has the secret: %s", got.body)
			}
			if auth := lastReceived(t, host).Header.Get("Authorization"); auth != "Bearer "+secret {
				t.Errorf("the origin server received %q, want %q", auth, secret)
			}
		}
	}
	get(secretOf("of the past"))
	next := writeFile(t, "next", []byte(s.secret))
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
	get(s.secret)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	before := len(lab.origins.received(host))
	got := s.client(t, http1).do(t, authorized(t, "https://"+host+"/v1/me", "Bearer "+s.token))
	if got.status < 500 || len(lab.origins.received(host)) != before {
		t.Errorf("without the file: status %d, and the origin server received %d requests", got.status, len(lab.origins.received(host))-before)
	}
}

// testBadSecret starts the program with secrets that cannot be sent.
func testBadSecret(t *testing.T) {
	host := lab.host("web")
	secret := secretOf(host)
	readable := writeFile(t, "readable", []byte(secret))
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]struct{ key, value, env, want string }{
		"a line end":      {"secret_env_var", "PROXY_PAT", "PROXY_PAT=" + secret + "\n" + secret, "0x0a"},
		"too short":       {"secret_env_var", "PROXY_PAT", "PROXY_PAT=" + secret[:15], "15 bytes"},
		"not set":         {"secret_env_var", "PROXY_PAT", "", "PROXY_PAT is not set"},
		"no file":         {"secret_file", "/does/not/exist", "", "/does/not/exist"},
		"two lines":       {"secret_file", writeFile(t, "lines", []byte(secret+"\n"+secret+"\n")), "", "0x0a"},
		"open to readers": {"secret_file", readable, "", "chmod 600"},
		"a relative path": {"secret_file", "token", "", "absolute"},
	} {
		c := brokered([]string{"https://" + host + "/v1/"}, host)
		c.Providers += fmt.Sprintf("%s = %q\n", v.key, v.value)
		file := c.file(t)
		for _, args := range [][]string{{"-config", file}, {"run", "-config", file, "--", "true"}} {
			ctx, cancel := context.WithTimeout(t.Context(), harness.Timeout) // it must not start
			cmd := exec.CommandContext(ctx, filepath.Join(lab.dir, "networkproxy"), args...)
			cmd.Env = append(harness.GitEnv(t.TempDir()), "SSL_CERT_FILE="+lab.ca.file, v.env)
			got := harness.Run(t, cmd)
			cancel()
			if text := got.Stdout + got.Stderr; got.Exit == 0 || !strings.Contains(text, v.want) || !strings.Contains(text, v.key) || strings.Contains(text, secret[:15]) {
				t.Errorf("%s: exit %d, want a failure that says %s and %q and not the secret: %s", name, got.Exit, v.key, v.want, text)
			}
		}
	}
}

// testBrokerOff has a credential and no broker. The command must not get the secret
// because of that.
func testBrokerOff(t *testing.T) {
	host := lab.host("web")
	c := brokered([]string{"https://" + host + "/v1/"}, host)
	c.Broker = false
	got := runCommand(t, []string{"API_TOKEN=" + secretOf(host)}, []string{"-config", c.file(t)}, "env").MustSucceed(t)
	if strings.Contains(got.Stdout, "API_TOKEN") || strings.Contains(got.Stdout+got.Stderr, secretOf(host)) || !strings.Contains(got.Stderr, "credential_broker is false") {
		t.Errorf("the environment: %s\nwarnings: %s", got.Stdout, got.Stderr)
	}
}

// testBrokerReload removes the credential while a command runs.
func testBrokerReload(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		with := brokered([]string{"https://" + host + "/v1/"}, host)
		s := startSession(t, with, host)
		c := s.client(t, version)
		get := func() answer {
			t.Helper()
			return c.do(t, authorized(t, "https://"+host+"/v1/me", "Bearer "+s.token))
		}
		get().wantStatus(t, http.StatusOK)
		without := with
		without.Providers = ""
		s.rewrite(t, without)
		harness.Eventually(t, "the placeholder is refused", func() bool { return get().status == http.StatusForbidden })
		received := len(lab.origins.received(host))
		wantRefused(t, get())
		if got := len(lab.origins.received(host)); got != received {
			t.Errorf("the origin server received %d requests after the end of the credential", got-received)
		}
		s.rewrite(t, with)
		harness.Eventually(t, "the placeholder is exchanged again", func() bool { return get().status == http.StatusOK })
		for _, got := range lab.origins.received(host) {
			if auth := got.Header.Get("Authorization"); auth != "Bearer "+s.secret {
				t.Errorf("the origin server received %q", auth)
			}
		}
	})
}

const ordinary = 64321 // the id of an ordinary user

// hiddenScript uses the placeholder with curl, and then looks for the secret. Its pattern
// does not find itself.
const hiddenScript = `
	echo "token $API_TOKEN"
	for version in --http1.1 --http2; do
		curl -sS $version -H "Authorization: Bearer $API_TOKEN" "https://$1/v1/me"
		curl -sS $version -u "x:$API_TOKEN" "https://$1/v1/basic"
		curl -sS $version -w '%{http_code}\n' -H "Authorization: Bearer $API_TOKEN" "https://$2/v1/me"
	done
	env
	grep -rlas "$3" "$HOME" "${SSL_CERT_FILE%/*}" | sed 's/^/found /'
	grep -las "$3" /proc/[0-9]*/environ /proc/[0-9]*/cmdline | sed 's/^/found /'
	for file in environ mem maps auxv; do
		if (: <"/proc/$PPID/$file") 2>/dev/null; then echo "found /proc/$PPID/$file"; fi
	done
	readlink "/proc/$PPID/exe" "/proc/$PPID"/fd/* | sed 's/^/found /'
	test -d "/proc/$PPID" && echo end`

// testHidden looks for the secret from within a command: in its environment, in files and
// in /proc, where it may look into the process that has the secret.
func testHidden(t *testing.T) {
	for _, v := range []struct {
		name      string
		user      int
		flags     []string
		forbidden bool // user namespaces are
	}{
		{"ordinary user", ordinary, nil, false},
		{"ordinary user in a fence", ordinary, []string{"-fence"}, false},
		{"ordinary user in a fence without namespaces", ordinary, []string{"-fence"}, true},
		{"root in a fence", 0, []string{"-fence"}, false},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			host, other := lab.host("web"), lab.host("web")
			secret := secretOf(host)
			home, err := os.MkdirTemp(lab.dir, "home-")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(home, v.user, v.user); err != nil {
				t.Fatal(err)
			}
			config := filepath.Join(home, "config.toml")
			text := brokered([]string{"https://" + host + "/v1/"}, host, other).toml("", "", "")
			if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := newRun(t.Context(), home, []string{"API_TOKEN=" + secret}, append([]string{"-config", config}, v.flags...),
				"sh", "-c", hiddenScript, "sh", host, other, "ghp_["+secret[4:5]+"]"+secret[5:])
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(v.user), Gid: uint32(v.user)}}
			if v.forbidden {
				harness.ForbidNamespaces(t, cmd)
			}
			got := harness.Run(t, cmd).MustSucceed(t)
			if text := got.Stdout + got.Stderr; strings.Contains(text, secret) || strings.Contains(text, "found ") || !strings.HasSuffix(got.Stdout, "end\n") {
				t.Errorf("the command found the secret, or did not look for it: %s", text)
			}
			token, _, _ := strings.Cut(strings.TrimPrefix(got.Stdout, "token "), "\n")
			if !strings.Contains(got.Stdout, "\nAPI_TOKEN="+token+"\n") || len(token) < 40 {
				t.Errorf("the environment has no placeholder: %s", got.Stdout)
			}
			if n := strings.Count(got.Stdout, `"credential_not_allowed"`); n != 2 || strings.Count(got.Stdout, "\n403\n") != 2 {
				t.Errorf("%d refusals of the other host, want 2: %s", n, got.Stdout)
			}
			wantNothing(t, other)
			want := []string{"HTTP/1.1 Bearer " + secret, "HTTP/1.1 Basic " + base64Of("x:"+secret), "HTTP/2.0 Bearer " + secret, "HTTP/2.0 Basic " + base64Of("x:"+secret)}
			var received []string
			for _, s := range lab.origins.received(host) {
				received = append(received, s.Proto+" "+s.Header.Get("Authorization"))
			}
			if fmt.Sprint(received) != fmt.Sprint(want) {
				t.Errorf("the origin server received %q, want %q", received, want)
			}
		})
	}
}

// presetHost is a host of the credential "github".
const presetHost = "api.github.com"

// testPreset uses the command of docs/credentials.md, without a configuration.
func testPreset(t *testing.T) {
	eachWay(t, func(t *testing.T, flags []string) {
		other := lab.host("web")
		secret := secretOf(t.Name())
		got := runCommand(t, []string{"GITHUB_TOKEN=" + secret}, append([]string{"-credential", "github", "-allow", other}, flags...), "sh", "-c", `
			curl -sS -H "Authorization: token $GITHUB_TOKEN" "https://$1/user"
			curl -sS -o /dev/null -w '%{http_code}' "http://$2/$GITHUB_TOKEN"`, "sh", presetHost, other).MustSucceed(t)
		if strings.Contains(got.Stdout+got.Stderr, secret) || !strings.HasSuffix(got.Stdout, "403") {
			t.Errorf("stdout %s\nstderr %s; want status 403 of the other host at the end, and no secret", got.Stdout, got.Stderr)
		}
		wantNothing(t, other)
		if received := lab.origins.received(presetHost); !slices.ContainsFunc(received, func(s seen) bool { return s.Header.Get("Authorization") == "token "+secret }) {
			t.Errorf("the origin server did not receive the secret: %+v", received)
		}
	})
}
