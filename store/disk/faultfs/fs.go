package faultfs

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/store/disk"
)

// FS is a file system with faults. Mutating operations happen one at a time,
// so that "after the n-th" is a moment; what waits in a Fault holds up nobody
// else.
type FS struct {
	disk.FS
	fault   atomic.Pointer[Fault]
	ops     atomic.Int64 // mutating operations begun
	reads   atomic.Int64
	crashed atomic.Bool

	mu struct { // held while a mutating operation happens
		sync.Mutex
		done    map[Kind]int // those that happened
		ended   int          // those and what a fault kept from happening
		crashAt int          // 0: never
		crash   func()
	}
}

// New wraps fs.
func New(fs disk.FS) *FS {
	f := &FS{FS: fs}
	f.mu.done = make(map[Kind]int)
	return f
}

// SetFault sets what is asked before each operation; nil: nothing.
func (f *FS) SetFault(fault Fault) {
	if fault == nil {
		f.fault.Store(nil)
		return
	}
	f.fault.Store(&fault)
}

// Ops counts the mutating operations so far, those that failed included.
func (f *FS) Ops() int { return int(f.ops.Load()) }

// Reads counts the others.
func (f *FS) Reads() int { return int(f.reads.Load()) }

// Count counts the mutating operations of these kinds that happened.
func (f *FS) Count(kinds Kind) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for kind, count := range f.mu.done {
		if kind&kinds != 0 {
			n += count
		}
	}
	return n
}

// CrashAfter has crash called when n mutating operations have happened or
// failed (0: at once), before any other happens. It should take what the crash leaves, such as
// disk.Crash of the memory below. The file system then lives on as that of a
// zombie, which closes as ever: what is acknowledged once Crashed reports
// true was never said. See Kill for a machine that notices. A nil crash calls off
// one that has not begun, and waits for one that has.
func (f *FS) CrashAfter(n int, crash func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.crashAt, f.mu.crash = n, crash
	f.crashLocked()
}

func (f *FS) crashLocked() {
	if f.mu.crash == nil || f.mu.ended < f.mu.crashAt {
		return
	}
	f.crashed.Store(true)
	f.mu.crash()
	f.mu.crash = nil
}

// Crashed says whether the crash has happened.
func (f *FS) Crashed() bool { return f.crashed.Load() }

// ErrKilled is the answer of every operation after Kill.
var ErrKilled = errors.New("faultfs: the machine is dead")

// Kill makes all further mutating operations fail. It may be what CrashAfter
// calls last.
func (f *FS) Kill() {
	f.SetFault(Fail(ErrKilled, Of(Any, "")))
}

// do lets an operation happen, or not.
func (f *FS) do(kind Kind, path string, run func() error) error {
	op := Op{Kind: kind, Path: path}
	if kind == Read {
		f.reads.Add(1)
	} else {
		op.N = int(f.ops.Add(1))
	}
	var err error
	if fault := f.fault.Load(); fault != nil {
		err = (*fault)(op)
	}
	if kind == Read {
		if err != nil {
			return err
		}
		return run()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = run()
		f.mu.done[kind]++
	}
	f.mu.ended++
	f.crashLocked()
	return err
}

// act is do of an operation that may be skipped.
func (f *FS) act(kind Kind, path string, run func() error) error {
	err := f.do(kind, path, run)
	if errors.Is(err, ErrSkip) {
		return nil
	}
	return err
}

// open is do of an operation that returns a file.
func (f *FS) open(kind Kind, path string, dir bool, open func() (vfs.File, error)) (out vfs.File, err error) {
	err = f.do(kind, path, func() error {
		inner, err := open()
		if err == nil {
			out = &file{File: inner, fs: f, path: path, dir: dir}
		}
		return err
	})
	return out, err
}

func (f *FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(Create, name, false, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *FS) Link(old, name string) error {
	return f.act(Link, name, func() error { return f.FS.Link(old, name) })
}

func (f *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(Read, name, false, func() (vfs.File, error) { return f.FS.Open(name, opts...) })
}

func (f *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(OpenWrite, name, false, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *FS) OpenDir(name string) (vfs.File, error) {
	return f.open(Read, name, true, func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f *FS) Remove(name string) error {
	return f.act(Remove, name, func() error { return f.FS.Remove(name) })
}

func (f *FS) RemoveAll(name string) error {
	return f.act(Remove, name, func() error { return f.FS.RemoveAll(name) })
}

func (f *FS) Rename(old, name string) error {
	return f.act(Rename, name, func() error { return f.FS.Rename(old, name) })
}

func (f *FS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(Reuse, name, false, func() (vfs.File, error) { return f.FS.ReuseForWrite(old, name, c) })
}

func (f *FS) MkdirAll(dir string, perm os.FileMode) error {
	return f.act(Mkdir, dir, func() error { return f.FS.MkdirAll(dir, perm) })
}

func (f *FS) Lock(name string) (lock io.Closer, err error) {
	err = f.do(Lock, name, func() (err error) {
		lock, err = f.FS.Lock(name)
		return err
	})
	return lock, err
}

func (f *FS) List(dir string) (names []string, err error) {
	err = f.do(Read, dir, func() (err error) {
		names, err = f.FS.List(dir)
		return err
	})
	return names, err
}

func (f *FS) Stat(name string) (info vfs.FileInfo, err error) {
	err = f.do(Read, name, func() (err error) {
		info, err = f.FS.Stat(name)
		return err
	})
	return info, err
}

// Unwrap is the file system below.
func (f *FS) Unwrap() vfs.FS { return f.FS }
