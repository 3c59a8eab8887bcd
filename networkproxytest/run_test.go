package networkproxytest_test

import (
	"context"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/networkproxytest"
)

func start(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
	t.Helper()
	return startWith(t, networkproxy.NewBuilder().Config(c).Resolver(networkproxytest.Resolver{}))
}

func startWith(t testing.TB, b *networkproxy.Builder) *networkproxy.Handle {
	t.Helper()
	proxy, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := proxy.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestConformance runs the kit with the library itself.
func TestConformance(t *testing.T) {
	networkproxytest.Run(t, start)
}
