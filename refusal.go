// What a client is told when its request is not carried: the status, the
// header and the body, all from the one Verdict, in words for people.

package networkproxy

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/ipclass"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// errorHeader carries the kind of a refusal for programs.
const errorHeader = "X-Proxy-Error"

// writeRefusal answers a refused HTTP request.
func writeRefusal(w http.ResponseWriter, req *request, v Verdict) {
	a := newProxyResponse(http.StatusForbidden)
	switch {
	case v.check == checkLimit:
		a.status, a.extra = http.StatusServiceUnavailable, http1.Field{Name: "Retry-After", Value: retryAfter}
		a.close = v.Source == SourceProxyState // the connection is the one too many
	case v.Source == SourceProxyState:
		a.status = http.StatusServiceUnavailable
	case v.Source == SourceSession:
		// RFC 9110 section 15.5.8.
		a.status, a.extra = http.StatusProxyAuthRequired, http1.Field{Name: "Proxy-Authenticate", Value: sessionChallenge}
	}
	if v.Source != SourceProxyState {
		a.token = v.errorToken()
	}
	text, n := v.appendExplanation(a.explanation[:0], req)
	a.explanation = text
	a.body = refusalBody{
		Status:   "blocked",
		Host:     req.target.Host.String(),
		Port:     req.target.Port,
		Protocol: req.protocol,
		Method:   req.method,
		Socket:   req.socket.asked,
		Reason:   v.Reason,
		Source:   v.Source,
		Decision: v.decision(),
		Rule:     v.Rule.Pattern,
		Message:  text[:n],
		Hint:     text[n:],
	}
	a.write(w)
}

// writeMalformed answers a request that is not one for a proxy, and ends the
// connection.
func writeMalformed(w http.ResponseWriter, protocol Protocol, method string, err error) {
	a := newProxyResponse(http.StatusBadRequest)
	a.close = true
	a.body = refusalBody{
		Status:   "error",
		Protocol: protocol,
		Method:   method,
		Reason:   ReasonInvalidTarget,
		Message:  prose("networkproxy cannot carry this request: " + err.Error()),
	}
	a.write(w)
}

// writeFailure answers an allowed request whose target was out of reach.
func writeFailure(w http.ResponseWriter, req *request, err error) {
	status, reason := failureStatus(err)
	a := newProxyResponse(status)
	a.body = refusalBody{
		Status:   "error",
		Host:     req.target.Host.String(),
		Port:     req.target.Port,
		Protocol: req.protocol,
		Method:   req.method,
		Socket:   req.socket.asked,
		Reason:   reason,
		Message:  fmt.Appendf(nil, "networkproxy allowed %s but could not reach it: %v", req.appendSubject(nil), err),
	}
	a.write(w)
}

// Failures are not refusals; their reasons tell a client where it failed.
const (
	reasonDNSFailure     Reason = "dns_failure"
	reasonConnectFailure Reason = "connect_failure"
	reasonProxyFailure   Reason = "upstream_proxy_failure" // before the target came into it
	reasonUpstreamError  Reason = "upstream_error"
	reasonInvalidContent Reason = "invalid_content" // of the client's: not framed as it says, or cut short
	reasonTimeout        Reason = "timeout"
)

// failureStatus is 504 where time ran out (RFC 9110 section 15.6.5), else 502.
func failureStatus(err error) (int, Reason) {
	var resolve *pindial.ResolveError
	var connect *pindial.ConnectError
	var content *http1.BodyError
	var proxy *upstream.Error
	var socket *unixsock.Error
	timeout := errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err)
	switch {
	case errors.Is(err, errTraceShowsCredentials):
		return http.StatusNotImplemented, reasonProxyFailure
	case errors.As(err, &content):
		return http.StatusBadRequest, reasonInvalidContent
	case errors.As(err, &proxy) && timeout:
		return http.StatusGatewayTimeout, reasonTimeout
	case proxy != nil:
		return http.StatusBadGateway, reasonProxyFailure
	case errors.As(err, &resolve):
		return http.StatusBadGateway, reasonDNSFailure
	case timeout:
		return http.StatusGatewayTimeout, reasonTimeout
	case errors.As(err, &connect), errors.As(err, &socket):
		return http.StatusBadGateway, reasonConnectFailure
	}
	return http.StatusBadGateway, reasonUpstreamError
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// explain puts a refusal into words: what was refused and why, and what the
// user, not the client, could change. It never suggests a way round.
func (v Verdict) explain(req *request) (message, hint string) {
	text, n := v.appendExplanation(nil, req)
	return string(text[:n]), string(text[n:])
}

