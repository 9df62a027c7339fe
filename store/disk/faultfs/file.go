package faultfs

import "github.com/cockroachdb/pebble/v2/vfs"

// file is an open file or directory. What is not listed passes through: Close,
// Prefetch, Fd.
type file struct {
	vfs.File
	fs   *FS
	path string
	dir  bool
}

func (f *file) syncKind() Kind {
	if f.dir {
		return SyncDir
	}
	return Sync
}

// length is do of an operation that returns a length; a skipped one claims
// all of p.
func (f *file) length(kind Kind, p []byte, run func() (int, error)) (n int, err error) {
	n = len(p)
	err = f.fs.act(kind, f.path, func() (err error) {
		n, err = run()
		return err
	})
	if err != nil && n == len(p) {
		n = 0
	}
	return n, err
}

func (f *file) Read(p []byte) (int, error) {
	n := 0
	err := f.fs.do(Read, f.path, func() (err error) {
		n, err = f.File.Read(p)
		return err
	})
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	err := f.fs.do(Read, f.path, func() (err error) {
		n, err = f.File.ReadAt(p, off)
		return err
	})
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	return f.length(Write, p, func() (int, error) { return f.File.Write(p) })
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.length(Write, p, func() (int, error) { return f.File.WriteAt(p, off) })
}

func (f *file) Preallocate(offset, length int64) error {
	return f.fs.act(Preallocate, f.path, func() error { return f.File.Preallocate(offset, length) })
}

func (f *file) Stat() (info vfs.FileInfo, err error) {
	err = f.fs.do(Read, f.path, func() (err error) {
		info, err = f.File.Stat()
		return err
	})
	return info, err
}

func (f *file) Sync() error { return f.fs.act(f.syncKind(), f.path, f.File.Sync) }

func (f *file) SyncData() error { return f.fs.act(f.syncKind(), f.path, f.File.SyncData) }

func (f *file) SyncTo(n int64) (full bool, err error) {
	err = f.fs.act(f.syncKind(), f.path, func() (err error) {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}
