// Tests of hosts that are allowed or denied for good.

package networkproxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// learnedHead is the beginning of a learned file.
const learnedHead = "# networkproxy: learned hosts\n[network_proxy.policy]\n"

func newLearned(t testing.TB) string { return filepath.Join(t.TempDir(), "learned.toml") }

// withLearned sets the learned file.
func withLearned(path string) func(*networkproxy.Builder) {
	return func(b *networkproxy.Builder) { b.LearnedFile(path) }
}

// remember must succeed.
func (l *lab) remember(action networkproxy.AmendmentAction, pattern, comment string) {
	l.t.Helper()
	if err := l.Remember(context.Background(), networkproxy.Amendment{Action: action, Pattern: pattern, Comment: comment}); err != nil {
		l.t.Fatalf("Remember %s %s: %v", action, pattern, err)
	}
}

// ruleOf returns the entry that decides about a host, as "file:line:column
// pattern".
func (l *lab) ruleOf(host string) string {
	l.t.Helper()
	x, err := l.ExplainURL(context.Background(), host+":443", "", false)
	if err != nil {
		l.t.Fatal(err)
	}
	rule := x.Rule
	for _, c := range x.Checks {
		if c.Rule != (networkproxy.Rule{}) {
			rule = c.Rule
		}
	}
	return rule.Position.String() + " " + rule.Pattern
}

// lastRule returns the entry of the newest refusal.
func (l *lab) lastRule() networkproxy.Rule {
	l.t.Helper()
	list := l.Blocked()
	if len(list) == 0 {
		l.t.Fatal("no refusal is recorded")
	}
	return list[len(list)-1].Rule
}

