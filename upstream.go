// Upstream proxies of the environment.

package networkproxy

// logRoute tells which way requests leave.
func (h *Handle) logRoute() {
	if !h.gate.Policy().Upstream {
		h.log.Info("requests leave directly; what went through an upstream proxy is cut")
		return
	}
	proxies := h.settings.upstreams.List()
	if len(proxies) == 0 {
		h.log.Warn("allow_upstream_proxy is true and the environment names no proxy: requests leave directly")
	}
	for _, p := range proxies {
		h.log.Info("requests leave through an upstream proxy", "proxy", p.String(), "variable", p.Variable())
	}
}
