// Reading certificates from the places where clients read them.

package trust

import (
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const (
	// maxSource bounds the size of a file, and of all files of a directory.
	maxSource = 4 << 20

	// maxEntries bounds the number of files that are read in a directory. Directories of OpenSSL have two links for each
	// certificate.
	maxEntries = 4096
)

// readSource returns the certificates in a file, or in all files of a directory, in DER and without duplicates. A file without
// certificates is an error, and a directory without them is not.
func readSource(path string) ([][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return readDirectory(path)
	}
	text, err := readRegular(path, maxSource)
	if err != nil {
		return nil, err
	}
	var found certSet
	found.addPEM(text)
	if len(found.certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return found.certs, nil
}

// readDirectory returns the certificates in the files of a directory. It skips files that cannot be read, as clients do.
func readDirectory(dir string) ([][]byte, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("%s has more than %d files: is it a directory of certificates?", dir, maxEntries)
	}
	slices.Sort(names)
	var found certSet
	left := int64(maxSource)
	for _, name := range names {
		text, err := readRegular(filepath.Join(dir, name), left)
		if errors.Is(err, errTooLarge) {
			return nil, fmt.Errorf("the files in %s are larger than %d MiB together: is it a directory of certificates?", dir, maxSource>>20)
		}
		if err != nil {
			continue
		}
		left -= int64(len(text))
		found.addPEM(text)
	}
	return found.certs, nil
}

var errTooLarge = errors.New("too large")

// readRegular returns the content of a regular file of at most limit bytes. It waits for no other process.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	if info.Size() > limit {
		return nil, tooLarge(path, limit)
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = tooLarge(path, limit)
	}
	return text, err
}

func tooLarge(path string, limit int64) error {
	return fmt.Errorf("%s is %w: it has more than %d KiB", path, errTooLarge, limit>>10)
}

// certSet collects certificates without duplicates.
type certSet struct {
	certs [][]byte // in DER
	known map[[sha256.Size]byte]bool
}

func (s *certSet) add(der []byte) {
	sum := sha256.Sum256(der)
	if s.known == nil {
		s.known = make(map[[sha256.Size]byte]bool)
	}
	if !s.known[sum] {
		s.known[sum] = true
		s.certs = append(s.certs, der)
	}
}

// addPEM adds the certificates in a text. It skips everything else, such as private keys and certificates with the rules of
// OpenSSL about their use.
func (s *certSet) addPEM(text []byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		const sequence = 0x30 // begins every certificate
		if (block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE") && len(block.Bytes) > 0 && block.Bytes[0] == sequence {
			s.add(block.Bytes)
		}
	}
}
