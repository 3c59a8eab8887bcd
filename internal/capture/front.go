package capture

import (
	"net"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/track"
)

// Config holds the settings of a Front. All fields are required.
type Config struct {
	// HTTP serves plain HTTP on a captured connection until it ends. It closes the
	// connections.
	HTTP func(*gate.Principal, *track.Entry, gate.Captured)

	// Open serves a connection whose content the policy must see, until it ends. It
	// closes the connections.
	Open func(entry *track.Entry, client net.Conn, early []byte, t *gate.Opened)

	FirstBytes time.Duration // how long a client may take for bytes that decide whether it speaks HTTP
	Idle       time.Duration // how long a connection may stay without a byte of either side
}

// Front serves what fences capture. Use New.
type Front struct {
	gate   *gate.Gate
	config Config
}

// New returns a Front that asks g about requests.
func New(g *gate.Gate, c Config) *Front { return &Front{gate: g, config: c} }
