//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: this program needs Linux: it reads what a process costs from /proc")
	os.Exit(1)
}
