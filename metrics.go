// GET /metrics: the counters, for Prometheus.

package networkproxy

import (
	"net/http"
	"runtime"
	"runtime/debug"

	"example.com/networkproxy/internal/adminhttp"
)

func (a admin) metrics(*http.Request) (any, error) {
	s := a.h.status()
	c := s.count
	var m adminhttp.Metrics
	m.Family("networkproxy_requests_total", adminhttp.Counter,
		"Requests by how they ended: each is allowed, refused or failed, once. A UDP flow is a request.")
	for o := range outcomes {
		for p, protocol := range countedProtocols {
			for r, reason := range countedReasons {
				if n := c.requests[o][p][r].Load(); n > 0 || o == outcomeAllowed && r == 0 {
					m.Sample("networkproxy_requests_total", n,
						"protocol", string(protocol), "outcome", o.String(), "reason", string(reason))
				}
			}
		}
	}
	_, blocked := a.h.refusals()
	m.Metric("networkproxy_blocked_total", adminhttp.Counter, "Refusals that were recorded, which those of malformed requests are not.", blocked)

	m.Metric("networkproxy_connections", adminhttp.Gauge, "Connections of clients that are open.", s.clients)
	m.Metric("networkproxy_connections_refused_total", adminhttp.Counter, "Connections of clients beyond the limit.", s.clientsRefused)
	m.Metric("networkproxy_connections_cut_total", adminhttp.Counter,
		"Connections to targets that were cut because a later policy refuses them, or their grant was revoked.", c.cut.Load())
	m.Metric("networkproxy_tunnels", adminhttp.Gauge, "Tunnels that are open.", c.tunnels.Load())
	m.Family("networkproxy_tunnel_bytes_total", adminhttp.Counter, "Bytes that tunnels carried, counted when they end.")
	m.Sample("networkproxy_tunnel_bytes_total", c.bytesSent.Load(), "direction", "sent")
	m.Sample("networkproxy_tunnel_bytes_total", c.bytesReceived.Load(), "direction", "received")
	m.Family("networkproxy_datagrams_dropped_total", adminhttp.Counter, "Datagrams of SOCKS5 clients, or to them, that were not passed on.")
	for cause := range dropCauses {
		m.Sample("networkproxy_datagrams_dropped_total", c.dropped[cause].Load(), "cause", cause.String())
	}

	m.Family("networkproxy_callbacks_dropped_total", adminhttp.Counter,
		"Refusals and log lines that were dropped, because OnBlocked or the log handler did not return in time for them.")
	m.Sample("networkproxy_callbacks_dropped_total", s.droppedRefusals, "callback", "OnBlocked")
	m.Sample("networkproxy_callbacks_dropped_total", s.droppedLogLines, "callback", "log")

	m.Metric("networkproxy_sessions", adminhttp.Gauge, "Sessions that are open.", s.sessions)
	m.Metric("networkproxy_grants", adminhttp.Gauge, "Grants of the decider that are valid, or have connections open.", s.grants)
	m.Metric("networkproxy_questions", adminhttp.Gauge, "Questions that the decider has before it.", s.questions)

	m.Family("networkproxy_reloads_total", adminhttp.Counter, "Reloads of the configuration.")
	m.Sample("networkproxy_reloads_total", c.reloadsOK.Load(), "result", "ok")
	m.Sample("networkproxy_reloads_total", c.reloadsFailed.Load(), "result", "failed")
	m.Metric("networkproxy_policy_generation", adminhttp.Gauge, "Generation of the policy in force: grows with every change.", s.policy.Generation)
	m.Family("networkproxy_build_info", adminhttp.Gauge, "1, with what the proxy was built of.")
	m.Sample("networkproxy_build_info", 1, "version", moduleVersion(), "goversion", runtime.Version())
	return m.Text(), nil
}

// modulePath is this module's own.
const modulePath = "example.com/networkproxy"

// moduleVersion is the version of this module in the running program.
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == modulePath && m.Version != "" {
			return m.Version
		}
	}
	return "unknown"
}
