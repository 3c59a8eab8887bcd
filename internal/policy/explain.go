package policy

import (
	"cmp"
	"fmt"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/ipclass"
)

// MessagePrefix begins the message of every refusal. The target follows.
const MessagePrefix = "networkproxy blocked "

// AppendSubject appends the target of a request, as messages name it.
func (q *Query) AppendSubject(b []byte) []byte {
	if !q.Socket.IsZero() {
		return append(append(b, "the unix socket "...), q.Socket.Asked...)
	}
	if q.Target.Port == 0 { // a lookup
		return append(b, q.Target.Host.String()...)
	}
	return q.Target.AppendTo(b)
}

// Explain returns the texts of a refusal. message names the target and the
// reason. hint names the change that the user, not the client, could make, and
// may be empty. Neither suggests a way around the policy.
func (v *Verdict) Explain(q *Query) (message, hint string) {
	text, n := v.AppendExplanation(nil, q)
	return string(text[:n]), string(text[n:])
}

// AppendExplanation is like [Verdict.Explain] but appends both texts to b. The
// hint is text[message:].
func (v *Verdict) AppendExplanation(b []byte, q *Query) (text []byte, message int) {
	e := explanation{b: b, q: q}
	switch {
	case v.Source == SourceDecider:
		e.decider(v)
	case v.Entry.Found() && v.Entry.set.List == SessionDenied:
		e.writeMessage("the application that runs this command denies it (%s).", v.Pattern())
	default:
		e.check(v)
	}
	return e.b, e.message
}

// explanation builds the texts of one refusal. It does not hold the verdict,
// because the verdict would then escape to the heap with the text.
type explanation struct {
	b       []byte
	message int // the index in b at which the message ends
	q       *Query
}

// writeMessage appends the message.
func (e *explanation) writeMessage(format string, args ...any) {
	e.b = append(e.q.AppendSubject(append(e.b, MessagePrefix...)), ": "...)
	e.b = appendFormat(e.b, format, args...)
	e.message = len(e.b)
}

// writeHint appends to the hint. Call it after writeMessage.
func (e *explanation) writeHint(format string, args ...any) { e.b = appendFormat(e.b, format, args...) }

// appendFormat is like fmt.Appendf, but fast for texts without arguments.
func appendFormat(b []byte, format string, args ...any) []byte {
	if len(args) == 0 {
		return append(b, format...)
	}
	return fmt.Appendf(b, format, args...)
}

// check explains the refusal of a built-in check.
func (e *explanation) check(v *Verdict) {
	q := e.q
	switch v.Check {
	case CheckLimit:
		e.writeMessage("too many connections.")
		e.writeHint("Try again in a while, with fewer connections at a time.")
	case CheckSession:
		if v.Reason == ReasonSessionRequired {
			e.writeMessage("this listener serves only requests with a session's token, and this request has none.")
			e.writeHint("The application that runs this command gives it a proxy URL with the session's token.")
			break
		}
		e.writeMessage("the token in the proxy URL does not belong to an open session.")
		e.writeHint("The application that runs this command gives it a proxy URL with a token, which is valid until the session ends.")
	case CheckEnabled:
		e.writeMessage("the proxy is turned off and refuses all requests.")
		e.writeHint("The user can set enabled = true in [network_proxy].")
	case CheckOwnListener:
		if host := q.Target.Host; !host.IsIP() && !host.IsLocalhost() && !v.Address.IsValid() && q.Socket.IsZero() {
			e.writeMessage("the proxy itself listens on port %d, and the upstream proxy could resolve the name to this machine.", q.Target.Port)
			e.writeHint("The user can exempt the host from the upstream proxy in NO_PROXY.")
			break
		}
		e.writeMessage("it is the proxy itself, which is never a target.")
	case CheckManaged:
		e.writeMessage("the host is not on the allowlist, and the managed limits of this machine do not permit it.")
		e.writeHint("The administrator of this machine can add it to the allowed_domains of the limits.")
	case CheckUnixSocket:
		e.unixSocket(v)
	case CheckUpstream:
		e.writeMessage("its connection went through the upstream proxy, which the configuration no longer allows.")
		e.writeHint("Try again: new requests go directly.")
	case CheckDenylist:
		e.writeMessage("the denylist forbids it (%s).", v.Pattern())
		e.writeHint("The denylist wins over every allow. The user can remove %q from denied_domains.", v.Pattern())
	case CheckDeniedAddress:
		e.writeMessage("it resolves to %s, which the denylist forbids (%s).", v.Address, v.Pattern())
		e.writeHint("The denylist wins over every allow. The user can remove %q from denied_domains.", v.Pattern())
	case CheckLocal:
		host := q.Target.Host.String()
		e.writeMessage("%s is %s.", host, localKind(q.Target.Host))
		e.writeHint("To make it reachable, the user can add exactly %q to allowed_domains (wildcards do not cover local addresses), "+
			"or set allow_local_binding = true.", host)
	case CheckAddress:
		class := ipclass.Of(v.Address)
		e.writeMessage("it resolves to %s, which is not public (%s, %s).", v.Address, class.Name(), class.Reference())
		e.writeHint("Names may lead to local and private networks only when the user sets allow_local_binding = true.")
	case CheckServerName:
		if v.Reason == ReasonHostMismatch {
			e.writeMessage("its request names the host %q, but its connection was opened for %q.", v.ServerName, q.Target.Host)
			e.writeHint("A connection leads to the host that it was opened for. The user can add %q to allowed_domains, "+
				"and the program can connect to that.", v.ServerName)
			break
		}
		e.serverName(v)
	case CheckMode:
		e.mode(v)
	case CheckInspection:
		e.inspection(v)
	case CheckHooks, CheckContent:
		e.rules(v)
	case CheckCertificate:
		e.certificate(v)
	case CheckCredential:
		e.writeMessage("%s.", v.Problem)
		e.writeHint("A placeholder is exchanged only in the fields and for the URLs of its provider in credential_providers.")
	default:
		e.writeMessage("the host is not on the allowlist.")
		e.b = append(append(e.b, `The user can add "`...), q.Target.Host.String()...) // a host needs no quoting
		e.writeHint(`" to allowed_domains in [network_proxy.policy].`)
	}
}

