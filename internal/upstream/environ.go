// Reading the environment, and picking the proxy for a target.

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

// Proxies are those that one environment names. The zero value, and nil, name
// none. They do not change; safe for concurrent use.
type Proxies struct {
	http, https *Proxy // nil: none
	proxyFunc   func(*url.URL) (*url.URL, error)
}

// FromEnviron reads an environment in the form of os.Environ. HTTP_PROXY is
// for plain HTTP, HTTPS_PROXY for everything else, and ALL_PROXY for what of
// the two is not set; a lower-case name goes before the upper-case one, and an
// empty value is none. A proxy is [http://|https://][user:password@]host[:port];
// the port is 80, or 443 for https. NO_PROXY is as in
// golang.org/x/net/http/httpproxy.
//
// TLS to a proxy is verified against roots; nil means those of the system.
//
// An error joins everything that is wrong. It names variables and never
// their values, in which there may be a password.
func FromEnviron(env []string, roots *x509.CertPool) (*Proxies, error) {
	vars := make(map[string]string)
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			vars[name] = value // as with exec.Cmd, the last one counts
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
			// A CGI program's HTTP_PROXY is the Proxy header of whoever asks.
			problem = "may come from a client, as this is a CGI program (REQUEST_METHOD is set): use http_proxy in lower case"
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
		errs = errs[:1] // ALL_PROXY, twice
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	var config httpproxy.Config
	_, config.NoProxy = first("no_proxy", "NO_PROXY")
	// Only whether a proxy is used is of interest below: which one that is is
	// known, and this way no credentials are copied.
	if proxies.http != nil {
		config.HTTPProxy = proxies.http.String()
	}
	if proxies.https != nil {
		config.HTTPSProxy = proxies.https.String()
	}
	proxies.proxyFunc = config.ProxyFunc()
	return proxies, nil
}

// parse reads the value of a variable, and says what is wrong with it without
// showing any of it: what looks like a host or a port may be part of a
// password with an unescaped character.
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

	const escape = "; a character such as @ : / ? # or % in a user name or password is written as % and two hexadecimal digits"
	u, err := url.Parse(value)
	if err != nil {
		return nil, "is not a URL like http://host:port" + escape
	}
	host := u.Host
	if strings.HasPrefix(host, "[") {
		host = strings.Replace(host, "%", "%25", 1) // net/url has undone the escape that introduces a zone
	}
	if p.addr, err = hostname.ParseTargetDefault(host, defaultPort); err != nil || strings.HasSuffix(host, ":") {
		return nil, "has a host or port that cannot be read: write http://host:port" + escape
	}
	if p.tls != nil {
		p.tls.ServerName = p.addr.Host.String()
		if p.addr.Host.IsIP() {
			p.tls.ServerName = p.addr.Host.Addr().String() // no certificate names a zone
		}
	}
	if u.User == nil {
		return p, ""
	}
	user := u.User.Username()
	password, _ := u.User.Password()
	if strings.Contains(user, ":") || hasControl(user) || hasControl(password) {
		return nil, "has a user name with a colon, or control characters in it, which Basic credentials cannot carry (RFC 7617 section 2)"
	}
	if user != "" || password != "" {
		p.authorization = BasicAuth(user, password)
	}
	return p, ""
}

// BasicAuth returns the value of an Authorization or Proxy-Authorization field
// (RFC 7617 section 2). The user must not contain a colon.
func BasicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// ForHTTP returns the proxy for plain ForHTTP to t; nil where it is reached directly.
func (p *Proxies) ForHTTP(t hostname.Target) *Proxy {
	if p == nil || p.http == nil || !p.useProxy("http", t) {
		return nil
	}
	return p.http
}

// ForTunnel returns the proxy for everything else to t; nil where it is reached
// directly.
func (p *Proxies) ForTunnel(t hostname.Target) *Proxy {
	if p == nil || p.https == nil || !p.useProxy("https", t) {
		return nil
	}
	return p.https
}

// use reports whether a proxy is used for t. What means this machine or its
// own link means another one at the proxy, so that is always direct: loopback
// (RFC 6761 section 6.3, RFC 1122 section 3.2.1.3), the unspecified address
// (the same section) and link-local ones (RFC 3927 section 7, RFC 4291 section
// 2.5.6).
func (p *Proxies) useProxy(scheme string, t hostname.Target) bool {
	a := t.Host.Addr()
	if t.Host.IsLocalhost() || t.Host.Zone() != "" || a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() {
		return false
	}
	u, err := p.proxyFunc(&url.URL{Scheme: scheme, Host: t.String()})
	return err == nil && u != nil
}

// List returns the proxies that may be used: none, one or two, that for plain
// HTTP first.
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
