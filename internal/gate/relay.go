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
func (e *Gate) Relay(client, target net.Conn, req *Request, opts tunnel.Options) {
	check := &nameCheck{gate: e, req: req, policy: req.policy}
	defer check.allowed() // whatever ended it, if not a refusal
	if check.applies() {
		opts.Inspect, opts.HoldTimeout = check, e.config.HandshakeTimeout
	} else {
		check.allowed()
	}
	e.Count.Tunnels.Add(1)
	defer e.Count.Tunnels.Add(-1)
	if e.logsTunnels() {
		e.logOpened(req)
	}
	opts.IdleTimeout, opts.Lifetime = e.config.TunnelIdle, e.config.TunnelLifetime
	result := tunnel.Relay(client, target, opts)
	e.Count.BytesSent.Add(uint64(result.Sent))
	e.Count.BytesReceived.Add(uint64(result.Received))
	if e.logsTunnels() {
		e.logClosed(req, &result)
	}
}

func (e *Gate) logsTunnels() bool { return e.Log.Enabled(context.Background(), slog.LevelDebug) }

// logOpened and logClosed are apart from relay, on whose stack a tunnel waits:
// what they need there is more than all the rest.

func (e *Gate) logOpened(req *Request) {
	e.ClientLog.Debug("tunnel open", "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.Client)
}

func (e *Gate) logClosed(req *Request, result *tunnel.Result) {
	e.ClientLog.Debug("tunnel closed", "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.Client,
		"sent", result.Sent, "received", result.Received, "cause", result.Cause.String())
}

// OverLimit is the verdict on a request that came by a connection too many.
func (e *Gate) OverLimit() policy.Verdict {
	return policy.Verdict{
		Reason:     policy.ReasonTooManyConnections,
		Source:     policy.SourceProxyState,
		Generation: e.Policy().Generation,
		Check:      policy.CheckLimit,
	}
}

// LogText returns the text of an error for the log: without secrets, bounded,
// and without control bytes.
func (e *Gate) LogText(err error) string {
	return policy.CleanText(WithoutSecrets(err).Error(), e.config.LogValueBytes)
}

// WithoutSecrets returns err without the text of a target that is none, where
// that may hold a user name and password or a piece of a query.
func WithoutSecrets(err error) error {
	if bad := (*hostname.Error)(nil); errors.As(err, &bad) && strings.ContainsAny(bad.Text, "@?/#&=%;\\") {
		return errors.New("invalid host: " + bad.Problem)
	}
	return err
}