func (e *explanation) unixSocket(v *Verdict) {
	if !v.Entry.Found() {
		e.writeMessage("no entry of allow_unix_sockets names it.")
		e.writeHint("The user can add %q to allow_unix_sockets in [network_proxy.policy]. "+
			"A client that reaches a service's socket can do what the service can.", e.q.Socket.Asked)
		return
	}
	e.writeMessage("its path was changed while the proxy connected to it.")
	e.writeHint("This may be an attempt to reach another socket. The directories of an allowed socket should be writable for the user alone.")
}

// decider explains the refusal of a decider, or its failure to answer.
func (e *explanation) decider(v *Verdict) {
	switch {
	case v.Ask:
		e.writeMessage("it needs the user's approval (%s).", v.Reason)
		e.writeHint("Approve it in the application that runs this command, then try again.")
	case !v.OwnReason:
		e.writeMessage("the application that runs this command refused it (%s).", v.Reason)
		e.writeHint("To allow it always, the user can add %q to allowed_domains.", e.q.Target.Host)
	case v.Reason == ReasonDeciderTimeout:
		e.writeMessage("it is not on the allowlist, and the application did not decide in time.")
		e.writeHint("Try again when somebody can answer, or add the host to allowed_domains.")
	case v.Reason == ReasonDeciderBusy:
		e.writeMessage("it is not on the allowlist, and the application has too many questions to decide.")
		e.writeHint("Try again in a while, with fewer requests at a time.")
	case v.Reason == ReasonGrantRevoked:
		e.writeMessage("its approval was revoked.")
		e.writeHint("Approve it again in the application that runs this command, then try again.")
	case v.Reason == ReasonCanceled:
		e.writeMessage("it is not on the allowlist, and the request ended before the application decided.")
		e.writeHint("Try again with more time for an answer.")
	default:
		e.writeMessage("it is not on the allowlist, and the application could not decide.")
		e.writeHint("The application's log has the cause.")
	}
}

// serverName explains the refusal of a TLS handshake in a tunnel.
func (e *explanation) serverName(v *Verdict) {
	host := e.q.Target.Host
	switch {
	case v.Problem != "":
		e.writeMessage("its TLS handshake cannot be checked, because the hello %s.", v.Problem)
		e.writeHint(`Programs that must send such a hello work only when the user sets sni_check = "off".`)
	case v.ServerName == "":
		e.writeMessage("its TLS handshake names no server (SNI); it must name %q.", host)
		e.writeHint(`Have the program send the server name. If it cannot, the user can set sni_check = "off".`)
	case host.IsIP():
		e.writeMessage("its TLS handshake names the server %q, but only the address was allowed.", v.ServerName)
		e.writeHint("Have the program give the proxy the name rather than an address that it looked up (socks5h://, not socks5://); "+
			"the user can add %q to allowed_domains.", v.ServerName)
	default:
		e.writeMessage("its TLS handshake names the server %q, but only %q was allowed.", v.ServerName, host)
		e.writeHint("A tunnel leads to the host that it was opened for. The user can add %q to allowed_domains, "+
			"and the program can connect to that.", v.ServerName)
	}
}

// limitedPermits says what limited mode permits.
const limitedPermits = "which permits only reads (GET, HEAD, OPTIONS and git fetch)"

