// Retrying when no file descriptor is free.

package pindial

import (
	"context"
	"net/netip"
	"syscall"
	"time"
)

// descriptorDelay is how long a dial waits if no descriptor is free. It equals
// the first delay of accepting (package track).
const descriptorDelay = 5 * time.Millisecond

// RetryTooManyFiles calls connect, and again after a few milliseconds if this
// process or this machine has no free descriptor (EMFILE, ENFILE). Such a
// shortage is often short: recently closed connections may still hold their
// descriptors.
func RetryTooManyFiles[C any](ctx context.Context, connect func(context.Context) (C, error)) (C, error) {
	conn, err := connect(ctx)
	if err == nil || !isErrno(err, syscall.EMFILE) && !isErrno(err, syscall.ENFILE) {
		return conn, err
	}
	timer := time.NewTimer(descriptorDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return connect(ctx)
	case <-ctx.Done():
		return conn, err
	}
}

// retryTooManyFiles is RetryTooManyFiles for one address.
func retryTooManyFiles[C any](ctx context.Context, connect func(context.Context, netip.AddrPort) (C, error), to netip.AddrPort) (C, error) {
	return RetryTooManyFiles(ctx, func(ctx context.Context) (C, error) { return connect(ctx, to) })
}
