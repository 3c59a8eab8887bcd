package networkproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"example.com/networkproxy/internal/tomltable"
)

// loadText loads one file with the given text, under the name c.toml.
func loadText(t testing.TB, text string) (*sourcedConfig, error) {
	t.Helper()
	var errs errorList
	s := newSourcedConfig()
	s.read("c.toml", []byte(text), &errs)
	s.checkValues(&errs)
	return s, errs.join()
}

// lines splits the text of a joined error.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func TestValueErrors(t *testing.T) {
	t.Parallel()
	const (
		np  = "[network_proxy]\n"
		pol = "[network_proxy.policy]\n"
	)
	tests := []struct {
		name string
		text string
		want []string
	}{
		{"mode", np + "mode = \"Limited\"\n",
			[]string{`c.toml:2:8: network_proxy.mode: unknown mode "Limited": use "full" or "limited"`}},
		{"SNI check", np + "sni_check = \"on\"\n",
			[]string{`c.toml:2:13: network_proxy.sni_check: unknown check "on": use "enforce" or "off"`}},
		{"SNI check by a boolean", np + "sni_check = false\n",
			[]string{`c.toml:2:13: network_proxy.sni_check: must be a string, not a boolean`}},
		{"URL", np + "\n admin_url = \"https://127.0.0.1:8080\"\n",
			[]string{`c.toml:3:14: network_proxy.admin_url = "https://127.0.0.1:8080": the admin API does not listen for "https://": use http://`}},
		{"relative socket", pol + "allow_unix_sockets = [\"/a\", \"b\"]\n",
			[]string{`c.toml:2:29: network_proxy.policy.allow_unix_sockets[1] = "b": not an absolute path: start it with "/"`}},
		{"unclean socket", pol + "allow_unix_sockets = [\n'/run/../a/']\n",
			[]string{`c.toml:3:1: network_proxy.policy.allow_unix_sockets[0] = "/run/../a/": not a clean path: write "/a"`}},
		{"home socket", pol + "allow_unix_sockets = ['~/a']\n",
			[]string{`c.toml:2:23: network_proxy.policy.allow_unix_sockets[0] = "~/a": ~ is not expanded here: write the absolute path`}},
		{"NUL in a socket", pol + "allow_unix_sockets = [\"/a\\u0000b\"]\n",
			[]string{`c.toml:2:23: network_proxy.policy.allow_unix_sockets[0] = "/a\x00b": a path cannot hold a NUL byte`}},
		{"root as a socket", pol + "allow_unix_sockets = ['/']\n",
			[]string{`c.toml:2:23: network_proxy.policy.allow_unix_sockets[0] = "/": names a directory: write the path of the socket`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := loadText(t, test.text)
			got := lines(err)
			if !reflect.DeepEqual(got, test.want) {
				t.Fatalf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			var cerr *ConfigError
			if !errors.As(err, &cerr) || cerr.Position.File != "c.toml" || cerr.Position.Line == 0 {
				t.Errorf("the first error has no position: %#v", cerr)
			}
		})
	}
}

func TestConfigWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want []string
	}{
		{"table", "[network_proxy]\n", nil},
		{"no table", "[other]\n", []string{"c.toml: no [network_proxy] table: nothing in this file configures the proxy"}},
		{"empty file", "", []string{"c.toml: no [network_proxy] table: nothing in this file configures the proxy"}},
		{"similar table beside ours", "[network_proxy]\n[network_proxy2]\n", []string{"c.toml:2:2: network_proxy2: unknown table; did you mean [network_proxy]?"}},
		{"similar table before ours", "[network_proxy2]\n[network_proxy]\nenabled = true\n", []string{"c.toml:1:2: network_proxy2: unknown table; did you mean [network_proxy]?"}},
		{"UDP alone", "[network_proxy]\nenable_socks5_udp = true\n",
			[]string{"network_proxy.enable_socks5_udp (c.toml:2:21) has no effect while enable_socks5 is false: nothing listens for SOCKS5"}},
		{"UDP and TCP", "[network_proxy]\nenable_socks5_udp = true\nenable_socks5 = true\n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := loadText(t, test.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.notices(); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q\nwant %q", got, test.want)
			}
		})
	}
}

// Of many mistakes in a file, only the first are reported.
func TestConfigErrorsAreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("[network_proxy]\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "key_%d = 1\n", i)
	}
	_, err := loadText(t, b.String())
	got := lines(err)
	if len(got) != 21 || got[20] != "and 4980 more" || !strings.HasPrefix(got[19], "c.toml:21:1: ") {
		t.Errorf("%d lines, the last two:\n%s", len(got), strings.Join(got[max(0, len(got)-2):], "\n"))
	}
}

