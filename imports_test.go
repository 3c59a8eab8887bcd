// Tests of the structure: which package may import which, and how large the root
// may grow.

package networkproxy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const modulePath = "example.com/networkproxy"

// importTable states which packages of the module each package imports. A line
// with # begins a layer. A package imports packages of lower layers only: so the
// fronts never import each other, and nothing in internal/ imports the root.
// Names leave out internal/, and networkproxy is the root.
const importTable = `
# programs, examples and the test suite for embedders
bench:             networkproxy ca hostname udpbatch
bench/soak:
cmd/networkproxy:  networkproxy ca domain hostname typo upstream
deploy:
e2e:
examples/agent:    networkproxy
e2e/fence:
e2e/tls:
e2e/rules:
e2e/trust:
examples/ask:      networkproxy
examples/decider:  networkproxy
examples/embed:    networkproxy
networkproxytest:  networkproxy hostname pindial

# API and wiring
networkproxy:      ca httpproxy socksproxy capture fence fakedns adminhttp gate approval audit policy
                   hostcall unixsock track pindial upstream domain httprule
                   credential feed childenv filewatch hostname jsonobject learned loopback tomltable trust

# fronts
adminhttp:         adminpage track
httpproxy:         gate policy http1 track tunnel upstream hostname jsonobject
                   credential httprule mirror sniff
socksproxy:        gate approval audit policy socksudp udpbatch
                   pindial track tunnel upstream hangup hostname share

capture:           gate approval audit policy fakedns
                   track tunnel hangup hostname sniff

# gates for the tests of fronts
gatetest:          gate audit policy domain testnet track

# decisions and their connections
gate:              approval audit policy hostcall unixsock clienthello share credential
                   pindial track tunnel upstream hostname httprule
# questions and grants, and viewers of events
feed:              audit
approval:          audit policy hostcall hostname share
# records and counters
audit:             policy hostname jsonobject share
# rules
policy:            credential domain hostname httprule ipclass

# mechanisms, which know no policy
credential:        hostname httprule
fakedns:           hostname
fence:             landlock netlink seccomp seatbelt
hostcall:          pindial
unixsock:          pindial

# mechanisms
domain:            hostname
http1:             hangup
ca:                hostname
learned:           filelock
httprule:          hostname typo
mirror:            hostname
pindial:           hostname loopback
tomltable:         typo
track:             share
trust:             filelock
upstream:          hostname

# mechanisms that stand alone
adminpage:
childenv:
clienthello:
filelock:
filewatch:
hangup:
hostname:
ipclass:
jsonobject:
landlock:
loopback:
netlink:
seatbelt:
seccomp:
share:
sniff:
socksudp:
tunnel:
typo:
udpbatch:

# for end-to-end tests only
e2e/harness:       testnet

# for tests only
testnet:
`

// testImports holds the imports that only tests may have, in addition to
// packages of lower layers.
var testImports = map[string]string{
	"networkproxy":   "networkproxytest", // the root passes the test suite for embedders
	"examples/agent": "networkproxytest", // a host tests itself with it
	"examples/embed": "networkproxytest", // and so does this one
	"e2e/fence":      "networkproxytest", // it runs the test suite for embedders in fences
	"capture":        "httpproxy",        // its tests serve HTTP
	"approval":       "gate",             // its tests ask through a gate
}

