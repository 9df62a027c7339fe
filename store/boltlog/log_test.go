package boltlog_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/boltlog"
	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/store/raftlog/logtest"
)

// TestConformance runs the suite that raftlog passes, alone and guarded.
func TestConformance(t *testing.T) {
	modes := map[string]func(l *boltlog.Log) logtest.Store{
		"alone": func(l *boltlog.Log) logtest.Store { return l },
		"guarded": func(l *boltlog.Log) logtest.Store {
			return raftlog.NewGuard(l, raftlog.GuardOptions{TrailingBytes: -1})
		},
	}
	for name, wrap := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logtest.Run(t, func(t *testing.T) func() logtest.Store {
				dir := t.TempDir()
				return func() logtest.Store { return wrap(open(t, dir)) }
			})
		})
	}
}

func open(t testing.TB, dir string) *boltlog.Log {
	t.Helper()
	l, err := boltlog.Open(dir, boltlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("err = %v, want one that is %q", err, want)
	}
}

// TestLocked: the file has one user, in this process and in others.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	if other := os.Getenv("BOLTLOG_TEST_DIR"); other != "" { // the other process
		_, err := boltlog.Open(other, boltlog.Options{LockTimeout: 100 * time.Millisecond})
		wantError(t, err, kv.ErrDirLocked)
		return
	}
	l := open(t, dir)
	_, err := boltlog.Open(dir, boltlog.Options{LockTimeout: 100 * time.Millisecond})
	wantError(t, err, kv.ErrDirLocked)
	exe, err := os.Executable()
	check(t, err)
	cmd := exec.Command(exe, "-test.run=^TestLocked$")
	cmd.Env = append(os.Environ(), "BOLTLOG_TEST_DIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	check(t, l.Close())
	check(t, open(t, dir).Close())
}

