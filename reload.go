// Changing the policy of a running proxy: reload and mode. A change is made
// whole or not at all, and every request sees one whole policy.

package networkproxy

import (
	"context"
	"fmt"
)

// runtimeMode is a mode set at run time. It stands until the configuration's
// own mode changes from what it was then.
type runtimeMode struct {
	mode Mode // empty: none is set
	over Mode // the configuration's mode when it was set
}

// effective is the mode in force over a configuration that says configured.
func (r runtimeMode) effective(configured Mode) Mode {
	if r.mode != "" && r.over == configured {
		return r.mode
	}
	return configured
}

// Config returns the configuration in force, without what was changed at run
// time: see [Handle.Mode]. The caller owns the copy.
func (h *Handle) Config() Config {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.loaded.Config.clone()
}

// Mode returns the mode in force.
func (h *Handle) Mode() Mode { return h.enforcer.current.Load().mode }

// SetMode changes the mode until the configuration's own mode changes or the
// proxy ends. Open tunnels that the new mode forbids are cut. The managed
// limits apply.
func (h *Handle) SetMode(m Mode) error {
	if _, err := ParseMode(string(m)); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.alive(); err != nil {
		return err
	}
	if err := h.loaded.limits.checkMode(m); err != nil {
		return err
	}
	h.mode = runtimeMode{mode: m, over: h.loaded.Config.Mode}
	cut := h.install(h.loaded)
	h.log.Info("mode set", "mode", string(m), "connections_cut", cut)
	return nil
}

// Reload reads the configuration again and puts it in force, whole. On an
// error nothing changes: the last good policy stays in force. Open
// connections that the new policy refuses are cut. Keys that need a restart
// are logged and take effect then; everything else applies now.
func (h *Handle) Reload(ctx context.Context) error {
	_, err := h.reload(ctx)
	return err
}

// reloaded says what a reload did.
type reloaded struct {
	Generation uint64   `json:"generation"`
	Cut        int      `json:"connections_cut"`
	Restart    []string `json:"restart_required,omitempty"` // keys that changed and wait for a restart
	Warnings   []string `json:"warnings,omitempty"`         // what was asked for and did not take effect
}

func (h *Handle) reload(ctx context.Context) (reloaded, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.alive(); err != nil {
		return reloaded{}, err
	}
	next, err := h.settings.loadConfig(context.WithValue(ctx, hostCallsKey{}, h.calls))
	if h.fault = err; err != nil {
		h.enforcer.count.reloads[1].Add(1)
		h.log.Error("reload failed; the last good configuration stays in force", "error", err)
		return reloaded{}, fmt.Errorf("networkproxy: reload failed, the last good configuration stays in force: %w", err)
	}
	h.rules = h.rules.within(next.limits, func(entry string, err error) {
		h.log.Warn("a run-time rule is outside the new managed limits and is dropped", "entry", entry, "error", err)
	})
	h.enforcer.count.reloads[0].Add(1)
	upstreamBefore := h.enforcer.current.Load().upstream
	restart := restartKeys(&h.started, &next.Config)
	cut := h.install(next)
	p := h.enforcer.current.Load()
	h.log.Info("reloaded", "generation", p.generation, "mode", string(p.mode), "connections_cut", cut)
	if len(restart) > 0 {
		h.log.Warn("changed keys that take effect at the next start", "keys", restart)
	}
	var warnings []string
	if w := h.socketsWithheld(next); w != "" {
		h.log.Warn(w)
		warnings = append(warnings, w)
	}
	if p.upstream != upstreamBefore {
		h.logRoute()
	}
	return reloaded{Generation: p.generation, Cut: cut, Restart: restart, Warnings: warnings}, nil
}

// install compiles a configuration and swaps it in. h.mu is held.
func (h *Handle) install(l *loaded) (cut int) {
	h.loaded = l
	if l.Config.Mode != h.mode.over {
		h.mode = runtimeMode{}
	}
	next := l.compile(h.enforcer.current.Load().generation+1, h.mode.effective(l.Config.Mode), h.rules, &h.enforcer.own)
	if h.socketsWithheld(l) != "" {
		next.sockets = socketList{}
	}
	return h.enforcer.swap(next)
}

// alive reports whether there is a policy to change.
func (h *Handle) alive() error {
	if h.drain.Err() != nil {
		return ErrClosed
	}
	if len(h.listeners) == 0 {
		return ErrDisabled
	}
	return nil
}

// restartKeys names the keys that differ between what runs and what a reload
// asks for, among those that only a start can change.
func restartKeys(runs, asked *Config) []string {
	var keys []string
	differs := func(key string, differs bool) {
		if differs {
			keys = append(keys, key)
		}
	}
	differs(keyProxyURL, runs.ProxyURL != asked.ProxyURL)
	differs(keyAdminURL, runs.AdminURL != asked.AdminURL)
	differs(keyEnableSOCKS5, runs.EnableSOCKS5 != asked.EnableSOCKS5)
	differs(keySOCKSURL, runs.SOCKSURL != asked.SOCKSURL)
	differs(keyEnableSOCKS5UDP, runs.EnableSOCKS5UDP != asked.EnableSOCKS5UDP)
	differs(keyNonLoopbackProxy, runs.DangerouslyAllowNonLoopbackProxy != asked.DangerouslyAllowNonLoopbackProxy)
	differs(keyNonLoopbackAdmin, runs.DangerouslyAllowNonLoopbackAdmin != asked.DangerouslyAllowNonLoopbackAdmin)
	return keys
}