// mode explains the refusal of a mode.
func (e *explanation) mode(v *Verdict) {
	q := e.q
	who := "the proxy is"
	if v.SessionMode != "" {
		who = "the application runs this command"
	}
	if v.Reason == ReasonMITMRequired {
		e.writeMessage("%s in limited mode, and mitm_exempt_domains (%s) keeps the proxy from seeing the requests inside TLS.", who, v.Pattern())
		e.writeHint("The user can remove the entry from mitm_exempt_domains.")
		return
	}
	e.writeMessage("%s in limited mode, %s, not %s.", who, limitedPermits, cmp.Or(v.Problem, action(q)))
	switch {
	case q.CanOpen:
		e.writeHint(`The user can set mitm = true, so that the proxy can see the requests inside TLS, or mode = "full".`)
	case v.SessionMode == "":
		e.writeHint(`The user can set mode = "full".`)
	}
}

// inspection explains the refusal of a connection whose requests the policy must
// see, and cannot.
func (e *explanation) inspection(v *Verdict) {
	switch {
	case v.Reason == ReasonMethodNotAllowed:
		e.writeMessage("a request inside TLS cannot have the method %s.", action(e.q))
		e.writeHint("CONNECT opens no tunnel inside a tunnel, and a response to TRACE would repeat the request.")
	case v.Problem == problemLimits:
		e.writeMessage("the policy must see the requests to it, and cannot, because %s.", v.Problem)
		e.writeHint("The limits forbid mitm, or require a rule for a host in mitm_exempt_domains. The log and /health say what to change.")
	case v.Problem != "":
		e.writeMessage("the policy must see the requests to it, but %s.", v.Problem)
		e.writeHint("The user can add %q to mitm_exempt_domains if its connections need not be seen.", e.q.Target.Host)
	case e.q.Protocol.IsUDP():
		e.writeMessage("the policy must see the requests to it, and cannot see those in datagrams (HTTP/3).")
		e.writeHint("Clients use HTTP/2 or HTTP/1.1 in its place.")
	default:
		e.writeMessage("the policy must see the requests to it, and this connection is not opened.")
		e.writeHint("The connection was opened under an earlier policy, or belongs to the application itself. Try again.")
	}
}

// rules explains the refusal of a request by the request rules of its host.
func (e *explanation) rules(v *Verdict) {
	switch {
	case v.Check == CheckContent:
		e.writeMessage("its body was checked: %s.", v.Problem)
		e.writeHint("The policy permits the requests with which git and Git LFS read, and no others of the same form.")
	case v.Problem != "":
		e.writeMessage("the path of the request has two readings: %s.", v.Problem)
		e.writeHint("Request rules apply to this host, so servers and proxy must read its paths in the same way.")
	case v.Entry.Found() && !v.Unmatched:
		e.writeMessage("a request rule denies %s (%s).", action(e.q), v.Pattern())
		e.writeHint("A rule with deny = true wins over every other. The user can change the rule in mitm_hooks.")
	default:
		e.writeMessage("no request rule of this host permits %s of this path.", action(e.q))
		e.writeHint("A host with request rules accepts only what one of them permits (such as %s). The user can add a rule to mitm_hooks.", v.Pattern())
	}
}

// certificate explains why TLS with the origin server or the client failed.
func (e *explanation) certificate(v *Verdict) {
	host := e.q.Target.Host
	switch v.Reason {
	case ReasonClientCertificateRequired:
		e.writeMessage("the server asks for a client certificate, which the proxy does not have (%s).", v.Problem)
		e.writeHint("The user can add %q to mitm_exempt_domains, so that the client itself talks to the server.", host)
	case ReasonCertificateDistrusted:
		e.writeMessage("the client does not seem to trust the proxy's certificate: %s.", v.Problem)
		e.writeHint("Have the program trust the certificate that GET /ca.pem of the admin API returns. If it cannot, the user can add %q to mitm_exempt_domains.", host)
	default:
		e.writeMessage("the certificate of the server is not valid: %s.", v.Problem)
		e.writeHint("The proxy verifies certificates as the client would, and sends nothing to a server that fails.")
	}
}

// localKind returns the reason why a literal is local, for messages.
func localKind(h hostname.Host) string {
	if !h.IsIP() {
		return "this machine"
	}
	class := ipclass.Of(h.Addr())
	return fmt.Sprintf("not a public address (%s, %s)", class.Name(), class.Reference())
}

// action names the part of a request that the limited mode does not permit.
func action(q *Query) string {
	switch {
	case q.Protocol == ProtocolSOCKS5TCP, q.Protocol == ProtocolSOCKS5UDP:
		return "SOCKS"
	case q.Protocol == ProtocolCapturedTCP && q.Method == "":
		return "other TCP connections"
	case q.Protocol == ProtocolCapturedUDP:
		return "UDP"
	case q.Upgrade:
		return "an upgrade"
	}
	return q.Method
}
