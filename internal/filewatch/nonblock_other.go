//go:build !unix

package filewatch

// openNonblock is 0, because paths of files name no pipes on this system.
const openNonblock = 0
