// The responses to requests that are refused, malformed or failed. Status,
// header and body of a refusal all follow from its policy.Verdict.

package httpproxy

import (
	"errors"
	"fmt"
	"net/http"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/policy"
)

// ErrorHeader is the response header that tells programs the kind of a refusal.
const ErrorHeader = "X-Proxy-Error"

// writeRefusal responds to a refused request.
func writeRefusal(w http.ResponseWriter, req *gate.Request, v policy.Verdict) {
	resp := newProxyResponse(http.StatusForbidden)
	switch {
	case v.Check == policy.CheckLimit:
		resp.status, resp.extra = http.StatusServiceUnavailable, http1.Field{Name: "Retry-After", Value: retryAfter}
		resp.close = v.Source == policy.SourceProxyState // the limit of connections, not a busy decider
	case v.Reason == policy.ReasonHostMismatch:
		resp.status = http.StatusMisdirectedRequest
	case v.Reason == policy.ReasonInvalidTarget:
		resp.status = http.StatusBadRequest // a path with two readings
	case v.Check == policy.CheckCertificate:
		resp.status, resp.close = http.StatusBadGateway, true
	case v.Check == policy.CheckInspection && v.Reason == policy.ReasonMethodNotAllowed:
		resp.status, resp.extra = http.StatusMethodNotAllowed, http1.Field{Name: "Allow", Value: "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"}
	case v.Source == policy.SourceProxyState:
		resp.status = http.StatusServiceUnavailable
	case v.Source == policy.SourceSession:
		// RFC 9110 section 15.5.8.
		resp.status, resp.extra = http.StatusProxyAuthRequired, http1.Field{Name: "Proxy-Authenticate", Value: gate.SessionChallenge}
	}
	if v.Source != policy.SourceProxyState && v.Check != policy.CheckCertificate && v.Reason != policy.ReasonInvalidTarget {
		resp.token = v.ErrorToken()
	}
	text, n := v.AppendExplanation(resp.explanation[:0], &req.Query)
	resp.explanation = text
	resp.body = refusalBody{
		Status:   "blocked",
		Host:     req.Target.Host.String(),
		Port:     req.Target.Port,
		Protocol: req.Protocol,
		Method:   req.Method,
		Socket:   req.Socket.Asked,
		Reason:   v.Reason,
		Source:   v.Source,
		Decision: v.Decision(),
		Rule:     v.Pattern(),
		Message:  text[:n],
		Hint:     text[n:],
	}
	resp.plain = req.HTTP != nil && httprule.IsGit(req.HTTP)
	resp.write(w)
}

// MalformedMessage returns the message about a malformed request.
func MalformedMessage(err error) string { return http1.MalformedMessage(err) }

// writeMalformed responds to a malformed request, and to one that is not meant
// for a proxy, with 400. It closes the connection.
func writeMalformed(w http.ResponseWriter, protocol policy.Protocol, method string, err error) {
	resp := newProxyResponse(http.StatusBadRequest)
	resp.close = true
	resp.body = refusalBody{
		Status:   "error",
		Protocol: protocol,
		Method:   method,
		Reason:   policy.ReasonInvalidTarget,
		Message:  jsonText(MalformedMessage(err)),
	}
	resp.write(w)
}

// writeFailure responds to an allowed request that failed.
func writeFailure(w http.ResponseWriter, req *gate.Request, err error) {
	status, reason := failureStatus(err)
	resp := newProxyResponse(status)
	resp.body = refusalBody{
		Status:   "error",
		Host:     req.Target.Host.String(),
		Port:     req.Target.Port,
		Protocol: req.Protocol,
		Method:   req.Method,
		Socket:   req.Socket.Asked,
		Reason:   reason,
		Message:  fmt.Appendf(nil, "networkproxy allowed %s but could not reach it: %v", req.AppendSubject(nil), err),
	}
	resp.write(w)
}

// failureStatus returns the status and the reason for the error of an allowed
// request: 504 for a timeout (RFC 9110 section 15.6.5), and 502 for most others.
func failureStatus(err error) (int, policy.Reason) {
	var body *http1.BodyError
	switch {
	case errors.Is(err, errTraceShowsCredentials):
		return http.StatusNotImplemented, policy.ReasonProxyFailure
	case errors.As(err, &body):
		return http.StatusBadRequest, policy.ReasonInvalidContent
	}
	reason := gate.FailureReason(err)
	if reason == policy.ReasonTimeout {
		return http.StatusGatewayTimeout, reason
	}
	return http.StatusBadGateway, reason
}
