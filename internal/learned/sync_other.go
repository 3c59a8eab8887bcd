//go:build !unix

package learned

// syncDir does nothing, because Windows cannot sync directories.
func syncDir(string) error { return nil }
