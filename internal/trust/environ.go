// The variables with which clients find the files.

package trust

import (
	"runtime"
	"slices"
	"strings"
)

// replaced are the variables whose file a client reads in place of the system's certificates. They name a bundle.
var replaced = [...]string{
	"SSL_CERT_FILE",                                       // OpenSSL, Python, Ruby, PHP, Go, .NET, uv, programs in Rust
	"CURL_CA_BUNDLE",                                      // curl
	"GIT_SSL_CAINFO",                                      // git and git-lfs, over settings in files
	"npm_config_cafile",                                   // npm, pnpm, yarn 1
	"REQUESTS_CA_BUNDLE", "PIP_CERT", "HTTPLIB2_CA_CERTS", // Python
	"CARGO_HTTP_CAINFO",
	"AWS_CA_BUNDLE", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
	"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
	"BUNDLE_SSL_CA_CERT",   // Bundler
	"COMPOSER_CAFILE",      // PHP
	"HEX_CACERTS_PATH",     // Elixir
	"NIX_SSL_CERT_FILE",    // Nix
	"PERL_LWP_SSL_CA_FILE", // Perl
	"JULIA_SSL_CA_ROOTS_PATH",
}

// added are the variables whose file a client reads in addition to its own certificates. yarn 2 and later read
// NODE_EXTRA_CA_CERTS, and exit at an unknown YARN_ variable.
var added = [...]string{"NODE_EXTRA_CA_CERTS", "DENO_CERT"}

// environment is an environment to change.
type environment struct {
	entries []string
}

func parseEnvironment(env []string) *environment { return &environment{slices.Clone(env)} }

// sameName reports whether two names are those of one variable. npm reads its variables in upper and lower case.
func sameName(a, b string) bool {
	fold := runtime.GOOS == "windows" || len(a) >= len(npmPrefix) && strings.EqualFold(a[:len(npmPrefix)], npmPrefix)
	return a == b || fold && strings.EqualFold(a, b)
}

const npmPrefix = "npm_config_"

// lookup returns the value of a variable. The last entry counts.
func (e *environment) lookup(name string) (string, bool) {
	for _, entry := range slices.Backward(e.entries) {
		if n, value, ok := strings.Cut(entry, "="); ok && sameName(name, n) {
			return value, true
		}
	}
	return "", false
}

func (e *environment) get(name string) string {
	value, _ := e.lookup(name)
	return value
}

func (e *environment) remove(name string) {
	e.entries = slices.DeleteFunc(e.entries, func(entry string) bool {
		n, _, _ := strings.Cut(entry, "=")
		return sameName(name, n)
	})
}

func (e *environment) set(name, value string) {
	e.remove(name)
	e.entries = append(e.entries, name+"="+value)
}

// Environ returns env, an environment in the form of [os.Environ], with the variables that make clients trust our certificates in
// addition to those that they would trust with env. It writes the files that these variables name. It does not change env.
//
// A variable of env whose certificates cannot be read is left as it is, with a warning, except SSL_CERT_FILE and SSL_CERT_DIR,
// which many clients read: then there is an error. On an error, no variable was changed.
func (f *Files) Environ(env []string) ([]string, error) {
	parent, child := parseEnvironment(env), parseEnvironment(env)
	base, err := f.baseBundle(parent)
	if err != nil {
		return nil, err
	}
	path, err := f.put("bundle.pem", base.pem)
	if err != nil {
		return nil, err
	}
	child.remove("SSL_CERT_DIR") // curl prefers it, and its certificates are in the bundle
	for _, step := range []func(parent, child *environment, bundle string) error{
		f.setReplaced, f.setAdded, f.setWget,
	} {
		if err := step(parent, child, path); err != nil {
			return nil, err
		}
	}
	if err := f.setJava(child, base); err != nil {
		return nil, err
	}
	f.store.warnUnverified(parent)
	return child.entries, nil
}

// setReplaced sets the variables of replaced.
func (f *Files) setReplaced(parent, child *environment, bundle string) error {
	base := baseSources(parent)
	for _, name := range replaced {
		own := f.own(parent, name)
		if own == nil || slices.ContainsFunc(base, func(s source) bool { return s.path == own[0].path }) {
			child.set(name, bundle)
			continue
		}
		b, err := f.store.bundle(append(own, f.store.present(base)...), true)
		if err != nil {
			f.store.warn("the certificates for a client cannot be read; its variable stays as it is, and it will not trust the proxy", "variable", name, "error", err.Error())
			continue
		}
		path, err := f.put("bundle.pem", b.pem)
		if err != nil {
			return err
		}
		child.set(name, path)
	}
	return nil
}

// setAdded sets the variables of added.
func (f *Files) setAdded(parent, child *environment, _ string) error {
	ca, err := f.store.config.CA()
	if err != nil {
		return err
	}
	for _, name := range added {
		content, file := ca, "ca.pem"
		if own := f.own(parent, name); own != nil {
			b, err := f.store.bundle(own, false)
			if err != nil {
				f.store.warn("the certificates for a client cannot be read; its variable stays as it is, and it will not trust the proxy", "variable", name, "error", err.Error())
				continue
			}
			content, file = b.pem, "added.pem"
		}
		path, err := f.put(file, content)
		if err != nil {
			return err
		}
		child.set(name, path)
	}
	return nil
}

// own returns the certificates that a variable of the parent names, or nil if there are none.
func (f *Files) own(parent *environment, name string) []source {
	path := parent.get(name)
	if path == "" {
		return nil
	}
	return f.store.present([]source{{name, path}})
}

// unverified are variables that switch verification off, and the values with which they do not.
var unverified = map[string][]string{
	"NODE_TLS_REJECT_UNAUTHORIZED":         {"", "1"},
	"PYTHONHTTPSVERIFY":                    {"", "1"},
	"npm_config_strict_ssl":                {"", "true"},
	"YARN_ENABLE_STRICT_SSL":               {"", "true", "1"},
	"PERL_LWP_SSL_VERIFY_HOSTNAME":         {"", "1"},
	"BUNDLE_SSL_VERIFY_MODE":               {"", "1"},
	"HEX_UNSAFE_HTTPS":                     {"", "0", "false"},
	"CLOUDSDK_AUTH_DISABLE_SSL_VALIDATION": {"", "0", "false", "False"},
	"JULIA_SSL_NO_VERIFY_HOSTS":            {""},
	"GIT_SSL_NO_VERIFY":                    nil, // any value
}

// warnUnverified warns of variables that switch verification off. They stay as they are, because they are the user's decision.
func (s *Store) warnUnverified(parent *environment) {
	for name, harmless := range unverified {
		if value, ok := parent.lookup(name); ok && !slices.Contains(harmless, value) {
			s.warn("a variable makes clients accept any certificate; it stays as it is", "variable", name)
		}
	}
}
