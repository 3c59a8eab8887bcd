// Viewers of the events of networkproxy, during a measurement.

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// viewers follow the events of a proxy while it is measured.
type viewers struct {
	n    int
	read bool // they read; otherwise their connections fill up
}

// follow connects the viewers, and returns when each has the header of its response. They
// disconnect when ctx ends.
func (v viewers) follow(ctx context.Context, admin netip.AddrPort) error {
	for range v.n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", admin.String())
		if err != nil {
			return fmt.Errorf("view events: %w", err)
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: %s\r\n\r\n", admin)
		const status = "HTTP/1.1 200 OK"
		head := make([]byte, len(status))
		if _, err := io.ReadFull(conn, head); err != nil || string(head) != status {
			return fmt.Errorf("view events: the admin API responds %q, %w", head, err)
		}
		if v.read {
			go io.Copy(io.Discard, conn)
		}
	}
	return nil
}
