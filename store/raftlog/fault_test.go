package raftlog_test

import (
	"math/rand/v2"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// faultFS fails writing operations with EIO from the failAt-th on, and holds
// them while hang is open. errorfs would do for neither: it leaves recycled
// WALs alone.
type faultFS struct {
	vfs.FS
	ops    atomic.Int64
	failAt atomic.Int64 // 0: never
	hang   atomic.Pointer[chan struct{}]
}

func (f *faultFS) step() error {
	if hang := f.hang.Load(); hang != nil {
		<-*hang
	}
	if n, at := f.ops.Add(1), f.failAt.Load(); at != 0 && n >= at {
		return syscall.EIO
	}
	return nil
}

func (f *faultFS) file(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &faultFile{file, f}, nil
}

func (f *faultFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	return f.file(f.FS.Create(name, c))
}

func (f *faultFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	return f.file(f.FS.ReuseForWrite(old, name, c))
}

func (f *faultFS) Rename(old, name string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.FS.Rename(old, name)
}

func (f *faultFS) Unwrap() vfs.FS { return f.FS }

type faultFile struct {
	vfs.File
	fs *faultFS
}

func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.fs.step(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *faultFile) Sync() error {
	if err := f.fs.step(); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultFile) SyncData() error {
	if err := f.fs.step(); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *faultFile) SyncTo(n int64) (bool, error) {
	if err := f.fs.step(); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}

func crashClone(fs *vfs.MemFS, seed uint64) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed % 101), RNG: rand.New(rand.NewPCG(seed, 1))})
}
