//go:build !unix

package networkproxy

// openNonblock is not needed: paths of files lead to no pipes on this system.
const openNonblock = 0
