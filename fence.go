// Fences: commands whose only network is the proxy. internal/fence makes the
// namespaces, and internal/capture serves the connections that are captured in them.

package networkproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"example.com/networkproxy/internal/capture"
	"example.com/networkproxy/internal/fakedns"
	"example.com/networkproxy/internal/fence"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/track"
)

// FenceConfig is the configuration of a fence. All fields are optional.
type FenceConfig struct {
	// Accept is the lowest level at which the command is started. Empty means
	// FenceCapture.
	Accept FenceLevel

	// UDP captures datagrams as well, and judges them like those of SOCKS5 clients.
	// False refuses all datagrams except lookups, with "port unreachable". A fence of
	// the mechanism "notification" refuses them even if UDP is true; its report says so.
	UDP bool

	// UnixSockets are the paths of Unix sockets outside the fence that the command
	// may use, in addition to allow_unix_sockets. The command can use only sockets that
	// exist when it starts: a socket that is replaced later needs a new fence.
	UnixSockets []string

	// Local are targets such as "localhost:5432" that the command reaches at the same
	// port of its own loopback addresses. The policy must allow them as well. At most 16
	// targets are permitted. Their ports must differ, and none may be 53.
	Local []string

	// Pool is the range of the IPv4 addresses that stand for names inside the fence.
	// The zero value means 198.18.0.0/15, which no network uses (RFC 2544).
	Pool netip.Prefix

	// NoNested forbids namespaces inside the fence. Chrome then has no sandbox of its
	// own.
	NoNested bool
}

// Fence starts one command whose only network is the proxy. All of its connections are
// captured, even if the program ignores its proxy settings. Each is judged for the
// session, with the name that the command looked up. Lookups are answered on this
// machine. Get a Fence from [Session.Fence]. All methods are safe for concurrent use.
type Fence struct {
	session *Session
	config  FenceConfig
	names   *fakedns.Names
	proxies []fencedProxy
	local   []localTarget
	serving sync.WaitGroup

	mu      sync.Mutex
	started bool
	closed  bool
	room    *fence.Room // nil before Start, and without a fence
	report  FenceReport
}

// fencedProxy is a proxy of the session inside a fence. It has the same address inside
// and outside, so that the environment of the session is right in both places.
type fencedProxy struct {
	addr  netip.AddrPort
	serve func(*gate.Listener) error
}

// maxFenceLocal limits FenceConfig.Local, because each target has two listeners.
const maxFenceLocal = 16

// localTarget is a target that a command reaches at a loopback address inside a fence.
type localTarget struct {
	addr   netip.AddrPort
	target hostname.Target
}

// FenceError is the error if there is no fence of the accepted level. The command has
// not run.
type FenceError struct {
	Problem FenceProblem
	err     error
}

// Error names the missing part, the error of the system, and the fix.
func (e *FenceError) Error() string {
	text := fmt.Sprintf("no fence: %s: %s", e.Problem.Part, e.Problem.Error)
	if e.Problem.Fix != "" {
		text += "; " + e.Problem.Fix
	}
	return text
}

// Unwrap returns the cause.
func (e *FenceError) Unwrap() error { return e.err }

// Fence returns a fence for one command of the session. The fence ends with the
// session. An error means that c is invalid or ctx has ended. [Fence.Start] returns an
// error if the system does not permit a fence.
func (s *Session) Fence(ctx context.Context, c FenceConfig) (*Fence, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch c.Accept {
	case "":
		c.Accept = FenceCapture
	case FenceCapture, FenceSealed, FenceBest:
	default:
		return nil, fmt.Errorf("fence: unknown level %q; use %s, %s or %s", c.Accept, FenceCapture, FenceSealed, FenceBest)
	}
	names, err := fakedns.NewNames(c.Pool)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	f := &Fence{session: s, config: c, names: names, proxies: s.fencedProxies()}
	for _, text := range c.Local {
		if err := f.addLocal(text); err != nil {
			return nil, fmt.Errorf("fence: local target %q: %w", text, err)
		}
	}
	for _, path := range c.UnixSockets {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("fence: the path of the Unix socket %q is not absolute", path)
		}
	}
	return f, nil
}

