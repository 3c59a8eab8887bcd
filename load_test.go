package networkproxy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"example.com/networkproxy/internal/filewatch"
)

func TestLayers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base := writeFile(t, dir, "base.toml", `
[network_proxy]
enabled = true
mode = "limited"
proxy_url = "http://127.0.0.1:1"
[network_proxy.policy]
allowed_domains = ["a.example", "b.example"]
denied_domains = ["c.example"]
`)
	over := writeFile(t, dir, "over.toml", `[network_proxy]
mode = "full"
sni_check = "off"
[network_proxy.policy]
allowed_domains = [
  "d.example",
]
allow_local_binding = false
`)
	off := writeFile(t, dir, "off.toml", "network_proxy.enabled = false\nnetwork_proxy.policy.allowed_domains = []\n")
	foreign := writeFile(t, dir, "foreign.toml", "[other]\nenabled = true\n")

	two := DefaultConfig()
	two.Enabled = true
	two.ProxyURL = "http://127.0.0.1:1"
	two.SNICheck = SNIOff
	two.Policy.AllowedDomains = []string{"d.example"}
	two.Policy.DeniedDomains = []string{"c.example"}

	swapped := two.clone()
	swapped.Mode = ModeLimited
	swapped.Policy.AllowedDomains = []string{"a.example", "b.example"}

	three := two.clone()
	three.Enabled = false
	three.Policy.AllowedDomains = []string{}

	tests := []struct {
		name     string
		files    []string
		want     Config
		origins  map[string]string // those that are not "default"
		warnings int
	}{
		{"none", nil, DefaultConfig(), nil, 0},
		{"two", []string{base, over}, two, map[string]string{
			keyEnabled:           base + ":3:11",
			keyMode:              over + ":2:8",
			keySNICheck:          over + ":3:13",
			keyProxyURL:          base + ":5:13",
			keyAllowedDomains:    over + ":5:19",
			keyDeniedDomains:     base + ":8:18",
			keyAllowLocalBinding: over + ":8:23",
		}, 0},
		{"two, swapped", []string{over, base}, swapped, map[string]string{
			keyEnabled:           base + ":3:11",
			keyMode:              base + ":4:8",
			keySNICheck:          over + ":3:13",
			keyProxyURL:          base + ":5:13",
			keyAllowedDomains:    base + ":7:19",
			keyDeniedDomains:     base + ":8:18",
			keyAllowLocalBinding: over + ":8:23",
		}, 0},
		{"default values and an empty array count", []string{base, over, off}, three, map[string]string{
			keyEnabled:           off + ":1:25",
			keyMode:              over + ":2:8",
			keySNICheck:          over + ":3:13",
			keyProxyURL:          base + ":5:13",
			keyAllowedDomains:    off + ":2:40",
			keyDeniedDomains:     base + ":8:18",
			keyAllowLocalBinding: over + ":8:23",
		}, 0},
		{"one without our table", []string{foreign}, DefaultConfig(), nil, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := loadFiles(test.files)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(s.Config, test.want) {
				t.Errorf("got  %+v\nwant %+v", s.Config, test.want)
			}
			want := make(map[string]string)
			for _, f := range s.Config.fields() {
				want[f.key] = "default"
				if o, ok := test.origins[f.key]; ok {
					want[f.key] = o
				}
				if got, o := s.position(f.key).String(), test.origins[f.key]; got != o {
					t.Errorf("%s is at %q, want %q", f.key, got, o)
				}
			}
			if got := s.sources(); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			if got := s.notices(); len(got) != test.warnings {
				t.Errorf("warnings: %q", got)
			}
		})
	}

	s, err := loadFiles([]string{base, over})
	if err != nil {
		t.Fatal(err)
	}
	// Elements have positions in the file of their array.
	if got, want := s.itemPosition(keyAllowedDomains, 0), (Position{over, 6, 3}); got != want {
		t.Errorf("an element of the later file: %v, want %v", got, want)
	}
	if got, want := s.itemPosition(keyDeniedDomains, 0), (Position{base, 8, 19}); got != want {
		t.Errorf("an element of the earlier file: %v, want %v", got, want)
	}
	if got := s.itemPosition(keyAllowedDomains, 1); got != (Position{}) {
		t.Errorf("an element of the replaced array is at %v", got)
	}
}

// Loading reports the mistakes in all files.
func TestLoadFilesReportsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := writeFile(t, dir, "a.toml", "[network_proxy]\nmodus = 1\nproxy_url = \"x.example\"\n")
	b := writeFile(t, dir, "b.toml", "network_proxy = \n")
	c := writeFile(t, dir, "c.toml", "[network_proxy]\nmode = \"half\"\nenabled = 0\n")
	missing := filepath.Join(dir, "missing.toml")

	_, err := loadFiles([]string{a, b, missing, c, dir, ""})
	got := lines(err)
	want := []string{
		a + `:2:1: network_proxy.modus: unknown key; `,
		b + `:1:1`,
		missing + `: check the path, or create the file: `,
		c + `:3:11: network_proxy.enabled: must be true or false, not a number`,
		dir + `: is a directory: name the file in it`,
		`the path of a configuration file is empty`,
		c + `:2:8: network_proxy.mode: unknown mode "half": use "full" or "limited"`,
		a + `:3:13: network_proxy.proxy_url = "x.example": the host "x.example" is neither an IP address nor localhost: write it like "http://127.0.0.1:3128"`,
	}
	if len(got) != len(want) {
		t.Fatalf("got:\n%s", strings.Join(got, "\n"))
	}
	for i, w := range want {
		if !strings.HasPrefix(got[i], w) {
			t.Errorf("got  %s\nwant %s", got[i], w)
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("errors.Is does not find fs.ErrNotExist")
	}
}