func writeLearned(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestRememberInALearnedFile(t *testing.T) {
	t.Parallel()
	path := newLearned(t)
	f := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = [\"config.example\", \"open.example\"]\n")
	l := startFile(t, withLearned(path), f.path)
	l.mapHost("open.example", 443, testnet.Echo(t).Addr())
	tunnel := l.connect("open.example:443")

	l.remember(networkproxy.AmendAllow, "API.example", "approved by the user")
	l.remember(networkproxy.AmendDeny, "open.example", "")
	waitClosed(t, "a tunnel to a host that is denied for good", tunnel)
	l.remember(networkproxy.AmendAllow, "api.example", "again")
	l.remember(networkproxy.AmendAllow, "localhost:8000", "")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	day := time.Now().Format(time.DateOnly)
	if want := "\"api.example\", # " + day + " approved by the user\n"; strings.Count(string(data), "api.example") != 1 || !strings.Contains(string(data), want) {
		t.Errorf("the file is\n%s\nwant one line %q", data, want)
	}
	check := func(l *lab) {
		t.Helper()
		for host, want := range map[string]string{
			"api.example":    path + ":9:3 api.example",
			"open.example":   path + ":13:3 open.example",
			"localhost":      " ",
			"config.example": f.path + ":4:20 config.example",
		} {
			if got := l.ruleOf(host); got != want {
				t.Errorf("%s is decided by %q, want %q", host, got, want)
			}
		}
		c := l.Config()
		if got := c.Policy.AllowedDomains; !slices.Equal(got, []string{"config.example", "open.example", "api.example", "localhost:8000"}) {
			t.Errorf("the configuration allows %q", got)
		}
		if got := c.Policy.DeniedDomains; !slices.Equal(got, []string{"open.example"}) {
			t.Errorf("the configuration denies %q", got)
		}
	}
	check(l)
	l.get("http://open.example/")
	if got := l.lastRule().Position; got.File != path || got.Line != 13 {
		t.Errorf("the refusal has the position %v, want line 13 of the learned file", got)
	}
	var patterns struct{ Allowed, Denied []networkproxy.Rule }
	if err := json.Unmarshal([]byte(l.admin("GET", "/patterns", "").body), &patterns); err != nil {
		t.Fatal(err)
	}
	if n := len(patterns.Allowed); n != 4 || patterns.Allowed[2].Position.File != path || patterns.Allowed[2].Position.Line != 9 {
		t.Errorf("/patterns has %+v", patterns.Allowed)
	}
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	check(l)
	check(startFile(t, withLearned(path), f.path)) // the next run

	if err := l.RemoveDomain("api.example"); err == nil || !strings.Contains(err.Error(), "Forget") {
		t.Errorf("RemoveDomain of a remembered entry: got %v, want an error that names Forget", err)
	}
	for _, pattern := range []string{"api.example", "open.example"} {
		if err := l.Forget(context.Background(), pattern); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Forget(context.Background(), "api.example"); err == nil || !strings.Contains(err.Error(), "was not remembered") {
		t.Errorf("Forget twice: got %v, want an error", err)
	}
	if err := l.Forget(context.Background(), "config.example"); err == nil {
		t.Error("Forget of an entry of the configuration: got no error")
	}
	if got := []string{l.ruleOf("api.example"), l.ruleOf("open.example")}; got[0] != " " || !strings.HasPrefix(got[1], f.path) {
		t.Errorf("after Forget the hosts are decided by %q", got)
	}
}

// TestRememberedEntriesFollowTheFile edits the learned file as another process or
// a person does.
func TestRememberedEntriesFollowTheFile(t *testing.T) {
	t.Parallel()
	path := newLearned(t)
	l := start(t, allow(), withLearned(path))
	l.mapHost("a.example", 443, testnet.Echo(t).Addr())
	l.remember(networkproxy.AmendAllow, "a.example", "")
	tunnel := l.connect("a.example:443")
	writeLearned(t, path, learnedHead+"allowed_domains = [\n\"b.example\", # by hand\n]\n")
	waitClosed(t, "a tunnel to a host that was removed from the file", tunnel)
	eventually(t, "the entry of the file is in force", func() bool { return l.ruleOf("b.example") == path+":4:1 b.example" })

	// Remember keeps what it finds.
	writeLearned(t, path, learnedHead+"denied_domains = [\n\"c.example\",\n]\n")
	l.remember(networkproxy.AmendAllow, "d.example", "")
	if got := []string{l.ruleOf("b.example"), l.ruleOf("c.example"), l.ruleOf("d.example")}; !slices.Equal(got,
		[]string{" ", path + ":4:1 c.example", path + ":7:3 d.example"}) {
		t.Errorf("the hosts are decided by %q", got)
	}

	// A broken file changes nothing.
	writeLearned(t, path, learnedHead+"denied_domains = [\n\"c.exam")
	if err := l.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), path+":4:") {
		t.Errorf("a broken file: got %v, want an error with its position", err)
	}
	err := l.Remember(context.Background(), networkproxy.Amendment{Action: networkproxy.AmendAllow, Pattern: "e.example"})
	if !errors.Is(err, networkproxy.ErrNotSaved) {
		t.Errorf("Remember in a broken file: got %v, want ErrNotSaved", err)
	}
	if got := []string{l.ruleOf("c.example"), l.ruleOf("e.example")}; got[0] != path+":4:1 c.example" || got[1] != "(remembered at run time) e.example" {
		t.Errorf("the hosts are decided by %q", got)
	}
	if data, _ := os.ReadFile(path); string(data) != learnedHead+"denied_domains = [\n\"c.exam" {
		t.Errorf("the broken file was changed to\n%s", data)
	}

	// The entry that was not saved can be forgotten, and saved by another try.
	os.Remove(path)
	l.remember(networkproxy.AmendAllow, "e.example", "")
	if got := l.ruleOf("e.example"); !strings.HasPrefix(got, path) {
		t.Errorf("after the second try the host is decided by %q", got)
	}
	writeLearned(t, path, "")
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := l.ruleOf("e.example"); got != " " {
		t.Errorf("after the file was emptied, the host is decided by %q", got)
	}
}

func TestLearnedFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := writeConfig(t, dir, "config.toml", string(tomlFile("")))
	limits := writeConfig(t, dir, "limits.toml", string(tomlFile("")))
	link, samefile := filepath.Join(dir, "link.toml"), filepath.Join(dir, "samefile.toml")
	if err := errors.Join(os.Symlink(config, link), os.Link(config, samefile)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, path, want string }{
		{"a configuration file", config, "it is the configuration file"},
		{"another name of it", samefile, "it is the configuration file"},
		{"the managed limits", limits, "it is the configuration file"},
		{"a symbolic link", link, "configuration file"},
		{"a symbolic link to nothing", func() string { p := filepath.Join(dir, "dangling"); os.Symlink(p+".none", p); return p }(), "symbolic link"},
		{"a directory", dir, "not a regular file"},
		{"a file in place of its directory", filepath.Join(config, "learned.toml"), "it cannot be examined: not a directory"},
		{"a hand-written file", writeConfig(t, dir, "mine.toml", "[network_proxy.policy]\nallowed_domains = [\"a.example\"]\n"), "does not begin with the line"},
		{"another key", writeConfig(t, dir, "keys.toml", learnedHead+"allow_local_binding = true\n"), "keys.toml:3:1"},
		{"a syntax error", writeConfig(t, dir, "syntax.toml", learnedHead+"allowed_domains = [\n  \"a.example\n]\n"), "syntax.toml:4:3"},
		{"an invalid pattern", writeConfig(t, dir, "pattern.toml", learnedHead+"allowed_domains = [\n  \"http://a.example/\",\n]\n"), "pattern.toml:4:3"},
		{"deny everything", writeConfig(t, dir, "deny.toml", learnedHead+"denied_domains = [\n  \"*\",\n]\n"), "deny.toml:4:3"},
		{"empty", "", "LearnedFile"},
	} {
		before, _ := os.ReadFile(test.path)
		_, err := networkproxy.NewBuilder().ConfigFile(config).Requirements(limits).LearnedFile(test.path).Build()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got the error %v, want %q in it", test.name, err, test.want)
		}
		if after, _ := os.ReadFile(test.path); string(after) != string(before) {
			t.Errorf("%s: the file was changed to %q", test.name, after)
		}
	}
	_, err := networkproxy.NewBuilder().ConfigFile(config).LearnedFile(filepath.Join(dir, "new.toml")).
		AmendmentWriter(func(context.Context, networkproxy.Amendment) error { return nil }).Build()
	if err == nil || !strings.Contains(err.Error(), "exclude each other") {
		t.Errorf("with an AmendmentWriter: got %v, want an error", err)
	}
}

// writeConfig writes a file in dir and returns its path.
func writeConfig(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRememberErrors(t *testing.T) {
	t.Parallel()
	path := newLearned(t)
	limits := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = [\"**.corp.example\"]\n")
	f := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = []\n")
	l := startFile(t, func(b *networkproxy.Builder) { b.LearnedFile(path).Requirements(limits.path) }, f.path)
	l.remember(networkproxy.AmendDeny, "denied.corp.example", "")
	before, _ := os.ReadFile(path)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	const allow, deny = networkproxy.AmendAllow, networkproxy.AmendDeny
	for _, test := range []struct {
		name    string
		ctx     context.Context
		action  networkproxy.AmendmentAction
		pattern string
		limit   bool
	}{
		{"outside the limits", t.Context(), allow, "other.example", true},
		{"wider than the limits", t.Context(), allow, "*", true},
		{"denied before", t.Context(), allow, "denied.corp.example", false},
		{"not a pattern", t.Context(), allow, "http://corp.example/", false},
		{"deny everything", t.Context(), deny, "*", false},
		{"TOML", t.Context(), deny, "x\", \"y", false},
		{"two lines", t.Context(), deny, "x.example\n]\nallow_local_binding = true", false},
		{"comment", t.Context(), deny, "x.example # y", false},
		{"empty", t.Context(), deny, "", false},
		{"no action", t.Context(), "", "a.corp.example", false},
		{"forget", t.Context(), networkproxy.AmendForget, "denied.corp.example", false},
		{"canceled", canceled, allow, "a.corp.example", false},
	} {
		generation := l.generation()
		err := l.Remember(test.ctx, networkproxy.Amendment{Action: test.action, Pattern: test.pattern})
		var limit *networkproxy.LimitError
		if err == nil || errors.As(err, &limit) != test.limit || errors.Is(err, networkproxy.ErrNotSaved) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got the error %v, want one line and a *LimitError: %t", test.name, err, test.limit)
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) || l.generation() != generation {
			t.Errorf("%s: the policy or the file was changed", test.name)
		}
	}
	l.remember(deny, "other.example", "") // the limits do not apply to a deny

	without := start(t, networkproxy.DefaultConfig(), nil)
	if err := without.Remember(t.Context(), networkproxy.Amendment{Action: deny, Pattern: "a.example"}); err == nil || !strings.Contains(err.Error(), "LearnedFile") {
		t.Errorf("without a file and a writer: got %v, want an error that names LearnedFile", err)
	}
	l.Close()
	for _, err := range []error{
		l.Remember(t.Context(), networkproxy.Amendment{Action: deny, Pattern: "a.example"}),
		l.Forget(t.Context(), "other.example"),
	} {
		if !errors.Is(err, networkproxy.ErrClosed) {
			t.Errorf("after the end of the proxy: got %v, want %v", err, networkproxy.ErrClosed)
		}
	}
}

