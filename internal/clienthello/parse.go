// What stands in a ClientHello.

package clienthello

// Hello is what a ClientHello says in the clear. It is a plain value.
type Hello struct {
	// ServerName is the host_name of the extension server_name (RFC 6066 section
	// 3), as the client spells it: printable ASCII, at most 255 bytes, and with no
	// other promise of being a name. It is empty when the client sends none.
	//
	// With Encrypted Client Hello it is the outer name.
	ServerName string

	// ECH reports the extension encrypted_client_hello (RFC 9849). Browsers send it
	// to every server: one that holds nothing (GREASE, section 6.2 there) looks the
	// same as one that holds another hello with another name.
	ECH bool

	// Version is the legacy_version: 0x0303 for TLS 1.2 and later, lower for
	// earlier ones.
	Version uint16
}

// The extensions that matter (IANA, TLS ExtensionType Values). All others are
// skipped, reserved values (GREASE, RFC 8701) among them.
const (
	extServerName = 0
	extECH        = 0xfe0d
)

// maxName bounds a server name: RFC 1035 section 2.3.4.
const maxName = 255

// reader takes the fields of a message one after the other. Once one is cut
// short it is bad, and all that follow are empty.
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

// number reads n bytes in network order.
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
		return Hello{}, problemf("is cut short")
	case h.Version>>8 != sslMajor:
		return Hello{}, problemf("asks for version %d.%d", h.Version>>8, h.Version&0xff)
	case len(session) > 32, len(suites) < 2, len(suites)%2 != 0, len(compression) == 0:
		return Hello{}, problemf("has a field of an impossible length")
	}
	if r.empty() {
		return h, nil // TLS 1.2 and earlier: no extensions at all
	}
	extensions := reader{rest: r.vector(2)}
	if r.bad || !r.empty() {
		return Hello{}, problemf("has extensions that do not end where it does")
	}
	named := false
	for !extensions.empty() {
		kind, data := extensions.number(2), extensions.vector(2)
		if extensions.bad {
			return Hello{}, problemf("has an extension that is cut short")
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

// parseServerName reads the data of the extension server_name. There is one kind
// of name, and there must not be two of a kind: the list has one entry.
func parseServerName(data []byte) (string, error) {
	r := reader{rest: data}
	list := reader{rest: r.vector(2)}
	kind, name := list.number(1), list.vector(2)
	switch {
	case r.bad || list.bad || !r.empty():
		return "", problemf("has a server_name extension that is not a list of names")
	case kind != 0 || !list.empty():
		return "", problemf("has something else than one host_name in its server_name extension")
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
