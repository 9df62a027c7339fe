package faultfs_test

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content reads a file; "" if there is none.
func content(t *testing.T, fs disk.FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		return ""
	}
	b, err := io.ReadAll(f)
	check(t, errors.Join(err, f.Close()))
	return string(b)
}

// TestCount: all kinds are counted once, reads apart, on memory and disk.
func TestCount(t *testing.T) {
	for name, fs := range map[string]*faultfs.FS{"memory": faultfs.New(disk.NewMem()), "disk": faultfs.New(disk.Default)} {
		t.Run(name, func(t *testing.T) {
			dir := fs.PathJoin(t.TempDir(), "dir")
			file := func(n string) string { return fs.PathJoin(dir, n) }
			check(t, fs.MkdirAll(dir, 0o755))
			lock, err := fs.Lock(file("LOCK"))
			check(t, err)
			f, err := fs.Create(file("a"), vfs.WriteCategoryUnspecified)
			check(t, err)
			check(t, f.Preallocate(0, 100))
			_, err = f.Write([]byte("hello"))
			check(t, err)
			_, err = f.SyncTo(5)
			check(t, errors.Join(err, f.SyncData(), f.Sync()))
			f.Prefetch(0, 5) // Pebble's answers "errno 0" on Linux
			if _, err := f.Stat(); err != nil {
				t.Fatal(err)
			}
			if name == "disk" && f.Fd() == vfs.InvalidFd {
				t.Error("the descriptor is hidden")
			}
			check(t, f.Close())
			f, err = fs.OpenReadWrite(file("a"), vfs.WriteCategoryUnspecified)
			check(t, err)
			_, err = f.WriteAt([]byte("J"), 0)
			check(t, err)
			got := make([]byte, 5)
			if _, err := f.ReadAt(got, 0); err != nil || string(got) != "Jello" {
				t.Errorf("ReadAt = %q, %v", got, err)
			}
			check(t, f.Close())
			check(t, fs.Link(file("a"), file("b")))
			check(t, fs.Rename(file("b"), file("c")))
			f, err = fs.ReuseForWrite(file("c"), file("d"), vfs.WriteCategoryUnspecified)
			check(t, err)
			_, err = f.Write([]byte("C"))
			check(t, errors.Join(err, f.Close()))
			check(t, disk.SyncDir(fs, dir))
			check(t, fs.Remove(file("d")))
			check(t, errors.Join(lock.Close(), fs.RemoveAll(dir)))
			for kind, want := range map[faultfs.Kind]int{
				faultfs.Mkdir: 1, faultfs.Lock: 1, faultfs.Create: 1, faultfs.Preallocate: 1, faultfs.Write: 3, faultfs.Sync: 3,
				faultfs.OpenWrite: 1, faultfs.Link: 1, faultfs.Rename: 1, faultfs.Reuse: 1, faultfs.SyncDir: 1, faultfs.Remove: 2,
				faultfs.Syncs: 4, faultfs.Mutating: 17,
			} {
				if got := fs.Count(kind); got != want {
					t.Errorf("kind %#x: %d operations, want %d", kind, got, want)
				}
			}
			if fs.Ops() != 17 || fs.Reads() != 3 { // Stat, ReadAt, OpenDir
				t.Errorf("%d operations, %d reads", fs.Ops(), fs.Reads())
			}
		})
	}
}

// TestCrashAfter: the crash sees the n-th operation and nothing of the next.
func TestCrashAfter(t *testing.T) {
	for n := range 6 {
		mem := disk.NewMem()
		fs := faultfs.New(mem)
		var after *disk.Mem
		fs.CrashAfter(n, func() { after = mem.CrashClone(vfs.CrashCloneCfg{}) })
		check(t, disk.WriteFile(fs, "f", []byte("one"))) // create, write, sync, rename, sync dir
		if !fs.Crashed() {
			t.Fatalf("no crash after %d of %d operations", n, fs.Ops())
		}
		want := ""
		if n >= 5 {
			want = "one"
		}
		if got := content(t, after, "f"); got != want {
			t.Errorf("after %d operations the file says %q, want %q", n, got, want)
		}
		check(t, disk.WriteFile(fs, "f", []byte("two"))) // a zombie's
		if got := content(t, after, "f"); got != want {
			t.Errorf("the crash at %d sees what came later: %q", n, got)
		}
	}
	fs := faultfs.New(disk.NewMem())
	fs.CrashAfter(2, fs.Kill)
	if err := disk.WriteFile(fs, "f", []byte("one")); !errors.Is(err, faultfs.ErrKilled) || fs.Count(faultfs.Mutating) != 2 {
		t.Errorf("a dead machine: %v, %d operations", err, fs.Count(faultfs.Mutating))
	}
}