// addLocal adds a target of FenceConfig.Local.
func (f *Fence) addLocal(text string) error {
	target, err := hostname.ParseTarget(text)
	switch {
	case err != nil:
		return err
	case target.Port == 53:
		return errors.New("port 53 is that of lookups inside the fence")
	case len(f.local) >= 2*maxFenceLocal:
		return fmt.Errorf("there are more than %d", maxFenceLocal)
	}
	for _, loopback := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		addr := netip.AddrPortFrom(loopback, target.Port)
		if slices.ContainsFunc(f.local, func(l localTarget) bool { return l.addr == addr }) {
			return fmt.Errorf("port %d is used twice", target.Port)
		}
		f.local = append(f.local, localTarget{addr, target})
	}
	return nil
}

// fencedProxies returns the proxies that the environment of the session names.
func (s *Session) fencedProxies() (proxies []fencedProxy) {
	h := s.handle
	for _, p := range []struct {
		own, shared string
		serve       func(*gate.Listener) error
	}{{s.httpAddr, h.httpAddr, h.http.Serve}, {s.socksAddr, h.socksAddr, h.socks.Serve}} {
		if addr, err := netip.ParseAddrPort(cmp.Or(p.own, p.shared)); err == nil {
			proxies = append(proxies, fencedProxy{addr, p.serve})
		}
	}
	return proxies
}

// Start starts cmd inside the fence. Call it in place of cmd.Start, and then cmd.Wait as
// usual. cmd.Env may be any environment. With that of [Fence.Environ], clients that
// support proxies use those of the session.
//
// The error is a [*FenceError] if there is no fence of the accepted level; the command
// has then not run. Otherwise it is that of cmd.Start. A fence starts one command; later
// calls fail.
//
// With FenceBest, Start first tries a fence as [ProbeFence] does. If there can be none, the
// command runs without, and [Fence.Report] says why.
//
// Start marks the descriptors of this process as close-on-exec, except the standard
// streams, because an inherited socket would be a way out.
func (f *Fence) Start(cmd *exec.Cmd) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed || !f.session.fences.add(f):
		return errSessionClosed
	case f.started:
		return errors.New("fence: a fence starts one command; make another fence")
	}
	f.started = true
	c := f.roomConfig()
	if f.config.Accept == FenceBest {
		// Try first, because a cmd that could not be started cannot be started again.
		if _, err := fence.Probe(f.session.principal.Context, c); err != nil {
			f.report = FenceReport{Level: FenceNone, Problems: []FenceProblem{publicFenceError(err).Problem}}
			err := cmd.Start()
			if err == nil {
				f.session.fences.running(f, f.report.Level)
			}
			return err
		}
	}
	room, err := fence.Start(cmd, c)
	switch {
	case err == nil:
		f.room, f.report = room, publicFenceReport(room.Report())
		f.session.fences.running(f, f.report.Level)
		f.serve(room)
		return nil
	case errors.As(err, new(*fence.Error)), errors.Is(err, errors.ErrUnsupported):
		return publicFenceError(err)
	}
	return err
}

// roomConfig returns the configuration of the fence's namespaces.
func (f *Fence) roomConfig() fence.Config {
	c := fence.Config{
		UDP:         f.config.UDP,
		Ports:       f.ports(),
		UnixSockets: slices.Concat(f.config.UnixSockets, f.session.handle.active.current().Config.Policy.AllowUnixSockets),
		NoNested:    f.config.NoNested,
		Profile:     f.config.Accept != FenceCapture,
	}
	for _, p := range f.proxies {
		c.Listen = append(c.Listen, p.addr)
	}
	c.Proxies = slices.Clone(c.Listen)
	for _, l := range f.local {
		c.Listen = append(c.Listen, l.addr)
	}
	c.Accept = func(r fence.Report) error {
		if f.config.Accept == FenceBest || r.Sealed() {
			return nil
		}
		return incompleteFence(r)
	}
	return c
}

// incompleteFence returns the error for a fence with a way out.
func incompleteFence(r fence.Report) error {
	e := &fence.Error{Problem: fence.Problem{Part: "fence", Error: "it would have a way out"}, Err: fence.ErrIncomplete}
	if n := len(r.Problems); n > 0 {
		e.Problem = r.Problems[n-1] // the others only make the fence smaller
	}
	return e
}

// fencePorts are the ports that every fence captures: those of ssh, HTTP, HTTPS and git.
func fencePorts() []uint16 { return []uint16{22, 80, 443, 9418} }

// ports returns the ports to capture where the kernel cannot capture all.
func (f *Fence) ports() []uint16 {
	ports := fencePorts()
	for _, port := range f.session.handle.gate.Policy().NamedPorts(f.session.principal.Overlay.Load()) {
		if !slices.Contains(ports, port) && port != 53 {
			ports = append(ports, port)
		}
	}
	return ports
}

