package boltlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// fileName is what hashicorp's own programs call it.
const fileName = "raft.db"

// file is an open bolt file, and what raft-boltdb makes of it.
type file struct {
	*raftboltdb.BoltStore
	os *os.File // bolt's own
}

// openFile opens a bolt file, making an empty one if there is none.
func openFile(path string, lockTimeout time.Duration) (*file, error) {
	f := &file{}
	err := protect(func() (err error) {
		f.BoltStore, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: f.options(lockTimeout)})
		return err
	})
	if errors.Is(err, errPanicked) && f.os != nil {
		f.abandon() // or the lock would stay
	}
	if err != nil {
		return nil, marked(err)
	}
	return f, nil
}

// options leave syncs on, that of the free list included: without it, Open and
// a failed write scan the file on a goroutine of bolt's, where a damaged page
// would end the process.
func (f *file) options(lockTimeout time.Duration) *bbolt.Options {
	return &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType, // the array is slow once much has been deleted
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
			f.os, err = os.OpenFile(name, flag, mode)
			return f.os, err
		},
	}
}

// abandon gives up file and lock after a panic, when bolt's Close could wait
// for ever for bolt's own locks. The memory map stays until the process ends.
func (f *file) abandon() error { return errors.Join(unlock(f.os), f.os.Close()) }

// createFile sees to it that there is a file, and that it stays after a crash.
// bolt writes a new file in steps, and cannot open what a crash between them
// leaves: the file gets its name when it is complete. By a link, which never
// replaces what another process has made meanwhile; and under a name of its own
// before, since what is linked must not be what another one has begun.
func createFile(path string, lockTimeout time.Duration) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() == 0 {
		return fmt.Errorf("%w: %s is empty", kv.ErrCorrupt, path) // bolt would begin anew
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, removeUnfinished(path))
	}
	if err := removeUnfinished(path); err != nil {
		return err
	}
	unfinished, err := beginFile(path)
	if err != nil {
		return err
	}
	if err := writeEmpty(unfinished, lockTimeout); err != nil {
		return err
	}
	err = os.Link(unfinished, path)
	if errors.Is(err, fs.ErrNotExist) { // another process tidied up: it has made the file, or does
		return createFile(path, lockTimeout)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(removeFile(unfinished), disk.SyncDir(disk.Default, filepath.Dir(path)))
}

// beginFile makes an empty file that is nobody else's.
func beginFile(path string) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// removeUnfinished removes what creations that were not done have left.
func removeUnfinished(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+".new") {
			err = errors.Join(err, removeFile(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return err
}

func writeEmpty(path string, lockTimeout time.Duration) error {
	f, err := openFile(path, lockTimeout)
	if err != nil {
		return err
	}
	return errors.Join(f.Set(formatKey, encodeFormat(formatVersion)), f.Close())
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
