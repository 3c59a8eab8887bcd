//go:build !unix

package trust

// openNonblock is 0, because paths of files name no pipes on this system.
const openNonblock = 0
