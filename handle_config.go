// The methods of a Handle that read and change its configuration.

package networkproxy

import "context"

// Config returns the configuration in force, without changes made at run time:
// see [Handle.Mode]. Values that exceed tightened managed limits are cut back
// in it. The caller owns the copy.
func (h *Handle) Config() Config { return h.active.current().Config.clone() }

// Mode returns the mode in force.
func (h *Handle) Mode() Mode { return h.gate.Policy().Mode }

// SetMode changes the mode until the configuration's own mode changes or the
// proxy ends. It cuts open tunnels that the new mode forbids. A mode that
// exceeds the managed limits is refused.
func (h *Handle) SetMode(m Mode) error { return h.active.setMode(m) }

// AllowDomain adds an allowlist entry until the proxy ends: it survives
// reloads and is not written to any file. The denylist, the protection of
// local networks and the mode apply to it as to every other entry. An entry
// outside the managed limits is refused; one that a reload puts outside them
// is dropped, with a warning in the log.
func (h *Handle) AllowDomain(entry string) error { return h.active.allow(entry) }

// DenyDomain adds a denylist entry until the proxy ends, as AllowDomain does
// for the allowlist. It cuts open connections that the entry denies.
func (h *Handle) DenyDomain(entry string) error { return h.active.deny(entry) }

// RemoveDomain removes an entry that AllowDomain or DenyDomain added. It does
// not remove entries of the configuration: the error says where such an entry
// is set.
func (h *Handle) RemoveDomain(entry string) error { return h.active.remove(entry) }

// Reload reads the configuration again and puts it in force, whole. On an
// error nothing changes: the last good policy stays in force. Managed limits
// are the exception: as soon as they can be read they take effect, even where
// the configuration cannot be read, and cut the last good configuration back.
// Open connections that the new policy refuses are cut. Keys that need a
// restart are logged and take effect then; everything else applies now.
//
// Reload waits until the files have not changed for a moment, so that it never
// takes a half-written file: 200 ms, or a second where a key is gone that was
// there before. If a file is still being written after eight times that, the
// error says so. Reloads of files take turns.
//
// Where the configuration comes from a [Builder.ConfigSource], Reload returns
// [ErrReloading] at once while that function runs for another reload. Reload
// may be called from every callback. It returns early, with the reason, when
// ctx ends or the proxy begins to stop.
func (h *Handle) Reload(ctx context.Context) error {
	_, err := h.reloader.reload(ctx)
	return err
}
