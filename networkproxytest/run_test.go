package networkproxytest_test

import (
	"context"
	"flag"
	"os"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/networkproxytest"
)

// TestMain runs more tests at once under -short, because most of them wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		flag.Set("test.parallel", "16")
	}
	os.Exit(m.Run())
}

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
	t.Parallel()
	networkproxytest.Run(t, start)
}

// TestConformanceOfEmbedded runs the kit with the preset for hosts: its shared
// listeners require a session, and it has no admin API.
func TestConformanceOfEmbedded(t *testing.T) {
	t.Parallel()
	networkproxytest.Run(t, func(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
		c.Enabled = false // Embedded enables it
		h := startWith(t, networkproxy.NewBuilder().Config(c).Embedded().Resolver(networkproxytest.Resolver{}))
		if h.AdminAddr() != "" {
			t.Error("Embedded has an admin API")
		}
		return h
	})
}
