// Trust stores for Java.

package trust

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"fmt"
)

// encodeJKS returns certificates in the format JKS, version 2. Every JDK reads it: from version 9 on, a store whose type is not
// given may be a JKS or a PKCS #12 file (keystore.type.compat).
//
// It leaves out certificates that cannot be parsed, because one of them would make the whole store unreadable. The hash at the end
// protects against damage only. Clients do not check it, because they give no password for a trust store.
func encodeJKS(certs [][]byte) []byte {
	const (
		magic         = 0xfeedfeed
		version       = 2
		trusted       = 2 // kind of an entry: a certificate
		created       = 0 // milliseconds since 1970; always the same, so that equal stores are equal files
		headerEntries = 8 // where the number of entries is
	)
	b := binary.BigEndian.AppendUint32(nil, magic)
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint32(b, 0)
	n := 0
	for _, der := range certs {
		if _, err := x509.ParseCertificate(der); err != nil {
			continue
		}
		n++
		b = binary.BigEndian.AppendUint32(b, trusted)
		b = appendUTF(b, fmt.Sprintf("ca-%04d", n))
		b = binary.BigEndian.AppendUint64(b, created)
		b = appendUTF(b, "X.509")
		b = binary.BigEndian.AppendUint32(b, uint32(len(der)))
		b = append(b, der...)
	}
	binary.BigEndian.PutUint32(b[headerEntries:], uint32(n))

	hash := sha1.New() // the format demands it
	for _, c := range []byte(jksPassword) {
		hash.Write([]byte{0, c}) // UTF-16
	}
	hash.Write([]byte("Mighty Aphrodite"))
	hash.Write(b)
	return hash.Sum(b)
}

// jksPassword is the password that keytool expects. It protects nothing.
const jksPassword = "changeit"

// appendUTF appends an ASCII text as Java's DataOutput.writeUTF does.
func appendUTF(b []byte, text string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}
