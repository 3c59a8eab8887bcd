package credential

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httprule"
)

const secret = "ghp_0123456789abcdefABCDEF0123456789abcd"

func mustProvider(t testing.TB, s Spec) *Provider {
	t.Helper()
	p, problems := Parse(&s)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return p
}

func github(t testing.TB) *Provider {
	return mustProvider(t, Spec{Name: "github", Env: []string{"GITHUB_TOKEN", "GH_TOKEN"}, URLPrefixes: []string{"https://api.test/v1/", "https://git.test:8443"}})
}

func target(t testing.TB, text string) hostname.Target {
	t.Helper()
	target, err := hostname.ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ secret, prefix string }{
		{secret, "ghp_"},
		{"sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJ", "sk-proj-"},
		{"github_pat_11ABCDEFG0123456789_abcdefghijklmnopqrstuvwxyz", "github_pat_"},
		{"0123456789012345", ""},
		{"abcdefghijklmnop", ""},
		{"----------------", ""},
		{strings.Repeat("a-", 40) + "--", ""},
		{"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U", ""},
		{strings.Repeat("x", MaxSecret), ""},
	} {
		seen := make(map[string]bool)
		for range 50 {
			p := newPlaceholder(tt.secret)
			if !strings.HasPrefix(p, tt.prefix) || len(p) < minPlaceholder || len(p) < len(tt.secret) || seen[p] || p == tt.secret {
				t.Fatalf("%.30q: %.60q", tt.secret, p)
			}
			if len(tt.secret) >= 64 && len(p) != len(tt.secret) && strings.IndexByte(tt.secret, '-') < 0 {
				t.Errorf("%.30q: the placeholder has %d bytes, want %d", tt.secret, len(p), len(tt.secret))
			}
			if !randomTail(p, 0) {
				t.Errorf("%.30q: the end of %.60q is not random", tt.secret, p)
			}
			if strings.ContainsFunc(p, func(c rune) bool { return c <= ' ' || c > '~' }) {
				t.Errorf("%q has a byte that cannot be in a token", p)
			}
			seen[p] = true
			if m := mask(tt.secret, p); len(m) != len(tt.secret) || m == tt.secret {
				t.Errorf("the mask of %.30q is %.60q", tt.secret, m)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "short", strings.Repeat("x", MaxSecret+1), "0123456789abcdef\n", "0123456789\x00abcdef", "0123456789 abcdef", "0123456789abcdeé"} {
		if err := Check(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if err := Check(secret); err != nil {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		spec Spec
		want string // of the only problem
	}{
		{"valid", Spec{URLPrefixes: []string{"https://a.test/"}}, ""},
		{"no prefix", Spec{}, "url_prefixes"},
		{"plain HTTP", Spec{URLPrefixes: []string{"http://a.test/"}}, "plain text"},
		{"plain HTTP that is permitted", Spec{URLPrefixes: []string{"http://a.test/"}, Plaintext: true}, ""},
		{"another scheme", Spec{URLPrefixes: []string{"ftp://a.test/"}}, "https://"},
		{"no scheme", Spec{URLPrefixes: []string{"a.test"}}, "not a URL"},
		{"a wildcard", Spec{URLPrefixes: []string{"https://*.test/"}}, "invalid host"},
		{"a user", Spec{URLPrefixes: []string{"https://u@a.test/"}}, "invalid host"},
		{"a query", Spec{URLPrefixes: []string{"https://a.test/?x"}}, "query"},
		{"two readings", Spec{URLPrefixes: []string{"https://a.test/x/../y"}}, "path"},
		{"a variable", Spec{URLPrefixes: []string{"https://a.test"}, Env: []string{"A=B"}}, "variable"},
		{"a routing field", Spec{URLPrefixes: []string{"https://a.test"}, Headers: []string{"Host"}}, "frames or routes"},
		{"a proxy field", Spec{URLPrefixes: []string{"https://a.test"}, Headers: []string{"proxy-authorization"}}, "frames or routes"},
		{"no field name", Spec{URLPrefixes: []string{"https://a.test"}, Headers: []string{"a b"}}, "not the name"},
	} {
		_, problems := Parse(&tt.spec)
		if tt.want == "" && len(problems) == 0 {
			continue
		}
		if len(problems) != 1 || !strings.Contains(problems[0].Key+": "+problems[0].Text, tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, problems, tt.want)
		}
	}
}

func basic(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }

func TestExchange(t *testing.T) {
	t.Parallel()
	var r Registry
	p := github(t)
	set := NewSet([]*Provider{p, mustProvider(t, Spec{Name: "other", URLPrefixes: []string{"https://other.test/"}, Headers: []string{"X-Api-Key"}})})
	s, another := r.Open(), r.Open()
	place := func(s *Session, variable string) string {
		text, err := s.Placeholder(p, variable, secret, true)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	mine, second, theirs := place(s, "GITHUB_TOKEN"), place(s, "GH_TOKEN"), place(another, "GITHUB_TOKEN")
	if mine == second || mine == theirs || place(s, "GITHUB_TOKEN") != mine {
		t.Fatalf("placeholders: %q, %q, %q", mine, second, theirs)
	}
	ended := r.Open()
	dead := place(ended, "GITHUB_TOKEN")
	ended.Close()

	for _, tt := range []struct {
		name, url, field, value string
		want                    string // the value that is sent; "403" for a refusal
	}{
		{"whole", "https://api.test:443/v1/me", "Authorization", mine, secret},
		{"Bearer", "https://api.test:443/v1/me", "Authorization", "Bearer " + mine, "Bearer " + secret},
		{"token", "https://api.test:443/v1/x", "Authorization", "token " + second, "token " + secret},
		{"a password of Basic", "https://git.test:8443/r.git", "Authorization", basic("x:" + mine), basic("x:" + secret)},
		{"a user of Basic", "https://git.test:8443/", "Authorization", basic(mine + ":"), basic(secret + ":")},
		{"another path", "https://api.test:443/v2/me", "Authorization", mine, "403"},
		{"a path with the same beginning", "https://api.test:443/v10", "Authorization", mine, "403"},
		{"a path with two readings", "https://api.test:443/v1/../v2", "Authorization", mine, "403"},
		{"another host", "https://other.test:443/v1/me", "Authorization", mine, "403"},
		{"another port", "https://api.test:444/v1/me", "Authorization", mine, "403"},
		{"plain HTTP", "http://api.test:443/v1/me", "Authorization", mine, "403"},
		{"another field", "https://api.test:443/v1/me", "X-Other", mine, "403"},
		{"a cookie", "https://api.test:443/v1/me", "Cookie", "a=" + mine, "403"},
		{"a part", "https://api.test:443/v1/me", "Authorization", "Bearer x" + mine, "403"},
		{"another part", "https://api.test:443/v1/me", "Authorization", "Bearer " + mine + "x", "403"},
		{"two", "https://api.test:443/v1/me", "Authorization", "Bearer " + mine + "," + second, "403"},
		{"both of Basic", "https://api.test:443/v1/me", "Authorization", basic(mine + ":" + mine), "403"},
		{"two of Basic", "https://api.test:443/v1/me", "Authorization", basic(mine + ":" + second), "403"},
		{"a part of Basic", "https://api.test:443/v1/me", "Authorization", basic("x:y" + mine), "403"},
		{"in the path", "https://api.test:443/v1/" + mine, "Accept", "x", "403"},
		{"in the query", "https://api.test:443/v1/?t=" + mine, "Accept", "x", "403"},
		{"of another session", "https://api.test:443/v1/me", "Authorization", theirs, "403"},
		{"of an ended session", "https://api.test:443/v1/me", "Authorization", dead, dead},
		{"none", "https://api.test:443/v1/me", "Authorization", "Bearer " + strings.Repeat("x", 60), "Bearer " + strings.Repeat("x", 60)},
		{"the secret itself", "https://other.test:443/", "Authorization", secret, secret},
		{"Basic that is none", "https://api.test:443/v1/me", "Authorization", "Basic %%%", "Basic %%%"},
	} {
		scheme, rest, _ := strings.Cut(tt.url, "://")
		host, path, _ := strings.Cut(rest, "/")
		header := http.Header{tt.field: {"first", tt.value}, "Accept-Language": {"en"}}
		q := &Request{Secure: scheme == "https", Target: target(t, host), Session: s,
			HTTP: &httprule.Request{Method: "GET", Target: "/" + path, Header: header}}
		x, err := r.Exchange(context.Background(), set, q, header)
		var refused *NotAllowedError
		got := x.Field(strings.ToLower(tt.field), tt.value)
		if errors.As(err, &refused) {
			got = "403"
			if refused.Provider != "github" || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), mine) {
				t.Errorf("%s: %v", tt.name, err)
			}
		} else if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q (%v)", tt.name, got, tt.want, err)
		}
		if header[tt.field][1] != tt.value {
			t.Errorf("%s: the header was changed", tt.name)
		}
	}
}

