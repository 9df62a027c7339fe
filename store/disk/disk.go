// Package disk has the few file operations that replkv needs beside its
// engines, on a file system that a test can own. Each that returns nil is
// durable.
package disk

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/kv"
)

// FS is the file system that everything of a member lies on.
type FS = vfs.FS

// Default is the operating system's.
var Default FS = vfs.Default

// MkdirAll makes dir, and its missing parents, durable.
func MkdirAll(fs FS, dir string) error {
	var missing []string
	for d := dir; ; d = fs.PathDir(d) {
		_, err := fs.Stat(d)
		if err == nil {
			break
		}
		if !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		missing = append(missing, d)
		if fs.PathDir(d) == d {
			break
		}
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range missing {
		if err := SyncDir(fs, fs.PathDir(d)); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir makes the names in dir durable.
func SyncDir(fs FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteFile replaces the file name by one with the content b, atomically: by
// rename.
func WriteFile(fs FS, name string, b []byte) error {
	tmp := name + ".tmp"
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, name); err != nil {
		return err
	}
	return SyncDir(fs, fs.PathDir(name))
}

// Mark makes an empty file of that name.
func Mark(fs FS, name string) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), SyncDir(fs, fs.PathDir(name)))
}

// ReadFile returns the content of a file of at most limit bytes; fs.ErrNotExist
// if there is none.
func ReadFile(fs FS, name string, limit int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", kv.ErrCorrupt, name, limit)
	}
	return b, nil
}

// Lock takes the lock of a directory: kv.ErrDirLocked if another has it.
func Lock(fs FS, dir string) (io.Closer, error) {
	l, err := fs.Lock(fs.PathJoin(dir, "LOCK"))
	if err == nil {
		return l, nil
	}
	if errors.Is(err, iofs.ErrPermission) || errors.Is(err, iofs.ErrNotExist) {
		return nil, err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && errno != syscall.EAGAIN && errno != syscall.EACCES {
		return nil, err // of the disk, or the process
	}
	return nil, fmt.Errorf("%w: %s: %w", kv.ErrDirLocked, dir, err)
}
