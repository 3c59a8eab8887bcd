// The errors that hosts may test for. Texts carry no package prefix, because
// configuration errors begin with file:line:column and hosts add context of
// their own.

package networkproxy

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"example.com/networkproxy/internal/gate"
)

var (
	// ErrClosed is what a Handle's methods return once the proxy has been
	// shut down or closed.
	ErrClosed = gate.ErrClosed

	// ErrAlreadyRun is what Run returns when it is called again: a
	// NetworkProxy is run once.
	ErrAlreadyRun = errors.New("this proxy was already run; build another")

	// ErrDisabled is what a change of a running policy returns when the
	// proxy was started with enabled = false, so that nothing is running.
	ErrDisabled = errors.New("the proxy is disabled (network_proxy.enabled = false); enable it and start it again")

	// ErrCallbackRunning is what Shutdown and Close return, wrapped in an
	// error that names the function, when a function that the host handed in
	// (OnBlocked, the log handler, a PolicyDecider, a Resolver, ...) has not
	// returned although everything was cut. The proxy has ended then; the
	// goroutine in that function is left behind.
	ErrCallbackRunning = errors.New("the proxy has ended, but a function of the host has not returned")

	// ErrReloading is what Reload returns while the configuration source runs
	// for another reload: also to the source itself.
	ErrReloading = errors.New("a reload is under way: its configuration source has not returned; reload again when it has")

	// ErrNoGrant is what Revoke returns when there is no such grant: there
	// never was, or it is used up, over or revoked and has nothing open.
	ErrNoGrant = gate.ErrNoGrant
)

// RefusedError is a refusal by policy, where it reaches a host as an error.
type RefusedError struct {
	Host    string
	Port    uint16
	Verdict Verdict
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("network proxy refused %s: %s",
		net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))), e.Verdict.Reason)
}

// publicError returns err with the refusal in it, if there is one, in the form
// that hosts know.
func publicError(err error) error {
	var refused *gate.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	return &RefusedError{Host: refused.Request.Target.Host.String(), Port: refused.Request.Target.Port, Verdict: publicVerdict(&refused.Verdict)}
}
