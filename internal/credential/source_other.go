//go:build !unix

package credential

import "os"

// privateFile returns true, because the mode tells nothing on this system.
func privateFile(os.FileInfo) bool { return true }
