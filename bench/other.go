//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: needs Linux, because it reads the cost of processes from /proc")
	os.Exit(1)
}