// TestWaitsForLock: a process that is just about to end does not make Open fail.
func TestWaitsForLock(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	opened := make(chan error)
	go func() {
		second, err := boltlog.Open(dir, boltlog.Options{LockTimeout: time.Minute})
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	check(t, l.Close())
	check(t, <-opened)
}

// TestConcurrentCreation: of many that open a new directory at once, each
// finds what the ones before it stored.
func TestConcurrentCreation(t *testing.T) {
	const n = 8
	dir := filepath.Join(t.TempDir(), "a", "b")
	var openers sync.WaitGroup
	for range n {
		openers.Go(func() {
			l, err := boltlog.Open(dir, boltlog.Options{LockTimeout: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			last, err := l.LastIndex()
			if err = errors.Join(err, l.StoreLog(logtest.Entry(last+1, 1)), l.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	openers.Wait()
	if last, err := open(t, dir).LastIndex(); last != n || err != nil {
		t.Fatalf("LastIndex = %d, %v, want %d", last, err, n)
	}
	names, err := os.ReadDir(dir)
	check(t, err)
	if len(names) != 1 || names[0].Name() != "raft.db" {
		t.Fatalf("files %v", names)
	}
}

// TestTornCreation: a crash while the file was made does not matter.
func TestTornCreation(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "raft.db.new"), []byte("half a page"), 0o600))
	l := open(t, dir)
	check(t, l.StoreLog(logtest.Entry(1, 1)))
	check(t, l.Close())
	check(t, os.Link(filepath.Join(dir, "raft.db"), filepath.Join(dir, "raft.db.new")))
	l = open(t, dir)
	var got raft.Log
	check(t, l.GetLog(1, &got))
	if _, err := os.Stat(filepath.Join(dir, "raft.db.new")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the other name of the file stays")
	}
}

// TestCloseBesideCalls: a call comes to its end, or is refused.
func TestCloseBesideCalls(t *testing.T) {
	for range 5 {
		l := open(t, t.TempDir())
		check(t, l.StoreLogs(logtest.Entries(1, 10, 1)))
		begun := make(chan struct{}, 64)
		var callers sync.WaitGroup
		call := func(fn func() error) {
			callers.Go(func() {
				for {
					begun <- struct{}{}
					if err := fn(); err != nil {
						if err != raftlog.ErrClosed {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		call(func() error { return l.GetLog(3, new(raft.Log)) })
		call(func() error { return l.SetUint64([]byte("CurrentTerm"), 2) })
		call(func() error { _, err := l.LastIndex(); l.BytesFrom(2); return err })
		next := uint64(11)
		call(func() error { next++; return l.StoreLog(logtest.Entry(next-1, 1)) })
		go func() {
			callers.Wait()
			close(begun)
		}()
		for range 20 {
			<-begun
		}
		for range 2 {
			callers.Go(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		for range begun {
		}
	}
}

// TestBytesFrom counts what the entries were given as.
func TestBytesFrom(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	sizes := map[uint64]int64{}
	store := func(first, last, term uint64) {
		t.Helper()
		entries := logtest.Entries(first, last, term)
		for _, entry := range entries {
			entry.Extensions = make([]byte, entry.Index%5)
			sizes[entry.Index] = int64(len(entry.Data)+len(entry.Extensions)) + 64
		}
		check(t, l.StoreLogs(entries))
	}
	verify := func(first, last uint64) {
		t.Helper()
		for from := uint64(0); from <= last+2; from++ {
			var want int64
			for index := max(from, first); index <= last; index++ {
				want += sizes[index]
			}
			if got := l.BytesFrom(from); got != want {
				t.Fatalf("BytesFrom(%d) of %d-%d = %d, want %d", from, first, last, got, want)
			}
		}
	}
	verify(1, 0)
	store(1, 30, 1)
	store(31, 50, 1)
	verify(1, 50)
	check(t, l.DeleteRange(1, 10))
	check(t, l.DeleteRange(41, 50))
	verify(11, 40)
	check(t, l.Close())
	l = open(t, dir)
	verify(11, 40)
	store(41, 60, 111)
	verify(11, 60)
	check(t, l.DeleteRange(11, 60))
	verify(1, 0)
	store(90, 95, 112)
	verify(90, 95)
}

// TestGuardKeepsTail: the Guard knows the bytes, so raft's compactions leave
// the newest.
func TestGuardKeepsTail(t *testing.T) {
	l := open(t, t.TempDir())
	check(t, l.StoreLogs(logtest.Entries(1, 100, 1)))
	g := raftlog.NewGuard(l, raftlog.GuardOptions{TrailingBytes: l.BytesFrom(61)})
	check(t, g.DeleteRange(1, 90))
	if first, err := g.FirstIndex(); first != 61 || err != nil {
		t.Fatalf("FirstIndex = %d, %v, want 61", first, err)
	}
}

// TestRefusals change nothing and are not final.
func TestRefusals(t *testing.T) {
	l := open(t, t.TempDir())
	wantError(t, l.Set(nil, nil), raftlog.ErrInvalid)
	wantError(t, l.Set(make([]byte, 1025), nil), raftlog.ErrInvalid)
	wantError(t, l.Set([]byte("k"), make([]byte, 1<<20+1)), raftlog.ErrInvalid)
	wantError(t, l.Set([]byte("replkv format"), nil), raftlog.ErrInvalid)
	for _, key := range []string{"", "replkv format"} {
		if _, err := l.Get([]byte(key)); err != raftlog.ErrKeyNotFound {
			t.Fatalf("Get(%q) = %v", key, err)
		}
	}
	wantError(t, l.StoreLogs([]*raft.Log{nil}), raftlog.ErrInvalid)
	wantError(t, l.StoreLogs([]*raft.Log{logtest.Entry(1, 1), logtest.Entry(3, 1)}), raftlog.ErrGap)
	check(t, l.Set([]byte("k"), []byte("abc")))
	_, err := l.GetUint64([]byte("k"))
	wantError(t, err, kv.ErrCorrupt)
	check(t, l.StoreLog(logtest.Entry(1, 1)))
}