// generation returns the generation of the policy in force.
func (l *lab) generation() uint64 {
	x, err := l.ExplainURL(context.Background(), "x.example:443", "", false)
	if err != nil {
		l.t.Fatal(err)
	}
	return x.Generation
}

// TestLearnedEntriesNeverExceedTheLimits tightens and widens the managed limits
// while learned entries are in force, and starts with entries outside them.
func TestLearnedEntriesNeverExceedTheLimits(t *testing.T) {
	t.Parallel()
	path := newLearned(t)
	writeLearned(t, path, learnedHead+"allowed_domains = [\n\"outside.example\",\n]\n")
	const wide = "[network_proxy.policy]\nallowed_domains = [\"**.corp.example\"]\n"
	limits := newConfigFile(t, wide)
	f := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = []\n")
	l := startFile(t, func(b *networkproxy.Builder) { b.LearnedFile(path).Requirements(limits.path) }, f.path)
	l.mapHost("a.corp.example", 443, testnet.Echo(t).Addr())
	warned := func(entry string) bool {
		return slices.ContainsFunc(l.Warnings(), func(w string) bool {
			return strings.HasPrefix(w, path+":") && strings.Contains(w, entry) && strings.Contains(w, limits.path)
		})
	}
	if got := l.ruleOf("outside.example"); got != " " || !warned("outside.example") {
		t.Errorf("an entry outside the limits decides %q, and the warnings are %q", got, l.Warnings())
	}
	l.remember(networkproxy.AmendAllow, "a.corp.example", "")
	tunnel := l.connect("a.corp.example:443")

	limits.replace("[network_proxy.policy]\nallowed_domains = [\"b.corp.example\"]\n")
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "a tunnel outside the tightened limits", tunnel)
	if got := l.ruleOf("a.corp.example"); got != " " || !warned("a.corp.example") {
		t.Errorf("an entry outside the tightened limits decides %q, and the warnings are %q", got, l.Warnings())
	}
	if c := l.Config(); len(c.Policy.AllowedDomains) != 0 {
		t.Errorf("the configuration allows %q", c.Policy.AllowedDomains)
	}
	if data, _ := os.ReadFile(path); !strings.Contains(string(data), "a.corp.example") {
		t.Error("the entry was removed from the file")
	}
	limits.replace(wide)
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := l.ruleOf("a.corp.example"); !strings.HasPrefix(got, path) || warned("a.corp.example") {
		t.Errorf("within the widened limits the host is decided by %q, and the warnings are %q", got, l.Warnings())
	}
}

