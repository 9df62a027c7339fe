//go:build !unix || solaris || aix

package boltlog

import "os"

// unlock has nothing to do: closing the file releases the lock.
func unlock(*os.File) error { return nil }