func TestImportsGoDownwards(t *testing.T) {
	t.Parallel()
	allowed, layer := parseImportTable(importTable)
	below := func(pkg, imported string) bool {
		_, known := layer[imported]
		return known && layer[imported] > layer[pkg]
	}
	for pkg, imports := range allowed {
		for _, imported := range imports {
			if !below(pkg, imported) {
				t.Errorf("importTable lets %s import %s, which is not in a lower layer", pkg, imported)
			}
		}
	}
	used := make(map[string][]string)
	for _, system := range []string{"linux", "darwin", "windows"} {
		for pkg, found := range modulePackages(t, system) {
			if _, known := layer[pkg]; !known {
				t.Errorf("%s: importTable has no row for %s", system, pkg)
				continue
			}
			used[pkg] = append(used[pkg], moduleImports(found.Imports)...)
			for _, imported := range moduleImports(found.Imports) {
				if !slices.Contains(allowed[pkg], imported) {
					t.Errorf("%s: %s imports %s, which its row of importTable does not allow", system, pkg, imported)
				}
			}
			for _, imported := range moduleImports(slices.Concat(found.TestImports, found.XTestImports)) {
				if imported != pkg && imported != testImports[pkg] && !below(pkg, imported) {
					t.Errorf("%s: a test of %s imports %s, which is not in a lower layer", system, pkg, imported)
				}
			}
		}
	}
	for pkg, imports := range allowed {
		if _, found := used[pkg]; !found {
			t.Errorf("importTable has a row for %s, which is not a package", pkg)
			continue
		}
		for _, imported := range imports {
			if !slices.Contains(used[pkg], imported) {
				t.Errorf("importTable lets %s import %s, but it does not: remove that", pkg, imported)
			}
		}
	}
}

// parseImportTable returns the allowed imports and the layer of every package.
// Layers are numbered from the top. A row may continue on the next lines.
func parseImportTable(table string) (allowed map[string][]string, layer map[string]int) {
	allowed, layer = make(map[string][]string), make(map[string]int)
	depth, pkg := 0, ""
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "#") {
			depth++
			continue
		}
		imports := line
		if name, rest, ok := strings.Cut(line, ":"); ok {
			pkg, imports = name, rest
			layer[pkg] = depth
		}
		allowed[pkg] = append(allowed[pkg], strings.Fields(imports)...)
	}
	delete(allowed, "") // empty lines above the first row
	return allowed, layer
}

// modulePackages returns the packages of the module for an operating system, by
// their names in importTable. Files that need the e2e or soak tag count.
func modulePackages(t *testing.T, system string) map[string]*build.Package {
	t.Helper()
	context := build.Default
	context.GOOS, context.CgoEnabled, context.BuildTags = system, false, []string{"e2e", "soak"}
	packages := make(map[string]*build.Package)
	err := filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); dir != "." && err == nil ||
			d.Name() == "testdata" || len(d.Name()) > 1 && strings.ContainsAny(d.Name()[:1], "._") {
			return filepath.SkipDir
		}
		found, err := context.ImportDir(dir, 0)
		if noGo := (*build.NoGoError)(nil); errors.As(err, &noGo) {
			return nil
		}
		packages[shortName(filepath.ToSlash(filepath.Join(modulePath, dir)))] = found
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// moduleImports returns the names in importTable of the module's packages in paths.
func moduleImports(paths []string) []string {
	var names []string
	for _, p := range paths {
		if p == modulePath || strings.HasPrefix(p, modulePath+"/") {
			names = append(names, shortName(p))
		}
	}
	return names
}

// shortName returns the name in importTable of a package of the module.
func shortName(importPath string) string {
	if importPath == modulePath {
		return "networkproxy"
	}
	return strings.TrimPrefix(strings.TrimPrefix(importPath, modulePath+"/"), "internal/")
}

// hostModules are the modules that a program gets by importing the root.
var hostModules = []string{
	"github.com/pelletier/go-toml/v2",
	"github.com/things-go/go-socks5",
	"golang.org/x/net",
	"golang.org/x/sync",
	"golang.org/x/text",
}

