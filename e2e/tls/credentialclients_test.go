//go:build e2e && linux

// This file tests credentials with git and npm, which store placeholders in their own
// settings.

package tls

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// wantNoSecret fails the test if a command printed the secret, or a file in its directory
// has it.
func wantNoSecret(t *testing.T, got harness.Result, secret, dir string) {
	t.Helper()
	if strings.Contains(got.Stdout+got.Stderr, secret) {
		t.Errorf("%s printed the secret: %s%s", got.Name, got.Stdout, got.Stderr)
	}
	for _, text := range []string{secret, base64Of("x:" + secret)} {
		if found := grep(t, text, dir); found != "" {
			t.Errorf("files have the secret: %s", found)
		}
	}
}

// testGitBasic clones a private repository and pushes to it.
func testGitBasic(t *testing.T) {
	// Each is a shell function "private" that runs git with the placeholder.
	ways := map[string]string{
		"url": `private() { git "$@"; }
			url="https://x:$API_TOKEN@${url#https://}"`,
		"helper":      `private() { git -c credential.helper='!f() { echo username=x; echo "password=$API_TOKEN"; }; f' "$@"; }`,
		"extraheader": `private() { git -c http.extraHeader="AUTHORIZATION: basic $(printf "x:%s" "$API_TOKEN" | base64 -w0)" "$@"; }`,
	}
	const script = `set -e
		http=$1 url=$2
		eval "$3"
		if git -c "http.version=$http" ls-remote "$2" >/dev/null 2>&1; then echo "not private"; fi
		private -c "http.version=$http" clone -q "$url" work
		git -C work commit -q --allow-empty -m more
		private -c "http.version=$http" -C work push -q origin HEAD:refs/heads/more
		private -c "http.version=$http" -C work ls-remote origin`
	eachWay(t, func(t *testing.T, flags []string) {
		for name, way := range ways {
			for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
				t.Run(name+" "+version, func(t *testing.T) {
					t.Parallel()
					host := lab.host("web")
					secret := secretOf(host)
					repo := newRepository(t, host)
					url := "https://" + host + "/private/" + filepath.Base(repo.dir)
					config := brokered([]string{"https://" + host + "/private/"}, host).file(t)
					dir := t.TempDir()
					got := harness.Run(t, newRun(t.Context(), dir, []string{"API_TOKEN=" + secret}, append([]string{"-config", config}, flags...),
						"sh", "-c", script, "sh", version, url, way)).MustSucceed(t)
					wantNoSecret(t, got, secret, dir)
					if strings.Contains(got.Stdout, "not private") || !strings.Contains(got.Stdout, "refs/heads/more\n") {
						t.Errorf("git: %s%s", got.Stdout, got.Stderr)
					}
					auth := "Basic " + base64Of("x:"+secret)
					for _, service := range []string{"git-upload-pack", "git-receive-pack"} {
						if !slices.ContainsFunc(lab.origins.received(host), func(s seen) bool {
							return s.Method == "POST" && strings.HasSuffix(s.URI, service) && strings.EqualFold(s.Header.Get("Authorization"), auth)
						}) {
							t.Errorf("the origin server received no %s with the secret: %+v", service, lab.origins.received(host))
						}
					}
				})
			}
		}
	})
}

// testPublish publishes a package with npm, whose settings have the name of the variable.
func testPublish(t *testing.T) {
	const script = `set -e
		mkdir package # npm writes logs into the directory above
		cd package
		printf '{"name":"suite-fixture","version":"1.2.3"}' >package.json
		printf '//%s/npm/:_authToken=${NPM_TOKEN}\n' "$1" >.npmrc
		exec npm publish --fetch-retries=0 --no-update-notifier --registry "https://$1/npm/"`
	eachWay(t, func(t *testing.T, flags []string) {
		host := lab.host("web")
		secret := secretOf(host)
		c := brokered(nil, host)
		c.Providers = provider("npm", `env = ["NPM_TOKEN"]`, "url_prefixes = "+array([]string{"https://" + host + "/npm/"}))
		dir := t.TempDir()
		got := harness.Run(t, newRun(t.Context(), dir, []string{"NPM_TOKEN=" + secret}, append([]string{"-config", c.file(t)}, flags...), "sh", "-c", script, "sh", host)).MustSucceed(t)
		wantNoSecret(t, got, secret, dir)
		if !strings.Contains(got.Stdout, "+ suite-fixture@1.2.3") {
			t.Errorf("npm publish: %s%s", got.Stdout, got.Stderr)
		}
		last := lastReceived(t, host)
		if last.Method != "PUT" || last.URI != "/npm/suite-fixture" || last.Header.Get("Authorization") != "Bearer "+secret {
			t.Errorf("the registry received %s %s with %q", last.Method, last.URI, last.Header["Authorization"])
		}
	})
}

// grep returns the files below a directory that have a text.
func grep(t *testing.T, text, dir string) string {
	t.Helper()
	return harness.Run(t, exec.CommandContext(t.Context(), "grep", "-rlaF", "--", text, dir)).Stdout
}
