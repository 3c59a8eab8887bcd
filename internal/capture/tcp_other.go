//go:build !linux

package capture

import (
	"errors"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
)

// ServeTCP returns an error, because captured connections need Linux.
func (f *Front) ServeTCP(*gate.Listener, *Room) error { return errors.ErrUnsupported }

// ServeLocal returns an error, because captured connections need Linux.
func (f *Front) ServeLocal(*gate.Listener, *Room, hostname.Target) error {
	return errors.ErrUnsupported
}
