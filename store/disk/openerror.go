package disk

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// OpenError names what pebble.Open says of a directory that is there already:
// kv.ErrFormatTooNew, kv.ErrDirLocked, or, unless the disk itself reports an
// error, kv.ErrCorrupt: Pebble marks damage as such in some places only.
func OpenError(err error) error {
	var errno syscall.Errno
	name := kv.ErrCorrupt
	switch {
	case err == nil, errors.Is(err, kv.ErrCorrupt), errors.Is(err, kv.ErrFormatTooNew):
		return err
	case strings.Contains(err.Error(), "unknown format major version"):
		name = kv.ErrFormatTooNew
	case errors.Is(err, syscall.EAGAIN): // how a lock is refused
		name = kv.ErrDirLocked
	case errors.Is(err, iofs.ErrNotExist), pebble.IsCorruptionError(err):
	case errors.As(err, &errno), errors.Is(err, iofs.ErrPermission):
		return err
	}
	return fmt.Errorf("%w: %w", name, err)
}
