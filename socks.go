// The SOCKS5 front of a proxy. internal/socksproxy serves it.

package networkproxy

import (
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/socksproxy"
)

// socksConfig returns the settings of the SOCKS5 front. udp turns UDP ASSOCIATE
// on.
func (s *settings) socksConfig(t *gate.Tokens, udp bool, http *httpproxy.Proxy) socksproxy.Config {
	l := &s.limits
	return socksproxy.Config{
		Authenticate:     t.Authenticate,
		Open:             http.ServeOpened,
		RequireSession:   s.requireSession,
		UDP:              udp,
		RefusalTTL:       s.hooks.refusalTTL,
		ProcNet:          s.hooks.procNet,
		HandshakeTimeout: l.HandshakeTimeout,
		UDPFlows:         l.UDPFlows,
		UDPTotalFlows:    l.UDPTotalFlows,
		UDPIdle:          l.UDPIdle,
		TunnelIdle:       l.TunnelIdle,
		TunnelLifetime:   l.TunnelLifetime,
	}
}