// The keys in the tags of Config are those of its fields.
func TestConfigTagsMatchKeys(t *testing.T) {
	t.Parallel()
	var c Config
	want := make(map[string]any)
	for _, f := range c.fields() {
		want[f.key] = f.value
	}
	got := make(map[string]any)
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Tag.Get("toml") != f.Tag.Get("json") {
				t.Errorf("%s: TOML and JSON keys differ", f.Name)
			}
			key := prefix + "." + f.Tag.Get("toml")
			if f.Type.Kind() == reflect.Struct {
				walk(key, v.Field(i))
				continue
			}
			switch p := v.Field(i).Addr().Interface().(type) {
			case *bool:
				got[key] = tomltable.Bool(p)
			case *string:
				got[key] = tomltable.String(p)
			case *Mode:
				got[key] = tomltable.String(p)
			case *SNICheck:
				got[key] = tomltable.String(p)
			case *[]string:
				got[key] = tomltable.Strings(p)
			case *[]MITMHook, *map[string]CredentialProvider: // their Values have functions, and are never equal to others
				got[key] = want[key]
			}
		}
	}
	walk(keyRoot, reflect.ValueOf(&c).Elem())
	for _, key := range []string{keyMITMHooks, keyProviders} {
		delete(got, key)
		delete(want, key)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("tags: %v\nfields: %v", got, want)
	}
	for key, ptr := range got {
		if want[key] != ptr {
			t.Errorf("%s is the key of another field than the tag says", key)
		}
	}
}

// writeFile writes a file into dir and returns its path.
func writeFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func BenchmarkLoadFiles(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var text strings.Builder
			text.WriteString("[network_proxy]\nenabled = true\n[network_proxy.policy]\nallowed_domains = [\n")
			for i := range n {
				fmt.Fprintf(&text, "  \"host-%d.example.com\",\n", i)
			}
			text.WriteString("]\n")
			path := writeFile(b, b.TempDir(), "c.toml", text.String())
			b.SetBytes(int64(text.Len()))
			b.ReportAllocs()
			for b.Loop() {
				s, err := loadFiles([]string{path})
				if err != nil || len(s.Config.Policy.AllowedDomains) != n {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestPositionString(t *testing.T) {
	t.Parallel()
	tests := []struct {
		origin Position
		text   string
		json   string
	}{
		{Position{}, "", `{"file":""}`},
		{Position{File: "a.toml"}, "a.toml", `{"file":"a.toml"}`},
		{Position{"a.toml", 12, 3}, "a.toml:12:3", `{"file":"a.toml","line":12,"column":3}`},
	}
	for _, test := range tests {
		if got := test.origin.String(); got != test.text {
			t.Errorf("got %q, want %q", got, test.text)
		}
		if got, err := json.Marshal(test.origin); err != nil || string(got) != test.json {
			t.Errorf("got %s, %v, want %s", got, err, test.json)
		}
	}
}

func TestConfigErrorText(t *testing.T) {
	t.Parallel()
	at := Position{"a.toml", 1, 2}
	cause := errors.New("cause")
	tests := []struct {
		name string
		err  ConfigError
		want string
	}{
		{"everything", ConfigError{at, "k", "v", "problem", cause}, `a.toml:1:2: k = "v": problem`},
		{"cause alone", ConfigError{at, "k", "", "", cause}, `a.toml:1:2: k: cause`},
		{"from Go", ConfigError{Key: "k", Value: "v", Problem: "problem"}, `k = "v": problem`},
		{"whole file", ConfigError{Position: Position{File: "a.toml"}, Problem: "problem"}, `a.toml: problem`},
		{"boolean", ConfigError{Key: "k", Value: "true", Problem: "problem"}, `k = true: problem`},
		{"no line of its own", ConfigError{Key: "k", Value: "v\nlevel=INFO", Problem: "problem"}, `k = "v\nlevel=INFO": problem`},
		{"long value", ConfigError{Key: "k", Value: strings.Repeat("é", 100), Problem: "p"}, `k = "` + strings.Repeat("é", 60) + `"...: p`},
		{"cut between characters", ConfigError{Key: "k", Value: "a" + strings.Repeat("é", 100), Problem: "p"}, `k = "a` + strings.Repeat("é", 59) + `"...: p`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := test.err.Error(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if test.err.Err != nil && !errors.Is(&test.err, cause) {
				t.Error("errors.Is does not find the cause")
			}
		})
	}
}

func TestErrorListBounds(t *testing.T) {
	t.Parallel()
	var l errorList
	if err := l.join(); err != nil {
		t.Errorf("an empty list joins to %v", err)
	}
	l.add(nil)
	l.add(errors.Join())
	l.add(errors.Join(errors.New("number 0"), errors.New("number 1")))
	for i := range 20 {
		l.add(fmt.Errorf("number %d", i+2))
	}
	l.add(fs.ErrExist)
	got := lines(l.join())
	if len(got) != 21 || got[19] != "number 19" || got[20] != "and 3 more" {
		t.Errorf("got %q", got)
	}
	// Joining changes nothing.
	if again := lines(l.join()); len(again) != 21 {
		t.Errorf("the second join returns %q", again)
	}
}
