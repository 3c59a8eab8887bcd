// An authority from files.

package ca

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// maxFileSize is the size of the largest file that is read.
const maxFileSize = 1 << 20

// Load returns the authority with the certificate and the key in two PEM files, which may be the same one.
//
// The file of the certificate holds that of the CA, followed by those that issued it, if any, each before its issuer. The file of
// the key holds one private key in the form of PKCS #8, SEC 1 or PKCS #1, without a passphrase. It must belong to this user and be
// closed to all others (mode 0600), except on Windows, where permissions are not checked.
//
// The error names the file, the problem and the remedy. It never contains a part of the key.
func Load(certFile, keyFile string) (*Authority, error) {
	chain, err := loadChain(certFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	key, err := loadKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	if at := indexOfKey(chain, key.Public()); at != 0 {
		return nil, mismatch(keyFile, certFile, at)
	}
	if err := checkChain(chain, time.Now()); err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	return newAuthority(chain, key), nil
}

// loadChain returns the certificates in a file. It ignores other PEM blocks.
func loadChain(file string) ([]*x509.Certificate, error) {
	text, err := readFile(file, func(fs.FileInfo) error { return nil })
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New(`it holds no certificate: it needs one in PEM form, which begins with "-----BEGIN CERTIFICATE-----"`)
	}
	return chain, nil
}

// loadKey returns the private key in a file.
func loadKey(file string) (crypto.Signer, error) {
	text, err := readFile(file, checkPrivate)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return keyIn(text)
}

// keyIn returns the one private key in PEM text.
func keyIn(text []byte) (crypto.Signer, error) {
	var found *pem.Block
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue // such as the certificate, or the name of the curve
		}
		if found != nil {
			return nil, errors.New("it holds two private keys: leave only that of the CA")
		}
		found = block
	}
	if found == nil {
		return nil, errors.New(`it holds no private key: it needs one in PEM form, which begins with "-----BEGIN PRIVATE KEY-----"`)
	}
	key, err := parseKey(found)
	if err != nil {
		return nil, err
	}
	if err := checkKey(key.Public()); err != nil {
		return nil, fmt.Errorf("the private key: %w", err)
	}
	return key, nil
}

// parseKey returns the key in a PEM block.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, errors.New(`the private key has a passphrase: write it without one, with "openssl pkey -in OLD -out NEW"`)
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("the private key is in the form %q: write it in PKCS #8", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("the private key is damaged: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the private key is a %T, which cannot sign", key)
	}
	return signer, nil
}

// readFile returns the content of a regular file after check has accepted it.
func readFile(path string, check func(fs.FileInfo) error) ([]byte, error) {
	if path == "" {
		return nil, errors.New("the path is empty")
	}
	f, err := os.OpenFile(path, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file: name the file itself")
	}
	if err := check(info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(text) > maxFileSize {
		return nil, fmt.Errorf("it is larger than %d KiB: is it the right file?", maxFileSize>>10)
	}
	return text, nil
}

// withoutPath returns the cause of an error about a file that the caller names.
func withoutPath(err error) error {
	if perr := (*fs.PathError)(nil); errors.As(err, &perr) {
		err = perr.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: check the path, or make a CA with \"networkproxy ca\"", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: this user must be able to read it", err)
	}
	return err
}
