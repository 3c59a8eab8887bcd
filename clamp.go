// Addresses of listeners: how they are written, and the clamp that keeps them on
// loopback unless the configuration allows others.

package networkproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
	"example.com/networkproxy/internal/unixsock"
)

// listenerKind identifies one of the proxy's listeners.
type listenerKind uint8

const (
	proxyListener listenerKind = iota
	adminListener
	socksListener
)

// String returns the name of the listener for messages.
func (k listenerKind) String() string {
	return [...]string{"HTTP proxy", "admin API", "SOCKS5 proxy"}[k]
}

// kindOf returns the listener whose address is the value of key.
func kindOf(key string) listenerKind {
	switch key {
	case keyAdminURL:
		return adminListener
	case keySOCKSURL:
		return socksListener
	}
	return proxyListener
}

// defaultPort returns the port of an address without one.
func (k listenerKind) defaultPort() uint16 {
	return [...]uint16{3128, 8080, 8081}[k]
}

// schemes returns the URL schemes of addresses of the listener. The SOCKS5
// listener accepts http as well, because its default is written so.
func (k listenerKind) schemes() []string {
	if k == socksListener {
		return []string{"http", "socks5", "socks5h"}
	}
	return []string{"http"}
}

// exposeKey returns the key that allows addresses which other machines can
// reach.
func (k listenerKind) exposeKey() string {
	if k == adminListener {
		return keyNonLoopbackAdmin
	}
	return keyNonLoopbackProxy
}

// mayExpose returns the value of exposeKey in c.
func (k listenerKind) mayExpose(c *Config) bool {
	if k == adminListener {
		return c.DangerouslyAllowNonLoopbackAdmin
	}
	return c.DangerouslyAllowNonLoopbackProxy
}

// listenAddr is the address of a listener, or the path of its unix socket.
type listenAddr struct {
	addr netip.AddrPort
	path string
}

// parseListener is like parseListenAddr, but accepts "unix:///path" for the
// admin API.
func parseListener(key, raw string, at Position) (listenAddr, error) {
	const scheme = "unix://"
	if kindOf(key) != adminListener || len(raw) < len(scheme) || !strings.EqualFold(raw[:len(scheme)], scheme) {
		addr, err := parseListenAddr(key, raw, at)
		return listenAddr{addr: addr}, err
	}
	path := raw[len(scheme):]
	problem := socketPathProblem(path)
	if problem == "" && len(path) > unixsock.MaxPath {
		problem = fmt.Sprintf("the path is %d bytes long; clients can use at most %d", len(path), unixsock.MaxPath)
	}
	if problem != "" {
		return listenAddr{}, &ConfigError{Position: at, Key: key, Value: raw, Problem: problem}
	}
	return listenAddr{path: path}, nil
}

// parseListenAddr parses the address of a listener: a URL or host:port. key is
// the URL key of the listener, and at the position of raw, for errors.
//
// The host is an IP address or localhost, which means 127.0.0.1. Other names are
// rejected, because a name server must not decide whether a listener is on
// loopback. The default of a missing port depends on the listener; port 0 is any
// free one. Errors are [*ConfigError] values.
func parseListenAddr(key, raw string, at Position) (netip.AddrPort, error) {
	addr, err := parseListenText(kindOf(key), raw)
	if err != nil {
		return netip.AddrPort{}, &ConfigError{Position: at, Key: key, Value: raw, Err: err}
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

// splitHostPort splits host, host:port, [v6] and [v6]:port. IPv6 addresses need
// brackets even without a port, because ::1:3128 is an address too.
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

// clampAddr returns the address at which a listener for a may listen, and a
// warning if that is not loopback or not a. a may also be the address of a
// listener that the host opened.
//
//	a is loopback  exposeKey  Unix sockets  result
//	yes            any        any           a
//	no             no         any           127.0.0.1, same port
//	no             yes        none          a, with a warning
//	no             yes        some          127.0.0.1, same port: otherwise the
//	                                        network could reach the sockets of
//	                                        local services, such as those of a
//	                                        container engine
//
// An IPv6 address becomes 127.0.0.1 too, because clients of a wildcard listener
// use IPv4, and would not find it on [::1].
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
		return safe, fmt.Sprintf("the %s listens on %s instead of %s: %s has no effect while %s is set, because other machines must not reach the sockets",
			kind, safe, a, kind.exposeKey(), keyAllowUnixSockets)
	}
	return safe, fmt.Sprintf("the %s listens on %s instead of %s, where other machines could reach it: set %s = true to allow that",
		kind, safe, a, kind.exposeKey())
}

// socketPathProblem returns the reason why p cannot be the path of a unix socket,
// or "".
func socketPathProblem(p string) string {
	problem, better := policy.SocketPathProblem(p)
	if better != "" {
		return problem + ": write " + tomltable.Quote(better)
	}
	return problem
}
