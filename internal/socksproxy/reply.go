package socksproxy

import (
	"errors"
	"os"
	"syscall"

	"github.com/things-go/go-socks5/statute"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/upstream"
)

// The reply codes that the handlers send (RFC 1928 section 6).
const (
	replyFailure            = statute.RepServerFailure
	replyNotAllowed         = statute.RepRuleFailure
	replyNetworkUnreachable = statute.RepNetworkUnreachable
	replyHostUnreachable    = statute.RepHostUnreachable
	replyConnectionRefused  = statute.RepConnectionRefused
	replyCommandUnsupported = statute.RepCommandNotSupported
)

// replyCode returns the code that reports an error to the client.
func replyCode(err error) byte {
	var refused *gate.RefusedError
	var resolve *pindial.ResolveError
	switch {
	case errors.As(err, &refused) && refused.Verdict.Check == policy.CheckLimit:
		return replyFailure
	case errors.As(err, &refused):
		return replyNotAllowed
	case errors.As(err, new(*upstream.Error)):
		return replyFailure // the upstream proxy's failure says nothing about the target
	case errors.Is(err, syscall.ECONNREFUSED):
		return replyConnectionRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return replyNetworkUnreachable
	case errors.As(err, &resolve), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, os.ErrDeadlineExceeded), gate.IsTimeout(err):
		return replyHostUnreachable
	}
	return replyFailure
}
