// Max-Forwards (RFC 9110 section 7.6.2): it limits how many proxies forward a
// TRACE or OPTIONS request. At zero, this proxy responds itself.

package httpproxy

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
)

const maxForwardsHeader = "Max-Forwards"

// errTraceShowsCredentials is the error for a TRACE request through an upstream
// proxy with credentials. The response would contain the request as that proxy,
// or the next one, received it.
var errTraceShowsCredentials = errors.New("TRACE is not sent through an upstream proxy with credentials, because the response could contain them; " +
	"exempt the host in NO_PROXY to trace it directly")

// usesMaxForwards reports whether Max-Forwards applies to a method. Methods are
// case-sensitive, but some upstream proxies ignore case.
func usesMaxForwards(method string) bool {
	return isTrace(method) || strings.EqualFold(method, http.MethodOptions)
}

func isTrace(method string) bool { return strings.EqualFold(method, http.MethodTrace) }

// respondMaxForwards responds to an allowed TRACE or OPTIONS request that must
// not be forwarded any further, and reports whether it did.
func (h *Proxy) respondMaxForwards(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) bool {
	values, ok := r.Header[maxForwardsHeader]
	if !ok {
		return false
	}
	if len(values) != 1 || !isDecimal(values[0]) {
		err := errors.New("Max-Forwards must be one decimal number (RFC 9110 section 7.6.2)")
		h.malformed(w, req.Principal, req.Client, req.Protocol, r.Method, err)
		return true
	}
	if strings.Trim(values[0], "0") != "" {
		return false
	}
	h.gate.Trace(req, v)
	h.gate.Allowed(req)
	if !isTrace(r.Method) {
		w.Header().Set("Content-Length", "0") // RFC 9110 section 9.3.7
		w.WriteHeader(http.StatusOK)
		return true
	}
	body := traceBody(r)
	w.Header().Set("Content-Type", "message/http")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	w.Write(body)
	return true
}

// decrementMaxForwards returns the value of Max-Forwards for the outgoing request,
// or "" if r has none or its method does not use it. respondMaxForwards must have
// accepted the value of r. Values above the largest int32 are treated as that
// value.
func decrementMaxForwards(r *http.Request) string {
	values := r.Header[maxForwardsHeader]
	if len(values) == 0 || !usesMaxForwards(r.Method) {
		return ""
	}
	n, err := strconv.ParseInt(values[0], 10, 32)
	if err != nil {
		n = 1<<31 - 1
	}
	return strconv.FormatInt(n-1, 10)
}

// isDecimal reports whether s consists of digits.
func isDecimal(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// traceBody returns r as message/http, the body of a response to TRACE, without
// the fields that may contain credentials (RFC 9110 section 9.3.8).
func traceBody(r *http.Request) []byte {
	b := append([]byte(nil), r.Method+" "+r.RequestURI+" "+r.Proto+"\r\nHost: "+r.Host+"\r\n"...)
	for _, f := range http1.Fields(r) {
		if !mayBeSecret(f.Name) {
			b = append(b, f.Name+": "+f.Value+"\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// mayBeSecret reports whether a field's name suggests that its value is a
// credential.
func mayBeSecret(name string) bool {
	name = strings.ToLower(name)
	if strings.HasPrefix(name, "proxy-") {
		return true
	}
	for _, part := range [...]string{"auth", "cookie", "credential", "csrf", "jwt", "key", "passw", "secret", "session", "signature", "token", "xsrf"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