// TestSourcesRotate: a placeholder stands for what the source returns at the time.
func TestSourcesRotate(t *testing.T) {
	t.Parallel()
	var r Registry
	p := github(t)
	s := r.Open()
	text, err := s.Placeholder(p, "GITHUB_TOKEN", secret, false)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Authorization": {text}}
	q := &Request{Secure: true, Target: target(t, "api.test:443"), Session: s, HTTP: &httprule.Request{Method: "GET", Target: "/v1/", Header: header}}
	path := filepath.Join(t.TempDir(), "secret")
	n := 0
	for name, source := range map[string]Source{
		"a file": File(path),
		"a function": Func(func(context.Context) (string, time.Time, error) {
			return fmt.Sprintf("%s%d", secret, n), time.Time{}, nil
		}),
	} {
		set := NewSet([]*Provider{p.WithSource(source)})
		for n = range 3 {
			now := fmt.Sprintf("%s%d", secret, n)
			next := filepath.Join(t.TempDir(), "next")
			if err := errors.Join(os.WriteFile(next, []byte(now+"\n"), 0o600), os.Rename(next, path)); err != nil {
				t.Fatal(err)
			}
			x, err := r.Exchange(context.Background(), set, q, header)
			if err != nil || x.Field("Authorization", text) != now || len(x.Masks) != 1 || x.Masks.Text(now) == now {
				t.Errorf("%s, %d: %v", name, n, err)
			}
		}
	}
	for name, bad := range map[string]Source{
		"an error": Func(func(context.Context) (string, time.Time, error) {
			return "", time.Time{}, errors.New("the keychain is locked")
		}),
		"a bad secret":   Func(func(context.Context) (string, time.Time, error) { return "with\r\nline ends in it", time.Time{}, nil }),
		"a missing file": File(path + "x"),
		"a directory":    File(t.TempDir()),
	} {
		x, err := r.Exchange(context.Background(), NewSet([]*Provider{p.WithSource(bad)}), q, header)
		if err == nil || strings.Contains(err.Error(), "line ends") || !strings.Contains(err.Error(), `"github"`) || x.Changes() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.Exchange(context.Background(), nil, q, header); err == nil {
		t.Error("a placeholder of a provider that is gone was passed on")
	}
	if os.Chmod(path, 0o644); runtime.GOOS != "windows" {
		if _, err := File(path).Secret(context.Background()); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a file that others can read: %v", err)
		}
	}
}

