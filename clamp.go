// Listener addresses: reading them, and keeping them on loopback unless the
// configuration says otherwise.

package networkproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"example.com/networkproxy/internal/tomltable"
	"example.com/networkproxy/internal/unixsock"
)

// listenerKind is one of the proxy's listeners.
type listenerKind uint8

const (
	proxyListener listenerKind = iota
	adminListener
	socksListener
)

// String names the listener for people.
func (k listenerKind) String() string {
	return [...]string{"HTTP proxy", "admin API", "SOCKS5 proxy"}[k]
}

// kindOf is the listener that key is the address of.
func kindOf(key string) listenerKind {
	switch key {
	case keyAdminURL:
		return adminListener
	case keySOCKSURL:
		return socksListener
	}
	return proxyListener
}

// defaultPort is the port of an address that names none.
func (k listenerKind) defaultPort() uint16 {
	return [...]uint16{3128, 8080, 8081}[k]
}

// schemes are the URL schemes that say what the listener speaks. The HTTP one
// is first; it stands for the SOCKS5 listener too, whose default is written
// with it.
func (k listenerKind) schemes() []string {
	if k == socksListener {
		return []string{"http", "socks5", "socks5h"}
	}
	return []string{"http"}
}

// exposeKey is the key that lets the listener be reached by other machines.
func (k listenerKind) exposeKey() string {
	if k == adminListener {
		return keyNonLoopbackAdmin
	}
	return keyNonLoopbackProxy
}

// mayExpose is the value of exposeKey in c.
func (k listenerKind) mayExpose(c *Config) bool {
	if k == adminListener {
		return c.DangerouslyAllowNonLoopbackAdmin
	}
	return c.DangerouslyAllowNonLoopbackProxy
}

// listenAddr is where a listener is asked to be: at an address, or at the path
// of a unix socket.
type listenAddr struct {
	addr netip.AddrPort
	path string
}

// parseListener is parseListenAddr for a listener that may be a unix socket:
// that of the admin API, written "unix:///path".
func parseListener(key, raw string, o Position) (listenAddr, error) {
	const scheme = "unix://"
	if kindOf(key) != adminListener || len(raw) < len(scheme) || !strings.EqualFold(raw[:len(scheme)], scheme) {
		addr, err := parseListenAddr(key, raw, o)
		return listenAddr{addr: addr}, err
	}
	path := raw[len(scheme):]
	problem := socketPathProblem(path)
	if problem == "" && len(path) > unixsock.MaxPath {
		problem = fmt.Sprintf("the path is %d bytes long; clients can use at most %d", len(path), unixsock.MaxPath)
	}
	if problem != "" {
		return listenAddr{}, &ConfigError{Position: o, Key: key, Value: raw, Problem: problem}
	}
	return listenAddr{path: path}, nil
}

// parseListenAddr reads the address of a listener: a URL or host:port. key is
// one of the three URL keys and says which listener; raw stands at o.
//
// The host is an IP address or localhost, which means 127.0.0.1: what any
// other name resolves to can change, and whether it is loopback is not for a
// name server to decide. A missing port is the default of the listener, and 0
// is any free one. Errors are [*ConfigError] values.
func parseListenAddr(key, raw string, o Position) (netip.AddrPort, error) {
	addr, err := parseListenText(kindOf(key), raw)
	if err != nil {
		return netip.AddrPort{}, &ConfigError{Position: o, Key: key, Value: raw, Err: err}
	}
	return addr, nil
}

