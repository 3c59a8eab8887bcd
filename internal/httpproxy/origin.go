// TLS with origin servers, for the requests that the proxy sends inside it.

package httpproxy

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/mirror"
	"example.com/networkproxy/internal/policy"
)

// dialOrigin connects to the target of a request and performs the TLS handshake. offer
// lists the application protocols to offer; the server must select the first if it
// selects any.
func (h *Proxy) dialOrigin(ctx context.Context, req *gate.Request, v *gate.Ruling, offer []string) (*gate.PooledConn, error) {
	conn, err := h.gate.DialPooled(ctx, req, v, h.gate.Route(h.gate.Policy(), &req.Query))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, h.config.HandshakeTimeout)
	defer cancel()
	origin, err := h.mirror.Dial(ctx, conn.Conn, req.Target.Host, offer)
	if err == nil && len(offer) > 0 && offer[0] == mirror.HTTP2 && origin.ConnectionState().NegotiatedProtocol != mirror.HTTP2 {
		err = errors.New("the server no longer supports HTTP/2")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.Conn = origin
	return conn, nil
}

// clientCertificateError returns err as that of a missing client certificate, if the
// server of conn has asked for one.
func clientCertificateError(conn *gate.PooledConn, err error) error {
	if origin, ok := conn.Conn.(*mirror.OriginConn); ok && origin.ClientCertificate && !errors.As(err, new(*gate.RefusedError)) {
		return &mirror.OriginError{Err: err, ClientCertificate: true}
	}
	return err
}

// certificateRefusal returns the refusal for an error of the TLS handshake with an
// origin server. ok is false if no certificate was the reason.
func certificateRefusal(err error) (v policy.Verdict, ok bool) {
	var origin *mirror.OriginError
	if !errors.As(err, &origin) {
		return v, false
	}
	v = policy.Verdict{Source: policy.SourceBaselinePolicy, Check: policy.CheckCertificate, Problem: certificateProblem(origin)}
	switch {
	case origin.CertificateInvalid():
		v.Reason = policy.ReasonUpstreamCertificate
	case origin.ClientCertificate:
		v.Reason = policy.ReasonClientCertificateRequired
	default:
		return v, false
	}
	return v, true
}

// certificateProblem returns the text of a handshake error without the words that the
// message has already.
func certificateProblem(err *mirror.OriginError) string {
	text := err.Error()
	for _, prefix := range []string{"tls: failed to verify certificate: ", "remote error: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

// alreadyFailed responds to a request in an opened tunnel that has no connection with
// the origin server, and reports whether it did.
func (h *Proxy) alreadyFailed(w http.ResponseWriter, r *http.Request, req *gate.Request) bool {
	o := clientStateOf(r).opened
	if o == nil || o.fault == nil {
		return false
	}
	h.fail(w, r, req, o.fault)
	return true
}
