// Tests that the program accepts the command lines of the services, and that the
// dashboard and the alerts use the metrics that the proxy has.

package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
)

// read returns the text of a file, by its path relative to this directory.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestProgramAcceptsTheCommandLines runs the command line of every service with
// -check, with files of its own in place of those in the file system. The
// configuration is the one that networkproxy init writes.
func TestProgramAcceptsTheCommandLines(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the program")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "networkproxy")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("go", "build", "-o", program, "example.com/networkproxy/cmd/networkproxy")
	config := filepath.Join(dir, "config.toml")
	run(program, "init", config)
	if err := os.WriteFile(filepath.Join(dir, "admin-token"), []byte("a token of a test\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, line := range [][]string{unitCommand(t), plistArguments(t), containerCommand(t)} {
		if len(line) < 4 || filepath.Base(line[0]) != "networkproxy" || line[1] != "serve" {
			t.Errorf("the command line %q does not begin with networkproxy serve", line)
			continue
		}
		args := slices.Clone(line[1:])
		for i, arg := range args {
			if strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, "$") {
				args[i] = filepath.Join(dir, filepath.Base(arg))
			}
		}
		if got, want := run(program, append(args, "-check")...), config+": ok\n"; got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// unitCommand returns the command line of networkproxy.service.
func unitCommand(t *testing.T) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(read(t, "networkproxy.service"))
	if m == nil {
		t.Fatal("the unit has no ExecStart")
	}
	return strings.Fields(m[1])
}

// plistArguments returns the ProgramArguments of the launchd daemon.
func plistArguments(t *testing.T) []string {
	t.Helper()
	var plist struct {
		Dict struct {
			Elements []struct {
				XMLName xml.Name
				Text    string   `xml:",chardata"`
				Strings []string `xml:"string"`
			} `xml:",any"`
		} `xml:"dict"`
	}
	// Unmarshal would ignore what follows the first element.
	d := xml.NewDecoder(strings.NewReader(read(t, "example.networkproxy.plist")))
	if err := d.Decode(&plist); err != nil {
		t.Fatal(err)
	}
	for {
		if token, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if _, space := token.(xml.CharData); err != nil || !space {
			t.Fatalf("the plist continues after its end with %v (%v)", token, err)
		}
	}
	elements := plist.Dict.Elements
	if len(elements) == 0 || len(elements)%2 != 0 {
		t.Fatalf("the dictionary of the plist has %d elements, want pairs of a key and a value", len(elements))
	}
	var arguments []string
	for i := 0; i < len(elements); i += 2 {
		key, value := elements[i], elements[i+1]
		if key.XMLName.Local != "key" || value.XMLName.Local == "key" {
			t.Errorf("the plist has <%s>%s where a key and its value should be", key.XMLName.Local, key.Text)
		}
		if key.Text == "ProgramArguments" {
			arguments = value.Strings
		}
	}
	return arguments
}

// containerCommand returns the ENTRYPOINT and the CMD of the image.
func containerCommand(t *testing.T) (line []string) {
	t.Helper()
	text := read(t, "Containerfile")
	for _, instruction := range []string{"ENTRYPOINT", "CMD"} {
		m := regexp.MustCompile(`(?m)^` + instruction + ` (.*)$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("the Containerfile has no %s", instruction)
		}
		var words []string
		if err := json.Unmarshal([]byte(m[1]), &words); err != nil {
			t.Fatalf("%s: %v", instruction, err)
		}
		line = append(line, words...)
	}
	return line
}

// family is a family of metrics: its type, and the labels of its samples.
type family struct {
	kind   string
	labels map[string]bool
}

// families returns what GET /metrics of a new proxy has, by name.
func families(t *testing.T) map[string]family {
	t.Helper()
	proxy, err := networkproxy.NewBuilder().
		Config(networkproxy.Config{Enabled: true, ProxyURL: "http://127.0.0.1:0", AdminURL: "http://127.0.0.1:0"}).Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := proxy.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	r, err := http.Get("http://" + h.AdminAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("GET /metrics: status %s, error %v", r.Status, err)
	}
	found := make(map[string]family)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllSubmatch(text, -1) {
		f := family{kind: string(m[2]), labels: map[string]bool{"job": true, "instance": true}} // Prometheus adds these
		for _, labels := range regexp.MustCompile(`(?m)^`+string(m[1])+`\{(.*)\}`).FindAllSubmatch(text, -1) {
			for _, label := range regexp.MustCompile(`(\w+)="`).FindAllSubmatch(labels[1], -1) {
				f.labels[string(label[1])] = true
			}
		}
		found[string(m[1])] = f
	}
	return found
}

// metric matches the name of a metric of the proxy, the labels that it is selected
// by, and the function around it.
var metric = regexp.MustCompile(`(\w*)\(?(networkproxy_\w+)(?:\{([^}]*)\})?`)

