// Reloads whose ConfigSource, file or log handler blocks or calls the Handle.

package networkproxy_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/networkproxy"
)

// hangingSource starts a proxy with a ConfigSource that blocks from its second
// call on until the test ends, even after its context has ended.
func hangingSource(t testing.TB, config networkproxy.Config) (*lab, chan struct{}) {
	t.Helper()
	config.Enabled = true
	calling, release := make(chan struct{}, 16), make(chan struct{})
	var calls atomic.Int32
	l := startSource(t, func(b *networkproxy.Builder) {
		b.ConfigSource(func(context.Context) (networkproxy.Config, error) {
			if calls.Add(1) > 1 {
				calling <- struct{}{}
				<-release
			}
			return config, nil
		})
	}, nil)
	t.Cleanup(func() { close(release) })
	return l, calling
}

func TestHangingSourceFreezesNothing(t *testing.T) {
	t.Parallel()
	l, calling := hangingSource(t, allow("a.example"))
	reloaded := make(chan error, 1)
	go func() { reloaded <- l.Reload(context.Background()) }()
	<-calling

	for _, test := range []struct {
		name string
		f    func()
	}{
		{"DenyDomain", func() {
			if err := l.DenyDomain("a.example"); err != nil {
				t.Error(err)
			}
		}},
		{"SetMode", func() {
			if err := l.SetMode(networkproxy.ModeLimited); err != nil {
				t.Error(err)
			}
		}},
		{"/health", func() {
			if got := l.admin("GET", "/health", ""); got.status != 200 {
				t.Errorf("got %d %s", got.status, got.body)
			}
		}},
		{"/mode", func() {
			if got := l.admin("POST", "/mode", `{"mode":"limited"}`); got.status != 200 {
				t.Errorf("got %d %s", got.status, got.body)
			}
		}},
		{"/reload", func() {
			if got := l.admin("POST", "/reload", ""); got.status != 409 || !strings.Contains(got.body, "under way") {
				t.Errorf("got %d %s", got.status, got.body)
			}
		}},
		{"Config", func() { l.Config() }},
		{"Warnings", func() { l.Warnings() }},
		{"Reload", func() {
			if err := l.Reload(context.Background()); !errors.Is(err, networkproxy.ErrReloading) {
				t.Error(err)
			}
		}},
		{"OpenSession", func() { l.command("x").Close() }},
	} {
		within(t, test.name, test.f)
	}
	if got := l.reason("http://a.example/"); got != networkproxy.ReasonDenied {
		t.Errorf("the deny is not in force: %q", got)
	}
	within(t, "Shutdown", func() {
		if err := l.Shutdown(context.Background()); !errors.Is(err, networkproxy.ErrCallbackRunning) {
			t.Error(err)
		}
	})
	if err := <-reloaded; !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("the reload that blocks: %v", err)
	}
	if !strings.Contains(l.log.String(), "left behind") {
		t.Error("the log does not name the function that did not return")
	}
}

func TestReloadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l, calling := hangingSource(t, allow("a.example"))
	ctx, cancel := context.WithCancel(context.Background())
	reloaded := make(chan error, 1)
	go func() { reloaded <- l.Reload(ctx) }()
	<-calling
	cancel()
	if err := <-reloaded; !errors.Is(err, context.Canceled) {
		t.Errorf("Reload: %v", err)
	}
	if got := l.admin("GET", "/health", ""); !strings.Contains(got.body, `"degraded"`) {
		t.Errorf("/health: got %s", got.body)
	}
	within(t, "Close", func() { l.Close() })
}

func TestSourceMayCallTheHandle(t *testing.T) {
	t.Parallel()
	config := allow("a.example")
	config.Enabled = true
	var l *lab
	var again error
	l = startSource(t, func(b *networkproxy.Builder) {
		b.ConfigSource(func(ctx context.Context) (networkproxy.Config, error) {
			if l == nil {
				return config, nil
			}
			c := l.Config() // like a host that changes one setting
			c.Policy.AllowedDomains = append(c.Policy.AllowedDomains, "b.example")
			again = l.Reload(ctx)
			return c, errors.Join(l.SetMode(networkproxy.ModeLimited), l.DenyDomain("c.example"))
		})
	}, nil)
	within(t, "Reload", func() {
		if err := l.Reload(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if !errors.Is(again, networkproxy.ErrReloading) {
		t.Errorf("a reload started by the source: %v", again)
	}
	for host, want := range map[string]networkproxy.Reason{"b.example": "", "c.example": networkproxy.ReasonDenied} {
		if got := l.reason("http://" + host + "/"); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	if l.Mode() != networkproxy.ModeLimited {
		t.Error("the mode that the source set is not in force")
	}
}

// callbackHandler is a log handler that calls a function for every line.
type callbackHandler struct{ call func(slog.Record) }

func (h callbackHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h callbackHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h callbackHandler) WithGroup(string) slog.Handler            { return h }
func (h callbackHandler) Handle(_ context.Context, r slog.Record) error {
	h.call(r)
	return nil
}

func TestLogHandlerMayCallTheHandle(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, `policy.allowed_domains = ["a.example"]`)
	var handle atomic.Pointer[networkproxy.Handle]
	var reloads atomic.Int32
	l := startFile(t, func(b *networkproxy.Builder) {
		b.Logger(slog.New(callbackHandler{func(r slog.Record) {
			h := handle.Load()
			if h == nil {
				return
			}
			h.Config()
			h.Warnings()
			if r.Message == "reloaded" && reloads.Add(1) == 1 {
				if err := h.Reload(context.Background()); err != nil {
					t.Error(err)
				}
			}
		}}))
	}, f.path)
	handle.Store(l.Handle)
	for _, test := range []struct {
		name string
		call func() error
	}{
		{"Reload", func() error { return l.Reload(context.Background()) }},
		{"SetMode", func() error { return l.SetMode(networkproxy.ModeLimited) }},
		{"AllowDomain", func() error { return l.AllowDomain("b.example") }},
	} {
		within(t, test.name, func() {
			if err := test.call(); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		})
	}
	eventually(t, "the reload by the handler", func() bool { return reloads.Load() == 2 })
}