// serve serves the sockets of a room until they are closed.
func (f *Fence) serve(room *fence.Room) {
	if room.Report().Profile {
		return // nothing is captured
	}
	s := f.session
	h := s.handle
	r := &capture.Room{Principal: s.principal, Names: f.names, IPv6: room.Report().IPv6, Search: capture.SystemSearchDomains(), Target: room.Target}
	listener := func(l net.Listener) *gate.Listener {
		return &gate.Listener{
			Listener:  &track.Listener{Inner: l, Group: s.clients, StartIdle: true, Logger: h.gate.ClientLog},
			Principal: s.principal,
		}
	}
	for _, l := range room.TCP {
		f.serving.Go(func() { f.ended(h.capture.ServeTCP(listener(l), r)) })
	}
	for i, p := range f.proxies {
		f.serving.Go(func() { f.ended(p.serve(listener(room.Listeners[i]))) })
	}
	for i, t := range f.local {
		f.serving.Go(func() { f.ended(h.capture.ServeLocal(listener(room.Listeners[len(f.proxies)+i]), r, t.target)) })
	}
	f.serving.Go(func() { f.ended(h.capture.ServeDNS(room.DNS, r)) })
	f.serving.Go(func() { f.ended(h.capture.ServeDNSStreams(listener(room.DNSStreams), r)) })
	if room.UDP != nil {
		f.serving.Go(func() { f.ended(h.capture.ServeUDP(room.UDP, r)) })
	}
}

// ended is called with the error of a socket that is no longer served. If the socket
// failed, it ends the session, because the command would wait for responses.
func (f *Fence) ended(err error) {
	if err == nil || errors.Is(err, net.ErrClosed) {
		return
	}
	f.session.handle.log.Error("a socket of a fence failed; the session ends", "session", f.session.id, "error", err)
	f.session.cancel(err)
}

// Report returns what the fence enforces. Before Start, its level is FenceNone.
func (f *Fence) Report() FenceReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	report := f.report
	if report.Level == "" {
		report.Level = FenceNone
	}
	report.Problems = slices.Clone(report.Problems)
	return report
}

// Close closes the sockets of the fence and ends its connections. A command that still
// runs has no network then. Call it after cmd.Wait; the end of the session calls it as
// well. It always returns nil.
func (f *Fence) Close() error {
	f.mu.Lock()
	f.closed = true
	room := f.room
	f.mu.Unlock()
	if room != nil {
		room.Close()
	}
	f.serving.Wait()
	f.session.fences.remove(f)
	return nil
}

// ProbeFence reports which fence this machine permits. It starts a process that tries to
// get out of a fence, and reports which attempts failed. The error is a [*FenceError] if
// the machine permits no fence.
func ProbeFence(ctx context.Context) (FenceReport, error) {
	report, err := fence.Probe(ctx, fence.Config{Ports: fencePorts()})
	switch {
	case err == nil && report.Sealed():
		return publicFenceReport(report), nil
	case err == nil:
		return publicFenceReport(report), publicFenceError(incompleteFence(report))
	case ctx.Err() != nil:
		return FenceReport{Level: FenceNone}, ctx.Err()
	}
	failed := publicFenceError(err)
	return FenceReport{Level: FenceNone, Problems: []FenceProblem{failed.Problem}}, failed
}

func publicFenceReport(r fence.Report) FenceReport {
	report := FenceReport{
		Level: FenceCapture, Mechanism: string(r.Mechanism), UDP: r.UDP, IPv6: r.IPv6, AllPorts: r.AllPorts, Enforced: FenceEnforced(r.Enforced),
	}
	switch {
	case r.Profile:
		report.Level = FenceSealed
	case !r.Sealed():
		report.Level = FenceNone
	}
	for _, p := range r.Problems {
		report.Problems = append(report.Problems, FenceProblem(p))
	}
	return report
}

// publicFenceError returns the FenceError for an error of package fence.
func publicFenceError(err error) *FenceError {
	if e := (*fence.Error)(nil); errors.As(err, &e) {
		return &FenceError{Problem: FenceProblem(e.Problem), err: err}
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return &FenceError{Problem: FenceProblem{Part: "system", Error: err.Error(), Fix: "run the command on Linux"}, err: err}
	}
	return &FenceError{Problem: FenceProblem{Part: "fence", Error: err.Error()}, err: err}
}
