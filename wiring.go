// How the parts of a proxy get their settings.

package networkproxy

import (
	"log/slog"

	"example.com/networkproxy/internal/hostcall"
)

func (s *settings) gateConfig(log *slog.Logger, calls *hostcall.Calls) gateConfig {
	l := &s.limits
	c := gateConfig{
		Decider:           s.decider.ask(),
		DeciderTimeout:    s.deciderTimeout,
		Questions:         l.Questions,
		Resolver:          s.resolver,
		Connect:           s.hooks.connect,
		ConnectUDP:        s.hooks.connectUDP,
		ConnectUnix:       s.hooks.connectUnix,
		Upstreams:         s.upstreams,
		LookupTimeout:     l.LookupTimeout,
		DialTimeout:       l.DialTimeout,
		HandshakeTimeout:  l.HandshakeTimeout,
		TunnelIdle:        l.TunnelIdle,
		TunnelLifetime:    l.TunnelLifetime,
		BlockedKept:       l.BlockedKept,
		LogValueBytes:     l.LogValueBytes,
		LogLinesPerSecond: l.LogLinesPerSecond,
		Observe:           s.observe,
		Log:               log,
		Calls:             calls,
	}
	if onBlocked := s.onBlocked; onBlocked != nil {
		c.OnBlocked = func(r *refusal) { onBlocked(publicRefusal(r)) }
	}
	return c
}

func (s *settings) httpConfig(t *tokens) httpConfig {
	l := &s.limits
	return httpConfig{
		Tokens:              t,
		UnixSockets:         s.hooks.unixSockets,
		HeaderTimeout:       l.HeaderTimeout,
		IdleTimeout:         l.IdleTimeout,
		HeaderBytes:         l.HeaderBytes,
		HeaderFields:        l.HeaderFields,
		ResponseHeaderBytes: l.ResponseHeaderBytes,
		IdleUpstream:        l.IdleUpstream,
	}
}

func (s *settings) socksConfig(t *tokens, udp bool) socksConfig {
	l := &s.limits
	return socksConfig{
		Authenticate:     t.authenticate,
		RequireSession:   s.requireSession,
		UDP:              udp,
		RefusalStands:    s.hooks.refusalStands,
		ProcNet:          s.hooks.procNet,
		HandshakeTimeout: l.HandshakeTimeout,
		UDPFlows:         l.UDPFlows,
		UDPTotalFlows:    l.UDPTotalFlows,
		UDPIdle:          l.UDPIdle,
		TunnelIdle:       l.TunnelIdle,
		TunnelLifetime:   l.TunnelLifetime,
	}
}
