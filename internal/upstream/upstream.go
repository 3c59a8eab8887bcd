// Package upstream connects to targets through the HTTP proxies of the
// environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY). It parses the
// variables, chooses the proxy for a target, connects to it with or without
// TLS, and requests tunnels (CONNECT, RFC 9110 section 9.3.6).
//
// It sends no HTTP requests other than CONNECT, pools nothing, and knows no
// policy: its caller decides which targets are allowed and whether an upstream
// proxy may be used. A proxy's credentials are sent to that proxy only, and
// appear in no error and no String method.
//
// All types are immutable and all functions safe for concurrent use. The
// package starts no goroutines that outlive a call.
package upstream

import (
	"crypto/tls"
	"fmt"
	"net/http"

	"example.com/networkproxy/internal/hostname"
)

// Proxy is one upstream proxy. It is immutable and safe for concurrent use.
type Proxy struct {
	variable      string // the environment variable, spelled as in the environment
	addr          hostname.Target
	tls           *tls.Config // nil to connect without TLS
	authorization string      // of Proxy-Authorization; empty if none
}

// Addr returns the host and port of the proxy.
func (p *Proxy) Addr() hostname.Target { return p.addr }

// Variable returns the name of the environment variable that names the proxy.
func (p *Proxy) Variable() string { return p.variable }

// Authorization returns the value of the Proxy-Authorization field (RFC 9110
// section 11.7.2) for requests that the proxy forwards, or an empty string if
// the proxy needs none. The value is secret and must be sent to this proxy
// only.
func (p *Proxy) Authorization() string { return p.authorization }

// String returns the proxy's URL without credentials.
func (p *Proxy) String() string {
	scheme := "http"
	if p.tls != nil {
		scheme = "https"
	}
	return scheme + "://" + p.addr.String()
}

// Error is a failure to connect to a proxy or to use it. A failure of the
// target behind the proxy is not an Error.
type Error struct {
	Proxy *Proxy
	Err   error // never nil
}

// Error names the proxy and its variable.
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
