// A dial that finds no free descriptor.

package pindial

import (
	"context"
	"net/netip"
	"syscall"
	"time"
)

// descriptorDelay is how long a dial that finds no free descriptor waits for one. Accepting waits as long at first.
const descriptorDelay = 5 * time.Millisecond

// RetryTooManyFiles calls connect, and once more after a few milliseconds if this process or this machine has no descriptor
// left. A shortage is often over by then: connections that were closed a moment ago still hold theirs.
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

// patiently is Patiently for one address.
func retryTooManyFiles[C any](ctx context.Context, connect func(context.Context, netip.AddrPort) (C, error), to netip.AddrPort) (C, error) {
	return RetryTooManyFiles(ctx, func(ctx context.Context) (C, error) { return connect(ctx, to) })
}
