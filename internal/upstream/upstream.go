// Package upstream reaches targets through the HTTP proxies that an
// environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY): it reads
// them, picks the one for a target, connects to it in the clear or over TLS,
// and has it open a tunnel (CONNECT, RFC 9110 section 9.3.6).
//
// The package knows nothing of policy: what may be reached, and whether a
// proxy may be used at all, is for its caller. Credentials of a proxy leave
// only towards that proxy; no error and no String shows them.
package upstream

import (
	"crypto/tls"
	"fmt"
	"net/http"

	"example.com/networkproxy/internal/hostname"
)

// Proxy is one upstream proxy. It does not change; safe for concurrent use.
type Proxy struct {
	variable      string // that named it, as it is spelled in the environment
	addr          hostname.Target
	tls           *tls.Config // nil: the proxy is spoken to in the clear
	authorization string      // of Proxy-Authorization; empty: none
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() hostname.Target { return p.addr }

// Variable is the environment variable that names the proxy.
func (p *Proxy) Variable() string { return p.variable }

// Authorization is the value of the Proxy-Authorization field (RFC 9110
// section 11.7.2) for requests that the proxy forwards; empty where it wants
// none. It is a secret that only this proxy may see.
func (p *Proxy) Authorization() string { return p.authorization }

// String is the proxy's URL without credentials.
func (p *Proxy) String() string {
	scheme := "http"
	if p.tls != nil {
		scheme = "https"
	}
	return scheme + "://" + p.addr.String()
}

// Error is a failure to reach or to use a proxy, not the target behind it.
type Error struct {
	Proxy *Proxy
	Err   error // never nil
}

// Error names the proxy and the variable it comes from.
func (e *Error) Error() string {
	return fmt.Sprintf("upstream proxy %s (%s): %v", e.Proxy, e.Proxy.variable, e.Err)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// StatusError reports a response to CONNECT whose status opens no tunnel.
type StatusError struct{ Status int }

// Error names the status. The text comes from net/http, not from the proxy,
// because it ends up in logs and on terminals.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("response status %d", e.Status)
	if known := http.StatusText(e.Status); known != "" {
		text += " " + known
	}
	if e.Status == http.StatusProxyAuthRequired {
		text += "; give the credentials as user:password@ before the host"
	}
	return text
}

func (p *Proxy) wrapError(err error) *Error { return &Error{Proxy: p, Err: err} }
