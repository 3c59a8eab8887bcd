//go:build !linux

package fence

import (
	"errors"
	"os"
)

func sendNow(*os.File, []byte) error { return errors.ErrUnsupported }
