//go:build !linux && !darwin

package filewatch

import (
	"io/fs"
	"time"
)

// changeTime returns zero: this system does not report change times.
func changeTime(fs.FileInfo) time.Time { return time.Time{} }
