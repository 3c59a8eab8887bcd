// Tests that the completion scripts have every command and flag. The end-to-end
// suite types into the shells.

package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCompletionScripts checks the scripts against the table of commands.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	scripts := make(map[string]string)
	for _, shell := range shells() {
		p := start(t, "completion", shell)
		if status := p.status(t); status != 0 || p.stderr.String() != "" {
			t.Fatalf("%s: exit %d, %s", shell, status, &p.stderr)
		}
		scripts[shell] = p.stdout.String()
		if left := regexp.MustCompile(`@[a-z]+@`).FindString(scripts[shell]); left != "" {
			t.Errorf("%s: %s was not replaced", shell, left)
		}
	}
	// match returns the first group of a pattern in a script.
	match := func(shell, pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(scripts[shell])
		if m == nil {
			return ""
		}
		return m[1]
	}
	bashNames := strings.Fields(match("bash", `n == 1\)\); then\n\t\t_networkproxy_words '([^']*)'`))
	files, choices := 0, 0
	for _, c := range commands() {
		if !slices.Contains(bashNames, c.name) {
			t.Errorf("bash: no command %s in %q", c.name, bashNames)
		}
		if match("zsh", `(?m)^\t\t'(`+c.name+`):`) == "" {
			t.Errorf("zsh: no command %s", c.name)
		}
		if match("fish", `(?m)-n __networkproxy_first -a (`+c.name+`) `) == "" {
			t.Errorf("fish: no command %s", c.name)
		}
		inBash := strings.Fields(match("bash", `(?m)^\t\t`+c.name+`\) _networkproxy_words '([^']*)'`))
		inZsh := match("zsh", `(?ms)^\t\(`+c.name+`\)$(.*?)^\t\t;;`)
		bash := match("bash", `(?m)^\t`+c.name+`\) (.*) ;;$`)
		fish := match("fish", `(?m)^complete -c networkproxy -n '__networkproxy_in `+c.name+`' (-[aF].*)$`)
		var ok bool
		switch {
		case c.words != nil:
			words := strings.Join(c.words(), " ")
			ok = strings.Contains(bash, "'"+words+"'") && strings.Contains(inZsh, ":("+words+")'") && fish == "-a '"+words+"'"
		case c.file:
			ok = strings.HasPrefix(bash, "_networkproxy_files ") && strings.Contains(inZsh, "'1:file:_files'") && fish == "-F"
		case c.commandLine:
			ok = strings.HasPrefix(bash, "_networkproxy_command ") && strings.Contains(inZsh, "_normal'") && fish == "-a '(__networkproxy_command)'"
		default:
			ok = bash == "" && fish == ""
		}
		if !ok {
			t.Errorf("operands of %s: bash %q, zsh %q, fish %q", c.name, bash, inZsh, fish)
		}
		flags, _ := c.flagSet(new(program))
		for _, f := range flagsOf(flags) {
			if !slices.Contains(inBash, "-"+f.Name) {
				t.Errorf("bash: no -%s of %s in %q", f.Name, c.name, inBash)
			}
			zsh := regexp.MustCompile(`(?m)^\t\t\t'\*-` + f.Name + `\[.*$`).FindString(inZsh)
			fish := match("fish", `(?m)^complete -c networkproxy -n '__networkproxy_in `+c.name+`' -o (`+f.Name+` .*)$`)
			if zsh == "" || fish == "" {
				t.Errorf("no -%s of %s: zsh %q, fish %q", f.Name, c.name, zsh, fish)
			}
			if value, _ := describeFlag(f); value != "" && match("bash", `[\t ](`+c.name+`:`+f.Name+`)(?: \| .*)?\) return 0`) == "" &&
				match("bash", `[\t ](`+c.name+`:`+f.Name+`) \| .*\) return 0`) == "" {
				t.Errorf("bash: -%s of %s has no value", f.Name, c.name)
			}
			bash := match("bash", `(?m)^\t\t`+c.name+`:`+f.Name+`\) (.*)$`)
			if wantsFile(f) {
				files++
				if !strings.HasPrefix(bash, "_networkproxy_files ") || !strings.Contains(zsh, ":_files") || !strings.HasSuffix(fish, " -r -F") {
					t.Errorf("-%s of %s does not complete files: bash %q, zsh %q, fish %q", f.Name, c.name, bash, zsh, fish)
				}
			}
			if w, ok := f.Value.(interface{ words() []string }); ok {
				choices++
				words := strings.Join(w.words(), " ")
				if !strings.Contains(bash, "'"+words+"'") || !strings.Contains(zsh, ":("+words+")") || !strings.HasSuffix(fish, " -x -a '"+words+"'") {
					t.Errorf("-%s of %s does not complete %q: bash %q, zsh %q, fish %q", f.Name, c.name, words, bash, zsh, fish)
				}
			}
		}
	}
	if files < 8 || choices < 8 {
		t.Errorf("found only %d flags with files and %d with known values", files, choices)
	}
}

func TestCompletionArguments(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "networkproxy: name a shell: bash, zsh or fish (networkproxy completion -h for help)\n"},
		{[]string{"tcsh"}, "networkproxy: no completion for \"tcsh\": the shells are bash, zsh, fish (networkproxy completion -h for help)\n"},
		{[]string{"zsh", "x"}, "networkproxy: unexpected argument \"x\" (networkproxy completion -h for help)\n"},
	} {
		p := start(t, append([]string{"completion"}, tt.args...)...)
		if status := p.status(t); status != exitUsage || p.stderr.String() != tt.want || p.stdout.String() != "" {
			t.Errorf("%q: exit %d, %q, want %q", tt.args, status, &p.stderr, tt.want)
		}
	}
}