func TestAmendmentWriter(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []networkproxy.Amendment
	var result func(ctx context.Context) error
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.AmendmentWriter(func(ctx context.Context, a networkproxy.Amendment) error {
			mu.Lock()
			got = append(got, a)
			f := result
			mu.Unlock()
			if f != nil {
				return f(ctx)
			}
			return nil
		})
	})
	set := func(f func(context.Context) error) {
		mu.Lock()
		defer mu.Unlock()
		result = f
	}
	const allow = networkproxy.AmendAllow
	l.remember(allow, "A.example.", "why")
	l.remember(allow, "a.example", "") // the writer decides about duplicates
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if rule := l.ruleOf("a.example"); rule != "(remembered at run time) a.example" {
		t.Errorf("the host is decided by %q", rule)
	}

	full := errors.New("disk full")
	type key struct{}
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "mine"), time.Minute)
	defer cancel()
	for _, test := range []struct {
		name   string
		writer func(context.Context) error
		want   string
	}{
		{"error", func(context.Context) error { return full }, full.Error()},
		{"panic", func(context.Context) error { panic("no") }, "panicked: no"},
		{"Goexit", func(context.Context) error { runtime.Goexit(); return nil }, "without returning"},
		{"context", func(ctx context.Context) error { return fmt.Errorf("the value is %v", ctx.Value(key{})) }, "the value is mine"},
		{"blocks", func(context.Context) error { cancel(); <-release; return nil }, "context canceled"}, // the last
	} {
		set(test.writer)
		host := strings.ToLower(test.name) + ".example"
		err := l.Remember(ctx, networkproxy.Amendment{Action: allow, Pattern: host})
		if !errors.Is(err, networkproxy.ErrNotSaved) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "until the proxy ends") {
			t.Errorf("%s: got %v, want ErrNotSaved and %q", test.name, err, test.want)
		}
		if rule := l.ruleOf(host); rule == " " {
			t.Errorf("%s: the entry is not in force", test.name)
		}
	}

	set(func(context.Context) error { return full })
	if err := l.Forget(t.Context(), "a.example"); !errors.Is(err, full) || l.ruleOf("a.example") == " " {
		t.Errorf("Forget with an error: got %v, and the host is decided by %q", err, l.ruleOf("a.example"))
	}
	set(nil)
	for range 2 { // the entry may be one of an earlier run, which only the writer knows
		if err := l.Forget(t.Context(), "a.example"); err != nil {
			t.Fatal(err)
		}
	}
	if rule := l.ruleOf("a.example"); rule != " " {
		t.Errorf("after Forget the host is decided by %q", rule)
	}
	mu.Lock()
	defer mu.Unlock()
	want := networkproxy.Amendment{Action: allow, Pattern: "a.example", Comment: "why"}
	last := networkproxy.Amendment{Action: networkproxy.AmendForget, Pattern: "a.example"}
	if got[0] != want || got[len(got)-1] != last {
		t.Errorf("the writer got %+v first and %+v last, want %+v and %+v", got[0], got[len(got)-1], want, last)
	}
}

// TestShutdownNamesTheAmendmentWriter ends the proxy while the writer does not
// return.
func TestShutdownNamesTheAmendmentWriter(t *testing.T) {
	t.Parallel()
	writing, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	l := start(t, allow(), func(b *networkproxy.Builder) {
		networkproxy.SetCallbackGrace(b, 50*time.Millisecond)
		b.AmendmentWriter(func(context.Context, networkproxy.Amendment) error { close(writing); <-release; return nil })
	})
	remembered := make(chan error, 1)
	go func() {
		remembered <- l.Remember(context.Background(), networkproxy.Amendment{Action: networkproxy.AmendDeny, Pattern: "a.example"})
	}()
	wait(t, writing, "the call of the writer")
	if err := l.Close(); !errors.Is(err, networkproxy.ErrCallbackRunning) || !strings.Contains(err.Error(), "AmendmentWriter") {
		t.Errorf("Close: got %v, want one that names the AmendmentWriter", err)
	}
	if err := wait(t, remembered, "the end of Remember"); !errors.Is(err, networkproxy.ErrClosed) || !errors.Is(err, networkproxy.ErrNotSaved) {
		t.Errorf("Remember: got %v, want ErrClosed and ErrNotSaved", err)
	}
}

// TestRememberDuringReloads remembers hosts in two proxies with the same learned
// file while they reload. No entry is lost, each stays in force from the return
// of Remember on, and both proxies have all of them in the end.
func TestRememberDuringReloads(t *testing.T) {
	t.Parallel()
	path := newLearned(t)
	labs := []*lab{start(t, allow(), withLearned(path)), start(t, allow(), withLearned(path))}
	n := scaled(60)
	var adding, reloading sync.WaitGroup
	stop := make(chan struct{})
	for i, l := range labs {
		reloading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					// A file that changes all the time is not read.
					if err := l.Reload(context.Background()); err != nil && !strings.Contains(err.Error(), "being written") {
						t.Errorf("Reload: %v", err)
						return
					}
				}
			}
		})
		for g := range 2 {
			adding.Go(func() {
				for k := range n {
					host := fmt.Sprintf("h%d-%d-%d.example", i, g, k)
					a := networkproxy.Amendment{Action: networkproxy.AmendDeny, Pattern: host}
					if err := l.Remember(context.Background(), a); err != nil {
						t.Errorf("Remember: %v", err)
						return
					}
					for k := range k + 1 {
						host := fmt.Sprintf("h%d-%d-%d.example", i, g, k)
						if l.reason("http://"+host+"/") != networkproxy.ReasonDenied {
							t.Errorf("%s is no longer denied", host)
						}
					}
				}
			})
		}
	}
	adding.Wait()
	close(stop)
	reloading.Wait()
	for _, l := range labs {
		eventually(t, "all entries are in force", func() bool { return len(l.Config().Policy.DeniedDomains) == 4*n })
	}
	if data, _ := os.ReadFile(path); strings.Count(string(data), "\", #") != 4*n {
		t.Errorf("the file has %d entries, want %d", strings.Count(string(data), "\", #"), 4*n)
	}
}

