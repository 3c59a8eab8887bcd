// The host of fences: a small program that embeds networkproxy.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"example.com/networkproxy"
)

// serveFence is the first argument with which this program runs as a host of fences:
//
//	serve-fence probe          fails if there can be no fence
//	serve-fence host ORIGIN    runs the client in a fence
//	serve-fence client ORIGIN PROXY  is that client
//	serve-fence starts         measures starts of a command
const serveFence = "serve-fence"

// fenceOrigin is the name of the origin in fences.
const fenceOrigin = "origin.test"

func runFence(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "probe":
		return runFenced(ctx, exec.Command("true"))
	case len(args) == 2 && args[0] == "host":
		self, err := os.Executable()
		if err != nil {
			return err
		}
		cmd := exec.Command(self, serveFence, "client", args[1])
		cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
		return runFenced(ctx, cmd)
	case len(args) == 3 && args[0] == "client":
		return fenceClient(ctx, args[1], args[2])
	case len(args) == 1 && args[0] == "starts":
		return measureOwnStarts(ctx)
	}
	return fmt.Errorf("usage: bench %s probe|host|client|starts [ADDRESS...]", serveFence)
}

// loopbackResolver finds the origin on loopback.
type loopbackResolver struct{}

func (loopbackResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host != fenceOrigin {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{loopback}, nil
}

// startFenceHost starts a proxy with a session.
func startFenceHost(ctx context.Context) (*networkproxy.Handle, *networkproxy.Session, error) {
	c := networkproxy.DefaultConfig()
	c.Policy.AllowedDomains = []string{fenceOrigin}
	c.Policy.AllowLocalBinding = true
	proxy, err := networkproxy.NewBuilder().Config(c).Embedded().Resolver(loopbackResolver{}).Build()
	if err != nil {
		return nil, nil, err
	}
	h, err := proxy.Run(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := h.OpenSession(ctx, networkproxy.SessionConfig{})
	if err != nil {
		h.Close()
		return nil, nil, err
	}
	return h, s, nil
}

// runFenced runs a command in a fence, with the address of the session's proxy as its last
// argument.
func runFenced(ctx context.Context, cmd *exec.Cmd) error {
	h, s, err := startFenceHost(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	cmd.Args = append(cmd.Args, s.HTTPAddr())
	cmd.Stderr = os.Stderr
	return startFenced(ctx, s, cmd)
}

// startFenced runs a command in a fence of the session until it ends.
func startFenced(ctx context.Context, s *networkproxy.Session, cmd *exec.Cmd) error {
	f, err := s.Fence(ctx, networkproxy.FenceConfig{})
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Start(cmd); err != nil {
		return err
	}
	if r := f.Report(); r.Level != networkproxy.FenceCapture || !r.AllPorts {
		cmd.Process.Kill()
		return errors.Join(fmt.Errorf("the fence is not complete: %+v", r), cmd.Wait())
	}
	return cmd.Wait()
}

// fenceClient looks the origin up in the fence and does the jobs of standard input.
func fenceClient(ctx context.Context, origin, proxy string) error {
	at, err := netip.ParseAddrPort(origin)
	if err != nil {
		return err
	}
	via, err := netip.ParseAddrPort(proxy)
	if err != nil {
		return err
	}
	addrs, err := (&net.Resolver{PreferGo: true}).LookupNetIP(ctx, "ip4", fenceOrigin)
	if err != nil {
		return err
	}
	return runFenceClient(os.Stdin, os.Stdout, netip.AddrPortFrom(addrs[0].Unmap(), at.Port()), via)
}

// measureOwnStarts measures commands with and without a fence in turn and prints the durations.
func measureOwnStarts(ctx context.Context) error {
	h, s, err := startFenceHost(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	var starts fenceStarts
	for i := range startsPerTurn + 2 {
		began := time.Now()
		if err := exec.Command("true").Run(); err != nil {
			return err
		}
		plain := time.Since(began)
		began = time.Now()
		if err := startFenced(ctx, s, exec.Command("true")); err != nil {
			return err
		}
		if i < 2 {
			continue // a warm-up
		}
		starts.Plain, starts.Fenced = append(starts.Plain, plain), append(starts.Fenced, time.Since(began))
	}
	return json.NewEncoder(os.Stdout).Encode(starts)
}
