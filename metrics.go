// GET /metrics: the counters, for Prometheus.

package networkproxy

import (
	"runtime"
	"runtime/debug"

	"example.com/networkproxy/internal/adminhttp"
	"example.com/networkproxy/internal/audit"
)

// metrics returns all metrics.
func (h *Handle) metrics() adminhttp.Text {
	s := h.status()
	c := s.count
	var m adminhttp.Metrics
	m.Family("networkproxy_requests_total", adminhttp.Counter,
		"Requests by outcome. Each request ends once: allowed, refused or failed. A UDP flow is a request.")
	for o := range audit.Outcomes {
		for p, protocol := range audit.Protocols {
			for r, reason := range audit.Reasons {
				if n := c.Requests[o][p][r].Load(); n > 0 || o == audit.Allowed && r == 0 {
					m.Sample("networkproxy_requests_total", n,
						"protocol", string(protocol), "outcome", o.String(), "reason", string(reason))
				}
			}
		}
	}
	_, blocked := h.refusals()
	m.Metric("networkproxy_blocked_total", adminhttp.Counter, "Recorded refusals. Malformed requests are not recorded.", blocked)

	m.Metric("networkproxy_connections", adminhttp.Gauge, "Open connections of clients.", s.clients)
	m.Metric("networkproxy_connections_refused_total", adminhttp.Counter, "Connections of clients that were refused because of the limit.", s.clientsRefused)
	m.Metric("networkproxy_connections_cut_total", adminhttp.Counter,
		"Connections to targets that were cut, because a later policy refuses them or their grant was revoked.", c.Cut.Load())
	m.Metric("networkproxy_tunnels", adminhttp.Gauge, "Open tunnels.", c.Tunnels.Load())
	m.Family("networkproxy_tunnel_bytes_total", adminhttp.Counter, "Bytes that tunnels relayed, counted when they end.")
	m.Sample("networkproxy_tunnel_bytes_total", c.BytesSent.Load(), "direction", "sent")
	m.Sample("networkproxy_tunnel_bytes_total", c.BytesReceived.Load(), "direction", "received")
	m.Family("networkproxy_datagrams_dropped_total", adminhttp.Counter, "Datagrams from and to SOCKS5 clients that were dropped.")
	for cause := range audit.DropCauses {
		m.Sample("networkproxy_datagrams_dropped_total", c.Dropped[cause].Load(), "cause", cause.String())
	}

	m.Family("networkproxy_callbacks_dropped_total", adminhttp.Counter,
		"Refusals and log lines that were dropped because OnBlocked or the log handler did not return in time.")
	m.Sample("networkproxy_callbacks_dropped_total", s.droppedRefusals, "callback", "OnBlocked")
	m.Sample("networkproxy_callbacks_dropped_total", s.droppedLogLines, "callback", "log")

	m.Metric("networkproxy_sessions", adminhttp.Gauge, "Open sessions.", s.sessions)
	m.Metric("networkproxy_grants", adminhttp.Gauge, "Grants that are valid or have open connections.", s.grants)
	m.Metric("networkproxy_questions", adminhttp.Gauge, "Questions that wait for the decider.", s.questions)

	m.Family("networkproxy_reloads_total", adminhttp.Counter, "Reloads of the configuration.")
	m.Sample("networkproxy_reloads_total", c.ReloadsOK.Load(), "result", "ok")
	m.Sample("networkproxy_reloads_total", c.ReloadsFailed.Load(), "result", "failed")
	m.Metric("networkproxy_policy_generation", adminhttp.Gauge, "Generation of the policy in force. Each change increases it.", s.policy.Generation)
	m.Family("networkproxy_build_info", adminhttp.Gauge, "Always 1. The labels are the versions that the proxy was built from.")
	m.Sample("networkproxy_build_info", 1, "version", moduleVersion(), "goversion", runtime.Version())
	return m.Text()
}

// modulePath is the path of this module.
const modulePath = "example.com/networkproxy"

// moduleVersion returns the version of this module in the running program, or
// "unknown".
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
