// Tunnels, and the text of errors in the log.

package gate

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tunnel"
)

// Relay copies the bytes of a tunnel in both directions until it ends. Tunnels of all
// protocols come here. It checks server names and counts the request as allowed
// unless it refuses the tunnel.
func (g *Gate) Relay(client, target net.Conn, req *Request, opts tunnel.Options) {
	g.Opened(req)
	check := &nameCheck{gate: g, req: req, policy: req.policy}
	if check.applies() {
		opts.Inspect, opts.HoldTimeout = check, g.config.HandshakeTimeout
	} else {
		check.allowed()
	}
	g.Counters.Tunnels.Add(1)
	defer g.Counters.Tunnels.Add(-1)
	if g.logsTunnels() {
		g.logOpened(req)
	}
	opts.IdleTimeout, opts.Lifetime = g.config.TunnelIdle, g.config.TunnelLifetime
	result := tunnel.Relay(client, target, opts)
	g.Counters.BytesSent.Add(uint64(result.Sent))
	g.Counters.BytesReceived.Add(uint64(result.Received))
	check.allowed() // before the event of the end; without effect after a refusal
	g.Ended(req, result.Sent, result.Received)
	if g.logsTunnels() {
		g.logClosed(req, &result)
	}
}

func (g *Gate) logsTunnels() bool { return g.Log.Enabled(context.Background(), slog.LevelDebug) }

// logOpened and logClosed are separate functions because they need more stack than
// the rest of Relay, whose stack lives as long as the tunnel.

func (g *Gate) logOpened(req *Request) {
	g.ClientLog.Debug("tunnel open", "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.Client)
}

func (g *Gate) logClosed(req *Request, result *tunnel.Result) {
	g.ClientLog.Debug("tunnel closed", "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.Client,
		"sent", result.Sent, "received", result.Received, "cause", result.Cause.String())
}

// OverLimit returns the refusal for a request on a connection over the limit.
func (g *Gate) OverLimit() policy.Verdict {
	return policy.Verdict{
		Reason:     policy.ReasonTooManyConnections,
		Source:     policy.SourceProxyState,
		Generation: g.Policy().Generation,
		Check:      policy.CheckLimit,
	}
}

// ErrorText returns the text of an error for the log, without secrets and control
// bytes, and of limited length.
func (g *Gate) ErrorText(err error) string {
	return policy.CleanText(RedactError(err).Error(), g.config.LogValueBytes)
}

// RedactError returns err without the text of an invalid host if that text may contain
// a user name, a password or a part of a query.
func RedactError(err error) error {
	if bad := (*hostname.Error)(nil); errors.As(err, &bad) && strings.ContainsAny(bad.Text, "@?/#&=%;\\") {
		return errors.New("invalid host: " + bad.Problem)
	}
	return err
}