// appendExplanation appends the message, whose end is the length returned, and
// the hint, if there is one.
func (v Verdict) appendExplanation(b []byte, req *request) (text []byte, message int) {
	host := req.target.Host.String()
	says := func(format string, args ...any) {
		b = append(req.appendSubject(append(b, "networkproxy blocked "...)), ": "...)
		b = appendFormat(b, format, args...)
		message = len(b)
	}
	advises := func(format string, args ...any) { b = appendFormat(b, format, args...) }
	switch {
	case v.Source == SourceDecider:
		v.explainDecider(host, says, advises)
		return b, message
	case v.Rule.List == sessionDenied:
		says("the application that runs this command denies it (%s).", v.Rule.Pattern)
		return b, message
	}
	switch v.check {
	case checkLimit:
		says("as many clients are connected to the proxy as it serves at a time.")
		advises("Try again in a while, with fewer connections at a time.")
	case checkSession:
		if v.Reason == ReasonSessionRequired {
			says("this listener carries requests of sessions alone, and the request names none.")
			advises("The application that runs this command gives it a proxy URL with the session's token.")
			break
		}
		says("the token in the proxy URL is not that of an open session.")
		advises("The application that runs this command gives it a proxy URL with a token, which is valid until the session ends.")
	case checkEnabled:
		says("the proxy is turned off, and nothing passes while it is.")
		advises("The user can set enabled = true in [network_proxy].")
	case checkOwnListener:
		if host := req.target.Host; !host.IsIP() && !host.IsLocalhost() && !v.Address.IsValid() && req.socket.isZero() {
			says("the proxy itself listens on port %d, and the upstream proxy could resolve the name to this machine.", req.target.Port)
			advises("The user can exempt the host from the upstream proxy in NO_PROXY.")
			break
		}
		says("it is the proxy itself, which is never a target.")
	case checkManaged:
		says("the host is not on the allowlist, and the managed limits of this machine do not let it be allowed.")
		advises("Whoever manages this machine can add it to the allowed_domains of the limits.")
	case checkUnixSocket:
		if v.Rule == (Rule{}) {
			says("no entry of allow_unix_sockets names it.")
			advises("The user can add %q to allow_unix_sockets in [network_proxy.policy]. "+
				"Whoever reaches a service's socket can do what the service can.", req.socket.asked)
			break
		}
		says("its path was changed while it was connected to.")
		advises("Somebody may be trying to have another socket reached. The directories of an allowed socket should be writable for the user alone.")
	case checkUpstream:
		says("its connection went through the upstream proxy, which the configuration no longer allows.")
		advises("Try again: it is reached directly now.")
	case checkDenylist:
		says("the denylist forbids it (%s).", v.Rule.Pattern)
		advises("The denylist wins over every allow. The user can remove %q from denied_domains.", v.Rule.Pattern)
	case checkDeniedAddress:
		says("it resolves to %s, which the denylist forbids (%s).", v.Address, v.Rule.Pattern)
		advises("The denylist wins over every allow. The user can remove %q from denied_domains.", v.Rule.Pattern)
	case checkLocal:
		says("%s is %s.", host, localKind(req))
		advises("If the user wants it reachable: add exactly %q to allowed_domains (wildcards do not cover local addresses), or set allow_local_binding = true.", host)
	case checkAddress:
		says("it resolves to %s, which is not public (%s, %s).", v.Address, ipclass.Of(v.Address).Name(), ipclass.Of(v.Address).Reference())
		advises("Names may lead to local and private networks only when the user sets allow_local_binding = true.")
	case checkServerName:
		v.explainServerName(req.target.Host, says, advises)
	case checkMode:
		if v.Rule.List == sessionMode {
			says("the application runs this command in limited mode, which permits only GET, HEAD and OPTIONS over plain HTTP, not %s.", what(req))
			break
		}
		says("the proxy is in limited mode, which permits only GET, HEAD and OPTIONS over plain HTTP, not %s.", what(req))
		advises(`The user can set mode = "full".`)
	default:
		says("the host is not on the allowlist.")
		b = append(append(b, `The user can add "`...), host...) // a host has nothing to quote
		advises(`" to allowed_domains in [network_proxy.policy].`)
	}
	return b, message
}

