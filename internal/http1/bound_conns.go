// Connections to origin servers that carry the identity of one client.

package http1

import "strings"

// maxBoundConns is the number of idle connections that are kept for one client
// connection. A client that logs in to more hosts has to log in again.
const maxBoundConns = 4

// boundConns holds the idle connections to origin servers that belong to one
// client connection. NTLM, Negotiate and Kerberos authenticate a connection
// instead of a request (RFC 4559 section 6), so each request on it has the
// identity of the client that logged in. They count as idle connections of
// their pools and are closed with the client connection. The zero value is
// empty. Only the goroutine that serves the client may use it.
type boundConns struct {
	conns []*originConn // the last used one at the end
}

// take returns a connection of t to addr, or nil if there is none.
func (b *boundConns) take(t *Transport, addr string) *originConn {
	for i := len(b.conns) - 1; i >= 0; i-- {
		c := b.conns[i]
		if c.transport != t || c.addr != addr {
			continue
		}
		b.remove(i)
		if c.epoch == t.pool.epoch() {
			return c
		}
		c.discard()
	}
	return nil
}

// put keeps a connection, or closes it if there is no room.
func (b *boundConns) put(c *originConn) {
	if c.transport.MaxIdlePerAddr < 0 || c.epoch != c.transport.pool.epoch() || !c.transport.pool.reserve(c.transport) {
		c.discard()
		return
	}
	if len(b.conns) == maxBoundConns {
		oldest := b.conns[0]
		b.remove(0)
		oldest.discard()
	}
	b.conns = append(b.conns, c)
}

func (b *boundConns) remove(i int) {
	b.conns[i].transport.pool.idle.Add(-1)
	b.conns = append(b.conns[:i], b.conns[i+1:]...)
	b.conns[:cap(b.conns)][len(b.conns)] = nil
}

// close closes all connections.
func (b *boundConns) close() {
	for len(b.conns) > 0 {
		c := b.conns[len(b.conns)-1]
		b.remove(len(b.conns) - 1)
		c.discard()
	}
}

// authenticatesConn reports whether a field of a request or a response shows
// that its connection is, or may soon be, authenticated.
func authenticatesConn(f Field) bool {
	switch len(f.Name) {
	case len("Authorization"):
		return equalsLower(f.Name, "authorization") && isConnScheme(f.Value)
	case len("WWW-Authenticate"):
		return equalsLower(f.Name, "www-authenticate") && challengesConn(f.Value)
	case len("Proxy-Authenticate"):
		return equalsLower(f.Name, "proxy-authenticate") && challengesConn(f.Value)
	case len("Proxy-Authorization"):
		return equalsLower(f.Name, "proxy-authorization") && isConnScheme(f.Value)
	}
	return false
}

// challengesConn reports whether one of the challenges in a field
// authenticates the connection (RFC 9110 section 11.6.1). It also splits at a
// comma in a quoted string; at worst a connection is then not shared.
func challengesConn(value string) bool {
	for challenge := range strings.SplitSeq(value, ",") {
		if isConnScheme(strings.TrimLeft(challenge, " \t")) {
			return true
		}
	}
	return false
}

// isConnScheme reports whether credentials or a challenge begin with a scheme
// that authenticates connections.
func isConnScheme(s string) bool {
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		s = s[:i]
	}
	for _, scheme := range [...]string{"ntlm", "negotiate", "kerberos", "nego2"} {
		if len(s) == len(scheme) && equalsLower(s, scheme) {
			return true
		}
	}
	return false
}