func TestReadConfigFileSize(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "large.toml")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(filewatch.MaxSize + 1); err != nil {
		t.Fatal(err)
	}
	_, err = loadFiles([]string{path})
	if want := path + ": is larger than 64 MiB: is it the right file?"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A configuration file may be a pipe, such as <(...) in a shell.
func TestReadConfigFromPipe(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // the path of a descriptor differs elsewhere
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("[network_proxy]\nenabled = true\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	s, err := loadFiles([]string{"/proc/self/fd/" + strconv.FormatUint(uint64(r.Fd()), 10)})
	if err != nil || !s.Config.Enabled {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestConfigFromGo(t *testing.T) {
	t.Parallel()
	if s := sourcedFromGo(Config{}); !reflect.DeepEqual(s.Config, DefaultConfig()) {
		t.Errorf("the zero Config is not the default: %+v", s.Config)
	} else if err := valueErrors(s); err != nil {
		t.Errorf("the zero Config is not valid: %v", err)
	} else if s.describe(keyMode) != "default" {
		t.Errorf("the mode of the zero Config is %s", s.describe(keyMode))
	}

	given := Config{
		Enabled:  true,
		AdminURL: "localhost:0",
		Mode:     ModeLimited,
		SNICheck: SNIOff,
		Policy:   PolicyConfig{AllowedDomains: []string{"a.example"}},
	}
	s := sourcedFromGo(given)
	want := DefaultConfig()
	want.Enabled = true
	want.AdminURL = "localhost:0"
	want.Mode = ModeLimited
	want.SNICheck = SNIOff
	want.Policy.AllowedDomains = []string{"a.example"}
	if !reflect.DeepEqual(s.Config, want) {
		t.Errorf("got  %+v\nwant %+v", s.Config, want)
	}
	set := map[string]bool{keyEnabled: true, keyAdminURL: true, keyMode: true, keySNICheck: true, keyAllowedDomains: true}
	for key, got := range s.sources() {
		if want := map[bool]string{true: "set from Go", false: "default"}[set[key]]; got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
		if s.position(key) != (Position{}) {
			t.Errorf("%s is in a file: %v", key, s.position(key))
		}
	}
	if got := s.itemPosition(keyAllowedDomains, 0); got != (Position{}) {
		t.Errorf("the element is in a file: %v", got)
	}

	// The caller keeps its slices.
	given.Policy.AllowedDomains[0] = "changed.example"
	if got := s.Config.Policy.AllowedDomains[0]; got != "a.example" {
		t.Errorf("the configuration shares a slice with the caller: %q", got)
	}
}

func TestErrorsInConfigFromGo(t *testing.T) {
	t.Parallel()
	s := sourcedFromGo(Config{
		ProxyURL: "ftp://127.0.0.1",
		Mode:     "Full",
		Policy:   PolicyConfig{AllowUnixSockets: []string{"/ok", "run/x"}},
	})
	got := lines(valueErrors(s))
	want := []string{
		`network_proxy.mode: unknown mode "Full": use "full" or "limited"`,
		`network_proxy.proxy_url = "ftp://127.0.0.1": the HTTP proxy does not listen for "ftp://": use http://`,
		`network_proxy.policy.allow_unix_sockets[1] = "run/x": not an absolute path: start it with "/"`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if err := s.checkListeners(nil); err != nil {
		t.Errorf("an address is reported twice: %v", err)
	}
}

func TestOverride(t *testing.T) {
	t.Parallel()
	s, err := loadText(t, "[network_proxy]\nproxy_url = \"127.0.0.1:1\"\n")
	if err != nil {
		t.Fatal(err)
	}
	s.Config.ProxyURL = "127.0.0.1:2"
	s.override(keyProxyURL)
	if got := s.describe(keyProxyURL); got != "set from Go" {
		t.Errorf("got %q", got)
	}
}

// The example configuration is valid and sets every key.
func TestExampleConfig(t *testing.T) {
	t.Parallel()
	s, err := loadFiles([]string{filepath.Join("examples", "config.toml")})
	if err != nil {
		t.Fatal(err)
	}
	var errs errorList
	allowed, denied := s.patterns(keyAllowedDomains, &errs), s.patterns(keyDeniedDomains, &errs)
	if err := errs.join(); err != nil {
		t.Error(err)
	}
	if err := s.checkListeners(nil); err != nil {
		t.Error(err)
	}
	if !s.Config.Enabled || len(allowed) == 0 || len(denied) == 0 {
		t.Errorf("the proxy is off, or a list is empty: %+v", s.Config)
	}
	if got := s.notices(); len(got) > 0 {
		t.Errorf("warnings: %q", got)
	}
	for key, from := range s.sources() {
		if from == "default" && key != keyMITMCACert && key != keyMITMCAKey { // of files that do not exist
			t.Errorf("%s is missing", key)
		}
	}
}

// loadFiles reads and merges files as at the start.
func loadFiles(paths []string) (*sourcedConfig, error) {
	var readings []filewatch.Reading
	for _, path := range paths {
		readings = append(readings, filewatch.ReadOnce(path, true))
	}
	s, _, err := mergeFiles(readings, nil, func(*sourcedConfig) {})
	return s, err
}

// valueErrors returns the mistakes in the values of a configuration.
func valueErrors(s *sourcedConfig) error {
	var errs errorList
	s.checkValues(&errs)
	return errs.join()
}