// TestModulesOfAHost makes a program that imports the root only. The root adds
// hostModules to its module graph and to its go.mod, and no other module has
// a package in the program.
//
// After go mod tidy, "go list -m all" also lists the modules that these require
// for other packages and for tests, such as the test libraries of go-socks5. The
// go command reads their go.mod files. It compiles nothing of them.
func TestModulesOfAHost(t *testing.T) {
	t.Parallel()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.sum":  string(sums),
		"main.go": "package main\n\nimport _ \"" + modulePath + "\"\n\nfunc main() {}\n",
		"go.mod":  "module host.example\n\ngo 1.26.0\n\nrequire " + modulePath + " v0.0.0\n\nreplace " + modulePath + " => " + root + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) []byte {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOPROXY=off", "GOSUMDB=off", "GOFLAGS=-mod=mod", "GOWORK=off")
		cmd.Stderr = t.Output()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	check := func(what string, modules []string) {
		t.Helper()
		slices.Sort(modules)
		modules = slices.DeleteFunc(slices.Compact(modules), func(path string) bool { return path == "host.example" || path == modulePath })
		if !slices.Equal(modules, hostModules) {
			t.Errorf("%s: got %q, want %q", what, modules, hostModules)
		}
	}
	check("the module graph", strings.Fields(string(run("list", "-m", "-f", "{{.Path}}", "all"))))
	check("the packages of the program", strings.Fields(string(run("list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "."))))
	var file struct{ Require []struct{ Path string } } // go list has added what it needs
	if err := json.Unmarshal(run("mod", "edit", "-json"), &file); err != nil {
		t.Fatal(err)
	}
	var required []string
	for _, r := range file.Require {
		required = append(required, r.Path)
	}
	check("go.mod", required)
}

// Bounds of the root, which holds the API and its wiring only. Move work into a
// package of internal/ before you raise them.
const (
	maxRootFiles     = 28
	maxRootFileLines = 400
	maxRootCycle     = 4
)

func TestRootStaysSmall(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	if len(names) > maxRootFiles {
		t.Errorf("the root has %d files without tests, want at most %d", len(names), maxRootFiles)
	}
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(source, []byte("\n")); lines > maxRootFileLines {
			t.Errorf("%s has %d lines, want at most %d", name, lines, maxRootFileLines)
		}
	}
}

// TestRootFilesHaveFewCycles bounds the largest group of root files in which
// every file refers to every other, directly or through others.
func TestRootFilesHaveFewCycles(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("type-checks the root package, and may compile what it imports")
	}
	refers := fileReferences(t)
	for changed := true; changed; { // add references through other files
		changed = false
		for from := range refers {
			before := len(refers[from])
			for via := range maps.Clone(refers[from]) {
				maps.Copy(refers[from], refers[via])
			}
			changed = changed || len(refers[from]) > before
		}
	}
	var largest []string
	for file := range refers {
		var cycle []string
		for other := range refers[file] {
			if refers[other][file] {
				cycle = append(cycle, other)
			}
		}
		if len(cycle) > len(largest) {
			largest = cycle
		}
	}
	slices.Sort(largest)
	t.Logf("largest group: %s", strings.Join(largest, " "))
	if len(largest) > maxRootCycle {
		t.Errorf("%d root files refer to each other in a circle, want at most %d: %s",
			len(largest), maxRootCycle, strings.Join(largest, " "))
	}
}

// fileReferences returns, for every file of the root, the files that declare the
// package-level names, methods and fields that it uses.
func fileReferences(t *testing.T) map[string]map[string]bool {
	t.Helper()
	dir, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	refers := make(map[string]map[string]bool)
	for _, name := range dir.GoFiles {
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		refers[name] = make(map[string]bool)
	}
	info := types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", exportData(t))}
	root, err := config.Check(modulePath, fset, files, &info)
	if err != nil {
		t.Fatal(err)
	}
	for use, object := range info.Uses {
		if object.Pkg() == root {
			refers[fset.File(use.Pos()).Name()][fset.File(object.Pos()).Name()] = true
		}
	}
	return refers
}

// exportData returns a function that opens the compiler's export data of a
// package that the root imports.
func exportData(t *testing.T) importer.Lookup {
	t.Helper()
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".")
	list.Env = append(os.Environ(), "GOPROXY=off")
	list.Stderr = t.Output()
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		importPath, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[importPath] = file
	}
	return func(importPath string) (io.ReadCloser, error) { return os.Open(files[importPath]) }
}
