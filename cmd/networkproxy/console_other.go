//go:build !windows && !darwin && !(linux && (386 || amd64 || arm || arm64 || loong64 || riscv64 || s390x))

package main

// discardInput does nothing here.
func (c *console) discardInput() {}
