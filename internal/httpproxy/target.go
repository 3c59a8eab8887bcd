// Targets of requests: the forms of request-target that a proxy accepts.

package httpproxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
)

// targetOf returns the protocol and the target of a request. It returns an error
// unless the request-target has a form that is meant for proxies.
func targetOf(r *http.Request) (policy.Protocol, hostname.Target, error) {
	if r.Method == http.MethodConnect {
		t, err := connectTarget(r)
		return policy.ProtocolHTTPSConnect, t, err
	}
	protocol := policy.ProtocolHTTP
	if r.URL.Scheme == "https" {
		protocol = policy.ProtocolHTTPS
	}
	t, err := forwardTarget(r)
	return protocol, t, err
}

// connectTarget parses authority-form, the only form for CONNECT (RFC 9112
// section 3.2.3). It parses the bytes of the request line and not the URL that
// net/url made of them.
func connectTarget(r *http.Request) (hostname.Target, error) {
	if r.ProtoMajor != 1 {
		return hostname.Target{}, fmt.Errorf("unsupported protocol %s; use HTTP/1.1", r.Proto)
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return hostname.Target{}, errors.New("a CONNECT request must not have a body (RFC 9110 section 9.3.6)")
	}
	if strings.Contains(r.RequestURI, "@") { // not quoted: it may be a password
		return hostname.Target{}, errUserinfo
	}
	return hostname.ParseTarget(r.RequestURI)
}

// forwardTarget parses absolute-form (RFC 9112 section 3.2.2).
func forwardTarget(r *http.Request) (hostname.Target, error) {
	if r.ProtoMajor != 1 {
		return hostname.Target{}, fmt.Errorf("unsupported protocol %s; use HTTP/1.1", r.Proto)
	}
	return URLTarget(r.URL, r.RequestURI)
}

var errUserinfo = errors.New("a target must not contain a user name or password (RFC 9110 section 4.2.4); send an Authorization header instead")

// URLTarget returns the target of an http:// or https:// URL and an error for any
// other URL. The proxy opens TLS for https:// itself, so the client needs no CONNECT.
// text is the URL before parsing. The host is read from it, because net/url
// decodes escapes in a host.
func URLTarget(u *url.URL, text string) (hostname.Target, error) {
	switch {
	case u.Scheme == "":
		return hostname.Target{}, errors.New("this is an HTTP proxy, not a web server: send it requests with a full http:// URL, " +
			"for example through HTTP_PROXY or curl --proxy")
	case u.Scheme != "http" && u.Scheme != "https":
		return hostname.Target{}, errors.New(namedScheme(u.Scheme) + " is not supported; use an http:// or https:// URL, or CONNECT")
	case u.User != nil:
		return hostname.Target{}, errUserinfo
	case u.Host == "": // also if "://" appears only later, in the path
		return hostname.Target{}, errors.New("the URL has no host; write http://host/path")
	}
	_, rest, _ := strings.Cut(text, "://")
	port := uint16(80)
	if u.Scheme == "https" {
		port = 443
	}
	return hostname.ParseTargetDefault(URLAuthority(rest), port)
}

// URLAuthority returns the authority of a URL, given the part after "//".
func URLAuthority(rest string) string {
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// namedScheme describes a scheme for an error message. It quotes well-known
// schemes only, because others may be secret: "user" in "user:password".
func namedScheme(scheme string) string {
	switch scheme {
	case "ftp", "ws", "wss", "file", "socks5", "socks5h", "ssh", "git":
		return "the URL scheme " + strconv.Quote(scheme)
	}
	return "the scheme of this URL"
}

// cloneMethod returns method in memory of its own.
func cloneMethod(method string) string {
	for _, known := range [...]string{http.MethodGet, http.MethodConnect, http.MethodPost, http.MethodHead, http.MethodPut, http.MethodOptions} {
		if method == known {
			return known
		}
	}
	return strings.Clone(method)
}