// checkExpr checks an expression of PromQL: its metrics and their labels exist, and
// only counters are in functions for counters. It returns the names of the metrics.
func checkExpr(expr string, known map[string]family) (names []string, err error) {
	var problems []error
	grouped := regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(expr, -1)
	for _, m := range metric.FindAllStringSubmatch(expr, -1) {
		function, name, selected := m[1], m[2], m[3]
		f, ok := known[name]
		if !ok {
			problems = append(problems, fmt.Errorf("%s is not a metric of the proxy", name))
			continue
		}
		names = append(names, name)
		if counts := function == "rate" || function == "increase"; counts != (f.kind == "counter") {
			problems = append(problems, fmt.Errorf("%s is a %s: only counters belong in rate and increase", name, f.kind))
		}
		var labels []string
		for _, label := range regexp.MustCompile(`(\w+)(?:=|!=|=~|!~)"`).FindAllStringSubmatch(selected, -1) {
			labels = append(labels, label[1])
		}
		for _, group := range grouped {
			labels = append(labels, strings.Split(group[1], ", ")...)
		}
		for _, label := range labels {
			if !f.labels[label] {
				problems = append(problems, fmt.Errorf("%s has no label %s", name, label))
			}
		}
	}
	return names, errors.Join(problems...)
}

// TestDashboardShowsEveryMetric checks that the panels use exactly the metrics of the
// proxy, and that Grafana can lay them out.
func TestDashboardShowsEveryMetric(t *testing.T) {
	t.Parallel()
	var dashboard struct {
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, RefID string }
		}
	}
	d := json.NewDecoder(bytes.NewReader([]byte(read(t, "dashboard.json"))))
	if err := d.Decode(&dashboard); err != nil {
		t.Fatal(err)
	}
	known, shown := families(t), make(map[string]bool)
	for _, v := range dashboard.Templating.List {
		for _, m := range metric.FindAllStringSubmatch(v.Definition, -1) {
			if _, ok := known[m[2]]; !ok {
				t.Errorf("the variable %s uses %s, which is not a metric of the proxy", v.Name, m[2])
			}
		}
	}
	ids := make(map[int]bool)
	occupied := make(map[[2]int]string)
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the ID %d", p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, taken := occupied[[2]int{x, y}]; taken || x >= 24 {
					t.Fatalf("the panel %q does not fit in the 24 columns beside %q", p.Title, other)
				}
				occupied[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			names, err := checkExpr(target.Expr, known)
			if err != nil || len(names) == 0 {
				t.Errorf("the panel %q shows %q, which has the metrics %q: %v", p.Title, target.Expr, names, err)
			}
			for _, name := range names {
				shown[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !shown[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// TestAlerts checks the expressions of the alerts, and that docs/operate.md has a row
// for each alert and no others.
func TestAlerts(t *testing.T) {
	t.Parallel()
	known := families(t)
	var names []string
	for _, alert := range regexp.MustCompile(`(?ms)- alert: (\w+)\n +expr: (.*?)\n +(?:for|labels):`).FindAllStringSubmatch(read(t, "alerts.yml"), -1) {
		names = append(names, alert[1])
		used, err := checkExpr(alert[2], known)
		if err != nil || len(used) == 0 && alert[1] != "NetworkproxyDown" {
			t.Errorf("the alert %s has the expression %q with the metrics %q: %v", alert[1], alert[2], used, err)
		}
	}
	var rows []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(Networkproxy\\w+)` \\|").FindAllStringSubmatch(read(t, "../docs/operate.md"), -1) {
		rows = append(rows, row[1])
	}
	if len(names) == 0 || !slices.Equal(names, rows) {
		t.Errorf("docs/operate.md has rows for %q, want %q", rows, names)
	}
}

// TestPorts checks that the firewall lets commands reach the proxies and not the admin
// API, which Prometheus reads, at the addresses that a configuration has by default.
func TestPorts(t *testing.T) {
	t.Parallel()
	defaults := networkproxy.DefaultConfig()
	port := func(address string) string { return address[strings.LastIndex(address, ":")+1:] }
	accepted := regexp.MustCompile(`dport (.*) accept`).FindAllStringSubmatch(read(t, "agent.nft"), -1)
	if want := fmt.Sprintf("{ %s, %s }", port(defaults.ProxyURL), port(defaults.SOCKSURL)); len(accepted) != 1 || accepted[0][1] != want {
		t.Errorf("agent.nft accepts %q, want the ports %s only", accepted, want)
	}
	if want := fmt.Sprintf("targets: [%q]", strings.TrimPrefix(defaults.AdminURL, "http://")); !strings.Contains(read(t, "prometheus.yml"), want) {
		t.Errorf("prometheus.yml does not have %s", want)
	}
}
