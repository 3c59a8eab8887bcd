// The errors that hosts can test for. Their texts have no package prefix, because
// errors of the configuration begin with file:line:column, and hosts add context
// of their own.

package networkproxy

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"example.com/networkproxy/internal/gate"
)

var (
	// ErrClosed is returned by the methods of Handle after Shutdown, Close or the
	// end of Run's context.
	ErrClosed = gate.ErrClosed

	// ErrAlreadyRun is returned by Run after the first call.
	ErrAlreadyRun = errors.New("this proxy was already run; build another")

	// ErrDisabled is returned by methods that open sessions or change the policy
	// if the proxy was started with enabled = false.
	ErrDisabled = errors.New("the proxy is disabled (network_proxy.enabled = false); enable it and start it again")

	// ErrCallbackRunning is returned by Shutdown and Close if a function of the
	// host, such as OnBlocked, the log handler, a PolicyDecider or a Resolver, does
	// not return after everything was cut. It is wrapped in an error that names
	// the function. The proxy has ended, and the goroutine of the function is left
	// behind.
	ErrCallbackRunning = errors.New("the proxy has ended, but a function of the host has not returned")

	// ErrReloading is returned by Reload while the function of ConfigSource runs
	// for another reload. That function also gets it
	// if it calls Reload.
	ErrReloading = errors.New("a reload is under way: its configuration source has not returned; reload again when it has")

	// ErrNoGrant is returned by Revoke if no grant has the ID: it never existed,
	// or it is used up, expired or revoked and has no open connections.
	ErrNoGrant = gate.ErrNoGrant
)

// RefusedError is the error for a request of the host that the policy refuses,
// see [Handle.Transport].
type RefusedError struct {
	Host    string
	Port    uint16
	Verdict Verdict
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("network proxy refused %s: %s",
		net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))), e.Verdict.Reason)
}

// publicError returns the RefusedError for a refusal in the chain of err, or err
// if it has none.
func publicError(err error) error {
	var refused *gate.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	return &RefusedError{Host: refused.Request.Target.Host.String(), Port: refused.Request.Target.Port, Verdict: publicVerdict(&refused.Verdict)}
}