// appendFormat is fmt.Appendf for texts that mostly have nothing to fill in.
func appendFormat(b []byte, format string, args ...any) []byte {
	if len(args) == 0 {
		return append(b, format...)
	}
	return fmt.Appendf(b, format, args...)
}

// explainDecider is appendExplanation for a decider that refused or gave no
// answer.
func (v Verdict) explainDecider(host string, says, advises func(string, ...any)) {
	switch {
	case v.Ask:
		says("it needs the user's approval (%s).", v.Reason)
		advises("Approve it in the application that runs this command, then try again.")
	case v.Reason == ReasonDeciderTimeout:
		says("it is not on the allowlist, and the application did not decide in time.")
		advises("Try again when somebody can answer, or add the host to allowed_domains.")
	case v.Reason == ReasonDeciderBusy:
		says("it is not on the allowlist, and the application has too many questions to decide.")
		advises("Try again in a while, with fewer requests at a time.")
	case v.Reason == ReasonGrantRevoked:
		says("its approval was revoked.")
		advises("Approve it again in the application that runs this command, then try again.")
	case v.Reason == ReasonDeciderFailed:
		says("it is not on the allowlist, and the application could not decide.")
		advises("The application's log has the cause.")
	default:
		says("the application that runs this command refused it (%s).", v.Reason)
		advises("To allow it always, the user can add %q to allowed_domains.", host)
	}
}

// explainServerName is appendExplanation for a TLS handshake in a tunnel.
func (v Verdict) explainServerName(host hostname.Host, says, advises func(string, ...any)) {
	switch {
	case v.unreadable != "":
		says("its TLS handshake cannot be checked, for the hello %s.", v.unreadable)
		advises(`Programs that must send such a hello work only when the user sets sni_check = "off".`)
	case v.ServerName == "":
		says("its TLS handshake names no server (SNI), where it must name %q.", host)
		advises(`Have the program send the server name. If it cannot, the user can set sni_check = "off".`)
	case host.IsIP():
		says("its TLS handshake names the server %q, where only the address was allowed.", v.ServerName)
		advises("Have the program give the proxy the name rather than an address it looked up (socks5h://, not socks5://); the user can add %q to allowed_domains.", v.ServerName)
	default:
		says("its TLS handshake names the server %q, where only %q was allowed.", v.ServerName, host)
		advises("A tunnel leads to the host that it was opened for. The user can add %q to allowed_domains, and the program connect to that.", v.ServerName)
	}
}

// localKind says what makes a literal local.
func localKind(req *request) string {
	if !req.target.Host.IsIP() {
		return "this machine"
	}
	class := ipclass.Of(req.target.Host.Addr())
	return fmt.Sprintf("not a public address (%s, %s)", class.Name(), class.Reference())
}

// what names the thing that the limited mode does not permit.
func what(req *request) string {
	switch {
	case req.protocol == ProtocolSOCKS5TCP, req.protocol == ProtocolSOCKS5UDP:
		return "SOCKS"
	case req.upgrade:
		return "an upgrade"
	}
	return req.method
}