// TestFunctionsAreCalledOnce: calls at the same time share one, and a secret with a time is
// kept until then.
func TestFunctionsAreCalledOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		source := Func(func(context.Context) (string, time.Time, error) {
			calls++
			time.Sleep(time.Second)
			return secret, time.Now().Add(time.Minute), nil
		})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if got, err := source.Secret(t.Context()); got != secret || err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		source.Secret(t.Context())
		if calls != 1 {
			t.Errorf("%d calls, want 1", calls)
		}
		time.Sleep(2 * time.Minute)
		source.Secret(t.Context())
		if calls != 2 {
			t.Errorf("%d calls after the secret has expired, want 2", calls)
		}
		hanging := Func(func(ctx context.Context) (string, time.Time, error) {
			time.Sleep(time.Hour)
			return secret, time.Time{}, nil
		})
		began := time.Now()
		if _, err := hanging.Secret(t.Context()); err == nil || time.Since(began) != FuncTimeout {
			t.Errorf("a function that hangs: %v after %v", err, time.Since(began))
		}
		time.Sleep(2 * time.Hour)
	})
}

// readers returns readers of a body with masks: one that takes it for short, and one that
// takes it for long.
func (m Masks) readers(body func() io.Reader) []io.Reader {
	long := m.Reader(io.NopCloser(body())).(*maskedBody)
	long.prepare()
	return []io.Reader{m.Reader(io.NopCloser(body())), long}
}

// TestMaskedBodies compares the readers with strings.ReplaceAll, for every way to split.
func TestMaskedBodies(t *testing.T) {
	t.Parallel()
	masks := Masks{{secret: "aabaabaac", text: "XXXXXXXXX"}, {secret: "caab", text: "YYYY"}}
	rng := rand.New(rand.NewPCG(1, 2))
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for range rounds {
		var b strings.Builder
		for range rng.IntN(60) {
			b.WriteString([...]string{"a", "b", "c", "aab", "aabaabaac", "caab"}[rng.IntN(6)])
		}
		want := masks.Text(b.String())
		for _, split := range []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
		} {
			open := func() io.Reader { return split(strings.NewReader(b.String())) }
			bodies := masks.readers(open)
			for _, body := range masks.readers(open) {
				bodies = append(bodies, iotest.OneByteReader(body)) // into a buffer of one byte
			}
			for _, body := range bodies {
				got, err := io.ReadAll(body)
				if err != nil || strings.Contains(string(got), "aabaabaac") || strings.Contains(string(got), "caab") || len(got) != len(want) {
					t.Fatalf("%q: %q, %v, want %q", b.String(), got, err, want)
				}
			}
		}
	}
}

