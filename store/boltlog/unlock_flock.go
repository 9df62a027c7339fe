//go:build unix && !solaris && !aix

package boltlog

import (
	"os"
	"syscall"
)

// unlock releases bolt's lock: closing the file does not while its memory map
// stays.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
