//go:build unix

package credential

import "os"

// privateFile reports whether only the owner of a file can change it, and only the owner
// and its group can read it.
func privateFile(info os.FileInfo) bool { return info.Mode().Perm()&0o027 == 0 }
