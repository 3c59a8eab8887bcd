// Presets: allowlists for the servers of common tools, for -preset and init.

package main

import (
	"fmt"
	"net/url"
	"slices"

	"example.com/networkproxy"
)

// preset is an allowlist with a name.
type preset struct {
	name, purpose string
	hosts         []string // with ports, because these tools use no others
}

// presets returns all presets. docs/program.md lists them. They name each host,
// because wildcards would include hosts that serve files of any user.
// They leave out object stores that serve everyone's files at one name.
func presets() []preset {
	return []preset{
		{"github", "git over https and ssh, the API, and downloads of files, archives and releases", []string{
			"github.com:443", "github.com:22", "api.github.com:443", "codeload.github.com:443", "raw.githubusercontent.com:443",
			"objects.githubusercontent.com:443", "release-assets.githubusercontent.com:443", "media.githubusercontent.com:443",
		}},
		{"npm", "packages for npm, pnpm and yarn, and the headers that native addons are built with", []string{
			"registry.npmjs.org:443", "registry.yarnpkg.com:443", "nodejs.org:443",
		}},
		{"pypi", "packages for pip, uv and poetry", []string{"pypi.org:443", "files.pythonhosted.org:443"}},
		{"go", "modules, toolchains and their checksums", []string{"proxy.golang.org:443", "sum.golang.org:443"}},
		{"cargo", "the index and the packages of crates.io", []string{"index.crates.io:443", "static.crates.io:443", "crates.io:443"}},
		{"debian", "packages for apt", []string{
			"deb.debian.org:80", "deb.debian.org:443", "security.debian.org:80", "security.debian.org:443",
		}},
	}
}

func presetNames() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// presetFlag returns the value of a flag that adds the names of presets to list.
func presetFlag(list *[]string) *choice {
	return &choice{values: presetNames(), set: func(name string) {
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}}
}

// selectPresets returns the presets with the given names.
func selectPresets(names []string) []preset {
	var selected []preset
	for _, p := range presets() {
		if slices.Contains(names, p.name) {
			selected = append(selected, p)
		}
	}
	return selected
}

// addPresets allows the hosts of presets.
func addPresets(b *networkproxy.Builder, names []string) {
	for _, p := range selectPresets(names) {
		b.AllowDomains(fmt.Sprintf("the flag -preset %s", p.name), p.hosts...)
	}
}

// credentialPreset is a credential provider with a name, for -credential.
type credentialPreset struct {
	name     string
	provider networkproxy.CredentialProvider
}

// credentialPresets returns the providers of usual tokens. docs/credentials.md lists them.
// The token is in the variable that a command would have had.
func credentialPresets() []credentialPreset {
	return []credentialPreset{
		{"anthropic", networkproxy.CredentialProvider{
			Env: []string{"ANTHROPIC_API_KEY"}, URLPrefixes: []string{"https://api.anthropic.com/"}, Headers: []string{"x-api-key", "authorization"},
		}},
		{"github", networkproxy.CredentialProvider{
			Env:         []string{"GITHUB_TOKEN", "GH_TOKEN"},
			URLPrefixes: []string{"https://api.github.com/", "https://github.com/", "https://uploads.github.com/", "https://codeload.github.com/", "https://raw.githubusercontent.com/"},
		}},
		{"gitlab", networkproxy.CredentialProvider{
			Env: []string{"GITLAB_TOKEN"}, URLPrefixes: []string{"https://gitlab.com/"}, Headers: []string{"private-token", "authorization"},
		}},
		{"npm", networkproxy.CredentialProvider{Env: []string{"NPM_TOKEN"}, URLPrefixes: []string{"https://registry.npmjs.org/"}}},
		{"openai", networkproxy.CredentialProvider{Env: []string{"OPENAI_API_KEY"}, URLPrefixes: []string{"https://api.openai.com/"}}},
		{"pypi", networkproxy.CredentialProvider{Env: []string{"TWINE_PASSWORD", "UV_PUBLISH_TOKEN"}, URLPrefixes: []string{"https://upload.pypi.org/"}}},
	}
}

// credentialFlag returns the value of a flag that adds the names of presets to list.
func credentialFlag(list *[]string) *choice {
	var names []string
	for _, p := range credentialPresets() {
		names = append(names, p.name)
	}
	return &choice{values: names, set: func(name string) {
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}}
}

// addCredentials adds the providers of presets, and allows their hosts.
func addCredentials(b *networkproxy.Builder, names []string) error {
	for _, p := range credentialPresets() {
		if !slices.Contains(names, p.name) {
			continue
		}
		b.CredentialProvider(p.name, p.provider)
		for _, prefix := range p.provider.URLPrefixes {
			u, err := url.Parse(prefix)
			if err != nil {
				return err
			}
			b.AllowDomains("the flag -credential "+p.name, u.Host+":443")
		}
	}
	return nil
}