// TestRememberWhileAReloadHasRead checks that a reload which has read the learned file
// before Remember writes it does not put the older content in force.
func TestRememberWhileAReloadHasRead(t *testing.T) {
	t.Parallel()
	src := newSource(allow())
	var during func()
	l := startSource(t, func(b *networkproxy.Builder) {
		b.ConfigSource(func(ctx context.Context) (networkproxy.Config, error) {
			if during != nil {
				during()
			}
			return src.load(ctx)
		})
	}, withLearned(newLearned(t)))
	during = func() { l.remember(networkproxy.AmendDeny, "bad.example", "") }
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := l.Config().Policy.DeniedDomains; !slices.Equal(got, []string{"bad.example"}) {
		t.Errorf("after the reload, the denied hosts are %q", got)
	}
}

// TestAddedDomains checks the positions of entries of Builder.AllowDomains and
// Builder.DenyDomains, and that managed limits which are tightened at run time
// apply to them.
func TestAddedDomains(t *testing.T) {
	t.Parallel()
	const wide = "[network_proxy.policy]\nallowed_domains = [\"**.corp.example\", \"file.example\"]\n"
	limits := newConfigFile(t, wide)
	f := newConfigFile(t, "[network_proxy.policy]\nallowed_domains = [\"file.example\"]\n")
	l := startFile(t, func(b *networkproxy.Builder) {
		b.Requirements(limits.path).
			AllowDomains("the flag -allow", "a.corp.example", "b.corp.example").AllowDomains("a preset", "c.corp.example").
			DenyDomains("the flag -deny", "d.corp.example")
	}, f.path)
	l.mapHost("b.corp.example", 443, testnet.Echo(t).Addr())
	check := func(when string, want map[string]string) {
		t.Helper()
		for host, rule := range want {
			if got := l.ruleOf(host); got != rule {
				t.Errorf("%s: %s is decided by %q, want %q", when, host, got, rule)
			}
		}
	}
	all := map[string]string{
		"file.example":   f.path + ":4:20 file.example",
		"a.corp.example": "the flag -allow a.corp.example",
		"b.corp.example": "the flag -allow b.corp.example",
		"c.corp.example": "a preset c.corp.example",
		"d.corp.example": "the flag -deny d.corp.example",
	}
	check("at the start", all)
	tunnel := l.connect("b.corp.example:443")
	l.get("http://d.corp.example/")
	if got := l.lastRule().Position.String(); got != "the flag -deny" {
		t.Errorf("the refusal has the position %q, want the flag", got)
	}
	f.replace("[network_proxy.policy]\nallowed_domains = [\"file.example\"]\ndenied_domains = []\n")
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("after a reload", all)

	limits.replace("[network_proxy.policy]\nallowed_domains = [\"a.corp.example\", \"file.example\"]\ndenied_domains = [\"e.corp.example\"]\n")
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "a tunnel outside the tightened limits", tunnel)
	check("after the limits were tightened", map[string]string{
		"file.example":   all["file.example"],
		"a.corp.example": all["a.corp.example"],
		"b.corp.example": " ",
		"c.corp.example": " ",
		"d.corp.example": all["d.corp.example"],
		"e.corp.example": limits.path + ":5:19 e.corp.example",
	})
	if health := l.admin("GET", "/health", "").body; !strings.Contains(health, "degraded") || !strings.Contains(health, "b.corp.example") {
		t.Errorf("/health does not name the entry that was cut back: %s", health)
	}
	limits.replace(wide)
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("after the limits were widened again", all)
}
