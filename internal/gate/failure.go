// Reasons for failures to reach a target.

package gate

import (
	"errors"
	"os"

	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// FailureReason returns the reason for err, the error of an allowed request that did
// not reach its target.
func FailureReason(err error) policy.Reason {
	var resolve *pindial.ResolveError
	var connect *pindial.ConnectError
	var proxy *upstream.Error
	var socket *unixsock.Error
	timeout := errors.Is(err, os.ErrDeadlineExceeded) || IsTimeout(err)
	switch {
	case errors.As(err, &proxy) && timeout:
		return policy.ReasonTimeout
	case proxy != nil:
		return policy.ReasonProxyFailure
	case errors.As(err, &resolve):
		return policy.ReasonDNSFailure
	case timeout:
		return policy.ReasonTimeout
	case errors.As(err, &connect), errors.As(err, &socket):
		return policy.ReasonConnectFailure
	}
	return policy.ReasonUpstreamError
}

// IsTimeout reports whether err is or wraps a timeout.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
