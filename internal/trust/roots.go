// The certificates that clients trust without configuration.

package trust

import (
	"errors"
	"os"
)

// Roots are the certificates that clients trust without configuration. Either Path or Certs is set.
type Roots struct {
	Path  string   // a file or a directory
	Certs [][]byte // in DER
}

// rootFiles are the files with the system's certificates, the first of which that exists is used. rootDirs are directories for
// systems without such a file.
var (
	rootFiles = []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch, NixOS
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",                            // openSUSE
		"/etc/pki/tls/cacert.pem",                           // OpenELEC
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL 7
		"/etc/ssl/cert.pem",                                 // Alpine, macOS, OpenBSD, FreeBSD
		"/usr/local/share/certs/ca-root-nss.crt",            // FreeBSD
		"/usr/local/etc/ssl/cert.pem",
		"/etc/openssl/certs/ca-certificates.crt", // NetBSD
		"/etc/certs/ca-certificates.crt",         // illumos
	}
	rootDirs = []string{"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/openssl/certs"}
)

// errNoRoots is returned if the system has no certificates. A bundle with ours alone would make clients distrust every server
// whose connections the proxy does not open.
var errNoRoots = errors.New("this system has no certificates of public authorities (such as /etc/ssl/certs/ca-certificates.crt); " +
	"install the package ca-certificates, or set SSL_CERT_FILE to a file with them")

// firstRoots returns the first of files that is a regular file with something in it, or else the first of dirs with certificates.
func firstRoots(files, dirs []string) (Roots, error) {
	for _, path := range files {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			return Roots{Path: path}, nil
		}
	}
	for _, path := range dirs {
		if certs, err := readSource(path); err == nil && len(certs) > 0 {
			return Roots{Path: path}, nil
		}
	}
	return Roots{}, errNoRoots
}
