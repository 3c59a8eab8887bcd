// What a client is told when its request is not carried: the status, the
// header and the body, all from the one Verdict, in words for people.

package networkproxy

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/ipclass"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/upstream"
)

// errorHeader carries the kind of a refusal for programs.
const errorHeader = "X-Proxy-Error"

// writeRefusal answers a refused HTTP request.
func writeRefusal(w http.ResponseWriter, req *request, v Verdict) {
	a := ownAnswer{status: http.StatusForbidden}
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
	message, hint := v.explain(req)
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
		Message:  message,
		Hint:     hint,
	}
	a.write(w)
}

// writeMalformed answers a request that is not one for a proxy, and ends the
// connection.
func writeMalformed(w http.ResponseWriter, protocol Protocol, method string, err error) {
	a := ownAnswer{status: http.StatusBadRequest, close: true, body: refusalBody{
		Status:   "error",
		Protocol: protocol,
		Method:   method,
		Reason:   ReasonInvalidTarget,
		Message:  "networkproxy cannot carry this request: " + err.Error(),
	}}
	a.write(w)
}

// writeFailure answers an allowed request whose target was out of reach.
func writeFailure(w http.ResponseWriter, req *request, err error) {
	status, reason := failureStatus(err)
	a := ownAnswer{status: status, body: refusalBody{
		Status:   "error",
		Host:     req.target.Host.String(),
		Port:     req.target.Port,
		Protocol: req.protocol,
		Method:   req.method,
		Socket:   req.socket.asked,
		Reason:   reason,
		Message:  fmt.Sprintf("networkproxy allowed %s but could not reach it: %v", req.subject(), err),
	}}
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
	var content *http1.ContentError
	var proxy *upstream.Error
	var socket *socketError
	timeout := errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err)
	switch {
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
	host := req.target.Host.String()
	says := func(format string, args ...any) string {
		if len(args) > 0 {
			format = fmt.Sprintf(format, args...)
		}
		return "networkproxy blocked " + req.subject() + ": " + format
	}
	if v.Source == SourceDecider {
		switch {
		case v.Ask:
			return says("it needs the user's approval (%s).", v.Reason),
				"Approve it in the application that runs this command, then try again."
		case v.Reason == ReasonDeciderTimeout:
			return says("it is not on the allowlist, and the application did not decide in time."),
				"Try again when somebody can answer, or add the host to allowed_domains."
		case v.Reason == ReasonDeciderBusy:
			return says("it is not on the allowlist, and the application has too many questions to decide."),
				"Try again in a while, with fewer requests at a time."
		case v.Reason == ReasonGrantRevoked:
			return says("its approval was revoked."),
				"Approve it again in the application that runs this command, then try again."
		case v.Reason == ReasonDeciderFailed:
			return says("it is not on the allowlist, and the application could not decide."),
				"The application's log has the cause."
		}
		return says("the application that runs this command refused it (%s).", v.Reason),
			fmt.Sprintf("To allow it always, the user can add %q to allowed_domains.", host)
	}
	if v.Rule.List == sessionDenied {
		return says("the application that runs this command denies it (%s).", v.Rule.Pattern), ""
	}
	switch v.check {
	case checkLimit:
		return says("as many clients are connected to the proxy as it serves at a time."),
			"Try again in a while, with fewer connections at a time."
	case checkSession:
		if v.Reason == ReasonSessionRequired {
			return says("this listener carries requests of sessions alone, and the request names none."),
				"The application that runs this command gives it a proxy URL with the session's token."
		}
		return says("the token in the proxy URL is not that of an open session."),
			"The application that runs this command gives it a proxy URL with a token, which is valid until the session ends."
	case checkEnabled:
		return says("the proxy is turned off, and nothing passes while it is."),
			"The user can set enabled = true in [network_proxy]."
	case checkOwnListener:
		return says("it is the proxy itself, which is never a target."), ""
	case checkUnixSocket:
		if p := req.socket.asked; v.Rule == (Rule{}) {
			return says("no entry of allow_unix_sockets names it."),
				fmt.Sprintf("The user can add %q to allow_unix_sockets in [network_proxy.policy]. "+
					"Whoever reaches a service's socket can do what the service can.", p)
		}
		return says("its path was changed while it was connected to."),
			"Somebody may be trying to have another socket reached. The directories of an allowed socket should be writable for the user alone."
	case checkUpstream:
		return says("its connection went through the upstream proxy, which the configuration no longer allows."),
			"Try again: it is reached directly now."
	case checkDenylist:
		return says("the denylist forbids it (%s).", v.Rule.Pattern),
			fmt.Sprintf("The denylist wins over every allow. The user can remove %q from denied_domains.", v.Rule.Pattern)
	case checkDeniedAddress:
		return says("it resolves to %s, which the denylist forbids (%s).", v.Address, v.Rule.Pattern),
			fmt.Sprintf("The denylist wins over every allow. The user can remove %q from denied_domains.", v.Rule.Pattern)
	case checkLocal:
		return says("%s is %s.", host, localKind(req)),
			fmt.Sprintf("If the user wants it reachable: add exactly %q to allowed_domains (wildcards do not cover local addresses), or set allow_local_binding = true.", host)
	case checkAddress:
		return says("it resolves to %s, which is not public (%s, %s).", v.Address, ipclass.Of(v.Address).Name(), ipclass.Of(v.Address).Reference()),
			"Names may lead to local and private networks only when the user sets allow_local_binding = true."
	case checkServerName:
		return v.explainServerName(req, says)
	case checkMode:
		if v.Rule.List == sessionMode {
			return says("the application runs this command in limited mode, which permits only GET, HEAD and OPTIONS over plain HTTP, not %s.", what(req)), ""
		}
		return says("the proxy is in limited mode, which permits only GET, HEAD and OPTIONS over plain HTTP, not %s.", what(req)),
			`The user can set mode = "full".`
	}
	return says("the host is not on the allowlist."),
		`The user can add "` + host + `" to allowed_domains in [network_proxy.policy].` // a host has nothing to quote
}

// explainServerName is explain for a TLS handshake in a tunnel.
func (v Verdict) explainServerName(req *request, says func(string, ...any) string) (message, hint string) {
	host := req.target.Host
	switch {
	case v.unreadable != "":
		return says("its TLS handshake cannot be checked, for the hello %s.", v.unreadable),
			`Programs that must send such a hello work only when the user sets sni_check = "off".`
	case v.ServerName == "":
		return says("its TLS handshake names no server (SNI), where it must name %q.", host),
			`Have the program send the server name. If it cannot, the user can set sni_check = "off".`
	case host.IsIP():
		return says("its TLS handshake names the server %q, where only the address was allowed.", v.ServerName),
			fmt.Sprintf("Have the program give the proxy the name rather than an address it looked up (socks5h://, not socks5://); the user can add %q to allowed_domains.", v.ServerName)
	}
	return says("its TLS handshake names the server %q, where only %q was allowed.", v.ServerName, host),
		fmt.Sprintf("A tunnel leads to the host that it was opened for. The user can add %q to allowed_domains, and the program connect to that.", v.ServerName)
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
