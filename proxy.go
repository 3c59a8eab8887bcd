// NetworkProxy and Run: from settings to a running proxy, all or nothing.

package networkproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"example.com/networkproxy/internal/loopback"
	"example.com/networkproxy/internal/unixsock"
)

// NetworkProxy is a proxy that has been built and checked but binds nothing
// yet. Safe for concurrent use.
type NetworkProxy struct {
	settings settings
	first    *loadedConfig // what Build loaded
	files    *filesRead    // and what it read for that
	ran      atomic.Bool
}

// Run opens the listeners and serves them in the background. When it returns
// without an error, every listener accepts. When it returns one (a port is in
// use, say), nothing stays bound.
//
// The proxy runs until [Handle.Shutdown], [Handle.Close], or the end of ctx,
// which closes it. Run can be called once; later calls return [ErrAlreadyRun].
//
// With enabled = false nothing is bound: the handle is there, has no
// addresses, and its Shutdown works.
func (p *NetworkProxy) Run(ctx context.Context) (*Handle, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !p.ran.CompareAndSwap(false, true) {
		return nil, ErrAlreadyRun
	}
	h := newHandle(&p.settings, p.first, p.files)
	if p.first.Config.Enabled {
		if err := h.listen(ctx); err != nil {
			h.closeListeners()
			h.logQueue.Flush()
			return nil, err
		}
		h.serve()
	} else {
		p.settings.closeProvided()
		h.log.Warn("the proxy is disabled and binds nothing", "key", "network_proxy.enabled",
			"origin", p.first.position("network_proxy.enabled").String())
	}
	h.attach(ctx)
	return h, nil
}

// plannedAddrs are the addresses that Run would listen on. One of port 0 is
// not known yet, and left out.
func (s *settings) plannedAddrs(l *loadedConfig) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, ep := range s.endpoints() {
		if ep.key == keySOCKSURL && !l.Config.EnableSOCKS5 {
			continue
		}
		raw := cmp.Or(ep.override, l.addr(ep.key))
		if asked, err := parseListener(ep.key, raw, Position{}); err == nil && asked.addr.Port() != 0 {
			addr, _ := clampAddr(asked.addr, kindOf(ep.key), &l.Config)
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// listenOn opens one endpoint within the clamp.
func (h *Handle) listenOn(ctx context.Context, ep *endpoint) (net.Listener, error) {
	if ep.provided != nil {
		asked := addrPortOf(ep.provided.Addr())
		if !asked.IsValid() {
			return ep.provided, nil // not of the network: nothing to clamp
		}
		clamped := h.clamp(ep.key, asked)
		if clamped == asked {
			return ep.provided, nil
		}
		ep.provided.Close()
		return bind(ctx, ep.key, clamped)
	}
	raw, origin := ep.override, Position{}
	if raw == "" {
		loaded := h.active.current()
		raw, origin = loaded.addr(ep.key), loaded.position(ep.key)
	}
	asked, err := parseListener(ep.key, raw, origin)
	if err != nil {
		return nil, err
	}
	if asked.path != "" {
		return unixsock.Listen(ctx, asked.path)
	}
	return bind(ctx, ep.key, h.clamp(ep.key, asked.addr))
}

// clamp is clampAddr with its warning told.
func (h *Handle) clamp(key string, asked netip.AddrPort) netip.AddrPort {
	clamped, warning := clampAddr(asked, kindOf(key), &h.active.current().Config)
	if warning != "" {
		h.log.Warn(warning)
		h.warnings = append(h.warnings, warning)
	}
	return clamped
}

func bind(ctx context.Context, key string, addr netip.AddrPort) (net.Listener, error) {
	l, err := loopback.ListenConfig(addr.Addr()).Listen(ctx, "tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w; free the port or change %s", addr, unwrapOp(err), key)
	}
	return l, nil
}

// unwrapOp takes the address out of an error that will be told with it.
func unwrapOp(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
