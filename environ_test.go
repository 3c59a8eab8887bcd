// The environment of a session's process, and that of a proxy that is off.

package networkproxy_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/childenv"
)

func TestEnvironOfSessionAndHandle(t *testing.T) {
	t.Parallel()
	config := networkproxy.DefaultConfig()
	config.Policy.AllowLocalBinding = true
	l := start(t, config, func(b *networkproxy.Builder) { b.ConnectHelper("np", "connect") })
	own := l.command("a")
	shared := l.open(networkproxy.SessionConfig{SharedPort: true})
	for _, test := range []struct {
		name string
		env  []string
		want string
	}{
		{"handle", l.Environ(nil), "http://" + l.HTTPAddr()},
		{"own port", own.Environ(nil), "http://" + own.HTTPAddr()},
		{"shared port", shared.Environ(nil), "http://session:" + shared.Token() + "@" + l.HTTPAddr()},
	} {
		for _, entry := range []string{"https_proxy=" + test.want, "NO_PROXY=localhost,127.0.0.1,::1"} {
			if !slices.Contains(test.env, entry) {
				t.Errorf("%s: no %s in the environment %q", test.name, entry, test.env)
			}
		}
		if last := test.env[len(test.env)-1]; !strings.HasPrefix(last, "GIT_SSH_COMMAND=") || strings.Contains(last, shared.Token()) {
			t.Errorf("%s: the last entry is %s", test.name, last)
		}
	}
}

// With a proxy that is off, by its file or because a Config leaves Enabled out,
// the environment makes every client fail. None bypasses the proxy.
func TestEnvironOfAProxyThatIsOff(t *testing.T) {
	t.Parallel()
	local := networkproxy.DefaultConfig()
	local.Policy.AllowLocalBinding = true
	path := filepath.Join(t.TempDir(), "off.toml")
	if err := os.WriteFile(path, []byte("[network_proxy]\nenabled = false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		b    *networkproxy.Builder
	}{
		{"the zero Config", networkproxy.NewBuilder().Config(networkproxy.Config{})},
		{"lists, but not Enabled", networkproxy.NewBuilder().Config(allow("a.example"))},
		{"local binding", networkproxy.NewBuilder().Config(local)},
		{"enabled = false", networkproxy.NewBuilder().ConfigFile(path)},
		{"a source", networkproxy.NewBuilder().ConfigSource(func(context.Context) (networkproxy.Config, error) {
			return networkproxy.Config{}, nil
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, err := test.b.Build()
			if err != nil {
				t.Fatal(err)
			}
			h, err := p.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			got := h.Environ([]string{"HTTP_PROXY=http://corporate.example:8080", "NO_PROXY=*", "HOME=/home/u"})
			want := (&childenv.Settings{Proxy: &url.URL{Scheme: "http", Host: "127.0.0.1:9"}}).Apply([]string{"HOME=/home/u"})
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			if w := strings.Join(h.Warnings(), "\n"); !strings.Contains(w, "the proxy is off") || !strings.Contains(w, "network_proxy.enabled") {
				t.Errorf("warnings: %q", w)
			}
		})
	}
}
