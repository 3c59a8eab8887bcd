// Sequences of partial writes, on a simulated clock.

package networkproxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/filewatch"
)

// idleListener replaces an open listener.
type idleListener struct{ net.Listener }

func (idleListener) Addr() net.Addr { return &net.UnixAddr{Name: "x", Net: "unix"} }
func (idleListener) Close() error   { return nil }

// wholeConfig returns the nth content of the file. The contents differ in length,
// and each one is valid TOML when it is cut at the end of nearly any line.
func wholeConfig(n int) string {
	return fmt.Sprintf("[network_proxy]\nenabled = true\n%smode = \"limited\"\n[network_proxy.policy]\nallowed_domains = [\"*\"]\n%sdenied_domains = [\"bad%d.example\"]\n",
		strings.Repeat("# a comment\n", n), strings.Repeat("# another comment\n", n), n)
}

// FuzzWatch writes the file in place as a script says: in pieces, with pauses
// that are shorter than filewatch.LongQuiet. Whatever the script, the
// configuration in force must always be one of the complete contents, and a
// content that remains must take effect within two seconds.
func FuzzWatch(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 9})
	f.Add([]byte{40, 9, 80, 9, 120, 9})
	f.Add([]byte{0, 9, 0, 9, 255, 9, 0, 9})
	f.Add([]byte("000000000000010101"))
	f.Add([]byte("0100000000000000000000"))
	f.Add([]byte{90, 9, 90, 9, 90, 9, 90, 9, 90, 9, 90, 9, 90, 9, 90, 9, 90, 9, 90, 9, 90, 9, 90, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 200)]
		path := filepath.Join(t.TempDir(), "c.toml")
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(wholeConfig(0))
		synctest.Test(t, func(t *testing.T) {
			b := NewBuilder().ConfigFile(path).Logger(slog.New(slog.DiscardHandler))
			p, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			h := newHandle(&p.settings, p.first, p.files)
			h.listeners.http = idleListener{}
			ctx, cancel := context.WithCancel(t.Context())
			defer synctest.Wait()
			defer cancel()
			h.reloader.watch(ctx)

			written := []string{"bad0.example"} // completely
			check := func() {
				c := h.Config()
				if c.Mode != ModeLimited || len(c.Policy.DeniedDomains) != 1 || !slices.Contains(written, c.Policy.DeniedDomains[0]) {
					t.Fatalf("a half-written file is in force: mode %s, denied %q", c.Mode, c.Policy.DeniedDomains)
				}
			}
			for i := 0; i+1 < len(script); i += 2 {
				content := wholeConfig(1 + i%7)
				n := len(content) * int(script[i]) / 255
				write(content[:n])
				if n == len(content) {
					written = append(written, fmt.Sprintf("bad%d.example", 1+i%7))
				}
				time.Sleep(time.Duration(script[i+1]%10) * filewatch.LongQuiet / 10) // on the simulated clock
				synctest.Wait()
				check()
			}
			write(wholeConfig(9))
			written = append(written, "bad9.example")
			time.Sleep(2 * time.Second)
			synctest.Wait()
			check()
			if got := h.Config().Policy.DeniedDomains; got[0] != "bad9.example" {
				t.Errorf("after two seconds the complete file is not in force: denied %q", got)
			}
		})
	})
}
