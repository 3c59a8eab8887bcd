// The part of the self-test that tests a fence.

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"example.com/networkproxy"
)

// selfTestFence tests that a process cannot leave a fence, and that the connections and
// lookups of a command in a fence are refused.
func selfTestFence(ctx context.Context, h *networkproxy.Handle) ([]networkproxy.SelfTestResult, error) {
	const wayOut = "a fence has no other way out"
	report, err := networkproxy.ProbeFence(ctx)
	var failed *networkproxy.FenceError
	switch {
	case errors.As(err, &failed) && !report.Enforced.TCP:
		return []networkproxy.SelfTestResult{{Promise: wayOut, Target: "this machine", Got: failed.Error()}}, nil
	case err != nil && failed == nil:
		return nil, err
	}
	var results []networkproxy.SelfTestResult
	for _, way := range waysOut(report.Enforced) {
		r := networkproxy.SelfTestResult{Promise: wayOut, Target: way.name, Got: "open", OK: way.closed}
		if way.closed {
			r.Got = "closed"
		}
		results = append(results, r)
	}
	if failed != nil {
		return results, nil
	}
	for _, r := range []networkproxy.SelfTestResult{
		{
			Promise: "lookups in a fence are answered by the policy", Protocol: networkproxy.ProtocolDNS,
			Target: "unlisted-" + strings.ToLower(rand.Text()) + ".selftest.invalid:443", Want: networkproxy.ReasonNotAllowed,
		},
		{
			Promise: "a fence captures connections to addresses", Protocol: networkproxy.ProtocolCapturedTCP,
			Target: "169.254.169.254:80", Want: networkproxy.ReasonNotAllowedLocal,
		},
		{
			Promise: "a fence captures connections to addresses", Protocol: networkproxy.ProtocolCapturedTCP,
			Target: "192.0.2.1:4321", Want: networkproxy.ReasonNotAllowedLocal,
		},
	} {
		if err := tryInFence(ctx, h, &r); err != nil {
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}

// tryInFence runs a command in a fence that connects to the target of r without a proxy,
// and fills in the result.
func tryInFence(ctx context.Context, h *networkproxy.Handle, r *networkproxy.SelfTestResult) error {
	host, port, err := net.SplitHostPort(r.Target)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	x, err := h.Explain(ctx, networkproxy.PolicyRequest{Protocol: networkproxy.ProtocolCapturedTCP, Host: host, Port: uint16(number)})
	switch {
	case err != nil:
		return err
	case x.Allowed, x.Decider:
		r.Got, r.OK, r.Note = "not sent", true, "the configuration may allow it"
		return nil
	}
	session, err := h.OpenSession(ctx, networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "selftest"}})
	if err != nil {
		return err
	}
	defer session.Close()
	fence, err := session.Fence(ctx, networkproxy.FenceConfig{})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// The command takes the target for its proxy, and so connects to it directly.
	cmd := exec.Command(self, "connect", "-proxy", "http://"+r.Target, "proxy.selftest.invalid:443")
	cmd.Env = os.Environ()
	if err := fence.Start(cmd); err != nil {
		r.Got = err.Error()
		return nil
	}
	err = cmd.Wait()
	r.Got = "not refused"
	if err == nil {
		r.Got = "connected"
	}
	for _, b := range session.Blocked() {
		if b.Host == host && b.Protocol == r.Protocol {
			r.Got = string(b.Reason)
		}
	}
	r.OK = err != nil && r.Got == string(r.Want)
	if err := session.Close(); err != nil {
		return fmt.Errorf("end of the session in the fence: %w", err)
	}
	return nil
}
