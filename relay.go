package networkproxy

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

// relay is the one place where bytes of a tunnel flow, whatever protocol
// opened it.
func (e *enforcer) relay(client, target net.Conn, req *request, opts tunnel.Options) {
	check := &nameCheck{gate: e, req: req, policy: req.policy}
	defer check.allowed() // whatever ended it, if not a refusal
	if check.applies() {
		opts.Inspect, opts.HoldTimeout = check, e.config.HandshakeTimeout
	} else {
		check.allowed()
	}
	e.count.tunnels.Add(1)
	defer e.count.tunnels.Add(-1)
	if e.logsTunnels() {
		e.logOpened(req)
	}
	opts.IdleTimeout, opts.Lifetime = e.config.TunnelIdle, e.config.TunnelLifetime
	result := tunnel.Relay(client, target, opts)
	e.count.bytesSent.Add(uint64(result.Sent))
	e.count.bytesReceived.Add(uint64(result.Received))
	if e.logsTunnels() {
		e.logClosed(req, &result)
	}
}

func (e *enforcer) logsTunnels() bool { return e.log.Enabled(context.Background(), slog.LevelDebug) }

// logOpened and logClosed are apart from relay, on whose stack a tunnel waits:
// what they need there is more than all the rest.

func (e *enforcer) logOpened(req *request) {
	e.bounded.Debug("tunnel open", "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.client)
}

func (e *enforcer) logClosed(req *request, result *tunnel.Result) {
	e.bounded.Debug("tunnel closed", "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.client,
		"sent", result.Sent, "received", result.Received, "cause", result.Cause.String())
}

// overLimit is the verdict on a request that came by a connection too many.
func (e *enforcer) overLimit() policy.Verdict {
	return policy.Verdict{
		Reason:     ReasonTooManyConnections,
		Source:     SourceProxyState,
		Generation: e.installed().Generation,
		Check:      policy.CheckLimit,
	}
}

// logText returns the text of an error for the log: without secrets, bounded,
// and without control bytes.
func (e *enforcer) logText(err error) string {
	return policy.CleanText(withoutSecrets(err).Error(), e.config.LogValueBytes)
}

// withoutSecrets returns err without the text of a target that is none, where
// that may hold a user name and password or a piece of a query.
func withoutSecrets(err error) error {
	if bad := (*hostname.Error)(nil); errors.As(err, &bad) && strings.ContainsAny(bad.Text, "@?/#&=%;\\") {
		return errors.New("invalid host: " + bad.Problem)
	}
	return err
}