// TestMaskedLongBodies has secrets of all lengths at all places of a body that is long.
func TestMaskedLongBodies(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	letters := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"[rng.IntN(64)]
		}
		return string(b)
	}
	for _, lengths := range [][]int{{16}, {40}, {40, 60}, {255}, {256}, {257}, {MaxSecret, 16}} {
		var masks Masks
		for _, n := range lengths {
			masks = append(masks, Mask{secret: letters(n), text: strings.Repeat("*", n)})
		}
		var b strings.Builder
		for b.Len() < 4*longBody {
			b.WriteString(letters(rng.IntN(300)))
			b.WriteString(masks[rng.IntN(len(masks))].secret)
		}
		for i, body := range masks.readers(func() io.Reader { return strings.NewReader(b.String()) }) {
			got, err := io.ReadAll(body)
			if want := masks.Text(b.String()); err != nil || string(got) != want {
				t.Errorf("secrets of %d bytes, reader %d: %v, or %d bytes are not masked", lengths, i, err, strings.Count(string(got), masks[0].secret))
			}
		}
	}
}

// TestMaskedBodiesEndAtOnce: a body that returns its end with its last bytes does so with
// masks, too. Such a request is never reported as one that is open.
func TestMaskedBodiesEndAtOnce(t *testing.T) {
	t.Parallel()
	body := Masks{{secret: secret, text: strings.Repeat("x", len(secret))}}.Reader(io.NopCloser(iotest.DataErrReader(strings.NewReader("all of it"))))
	if n, err := body.Read(make([]byte, 100)); n != 9 || err != io.EOF {
		t.Errorf("%d bytes, %v; want 9 and %v", n, err, io.EOF)
	}
}

// TestMaskedBodiesAreNotDelayed: what cannot be part of a secret is passed on at once.
func TestMaskedBodiesAreNotDelayed(t *testing.T) {
	t.Parallel()
	pr, pw := io.Pipe()
	defer pw.Close()
	body := Masks{{secret: secret, text: strings.Repeat("x", len(secret))}}.Reader(pr)
	buf := make([]byte, 100)
	for _, tt := range []struct{ sent, want string }{
		{"data: 1\n\n", "data: 1\n\n"}, {"a gh", "a "}, {"p_x", "ghp_x"}, {secret[:30], ""},
	} {
		go io.WriteString(pw, tt.sent)
		if tt.want == "" {
			break
		}
		if n, err := body.Read(buf); err != nil || string(buf[:n]) != tt.want {
			t.Errorf("after %q: %q, %v, want %q", tt.sent, buf[:n], err, tt.want)
		}
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	t.Parallel()
	var r Registry
	s := r.Open()
	text, err := s.Placeholder(github(t), "GITHUB_TOKEN", secret, true)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range []any{&r, s, s.entries, s.entries[0], Masks{{secret, text, newSearch(secret)}}, Mask{secret, text, newSearch(secret)}, newSearch(secret)} {
		fmt.Fprintf(&out, "%v %+v %#v %s %q\n", v, v, v, v, v)
		log.Info("x", "v", v)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(data)
	if strings.Contains(out.String(), secret) {
		t.Errorf("printed: %s", out.String())
	}
}

func TestConcurrentSessions(t *testing.T) {
	t.Parallel()
	var r Registry
	p := github(t)
	set := NewSet([]*Provider{p})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				s := r.Open()
				text, err := s.Placeholder(p, "GITHUB_TOKEN", fmt.Sprintf("%s%d", secret, i), true)
				if err != nil {
					t.Error(err)
					return
				}
				header := http.Header{"Authorization": {"Bearer " + text}}
				q := &Request{Secure: true, Target: target(t, "api.test:443"), Session: s, HTTP: &httprule.Request{Method: "GET", Target: "/v1/", Header: header}}
				x, err := r.Exchange(context.Background(), set, q, header)
				if want := fmt.Sprintf("Bearer %s%d", secret, i); err != nil || x.Field("Authorization", "Bearer "+text) != want {
					t.Errorf("%v", err)
				}
				s.Close()
			}
		})
	}
	wg.Wait()
	if !r.Empty() || len(r.byKey) > 0 {
		t.Errorf("%d placeholders are left", r.count.Load())
	}
}

// FuzzMask: no way to split a body lets a secret through.
func FuzzMask(f *testing.F) {
	f.Add([]byte("aabaabaabaac"), uint8(3))
	masks := Masks{{secret: "aabaabaac", text: "XXXXXXXXX"}}
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		for _, body := range masks.readers(func() io.Reader { return &pieces{data, int(size) + 1} }) {
			got, err := io.ReadAll(body)
			if err != nil || len(got) != len(data) || bytes.Contains(got, []byte("aabaabaac")) {
				t.Fatalf("%q in pieces of %d: %q, %v", data, size+1, got, err)
			}
		}
	})
}

// pieces returns data in pieces of a size.
type pieces struct {
	data []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.data)
	p.data = p.data[n:]
	return n, nil
}
