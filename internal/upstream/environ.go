// Parsing the environment and choosing the proxy for a target.

package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"example.com/networkproxy/internal/hostname"
)

// Proxies holds the upstream proxies named by one environment. Nil and the zero
// value have no proxies. Proxies is immutable and safe for concurrent use.
type Proxies struct {
	http, https *Proxy // nil if none
	proxyFunc   func(*url.URL) (*url.URL, error)
}

// FromEnviron parses an environment in the form of os.Environ. HTTP_PROXY is
// for plain HTTP, and HTTPS_PROXY for everything else. ALL_PROXY is used for
// either of them if it is not set. Lower-case names take precedence over
// upper-case names, and an empty value counts as not set. The form of a proxy
// is [http://|https://][user:password@]host[:port]; the default port is 80, or
// 443 for https. NO_PROXY is as in golang.org/x/net/http/httpproxy.
//
// TLS to a proxy is verified against roots, or the system's roots if nil.
//
// The error joins all problems. It names variables but not their values, which
// may contain a password.
func FromEnviron(env []string, roots *x509.CertPool) (*Proxies, error) {
	vars := make(map[string]string)
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			vars[name] = value // the last one counts, as with exec.Cmd
		}
	}
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if value := strings.TrimSpace(vars[name]); value != "" {
				return name, value
			}
		}
		return "", ""
	}

	var errs []error
	read := func(names ...string) *Proxy {
		name, value := first(names...)
		if name == "" {
			return nil
		}
		p, problem := parseProxy(value, roots)
		if problem == "" && name == "HTTP_PROXY" && vars["REQUEST_METHOD"] != "" {
			// In a CGI program HTTP_PROXY holds the client's Proxy field.
			problem = "may come from a client, because this is a CGI program (REQUEST_METHOD is set): use http_proxy in lower case"
		}
		if problem != "" {
			errs = append(errs, errors.New(name+" "+problem))
			return nil
		}
		p.variable = name
		return p
	}
	proxies := &Proxies{
		http:  read("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
		https: read("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
	}
	if len(errs) > 1 && errs[0].Error() == errs[1].Error() {
		errs = errs[:1] // ALL_PROXY is wrong for both
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	var config httpproxy.Config
	_, config.NoProxy = first("no_proxy", "NO_PROXY")
	// The function decides only whether to use a proxy. The URLs have no
	// credentials, to keep these in one place.
	if proxies.http != nil {
		config.HTTPProxy = proxies.http.String()
	}
	if proxies.https != nil {
		config.HTTPSProxy = proxies.https.String()
	}
	proxies.proxyFunc = config.ProxyFunc()
	return proxies, nil
}

// parseProxy parses the value of a variable. problem describes an error without
// quoting the value, because a part that looks like a host or port may belong
// to a password with an unescaped character.
func parseProxy(value string, roots *x509.CertPool) (p *Proxy, problem string) {
	scheme, _, hasScheme := strings.Cut(value, "://")
	if !hasScheme {
		scheme, value = "http", "http://"+value
	}
	scheme = strings.ToLower(scheme)
	defaultPort := uint16(80)
	p = new(Proxy)
	switch scheme {
	case "http":
	case "https":
		defaultPort = 443
		p.tls = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	case "socks", "socks4", "socks4a", "socks5", "socks5h":
		return nil, fmt.Sprintf("names a %s:// proxy: only http:// and https:// proxies are supported upstream", scheme)
	default:
		return nil, "has a scheme that is neither http:// nor https://"
	}

	const escape = "; in a user name or password, write characters such as @ : / ? # or % as % and two hexadecimal digits"
	u, err := url.Parse(value)
	if err != nil {
		return nil, "is not a URL like http://host:port" + escape
	}
	host := u.Host
	if strings.HasPrefix(host, "[") {
		host = strings.Replace(host, "%", "%25", 1) // net/url has removed the escape before the zone
	}
	if p.addr, err = hostname.ParseTargetDefault(host, defaultPort); err != nil || strings.HasSuffix(host, ":") {
		return nil, "has an invalid host or port: write http://host:port" + escape
	}
	if p.tls != nil {
		p.tls.ServerName = p.addr.Host.String()
		if p.addr.Host.IsIP() {
			p.tls.ServerName = p.addr.Host.Addr().String() // certificates do not name zones
		}
	}
	if u.User == nil {
		return p, ""
	}
	user := u.User.Username()
	password, _ := u.User.Password()
	if strings.Contains(user, ":") || hasControl(user) || hasControl(password) {
		return nil, "has a user name with a colon, or control characters, which Basic credentials cannot contain (RFC 7617 section 2)"
	}
	if user != "" || password != "" {
		p.authorization = BasicAuth(user, password)
	}
	return p, ""
}

// BasicAuth returns the value of a Proxy-Authorization or Authorization field
// with Basic credentials (RFC 7617 section 2). The user must not contain a
// colon.
func BasicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// ForHTTP returns the proxy for plain HTTP to t, or nil to connect directly.
func (p *Proxies) ForHTTP(t hostname.Target) *Proxy {
	if p == nil || p.http == nil || !p.useProxy("http", t) {
		return nil
	}
	return p.http
}

// ForTunnel returns the proxy for all other connections to t, or nil to connect
// directly.
func (p *Proxies) ForTunnel(t hostname.Target) *Proxy {
	if p == nil || p.https == nil || !p.useProxy("https", t) {
		return nil
	}
	return p.https
}

// useProxy reports whether to use a proxy for t. Addresses of this machine and
// its own link mean other hosts to the proxy, so they are always direct:
// loopback (RFC 6761 section 6.3, RFC 1122 section 3.2.1.3), the unspecified
// address (the same section) and link-local addresses (RFC 3927 section 7, RFC
// 4291 section 2.5.6).
func (p *Proxies) useProxy(scheme string, t hostname.Target) bool {
	a := t.Host.Addr()
	if t.Host.IsLocalhost() || t.Host.Zone() != "" || a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() {
		return false
	}
	u, err := p.proxyFunc(&url.URL{Scheme: scheme, Host: t.String()})
	return err == nil && u != nil
}

// List returns the proxies that may be used, at most two. The one for plain
// HTTP comes first.
func (p *Proxies) List() []*Proxy {
	if p == nil {
		return nil
	}
	var list []*Proxy
	for _, proxy := range []*Proxy{p.http, p.https} {
		if proxy != nil {
			list = append(list, proxy)
		}
	}
	return list
}
