//go:build !windows

package trust

func systemRoots() (Roots, error) { return firstRoots(rootFiles, rootDirs) }
