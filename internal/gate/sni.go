// The server name check: a TLS client in a tunnel must request the name that the
// tunnel was allowed for. Servers with many names on one address select the site by
// the name in the ClientHello (SNI, RFC 6066 section 3). Without this check,
// "allowed.example" would open every site on the same address.
//
// The check applies to TLS at the start of a tunnel of CONNECT, SOCKS5 or an HTTP
// Upgrade, on any port. The host's connections (Handle.DialContext) are not checked,
// because the host is trusted. Unix sockets have no name to check. The verdicts:
//
//	the name that was allowed       passes; case and a trailing dot are ignored
//	another name                    cut
//	no name, target is a name       cut: the server would choose the site, and some use
//	                                the encrypted Host field (domain fronting)
//	no name, target has no dot      passes: Java sends no name for "localhost" and
//	                                other single-label names
//	no name, target is an address   passes; so does the same address in text, which
//	                                RFC 6066 forbids and some clients send
//	a name, target is an address    cut: the address was allowed, the name was not
//	a hello in several segments     judged when complete; held until then, for at most
//	or records                      Limits.HandshakeTimeout. A possible SSL 2.0 hello is
//	                                held until 11 bytes decide
//	GREASE (RFC 8701)               skipped
//	Encrypted Client Hello          judged by its outer name. The inner name is
//	(RFC 9849)                      encrypted and may be any that the allowed server
//	                                serves. Refusing the extension would block browsers,
//	                                which send it to every server, with random content
//	                                if they have no key (GREASE)
//	a second hello                  judged like the first, because servers use its name
//	                                after a HelloRetryRequest
//	too long, malformed, of SSL 2   cut: a server might read it differently
//	not TLS                         passes at once, so TLS that begins inside another
//	                                protocol (STARTTLS) is not checked
//	UDP (QUIC, DTLS)                not checked

package gate

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"

	"example.com/networkproxy/internal/clienthello"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tunnel"
)

// nameCheck checks the server names of one tunnel, and counts its request as soon as
// the outcome is known. It is the tunnel's inspector. The field server belongs to the
// goroutine that calls Observe, negotiated to both, and all others to the goroutine
// that calls Inspect.
type nameCheck struct {
	gate    *Gate
	req     *Request
	policy  *policy.Policy // in force when the tunnel was opened
	settled bool           // the request is counted

	// Scanners exist only while they are needed, because a tunnel may last long.
	hellos *clienthello.Scanner       // nil before the client's first byte and after PassAll
	server *clienthello.ServerScanner // nil before the server's first byte and after its last result

	negotiated atomic.Bool // the server has sent its ServerHello
}

// applies reports whether the tunnel's server names are checked.
func (c *nameCheck) applies() bool {
	return c.policy.CheckSNI && c.req.Socket.IsZero()
}

// Observe implements [tunnel.Inspector].
func (c *nameCheck) Observe(sent []byte) bool {
	if c.server == nil {
		c.server = new(clienthello.ServerScanner)
	}
	more := c.server.Scan(sent)
	if c.server.Negotiated() {
		c.negotiated.Store(true)
	}
	if !more {
		c.server = nil // Observe is not called again
	}
	return more
}

// Inspect implements [tunnel.Inspector].
func (c *nameCheck) Inspect(held []byte, rest tunnel.SourceState) tunnel.Inspection {
	if c.hellos == nil {
		c.hellos = new(clienthello.Scanner)
	}
	in := c.inspect(held, rest)
	if in.Decision == tunnel.PassAll {
		c.hellos = nil
	}
	return in
}

// inspect returns the decision about the bytes held so far.
func (c *nameCheck) inspect(held []byte, rest tunnel.SourceState) tunnel.Inspection {
	c.hellos.Negotiated = c.negotiated.Load()
	for {
		event, err := c.hellos.Scan(held)
		if err != nil {
			return c.unreadable(err)
		}
		switch event {
		case clienthello.Found:
			hello := c.hellos.Hello()
			c.gate.ClientLog.Debug("client hello", "host", c.req.Target.Host.String(), "port", c.req.Target.Port,
				"server_name", hello.ServerName, "ech", hello.ECH, "client", c.req.Client)
			if !names(hello.ServerName, c.req.Target.Host) {
				return c.refuse(policy.Verdict{ServerName: hello.ServerName})
			}
		case clienthello.Consumed:
			return tunnel.Inspection{Decision: tunnel.PassHeld}
		case clienthello.Undecided, clienthello.Partial:
			switch {
			case rest == tunnel.HoldExpired:
				return c.refuse(policy.Verdict{Problem: "does not end within " + c.gate.config.HandshakeTimeout.String()})
			case rest == tunnel.SourceEOF && event == clienthello.Undecided: // too little to be TLS
				return tunnel.Inspection{Decision: tunnel.PassAll}
			case rest == tunnel.SourceEOF || len(held) >= tunnel.MaxHeld:
				return c.refuse(policy.Verdict{Problem: "is not complete"})
			}
			return tunnel.Inspection{}
		case clienthello.Done:
			c.allowed()
			return tunnel.Inspection{Decision: tunnel.PassAll}
		}
	}
}

// names reports whether a server name identifies a host. The server name may be empty
// if the host is an address or has no dot.
func names(serverName string, host hostname.Host) bool {
	if !host.IsIP() {
		if serverName == "" {
			return !strings.Contains(host.String(), ".")
		}
		named, err := hostname.Parse(serverName)
		return err == nil && named == host
	}
	addr, err := netip.ParseAddr(serverName)
	return serverName == "" || err == nil && addr.Zone() == "" && hostname.FromAddr(addr).Addr() == host.Addr()
}

// allowed counts the request as allowed unless it is counted already.
func (c *nameCheck) allowed() {
	if !c.settled {
		c.settled = true
		c.gate.Allowed(c.req)
	}
}

// unreadable refuses a ClientHello that could not be parsed.
func (c *nameCheck) unreadable(err error) tunnel.Inspection {
	v := policy.Verdict{Problem: err.Error()}
	if e := (*clienthello.Error)(nil); errors.As(err, &e) {
		v.Problem = e.Problem
	}
	return c.refuse(v)
}

// refuse accounts for the refusal and ends the tunnel. The client gets a TLS alert,
// because the tunnel can carry no explanation.
func (c *nameCheck) refuse(v policy.Verdict) tunnel.Inspection {
	v.Reason, v.Source, v.Generation, v.Check = policy.ReasonSNIMismatch, policy.SourceBaselinePolicy, c.policy.Generation, policy.CheckServerName
	c.settled = true
	c.gate.Refused(c.req, v)
	if c.gate.LogLimiter.Allow(&c.req.Principal.Owner) {
		message, hint := v.Explain(&c.req.Query)
		c.gate.Log.Warn("tunnel cut", "message", message, "hint", hint, "client", c.req.Client)
	}
	return tunnel.Inspection{Decision: tunnel.Refuse, Reply: AccessDenied(c.hellos.Hello().Version)}
}

// AccessDenied returns the access_denied alert (RFC 8446 section 6.2) for a client of
// a TLS version; 0 means that the version is unknown. The alert unrecognized_name would say that the server has no such
// site.
func AccessDenied(version uint16) []byte {
	const (
		alert  = 21
		fatal  = 2
		denied = 49
	)
	if version == 0 || version > 0x0303 { // RFC 8446 section 5.1
		version = 0x0303
	}
	return []byte{alert, byte(version >> 8), byte(version), 0, 2, fatal, denied}
}
