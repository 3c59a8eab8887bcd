package trust

import (
	"fmt"
	"slices"
	"syscall"
	"unsafe"
)

// systemRoots returns the certificates in the store ROOT of this user, which includes that of the machine.
func systemRoots() (Roots, error) {
	name, err := syscall.UTF16PtrFromString("ROOT")
	if err != nil {
		return Roots{}, err
	}
	store, err := syscall.CertOpenSystemStore(0, name)
	if err != nil {
		return Roots{}, fmt.Errorf("the certificates of this system: %w", err)
	}
	defer syscall.CertCloseStore(store, 0)
	var roots Roots
	var cert *syscall.CertContext
	for {
		// Each call frees the certificate of the one before, and the last returns an error that means that there are no more.
		if cert, err = syscall.CertEnumCertificatesInStore(store, cert); err != nil || cert == nil {
			break
		}
		if cert.EncodingType&syscall.X509_ASN_ENCODING != 0 {
			roots.Certs = append(roots.Certs, slices.Clone(unsafe.Slice(cert.EncodedCert, cert.Length)))
		}
	}
	if len(roots.Certs) == 0 {
		return Roots{}, errNoRoots
	}
	return roots, nil
}
