// What the tests, which stand outside the package as hosts do, may reach
// into.

package networkproxy

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
)

// SetConnect replaces the kernel's connect, so that public addresses can be
// stood in for by listeners on loopback.
func SetConnect(b *Builder, connect connectFunc) { b.settings.connect = connect }

// ChildEnviron is what Session.Environ comes to, for a proxy of any URL.
func ChildEnviron(base []string, proxy string, local bool, helper []string) []string {
	u, err := url.Parse(proxy)
	if err != nil {
		panic(err)
	}
	c := childEnviron{proxy: u, local: local, helper: helper}
	return c.over(base)
}

// SetRootCAs has a transport of Handle.Transport trust the certificates of
// tests.
func SetRootCAs(rt http.RoundTripper, roots *x509.CertPool) {
	rt.(*transport).from.upstream.TLSClientConfig = &tls.Config{RootCAs: roots}
}
