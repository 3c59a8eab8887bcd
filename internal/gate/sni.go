// One name, one place: a TLS client in a tunnel must ask for the name that the
// tunnel was allowed for. Servers that hold many names behind one address go by
// the name in the ClientHello (SNI, RFC 6066 section 3), so that without this
// check "allowed.example" would open every site that shares its address.
//
// The check is made wherever TLS begins in a tunnel of CONNECT, SOCKS5 or an HTTP
// Upgrade, on any port. The host's own connections (Handle.DialContext) are not
// checked: the host is trusted, and says itself what its TLS asks for. Neither are
// unix sockets, which have no name. The verdicts:
//
//	the name that was allowed       passes; case and a trailing dot do not matter
//	another name                    cut
//	no name, target is a name       cut: the server would choose, and some choose by
//	                                what is said later, out of sight (domain fronting)
//	no name, target has no dot      passes: Java sends no name for "localhost" and
//	                                other names of one label
//	no name, target is an address   passes; so does the same address in text, which
//	                                RFC 6066 forbids and some clients send
//	a name, target is an address    cut: the address was allowed, the name was not
//	a hello in several segments     the same as in one: it is held back until it is
//	or records                      complete, for Limits.HandshakeTimeout at most. What may
//	                                be of SSL 2.0 goes on until 11 bytes tell
//	GREASE (RFC 8701)               skipped
//	Encrypted Client Hello          judged by its outer name. The inner one is out of
//	(RFC 9849)                      sight, and can lead to whatever the allowed server
//	                                serves. Refusing the extension would shut browsers
//	                                out: they send it to every server, and made to
//	                                look like a real one when there is nothing in it.
//	a second hello                  judged like the first: after a HelloRetryRequest
//	                                servers go by the name in it
//	too long, malformed, of SSL 2   cut: a server might read in it what we do not
//	not TLS                         passes at once; so TLS that begins inside another
//	                                protocol (STARTTLS) is not looked at
//	UDP (QUIC, DTLS)                not looked at

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

// nameCheck holds one tunnel to its name, and counts its request as soon as it is
// known how it ended. It is the tunnel's inspector: answer is for the goroutine
// that calls Observe, and all else for the one that relays.
type nameCheck struct {
	gate    *Gate
	req     *Request
	policy  *policy.Policy // in force when the tunnel was opened
	settled bool           // the request is counted

	// A silent tunnel has neither of these, and one that goes on has let go of
	// them again.
	hellos *clienthello.Scanner       // nil before the client's first byte, and once it has passed
	answer *clienthello.ServerScanner // nil before the server's first byte, and once it has told all

	negotiated atomic.Bool // the server has sent its ServerHello
}

// applies reports whether there may be a name to check.
func (c *nameCheck) applies() bool {
	return c.policy.CheckSNI && c.req.Socket.IsZero()
}

// Observe implements [tunnel.Inspector].
func (c *nameCheck) Observe(sent []byte) bool {
	if c.answer == nil {
		c.answer = new(clienthello.ServerScanner)
	}
	more := c.answer.Scan(sent)
	if c.answer.Negotiated() {
		c.negotiated.Store(true)
	}
	if !more {
		c.answer = nil // it is not called again, and a tunnel may last
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
				return c.refuse(policy.Verdict{Unreadable: "does not end within " + c.gate.config.HandshakeTimeout.String()})
			case rest == tunnel.SourceEOF && event == clienthello.Undecided: // too little to be TLS
				return tunnel.Inspection{Decision: tunnel.PassAll}
			case rest == tunnel.SourceEOF || len(held) >= tunnel.MaxHeld:
				return c.refuse(policy.Verdict{Unreadable: "is not complete"})
			}
			return tunnel.Inspection{}
		case clienthello.Done:
			c.allowed()
			return tunnel.Inspection{Decision: tunnel.PassAll}
		}
	}
}

// names reports whether a server name is that of a host. Addresses and names
// without a dot may come without one.
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

// allowed counts the request as one that reached its target, unless it is counted
// already.
func (c *nameCheck) allowed() {
	if !c.settled {
		c.settled = true
		c.gate.Allowed(c.req)
	}
}

func (c *nameCheck) unreadable(err error) tunnel.Inspection {
	v := policy.Verdict{Unreadable: err.Error()}
	if e := (*clienthello.Error)(nil); errors.As(err, &e) {
		v.Unreadable = e.Problem
	}
	return c.refuse(v)
}

// refuse keeps account of the refusal and ends the tunnel. The client, which is
// past the point where it can be told in words, gets an alert.
func (c *nameCheck) refuse(v policy.Verdict) tunnel.Inspection {
	v.Reason, v.Source, v.Generation, v.Check = policy.ReasonSNIMismatch, policy.SourceBaselinePolicy, c.policy.Generation, policy.CheckServerName
	c.settled = true
	c.gate.Refused(c.req, v)
	if c.gate.LogLimiter.Allow(&c.req.Principal.Owner) {
		message, hint := v.Explain(&c.req.Query)
		c.gate.Log.Warn("tunnel cut", "message", message, "hint", hint, "client", c.req.Client)
	}
	return tunnel.Inspection{Decision: tunnel.Refuse, Reply: accessDenied(c.hellos.Hello().Version)}
}

// accessDenied is the alert by which a TLS client of some version learns that its
// handshake was refused (RFC 8446 section 6.2). Of unrecognized_name it would
// conclude that the server has no such site.
func accessDenied(version uint16) []byte {
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
