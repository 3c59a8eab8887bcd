//go:build !windows && !darwin

package main

import (
	"context"
	"time"
)

// read is like the Read of a file but returns when ctx ends.
func (c *console) read(ctx context.Context, b []byte) (int, error) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		c.file.SetReadDeadline(time.Unix(1, 0)) // in the past
	})
	n, err := c.file.Read(b)
	if !stop() {
		<-ended
		c.file.SetReadDeadline(time.Time{})
	}
	return n, err
}
