//go:build e2e && linux

package fence

import (
	"context"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/networkproxytest"
)

// TestConformance runs the kit for hosts in fences. The catcher sees what its corpus would
// reach.
func TestConformance(t *testing.T) {
	networkproxytest.Fence(t, func(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
		t.Helper()
		proxy, err := networkproxy.NewBuilder().Config(c).Resolver(networkproxytest.Resolver{}).Build()
		if err != nil {
			t.Fatal(err)
		}
		h, err := proxy.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return h
	}, networkproxytest.FenceOptions{})
}
