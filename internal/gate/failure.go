package gate

import (
	"errors"
	"os"

	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// FailureReason returns why an allowed request did not reach its target, given
// the error of the connection to it.
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

func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
