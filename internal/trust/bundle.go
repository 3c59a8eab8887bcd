// Bundles: certificates from several sources, with ours.

package trust

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// source is a place where the parent's environment says that certificates are.
type source struct {
	variable string // that names it, or what else does
	path     string
}

// bundle is the certificates of several sources, with ours. It does not change after it was made.
type bundle struct {
	pem   []byte
	certs [][]byte // in DER
	jks   func() []byte
}

func newBundle(certs [][]byte) *bundle {
	var text bytes.Buffer
	for _, der := range certs {
		pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a bytes.Buffer returns no error
	}
	return &bundle{pem: text.Bytes(), certs: certs, jks: sync.OnceValue(func() []byte { return encodeJKS(certs) })}
}

// maxBuilt bounds the bundles that are kept.
const maxBuilt = 8

// bundle returns the certificates in sources, then those of the system if roots is set, and then ours. It is an error if there are
// none but ours.
func (s *Store) bundle(sources []source, roots bool) (*bundle, error) {
	ca, err := s.config.CA()
	if err != nil {
		return nil, err
	}
	var system Roots
	if roots {
		if system, err = s.config.Roots(); errors.Is(err, errNoRoots) && len(sources) > 0 {
			err = nil // the sources take the place of the system's
		}
		if err != nil {
			return nil, err
		}
		if system.Path != "" {
			sources = append(sources[:len(sources):len(sources)], source{"the system", system.Path})
		}
	}
	key, keep := stamp(sources, roots)
	if keep {
		s.mu.Lock()
		b := s.built[key]
		s.mu.Unlock()
		if b != nil {
			return b, nil
		}
	}
	var found certSet
	for _, from := range sources {
		certs, err := readSource(from.path)
		if err != nil {
			return nil, fmt.Errorf("the certificates that %s names: %w", from.variable, err)
		}
		for _, der := range certs {
			found.add(der)
		}
	}
	for _, der := range system.Certs {
		found.add(der)
	}
	if len(found.certs) == 0 {
		return nil, errNoRoots
	}
	found.addPEM(ca)
	b := newBundle(found.certs)
	if keep {
		s.keep(key, b)
	}
	return b, nil
}

// keep keeps a bundle for later sessions.
func (s *Store) keep(key string, b *bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.built) >= maxBuilt {
		clear(s.built)
	}
	s.built[key] = b
}

// stamp returns a text that changes when one of the sources changes. It reports false if that cannot be told, because a source is
// a directory, whose files can change without it.
func stamp(sources []source, roots bool) (string, bool) {
	var key strings.Builder
	fmt.Fprintln(&key, roots)
	for _, from := range sources {
		info, err := os.Stat(from.path)
		if err != nil || !info.Mode().IsRegular() {
			return "", false
		}
		fmt.Fprintf(&key, "%q %d %d %v\n", from.path, info.Size(), info.ModTime().UnixNano(), identity(info))
	}
	return key.String(), true
}

// present returns the sources that exist. Clients ignore files that do not exist, or refuse all servers, so that the bundle can
// only add to what they trust.
func (s *Store) present(sources []source) []source {
	var kept []source
	for _, from := range sources {
		if _, err := os.Stat(from.path); errors.Is(err, fs.ErrNotExist) {
			s.warn("a variable names certificates that do not exist; it is replaced", "variable", from.variable, "path", from.path)
			continue
		}
		kept = append(kept, from)
	}
	return kept
}

// baseSources returns what OpenSSL and Go read in place of, or in addition to, the system's certificates.
func baseSources(e *environment) []source {
	var sources []source
	if file := e.get("SSL_CERT_FILE"); file != "" {
		sources = append(sources, source{"SSL_CERT_FILE", file})
	}
	for _, dir := range filepath.SplitList(e.get("SSL_CERT_DIR")) {
		if dir != "" {
			sources = append(sources, source{"SSL_CERT_DIR", dir})
		}
	}
	return sources
}
