package fence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
)

// Start starts cmd in a new room, in the place of cmd.Start. Use cmd.Wait as always. It
// returns when the room is ready: the command runs, and its connections wait until
// the caller accepts them.
//
// If Start returns an error, the command has not run, and nothing of the room is left. The
// error is an [*Error] if the room could not be made, and otherwise that of cmd.Start, of
// Config.Accept, or about the arguments.
//
// On macOS, Start starts the command with a sandbox profile if Config.Profile is set. It then
// changes cmd.Path and cmd.Args, and the environment loses variables that begin with DYLD_.
//
// Start uses namespaces, or notifications where the system forbids user namespaces
// (Report.Mechanism). The error of a room that neither can make names the problems of both.
//
// Terminals, job control, signals and the exit status are those of a command without a
// room. Start changes cmd.SysProcAttr, and replaces standard streams that are sockets. It
// marks all descriptors of this process except the standard streams close-on-exec. It refuses
// a cmd.SysProcAttr with namespaces, other credentials, Ptrace or a control group, and sockets
// in cmd.ExtraFiles that are not connected unix sockets.
func Start(cmd *exec.Cmd, config Config) (*Room, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	return start(cmd, config)
}

// Probe makes a room for a throw-away process that tries to get out, and returns what held.
// Config.Accept is not used. An error means that no room can be made; it is an [*Error] that
// says why. Probe needs no program: the process is a part of this one.
//
// Report.Enforced of a probe is what the process could not do. That of a room is what
// Start has set up.
func Probe(ctx context.Context, config Config) (Report, error) {
	config, err := config.withDefaults()
	if err != nil {
		return Report{}, err
	}
	return probe(ctx, config)
}

// withDefaults checks the configuration and fills in the default values.
func (c Config) withDefaults() (Config, error) {
	for _, own := range []struct {
		name     string
		addr     *netip.Addr
		initial  netip.Addr
		hasRight func(netip.Addr) bool
	}{
		{"Addr4", &c.Addr4, defaultAddr4, netip.Addr.Is4},
		{"Addr6", &c.Addr6, defaultAddr6, netip.Addr.Is6},
	} {
		if !own.addr.IsValid() {
			*own.addr = own.initial
		}
		a := *own.addr
		if !own.hasRight(a) || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
			return c, fmt.Errorf("fence: %s is %v; it must be a unicast address of its family", own.name, a)
		}
	}
	for _, a := range c.Listen {
		switch {
		case !a.Addr().IsLoopback() || a.Addr().Is4In6() || a.Port() == 0:
			return c, fmt.Errorf("fence: Listen has %v; it must be a loopback address and a port", a)
		case a.Port() == dnsPort || a.Port() == capturePort:
			return c, fmt.Errorf("fence: Listen has %v; the room uses port %d itself", a, a.Port())
		}
	}
	for _, p := range c.Ports {
		if p == 0 || p == dnsPort {
			return c, fmt.Errorf("fence: Ports has %d; it must be between 1 and 65535, and not %d", p, dnsPort)
		}
	}
	if n := len(c.Ports) + len(c.Listen); n > maxListeners {
		return c, fmt.Errorf("fence: Ports and Listen have %d elements; there can be %d", n, maxListeners)
	}
	for _, p := range c.UnixSockets {
		if !filepath.IsAbs(p) {
			return c, fmt.Errorf("fence: UnixSockets has %q; it must be an absolute path", p)
		}
	}
	return c, nil
}

// Ports of a room.
const (
	dnsPort = 53
	// capturePort is the port of the listener for captured connections. Programs without
	// privileges cannot use it, so that it is never taken.
	capturePort = 1

	maxListeners = 128
)

// Incomplete returns the error for a room that is not complete enough.
func Incomplete(r Report) error {
	for _, p := range r.Problems {
		return fmt.Errorf("%w: %s: %s; %s", ErrIncomplete, p.Part, p.Error, p.Fix)
	}
	return ErrIncomplete
}

// accept asks the caller whether the room will do.
func (c Config) accept(r Report) error {
	if c.Accept != nil {
		return c.Accept(r)
	}
	if !r.Complete() {
		return Incomplete(r)
	}
	return nil
}

var errNotSupported = fmt.Errorf("a fence needs Linux on amd64 or arm64: %w", errors.ErrUnsupported)

// unsupported returns the error for a system without rooms. goos is runtime.GOOS.
func unsupported(goos string) error {
	p := Problem{Part: "system", Error: errNotSupported.Error(), Fix: "run the command on Linux"}
	switch goos {
	case "darwin":
		p.Error = "macOS cannot capture connections"
		p.Fix = "ask for a sealed fence: the proxy is then the only way out, and programs must use the environment"
	case "windows":
		p.Error, p.Fix = "not supported on Windows", "use WSL2"
	}
	return &Error{Problem: p, Err: errNotSupported}
}
