// Max-Forwards (RFC 9110 section 7.6.2): how far TRACE and OPTIONS requests
// may be forwarded, and the responses of the proxy at the end of the way.

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

// errTraceShowsCredentials refuses a TRACE request through an upstream proxy
// that gets credentials: the response holds the request as that proxy, or one
// behind it, received it.
var errTraceShowsCredentials = errors.New("TRACE is not sent through an upstream proxy with credentials, because the response could show them; " +
	"exempt the host in NO_PROXY to trace it directly")

// usesMaxForwards reports whether Max-Forwards applies to a method. Methods are
// case-sensitive, but not to every proxy behind this one.
func usesMaxForwards(method string) bool {
	return isTrace(method) || strings.EqualFold(method, http.MethodOptions)
}

func isTrace(method string) bool { return strings.EqualFold(method, http.MethodTrace) }

// respondMaxForwards responds to an allowed TRACE or OPTIONS request that must
// not be forwarded any further, and reports whether it did.
func (h *Proxy) respondMaxForwards(w http.ResponseWriter, r *http.Request, req *gate.Request) bool {
	values, ok := r.Header[maxForwardsHeader]
	if !ok {
		return false
	}
	if len(values) != 1 || !isDecimal(values[0]) {
		err := errors.New("the Max-Forwards field is not one number (RFC 9110 section 7.6.2)")
		h.gate.Malformed(req.Client, req.Protocol, err)
		writeMalformed(w, req.Protocol, r.Method, err)
		return true
	}
	if strings.Trim(values[0], "0") != "" {
		return false
	}
	h.gate.Count.Allow(req.Protocol)
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

// decrementMaxForwards returns the Max-Forwards value of a request on its way out,
// whose own value respondMaxForwards has accepted. It is empty if the request
// has none. Larger numbers than an int32 become the largest one.
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

// traceBody returns a request as message/http for the response to TRACE, without
// the fields that may hold credentials (RFC 9110 section 9.3.8).
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
