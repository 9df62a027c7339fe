package disk

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ForEngine returns fs as Pebble v2.1.7 needs it for the engine in dir:
//
//   - It syncs a new MANIFEST, but not its name, before it creates the marker
//     that makes the MANIFEST the live one (version_set.go:649). A crash may
//     keep the marker alone, and the engine does not open any more. So the
//     directory is synced before a marker is created.
//   - It panics if a directory cannot be synced (atomicfs/marker.go:231), also
//     on goroutines of its own. Such an error goes to fatal instead, which
//     must not return.
//   - It panics where a new write-ahead log cannot be begun, say on a full
//     disk, with a mutex in a state that makes the panic the end of the
//     process (db.go:2835). So errors of creating one go to fatal.
//   - If Open fails to flush, it tries again for ever (open.go:536). If it
//     fails once there are tables, it closes what goroutines that compact them
//     or collect statistics still use, which panics (file_cache.go:517). So
//     from the first table until opened is called, all errors of writes go to
//     fatal.
//
// So pebble.Open may not return, and leave the directory locked until the
// process ends.
//
// And its Close waits for compactions, which may take long; from closing on, tables
// fail with ErrClosing.
func ForEngine(fs FS, dir string, fatal func(error)) (out FS, opened, closing func()) {
	e := &forEngine{FS: fs, dir: dir, fatal: fatal}
	if names, err := fs.List(dir); err == nil && slices.ContainsFunc(names, isTable) {
		e.tables.Store(true)
	}
	return e, func() { e.opened.Store(true) }, func() { e.closing.Store(true) }
}

// ErrClosing ends what flushes and compactions write when an engine closes.
var ErrClosing = errors.New("the engine closes")

type forEngine struct {
	FS
	dir     string
	fatal   func(error)
	tables  atomic.Bool // there is one
	opened  atomic.Bool
	closing atomic.Bool
}

const markerPrefix = "marker."

func isTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// check is where a write's error may end.
func (e *forEngine) check(name string, err error) error {
	if err != nil && (isLog(name) && e.opened.Load() || e.tables.Load() && !e.opened.Load()) {
		e.fatal(err)
	}
	return err
}

func (e *forEngine) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	base := e.PathBase(name)
	if isTable(base) {
		e.tables.Store(true)
	}
	if strings.HasPrefix(base, markerPrefix) {
		if err := SyncDir(e.FS, e.PathDir(name)); err != nil {
			return nil, e.check(name, err)
		}
	}
	f, err := e.FS.Create(name, c)
	if err != nil {
		return nil, e.check(name, err)
	}
	if !e.opened.Load() {
		f = &engineFile{f, e}
	}
	if isTable(base) {
		f = newTableFile(f, e.FS, c, &e.closing)
	}
	return f, nil
}

func (e *forEngine) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := e.FS.ReuseForWrite(old, name, c)
	return f, e.check(name, err)
}

func (e *forEngine) Rename(old, name string) error { return e.check(name, e.FS.Rename(old, name)) }

func (e *forEngine) OpenDir(name string) (vfs.File, error) {
	dir, err := e.FS.OpenDir(name)
	if err != nil || name != e.dir { // a checkpoint's: its maker recovers
		return dir, err
	}
	return &engineDir{dir, e}, nil
}

// Unwrap is the file system below.
func (e *forEngine) Unwrap() vfs.FS { return e.FS }

type engineDir struct {
	vfs.File
	fs *forEngine
}

func (d *engineDir) Sync() error {
	err := d.File.Sync()
	if err != nil {
		d.fs.fatal(err)
	}
	return err
}

// engineFile was created while Pebble opened.
type engineFile struct {
	vfs.File
	fs *forEngine
}

func (f *engineFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.fs.check("", err)
}

func (f *engineFile) Sync() error { return f.fs.check("", f.File.Sync()) }

func (f *engineFile) SyncData() error { return f.fs.check("", f.File.SyncData()) }

func (f *engineFile) SyncTo(n int64) (bool, error) {
	full, err := f.File.SyncTo(n)
	return full, f.fs.check("", err)
}

func (f *engineFile) Preallocate(offset, length int64) error {
	return f.fs.check("", f.File.Preallocate(offset, length))
}
