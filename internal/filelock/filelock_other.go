//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package filelock

import (
	"errors"
	"os"
)

// errUnsupported is better than no lock: changes of several processes would be lost, or
// files in use removed.
var errUnsupported = errors.New("files cannot be locked on this system")

func tryFile(string) (*os.File, error) { return nil, errUnsupported }

func tryDir(string) (*os.File, error) { return nil, errUnsupported }
