// What can go wrong, in types that a proxy turns into its protocol's answers.

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

// ResolveError says that a name could not be resolved. Neither NotFound nor Timeout means that the lookup failed
// otherwise (SERVFAIL, no server), or was canceled; errors.Is finds context.Canceled then.
type ResolveError struct {
	Name     string
	NotFound bool  // there is no such name, or it has no address
	Timeout  bool  // no answer in time; errors.Is finds os.ErrDeadlineExceeded too
	Err      error // of the resolver; never nil
}

// Error names the host and the cause.
func (e *ResolveError) Error() string {
	switch {
	case e.NotFound:
		return fmt.Sprintf("resolve %q: no such host", e.Name)
	case e.Timeout:
		return fmt.Sprintf("resolve %q: no answer in time", e.Name)
	default:
		return fmt.Sprintf("resolve %q: %v", e.Name, e.Err)
	}
}

// Unwrap returns Err.
func (e *ResolveError) Unwrap() error { return e.Err }

// Is reports a time-out as os.ErrDeadlineExceeded.
func (e *ResolveError) Is(target error) bool { return e.Timeout && target == os.ErrDeadlineExceeded }

// newResolveError wraps err; ended is the error of the lookup's context.
func newResolveError(name string, err, ctxErr error) *ResolveError {
	e := &ResolveError{Name: name, Err: err}
	if ctxErr != nil && !errors.Is(err, ctxErr) { // a resolver may drop the cause
		e.Err = fmt.Errorf("%w: %w", ctxErr, err)
	}
	var dnsErr *net.DNSError
	if errors.As(err, &dnsErr) {
		e.NotFound = dnsErr.IsNotFound
	}
	e.Timeout = !e.NotFound && isTimeout(e.Err)
	return e
}

// ConnectError says that no address could be connected to. errors.Is finds syscall.ECONNREFUSED, EHOSTUNREACH,
// ENETUNREACH and the like, on Windows too, and context.Canceled when the caller gave up.
type ConnectError struct {
	Addrs   []netip.AddrPort // that were to be tried
	Timeout bool             // no answer in time; errors.Is finds os.ErrDeadlineExceeded too
	Err     error            // of the attempt that tells most; never nil
}

// Error gives the error that tells most, and the number of addresses.
func (e *ConnectError) Error() string {
	if len(e.Addrs) > 1 {
		return fmt.Sprintf("connect to any of %d addresses: %v", len(e.Addrs), e.Err)
	}
	return fmt.Sprintf("connect: %v", e.Err)
}

// Unwrap returns Err.
func (e *ConnectError) Unwrap() error { return e.Err }

// Is reports a time-out as os.ErrDeadlineExceeded, and Windows' own error numbers as those of package syscall.
func (e *ConnectError) Is(target error) bool {
	if target == os.ErrDeadlineExceeded {
		return e.Timeout
	}
	errno, ok := target.(syscall.Errno)
	return ok && isErrno(e.Err, errno)
}

// newConnectError picks the error that tells most; ended is the error of the caller's context.
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
	if e.Err == nil { // the context had ended before the first attempt
		e.Err = context.DeadlineExceeded
	}
	e.Timeout = isTimeout(e.Err)
	return e
}

// tells ranks the errors of attempts by how much they say about the host, rather than about the way there: a machine
// without IPv6 fails every such address with ENETUNREACH, whatever the host does.
func specificity(err error) int {
	switch {
	case errors.Is(err, ErrNotVetted):
		return 5 // a mistake in the program, not to be hidden
	case isErrno(err, syscall.ECONNREFUSED), isErrno(err, syscall.ECONNRESET):
		return 4 // the host answered
	case isErrno(err, syscall.ENETUNREACH), isErrno(err, syscall.EADDRNOTAVAIL), isErrno(err, syscall.EAFNOSUPPORT):
		return 0 // this machine has no such way
	case isErrno(err, syscall.EHOSTUNREACH):
		return 1 // a router has none
	case isTimeout(err):
		return 2
	default:
		return 3 // this machine's own trouble, such as EMFILE
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout() ||
		errors.Is(err, context.DeadlineExceeded) || isErrno(err, syscall.ETIMEDOUT)
}
