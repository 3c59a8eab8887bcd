// GET /metrics: the counters in the text format of Prometheus, version 0.0.4,
// written by hand, since a client library would bring more modules into every
// host than the proxy itself has.

package networkproxy

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
)

// metricsType is the Content-Type of the format.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// exposition is a text in the format, as it grows.
type exposition struct{ strings.Builder }

// family begins a metric.
func (x *exposition) family(name, kind, help string) {
	fmt.Fprintf(x, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample is one line; labels are names and values in turn.
func (x *exposition) sample(name string, value any, labels ...string) {
	x.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		x.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(x, `%s="%s"`, labels[i], escapeLabel(labels[i+1]))
	}
	if len(labels) > 0 {
		x.WriteByte('}')
	}
	fmt.Fprintf(x, " %d\n", value)
}

// metric is a family of one sample.
func (x *exposition) metric(name, kind, help string, value any) {
	x.family(name, kind, help)
	x.sample(name, value)
}

func escapeLabel(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
}

func (a *adminServer) metrics(*http.Request) (any, error) {
	return text{metricsType, a.h.metrics()}, nil
}

// metrics writes down every metric.
func (h *Handle) metrics() string {
	const counter, gauge = "counter", "gauge"
	e, x := h.enforcer, new(exposition)
	c := &e.count

	x.family("networkproxy_requests_total", counter,
		"Requests by how they ended: each is allowed, refused or failed, once. A UDP flow is a request.")
	for o := range outcomes {
		for p, protocol := range countedProtocols {
			for r, reason := range countedReasons {
				if n := c.requests[o][p][r].Load(); n > 0 || o == outcomeAllowed && r == 0 {
					x.sample("networkproxy_requests_total", n,
						"protocol", string(protocol), "outcome", o.String(), "reason", string(reason))
				}
			}
		}
	}
	_, blocked := e.blocked.list()
	x.metric("networkproxy_blocked_total", counter, "Refusals that were recorded, which those of malformed requests are not.", blocked)

	x.metric("networkproxy_connections", gauge, "Connections of clients that are open.", h.live.Len())
	x.metric("networkproxy_connections_refused_total", counter, "Connections of clients beyond the limit.", h.live.Refused())
	x.metric("networkproxy_connections_cut_total", counter,
		"Connections to targets that were cut because a later policy refuses them, or their grant was revoked.", c.cut.Load())
	x.metric("networkproxy_tunnels", gauge, "Tunnels that are open.", c.tunnels.Load())
	x.family("networkproxy_tunnel_bytes_total", counter, "Bytes that tunnels carried, counted when they end.")
	x.sample("networkproxy_tunnel_bytes_total", c.bytesSent.Load(), "direction", "sent")
	x.sample("networkproxy_tunnel_bytes_total", c.bytesReceived.Load(), "direction", "received")
	x.family("networkproxy_datagrams_dropped_total", counter, "Datagrams of SOCKS5 clients, or to them, that were not passed on.")
	for cause := range dropCauses {
		x.sample("networkproxy_datagrams_dropped_total", c.dropped[cause].Load(), "cause", cause.String())
	}

	x.family("networkproxy_callbacks_dropped_total", counter,
		"Refusals and log lines that were dropped, because OnBlocked or the log handler did not return in time for them.")
	x.sample("networkproxy_callbacks_dropped_total", e.observer.Lost(), "callback", "OnBlocked")
	x.sample("networkproxy_callbacks_dropped_total", h.logQueue.Lost(), "callback", "log")

	x.metric("networkproxy_sessions", gauge, "Sessions that are open.", h.sessions.len())
	x.metric("networkproxy_grants", gauge, "Grants of the decider that are valid, or have connections open.", len(h.Grants()))
	x.metric("networkproxy_questions", gauge, "Questions that the decider has before it.", e.asker.len())

	x.family("networkproxy_reloads_total", counter, "Reloads of the configuration.")
	x.sample("networkproxy_reloads_total", c.reloadsOK.Load(), "result", "ok")
	x.sample("networkproxy_reloads_total", c.reloadsFailed.Load(), "result", "failed")
	x.metric("networkproxy_policy_generation", gauge, "Generation of the policy in force: grows with every change.", e.current.Load().generation)
	x.family("networkproxy_build_info", gauge, "1, with what the proxy was built of.")
	x.sample("networkproxy_build_info", 1, "version", moduleVersion(), "goversion", runtime.Version())
	return x.String()
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
