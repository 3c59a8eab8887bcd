// Upstream proxies of the environment.

package networkproxy

// checkUpstreams reports an environment that cannot be used, to a
// configuration that wants it used.
func (s *settings) checkUpstreams(src *sourcedConfig) error {
	if s.upstreamFault == nil || !src.Config.AllowUpstreamProxy {
		return nil
	}
	return &ConfigError{
		Position: src.position(keyAllowUpstreamProxy),
		Key:      keyAllowUpstreamProxy,
		Value:    "true",
		Problem:  "the environment variable " + s.upstreamFault.Error(),
		Err:      s.upstreamFault,
	}
}

// logRoute tells which way requests leave.
func (h *Handle) logRoute() {
	if !h.enforcer.installed().Upstream {
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
