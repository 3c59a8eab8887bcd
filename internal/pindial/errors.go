// Error types, for a proxy to turn into its protocol's responses.

package pindial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// ResolveError reports that a name could not be resolved. If neither NotFound
// nor Timeout is set, the lookup failed in another way (SERVFAIL, no server) or
// was canceled; errors.Is finds context.Canceled then.
type ResolveError struct {
	Name     string
	NotFound bool  // the name does not exist or has no address
	Timeout  bool  // no answer in time; errors.Is also finds os.ErrDeadlineExceeded
	Err      error // the resolver's error; never nil
}

// Error returns the name and the cause.
func (e *ResolveError) Error() string {
	switch {
	case e.NotFound:
		return fmt.Sprintf("resolve %q: no such host", e.Name)
	case e.Timeout:
		return fmt.Sprintf("resolve %q: timed out", e.Name)
	default:
		return fmt.Sprintf("resolve %q: %v", e.Name, e.Err)
	}
}

// Unwrap returns Err.
func (e *ResolveError) Unwrap() error { return e.Err }

// Is reports a timeout as os.ErrDeadlineExceeded.
func (e *ResolveError) Is(target error) bool { return e.Timeout && target == os.ErrDeadlineExceeded }

// newResolveError wraps err. ctxErr is the error of the lookup's context.
func newResolveError(name string, err, ctxErr error) *ResolveError {
	e := &ResolveError{Name: name, Err: err}
	if ctxErr != nil && !errors.Is(err, ctxErr) { // a resolver's error may omit the cause
		e.Err = fmt.Errorf("%w: %w", ctxErr, err)
	}
	var dnsErr *net.DNSError
	if errors.As(err, &dnsErr) {
		e.NotFound = dnsErr.IsNotFound
	}
	e.Timeout = !e.NotFound && isTimeout(e.Err)
	return e
}

// ConnectError reports that no address could be connected to. errors.Is finds
// syscall.ECONNREFUSED, EHOSTUNREACH, ENETUNREACH and similar numbers, on
// Windows too, and context.Canceled if the caller canceled.
type ConnectError struct {
	Addrs   []netip.AddrPort // the addresses to try
	Timeout bool             // no response in time; errors.Is also finds os.ErrDeadlineExceeded
	Err     error            // the most specific error; never nil
}

// Error returns the most specific error and the number of addresses.
func (e *ConnectError) Error() string {
	if len(e.Addrs) > 1 {
		return fmt.Sprintf("connect to any of %d addresses: %v", len(e.Addrs), e.Err)
	}
	return fmt.Sprintf("connect: %v", e.Err)
}

// Unwrap returns Err.
func (e *ConnectError) Unwrap() error { return e.Err }

// Is reports a timeout as os.ErrDeadlineExceeded, and Windows' own error
// numbers as those of package syscall.
func (e *ConnectError) Is(target error) bool {
	if target == os.ErrDeadlineExceeded {
		return e.Timeout
	}
	errno, ok := target.(syscall.Errno)
	return ok && isErrno(e.Err, errno)
}

// newConnectError selects the most specific error. ctxErr is the error of the
// caller's context.
func newConnectError(targets []netip.AddrPort, errs []error, ctxErr error) *ConnectError {
	e := &ConnectError{Addrs: targets}
	if errors.Is(ctxErr, context.Canceled) {
		e.Err = ctxErr
		return e
	}
	for _, err := range errs {
		if e.Err == nil || specificity(err) > specificity(e.Err) {
			e.Err = err
		}
	}
	if e.Err == nil { // the context ended before the first attempt
		e.Err = context.DeadlineExceeded
	}
	e.Timeout = isTimeout(e.Err)
	return e
}

// specificity ranks an attempt's error by how much it says about the host
// rather than the network. A machine without IPv6, for example, fails every
// IPv6 address with ENETUNREACH, whatever the state of the host.
func specificity(err error) int {
	switch {
	case errors.Is(err, ErrNotVetted):
		return 5 // a bug in the program, which must not be hidden
	case isErrno(err, syscall.ECONNREFUSED), isErrno(err, syscall.ECONNRESET):
		return 4 // the host responded
	case isErrno(err, syscall.ENETUNREACH), isErrno(err, syscall.EADDRNOTAVAIL), isErrno(err, syscall.EAFNOSUPPORT):
		return 0 // this machine has no route
	case isErrno(err, syscall.EHOSTUNREACH):
		return 1 // a router has no route
	case isTimeout(err):
		return 2
	default:
		return 3 // a local failure such as EMFILE
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout() ||
		errors.Is(err, context.DeadlineExceeded) || isErrno(err, syscall.ETIMEDOUT)
}
