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

// Relay is the one place where bytes of a tunnel flow, whatever protocol
// opened it.
func (g *Gate) Relay(client, target net.Conn, req *Request, opts tunnel.Options) {
	check := &nameCheck{gate: g, req: req, policy: req.policy}
	defer check.allowed() // whatever ended it, if not a refusal
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
	if g.logsTunnels() {
		g.logClosed(req, &result)
	}
}

func (g *Gate) logsTunnels() bool { return g.Log.Enabled(context.Background(), slog.LevelDebug) }

// logOpened and logClosed are apart from relay, on whose stack a tunnel waits:
// what they need there is more than all the rest.

func (g *Gate) logOpened(req *Request) {
	g.ClientLog.Debug("tunnel open", "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.Client)
}

func (g *Gate) logClosed(req *Request, result *tunnel.Result) {
	g.ClientLog.Debug("tunnel closed", "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.Client,
		"sent", result.Sent, "received", result.Received, "cause", result.Cause.String())
}

// OverLimit is the verdict on a request that came by a connection too many.
func (g *Gate) OverLimit() policy.Verdict {
	return policy.Verdict{
		Reason:     policy.ReasonTooManyConnections,
		Source:     policy.SourceProxyState,
		Generation: g.Policy().Generation,
		Check:      policy.CheckLimit,
	}
}

// LogText returns the text of an error for the log: without secrets, bounded,
// and without control bytes.
func (g *Gate) LogText(err error) string {
	return policy.CleanText(RedactError(err).Error(), g.config.LogValueBytes)
}

// RedactError returns err without the text of a target that is none, where
// that may hold a user name and password or a piece of a query.
func RedactError(err error) error {
	if bad := (*hostname.Error)(nil); errors.As(err, &bad) && strings.ContainsAny(bad.Text, "@?/#&=%;\\") {
		return errors.New("invalid host: " + bad.Problem)
	}
	return err
}