func TestFail(t *testing.T) {
	fs := faultfs.New(disk.NewMem())
	write := func(name string) error { return disk.WriteFile(fs, name, []byte("x")) }
	fs.SetFault(faultfs.Fail(syscall.ENOSPC, faultfs.Of(faultfs.Write, "full")))
	check(t, write("empty"))
	if err := write("full"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write = %v", err)
	}
	fs.SetFault(faultfs.Fail(syscall.EIO, faultfs.Window(fs.Ops()+3, 1)))
	if err := write("f"); !errors.Is(err, syscall.EIO) { // its sync
		t.Errorf("write = %v", err)
	}
	check(t, write("f"))
	fs.SetFault(faultfs.Fail(syscall.EIO, faultfs.From(fs.Ops()+1)))
	for range 3 {
		if err := write("f"); !errors.Is(err, syscall.EIO) {
			t.Errorf("write = %v", err)
		}
	}
	if content(t, fs, "f") != "x" {
		t.Error("a failed write changed the file")
	}
	fs.SetFault(nil)
	check(t, write("f"))
}

// TestLie: a skipped Sync says nil and keeps nothing.
func TestLie(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Sync, faultfs.SyncDir} {
		mem := disk.NewMem()
		fs := faultfs.New(mem)
		fs.SetFault(faultfs.Fail(faultfs.ErrSkip, faultfs.Of(kind, "")))
		crashed := false
		fs.CrashAfter(5, func() { crashed = true })
		check(t, disk.WriteFile(fs, "f", []byte("one")))
		if !crashed {
			t.Error("a skipped operation does not count")
		}
		if got := content(t, mem.CrashClone(vfs.CrashCloneCfg{}), "f"); got != "" {
			t.Errorf("kind %#x: %q survived a lie", kind, got)
		}
		if got := content(t, fs, "f"); got != "one" {
			t.Errorf("the living file says %q", got)
		}
	}
}

// TestHang: what matches waits, the rest goes on.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New(disk.NewMem())
		hang := faultfs.NewHang(faultfs.Of(faultfs.Sync, "slow"))
		fs.SetFault(hang.Fault)
		done := make(chan error, 1)
		go func() { done <- disk.WriteFile(fs, "slow", []byte("x")) }()
		<-hang.Reached()
		check(t, disk.WriteFile(fs, "fast", []byte("x")))
		synctest.Wait()
		if len(done) > 0 {
			t.Error("a hanging write ended")
		}
		hang.Release()
		check(t, <-done)
		began := time.Now()
		fs.SetFault(faultfs.Slow(time.Hour, faultfs.Of(faultfs.Syncs, "")))
		check(t, disk.WriteFile(fs, "f", nil))
		if took := time.Since(began); took != 2*time.Hour {
			t.Errorf("two slow syncs took %v", took)
		}
	})
}

// TestRecycledLog: faults reach the write-ahead logs that Pebble uses again.
func TestRecycledLog(t *testing.T) {
	fs := faultfs.New(disk.NewMem())
	db, err := pebble.Open("db", &pebble.Options{FS: fs, MemTableSize: 64 << 10, Logger: quiet{}})
	check(t, err)
	defer db.Close()
	for i := 0; fs.Count(faultfs.Reuse) == 0; i++ {
		if i > 10_000 {
			t.Fatal("no log was recycled")
		}
		check(t, db.Set([]byte{byte(i), byte(i >> 8)}, make([]byte, 1000), pebble.Sync))
	}
	before := fs.Count(faultfs.Write)
	check(t, db.Set([]byte("k"), nil, pebble.Sync))
	if fs.Count(faultfs.Write) == before {
		t.Error("writes to a recycled log are not seen")
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}
