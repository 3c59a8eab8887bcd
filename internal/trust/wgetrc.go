// The settings of wget, which reads no variable with certificates.

package trust

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// maxWgetrc bounds the size of the user's settings.
const maxWgetrc = 256 << 10

// setWget sets WGETRC to a file with the user's settings except those that choose a proxy or certificates, and with ours. With
// a directory that the caller has chosen, the user's settings are left out, because they may contain passwords.
func (f *Files) setWget(parent, child *environment, bundle string) error {
	user, cert, err := f.userWgetrc(parent)
	if err != nil {
		f.store.warn("the settings of wget cannot be read; they stay as they are, and wget will not trust the proxy", "error", err.Error())
		return nil
	}
	if cert != "" {
		own := f.store.present([]source{{"ca_certificate of wget", cert}})
		b, err := f.store.bundle(append(own, f.store.present(baseSources(parent))...), true)
		if err != nil {
			f.store.warn("the certificates for a client cannot be read; its settings stay as they are, and it will not trust the proxy", "variable", "ca_certificate of wget", "error", err.Error())
			return nil
		}
		if bundle, err = f.put("bundle.pem", b.pem); err != nil {
			return err
		}
	}
	if f.base != "" {
		user = nil
	}
	path, err := f.putPrivate("wgetrc", append(user, "ca_certificate = "+bundle+"\n"...))
	if err != nil {
		return err
	}
	child.set("WGETRC", path)
	return nil
}

// userWgetrc returns the user's settings without those that choose a proxy or certificates, and the file of certificates that they
// have chosen.
func (f *Files) userWgetrc(parent *environment) (settings []byte, cert string, err error) {
	path := parent.get("WGETRC")
	if path == "" {
		home := parent.get("HOME")
		if home == "" {
			return nil, "", nil
		}
		path = filepath.Join(home, ".wgetrc")
	}
	text, err := readRegular(path, maxWgetrc)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	settings, cert = filterWgetrc(text)
	if rest, ok := strings.CutPrefix(cert, "~/"); ok { // as wget reads it
		cert = filepath.Join(parent.get("HOME"), rest)
	}
	return settings, cert, nil
}

// filterWgetrc returns settings of wget without those that choose a proxy or a file of certificates, and that file. The last
// setting of a name counts. wget ignores case, hyphens and underscores in names.
func filterWgetrc(text []byte) (kept []byte, cert string) {
	plain := strings.NewReplacer("-", "", "_", "")
	for line := range bytes.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		switch plain.Replace(strings.ToLower(strings.TrimSpace(name))) {
		case "cacertificate":
			cert = strings.TrimSpace(value)
		case "useproxy", "httpproxy", "httpsproxy", "ftpproxy", "noproxy", "proxyuser", "proxypassword", "proxypasswd":
		default:
			kept = append(kept, bytes.TrimRight(line, "\r\n")...)
			kept = append(kept, '\n')
		}
	}
	return kept, cert
}
