// How the parts of a proxy get their settings.

package networkproxy

import (
	"log/slog"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/socksproxy"
)

func (s *settings) gateConfig(log *slog.Logger, calls *hostcall.Calls) gate.Config {
	l := &s.limits
	c := gate.Config{
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
		c.OnBlocked = func(r *audit.Refusal) { onBlocked(publicRefusal(r)) }
	}
	return c
}

func (s *settings) httpConfig(t *gate.Tokens) httpproxy.Config {
	l := &s.limits
	return httpproxy.Config{
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

func (s *settings) socksConfig(t *gate.Tokens, udp bool) socksproxy.Config {
	l := &s.limits
	return socksproxy.Config{
		Authenticate:     t.Authenticate,
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
