//go:build e2e && linux

// This file types command lines into real shells with the completion scripts of
// the program.

package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/networkproxy/e2e/harness"
	"example.com/networkproxy/internal/testnet"
)

// TestCompletion types the beginnings of command lines and a tab into each shell.
// In the shell, networkproxy is a function that prints its arguments.
func TestCompletion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, file := range []string{"settings.toml", "zzcommand"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lines := map[string]string{
		"sel\t":                              "selftest",
		"run -qui\t":                         "run -quiet",
		"run -log-format j\t":                "run -log-format json",
		"-log-level deb\t":                   "-log-level debug",
		"-http 127.0.0.1:0 -obs\t":           "-http 127.0.0.1:0 -observe",
		"check -config sett\t":               "check -config settings.toml",
		"init sett\t":                        "init settings.toml",
		"-pres\tgit\t":                       "-preset github",
		"help self\t":                        "help selftest",
		"completion z\t":                     "completion zsh",
		"run -allow x -- zzc\t":              "run -allow x -- zzcommand",
		"run -allow x zzc\t":                 "run -allow x zzcommand",
		"run -allow x -- zzcommand -x set\t": "run -allow x -- zzcommand -x settings.toml",
	}
	for _, shell := range []struct {
		name   string
		args   []string
		script string // typed first
	}{
		{"bash", []string{"--norc", "--noprofile", "-i"}, `bind 'set enable-bracketed-paste off'; source <(%s completion bash); networkproxy() { printf '<%%s>\n' "$*"; }; PS1=`},
		{"zsh", []string{"-f", "-i"}, `autoload -Uz compinit; compinit -u -D; source <(%s completion zsh); networkproxy() { printf '<%%s>\n' "$*"; }; PS1= PROMPT_SP=`},
		{"fish", []string{"--no-config", "--private"}, `%s completion fish | source; function networkproxy; printf '<%%s>\n' "$argv"; end`},
	} {
		t.Run(shell.name, func(t *testing.T) {
			t.Parallel()
			control, terminal := testnet.Terminal(t)
			cmd := exec.Command(shell.name, shell.args...)
			cmd.Dir = dir
			cmd.Env = []string{"TERM=dumb", "PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			terminal.Close()
			screen, closed := new(testnet.Buffer), make(chan struct{})
			go func() {
				defer close(closed)
				if _, err := io.Copy(screen, control); err != nil && !errors.Is(err, syscall.EIO) { // the shell has exited
					t.Error(err)
				}
			}()
			t.Cleanup(func() {
				cmd.Process.Kill()
				cmd.Wait()
				<-closed
				if t.Failed() {
					t.Logf("screen:\n%q", screen)
				}
			})
			fmt.Fprintf(control, shell.script+"\n", lab.program())
			for line, want := range lines {
				seen := len(screen.String())
				fmt.Fprintf(control, "networkproxy %s\n", line)
				want = "<" + want + ">"
				harness.Eventually(t, fmt.Sprintf("%q becomes %s", line, want), func() bool {
					return strings.Contains(strings.ReplaceAll(screen.String()[seen:], " >", ">"), want)
				})
			}
		})
	}
}
