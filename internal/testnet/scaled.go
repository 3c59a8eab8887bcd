package testnet

import "testing"

// Scaled returns n, or a tenth of it under -short, but at least 1. It is for sizes and counts that make a test slow.
func Scaled(n int) int {
	if testing.Short() {
		return max(1, n/10)
	}
	return n
}

// Chosen reports whether a test that does many rows in several ways does this row in this way. Under -short it chooses
// one way of each parts ways, and another one for the next row. With at least as many ways as parts, every row and every
// way are still tested. Without -short it chooses all.
func Chosen(row, way, parts int) bool {
	return !testing.Short() || (row+way)%parts == 0
}
