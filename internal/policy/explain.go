package policy

import (
	"fmt"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/ipclass"
)

// AppendSubject appends the target of a request, as messages name it.
func (q *Query) AppendSubject(b []byte) []byte {
	if !q.Socket.IsZero() {
		return append(append(b, "the unix socket "...), q.Socket.Asked...)
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
	e.b = append(e.q.AppendSubject(append(e.b, "networkproxy blocked "...)), ": "...)
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
		e.writeMessage("the proxy is turned off, and nothing passes while it is.")
		e.writeHint("The user can set enabled = true in [network_proxy].")
	case CheckOwnListener:
		if host := q.Target.Host; !host.IsIP() && !host.IsLocalhost() && !v.Address.IsValid() && q.Socket.IsZero() {
			e.writeMessage("the proxy itself listens on port %d, and the upstream proxy could resolve the name to this machine.", q.Target.Port)
			e.writeHint("The user can exempt the host from the upstream proxy in NO_PROXY.")
			break
		}
		e.writeMessage("it is the proxy itself, which is never a target.")
	case CheckManaged:
		e.writeMessage("the host is not on the allowlist, and the managed limits of this machine do not let it be allowed.")
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
		e.serverName(v)
	case CheckMode:
		if v.SessionMode != "" {
			e.writeMessage("the application runs this command in limited mode, which permits only GET, HEAD and OPTIONS over plain HTTP, not %s.", action(q))
			break
		}
		e.writeMessage("the proxy is in limited mode, which permits only GET, HEAD and OPTIONS over plain HTTP, not %s.", action(q))
		e.writeHint(`The user can set mode = "full".`)
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
	e.writeMessage("its path was changed while it was connected to.")
	e.writeHint("This may be an attempt to reach another socket. The directories of an allowed socket should be writable for the user alone.")
}

// decider explains the refusal of a decider, or its failure to answer.
func (e *explanation) decider(v *Verdict) {
	switch {
	case v.Ask:
		e.writeMessage("it needs the user's approval (%s).", v.Reason)
		e.writeHint("Approve it in the application that runs this command, then try again.")
	case v.Reason == ReasonDeciderTimeout:
		e.writeMessage("it is not on the allowlist, and the application did not decide in time.")
		e.writeHint("Try again when somebody can answer, or add the host to allowed_domains.")
	case v.Reason == ReasonDeciderBusy:
		e.writeMessage("it is not on the allowlist, and the application has too many questions to decide.")
		e.writeHint("Try again in a while, with fewer requests at a time.")
	case v.Reason == ReasonGrantRevoked:
		e.writeMessage("its approval was revoked.")
		e.writeHint("Approve it again in the application that runs this command, then try again.")
	case v.Reason == ReasonDeciderFailed:
		e.writeMessage("it is not on the allowlist, and the application could not decide.")
		e.writeHint("The application's log has the cause.")
	default:
		e.writeMessage("the application that runs this command refused it (%s).", v.Reason)
		e.writeHint("To allow it always, the user can add %q to allowed_domains.", e.q.Target.Host)
	}
}

// serverName explains the refusal of a TLS handshake in a tunnel.
func (e *explanation) serverName(v *Verdict) {
	host := e.q.Target.Host
	switch {
	case v.Unreadable != "":
		e.writeMessage("its TLS handshake cannot be checked, because the hello %s.", v.Unreadable)
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
	case q.Upgrade:
		return "an upgrade"
	}
	return q.Method
}
