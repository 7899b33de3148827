//go:build !linux && !darwin

package recorder

import (
	"errors"
	"os"
)

// The server runs on Linux. Elsewhere only recordings are opened, and what would
// write one fails.

var (
	errLocked   = errors.New("in use by another process")
	errPlatform = errors.New("recording needs Linux or macOS")
)

func diskSpace(string) (free, size uint64, err error) { return 0, 0, errPlatform }
func lock(*os.File) error                             { return errPlatform }
func syncDir(string) error                            { return errPlatform }