func parseListenText(kind listenerKind, raw string) (netip.AddrPort, error) {
	example := fmt.Sprintf(`write it like "http://127.0.0.1:%d"`, kind.defaultPort())
	if raw == "" {
		return netip.AddrPort{}, errors.New("no address: " + example)
	}

	hostport := raw
	if scheme, rest, ok := strings.Cut(raw, "://"); ok {
		if !slices.Contains(kind.schemes(), strings.ToLower(scheme)) {
			return netip.AddrPort{}, fmt.Errorf("the %s does not listen for %s: use %s://",
				kind, tomltable.Quote(scheme+"://"), strings.Join(kind.schemes(), ":// or "))
		}
		// A lone slash is how many programs print a URL without a path.
		// A zone follows "%25" in a URL (RFC 6874 section 2), "%" elsewhere.
		hostport = strings.Replace(strings.TrimSuffix(rest, "/"), "%25", "%", 1)
	}
	if i := strings.IndexAny(hostport, "/?#@"); i >= 0 {
		part := map[byte]string{'/': "path", '?': "query", '#': "fragment", '@': "user name"}[hostport[i]]
		return netip.AddrPort{}, fmt.Errorf("a listener has no %s: %s", part, example)
	}

	host, port, err := splitHostPort(hostport, kind.defaultPort())
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		return netip.AddrPort{}, errors.New("no host: write 127.0.0.1 or localhost before the port")
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("the host %s is neither an IP address nor localhost: %s", tomltable.Quote(host), example)
	}
	return netip.AddrPortFrom(addr.Unmap(), port), nil
}

// splitHostPort splits host, host:port, [v6] and [v6]:port. IPv6 needs its
// brackets even without a port: ::1:3128 is an address of its own.
func splitHostPort(s string, defaultPort uint16) (host string, port uint16, err error) {
	var rest string
	if after, ok := strings.CutPrefix(s, "["); ok {
		host, rest, ok = strings.Cut(after, "]")
		if !ok {
			return "", 0, errors.New(`no "]" after the IPv6 address`)
		}
		if !strings.Contains(host, ":") {
			return "", 0, fmt.Errorf("%s in brackets is not an IPv6 address: leave the brackets out", tomltable.Quote(host))
		}
	} else {
		if strings.Count(s, ":") > 1 {
			return "", 0, errors.New("more than one colon: put an IPv6 address in brackets, like [::1]:3128")
		}
		host, rest = s, ""
		if i := strings.IndexByte(s, ':'); i >= 0 {
			host, rest = s[:i], s[i:]
		}
	}
	if rest == "" {
		return host, defaultPort, nil
	}
	text, ok := strings.CutPrefix(rest, ":")
	n, err := strconv.ParseUint(text, 10, 16)
	if !ok || err != nil {
		return "", 0, fmt.Errorf("the port %s is not a number from 0 to 65535", tomltable.Quote(text))
	}
	return host, uint16(n), nil
}

// clampAddr returns where a listener that asks for a is allowed to listen, and
// a warning when that is not loopback or not what it asks for. a may also be
// the address of a listener that a host hands in.
//
//	loopback  exposeKey  Unix sockets  outcome
//	yes       any        any           as asked
//	no        no         any           127.0.0.1, same port
//	no        yes        none          as asked, with a warning
//	no        yes        some          127.0.0.1, same port: the sockets of
//	                                   local services, a container engine's
//	                                   among them, would be open to the network
//
// An IPv6 address becomes 127.0.0.1 as well, because clients reach a wildcard
// listener by IPv4 and would find nothing there if it moved to [::1].
func clampAddr(a netip.AddrPort, kind listenerKind, c *Config) (netip.AddrPort, string) {
	ip := a.Addr().Unmap()
	a = netip.AddrPortFrom(ip, a.Port())
	if ip.IsLoopback() {
		return a, ""
	}

	exposed := kind.mayExpose(c)
	if exposed && len(c.Policy.AllowUnixSockets) == 0 {
		return a, fmt.Sprintf("the %s listens on %s, where other machines can reach it, because %s is true",
			kind, a, kind.exposeKey())
	}

	safe := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	if exposed {
		return safe, fmt.Sprintf("the %s listens on %s instead of %s: %s has no effect while %s is set, which must not be reachable from other machines",
			kind, safe, a, kind.exposeKey(), keyAllowUnixSockets)
	}
	return safe, fmt.Sprintf("the %s listens on %s instead of %s, where other machines could reach it: set %s = true to want that",
		kind, safe, a, kind.exposeKey())
}
