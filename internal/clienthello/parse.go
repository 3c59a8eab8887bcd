// Parsing of a ClientHello.

package clienthello

// Hello holds the plaintext fields of a ClientHello.
type Hello struct {
	// ServerName is the host_name of the extension server_name (RFC 6066
	// section 3), as the client spells it: printable ASCII, at most 255 bytes,
	// not checked further. It is empty if the client sends none.
	//
	// With Encrypted Client Hello it is the outer name.
	ServerName string

	// ECH reports whether the extension encrypted_client_hello is present (RFC
	// 9849). Browsers send it to every server: an extension without content
	// (GREASE, section 6.2 there) looks the same as one with an inner hello for
	// another name.
	ECH bool

	// Version is legacy_version: 0x0303 for TLS 1.2 and later, a lower number
	// for earlier versions.
	Version uint16
}

// The relevant extensions (IANA, TLS ExtensionType Values). All others are
// skipped, including reserved values (GREASE, RFC 8701).
const (
	extServerName = 0
	extECH        = 0xfe0d
)

// maxName bounds a server name (RFC 1035 section 2.3.4).
const maxName = 255

// reader reads the fields of a message in order. After a truncated field, bad
// is set and all further fields are empty.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.rest, r.bad = nil, true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

// number reads a number of n bytes in network order.
func (r *reader) number(n int) (v int) {
	for _, b := range r.take(n) {
		v = v<<8 | int(b)
	}
	return v
}

// vector reads a vector whose length is a number of n bytes (RFC 8446 section
// 3.4).
func (r *reader) vector(n int) []byte { return r.take(r.number(n)) }

func (r *reader) empty() bool { return len(r.rest) == 0 }

// parse reads the body of a ClientHello (RFC 8446 section 4.1.2).
func parse(body []byte) (Hello, error) {
	r := reader{rest: body}
	h := Hello{Version: uint16(r.number(2))}
	r.take(32) // random
	session := r.vector(1)
	suites := r.vector(2)
	compression := r.vector(1)
	switch {
	case r.bad:
		return Hello{}, problemf("is truncated")
	case h.Version>>8 != sslMajor:
		return Hello{}, problemf("requests version %d.%d", h.Version>>8, h.Version&0xff)
	case len(session) > 32, len(suites) < 2, len(suites)%2 != 0, len(compression) == 0:
		return Hello{}, problemf("has a field with an invalid length")
	}
	if r.empty() {
		return h, nil // TLS 1.2 and earlier: no extensions
	}
	extensions := reader{rest: r.vector(2)}
	if r.bad || !r.empty() {
		return Hello{}, problemf("has an extension list of the wrong length")
	}
	named := false
	for !extensions.empty() {
		kind, data := extensions.number(2), extensions.vector(2)
		if extensions.bad {
			return Hello{}, problemf("has a truncated extension")
		}
		switch kind {
		case extServerName:
			if named { // RFC 8446 section 4.2
				return Hello{}, problemf("has the extension server_name twice")
			}
			named = true
			name, err := parseServerName(data)
			if err != nil {
				return Hello{}, err
			}
			h.ServerName = name
		case extECH:
			h.ECH = true
		}
	}
	return h, nil
}

// parseServerName reads the data of the extension server_name. The list has
// exactly one entry, because there is only one kind of name and each kind may
// occur once.
func parseServerName(data []byte) (string, error) {
	r := reader{rest: data}
	list := reader{rest: r.vector(2)}
	kind, name := list.number(1), list.vector(2)
	switch {
	case r.bad || list.bad || !r.empty():
		return "", problemf("has a server_name extension that is not a valid list")
	case kind != 0 || !list.empty():
		return "", problemf("has a server_name extension without exactly one host_name")
	case len(name) == 0 || len(name) > maxName:
		return "", problemf("has a server name of %d bytes", len(name))
	}
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return "", problemf("has a server name with a character that is not printable ASCII")
		}
	}
	return string(name), nil
}
