// Files for an authority that outlives the process.

package ca

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// CertName and KeyName are the names of the files that WritePair makes.
	CertName = "ca.pem"
	KeyName  = "ca-key.pem"

	// pairLifetime is how long a certificate in a file is valid.
	pairLifetime = 10 * 365 * 24 * time.Hour
)

// Pair describes the files of a new authority.
type Pair struct {
	CertFile string
	KeyFile  string // mode 0600
	Name     string // of the CA
	NotAfter time.Time
}

// WritePair makes a CA with a new P-256 key and writes it to two files in dir, which [Load] reads. It creates dir with mode 0700
// if it does not exist. If one of the files exists, in whatever form, WritePair changes nothing and returns an error. If it fails
// later, it removes what it wrote.
func WritePair(dir string) (Pair, error) {
	der, key, err := generate(pairLifetime)
	if err != nil {
		return Pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Pair{}, err
	}
	p := Pair{
		CertFile: filepath.Join(dir, CertName),
		KeyFile:  filepath.Join(dir, KeyName),
		Name:     cert.Subject.CommonName,
		NotAfter: cert.NotAfter,
	}
	if _, err := os.Lstat(p.CertFile); err == nil { // before the key is written
		return Pair{}, exists(p.CertFile)
	}
	if err := writeNew(p.KeyFile, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}, 0o600); err != nil {
		return Pair{}, err
	}
	if err := writeNew(p.CertFile, &pem.Block{Type: "CERTIFICATE", Bytes: der}, 0o644); err != nil {
		return Pair{}, errors.Join(err, os.Remove(p.KeyFile))
	}
	return p, nil
}

// writeNew writes a block to a new file, and removes the file if that fails. O_EXCL also fails for a symbolic link to a missing
// file.
func writeNew(path string, block *pem.Block, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return exists(path)
	}
	if err != nil {
		return err
	}
	err = pem.Encode(f, block)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

func exists(path string) error {
	return fmt.Errorf("%s exists, and nothing was changed: name another directory, or remove the file if nothing uses its CA", path)
}
