//go:build !unix

package networkproxytest

import (
	"errors"
	"fmt"
	"net"

	"example.com/networkproxy"
)

// errNoAgent is returned on systems on which descriptors cannot be handed over.
var errNoAgent = fmt.Errorf("the kit cannot run commands in fences on this system: %w", errors.ErrUnsupported)

// agent is a running command. There is none on this system.
type agent struct{}

func launchAgent(*networkproxy.Session, string, networkproxy.FenceConfig) (*agent, networkproxy.FenceLevel, error) {
	return nil, "", errNoAgent
}

func (*agent) close() {}

func (*agent) dial(string, string) (net.Conn, error) { return nil, errNoAgent }

func serveAgent() error { return errNoAgent }
