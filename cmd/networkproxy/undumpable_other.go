//go:build !linux

package main

// makeUndumpable does nothing, because this system shows the environment of a process in
// another way. docs/credentials.md says what to do.
func makeUndumpable() error { return nil }
