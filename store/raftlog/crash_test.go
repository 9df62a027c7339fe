package raftlog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/store/raftlog/logtest"
)

// acked is what a store must show after a crash: the entries (of the term
// each was stored in), and a stable value. Bounds may be wider by what was
// under way: see holds.
type acked struct {
	first, last uint64 // prefix deletions may be undone: first is an upper bound
	terms       map[uint64]uint64
	stable      uint64
}

func newAcked() *acked { return &acked{terms: make(map[uint64]uint64)} }

// step does one random operation; what it acknowledges goes into a.
func (a *acked) step(l raftlog.Store, rng *rand.Rand, term uint64) error {
	switch op := rng.IntN(10); {
	case op < 6 || a.last < a.first+20:
		from := a.last + 1
		to := from + rng.Uint64N(20)
		if err := l.StoreLogs(logtest.Entries(from, to, term)); err != nil {
			return err
		}
		for index := from; index <= to; index++ {
			a.terms[index] = term
		}
		a.first, a.last = max(a.first, 1), to
	case op == 6:
		to := a.first + rng.Uint64N(10)
		if err := l.DeleteRange(a.first, to); err != nil {
			return err
		}
		a.first = to + 1
	case op == 7:
		from := a.last - rng.Uint64N(10)
		if err := l.DeleteRange(from, a.last); err != nil {
			return err
		}
		a.last = from - 1
	default:
		if err := l.SetUint64([]byte("CurrentTerm"), term); err != nil {
			return err
		}
		a.stable = term
	}
	return nil
}

// holds checks a store that was reopened. With torn, an operation was under
// way that may have taken effect: a few entries more, or fewer at either end,
// or a newer stable value.
func (a *acked) holds(t *testing.T, l *raftlog.Log, torn bool) {
	t.Helper()
	if err := a.lost(l, torn); err != nil {
		t.Fatal(err)
	}
}

// lost says what a store lacks that holds should find.
func (a *acked) lost(l *raftlog.Log, torn bool) error {
	if err := l.Verify(); err != nil {
		return err
	}
	first, _ := l.FirstIndex()
	last, _ := l.LastIndex()
	low, high := a.first, a.last
	if torn {
		low, high = low+10, high-min(high, 10)
	}
	if high >= low && high > 0 && (first > low || last < high || (!torn && last != high)) {
		return fmt.Errorf("log is %d-%d, acknowledged %d-%d (torn %v)", first, last, a.first, a.last, torn)
	}
	for index := low; index <= high && index > 0; index++ {
		var got raft.Log
		if err := l.GetLog(index, &got); err != nil {
			return fmt.Errorf("GetLog(%d): %w", index, err)
		}
		if err := logtest.Same(&got, logtest.Entry(index, a.terms[index])); err != nil {
			return err
		}
	}
	stable, err := l.GetUint64([]byte("CurrentTerm"))
	if err != nil && err.Error() != "not found" {
		return err
	}
	if stable != a.stable && !(torn && stable > a.stable) {
		return fmt.Errorf("stable value %d, acknowledged %d", stable, a.stable)
	}
	return nil
}

// TestCrash: the machine dies after any operation; what was acknowledged is there.
func TestCrash(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 0))
		fs, a := vfs.NewCrashableMem(), newAcked()
		l := open(t, "dir/log", raftlog.Options{FS: fs})
		for step := range uint64(40) {
			if err := a.step(l, rng, step+1); err != nil {
				t.Fatal(err)
			}
			clone := crashClone(fs, seed*1000+step)
			after := open(t, "dir/log", raftlog.Options{FS: clone})
			a.holds(t, after, false)
			if err := after.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCrashChain: the store lives through a series of crashes.
func TestCrashChain(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 0))
	fs, a := vfs.NewCrashableMem(), newAcked()
	for life := range uint64(30) {
		l := open(t, "dir/log", raftlog.Options{FS: fs, CacheBytes: 3000})
		a.holds(t, l, false)
		first, _ := l.FirstIndex()
		a.first = first // a prefix may be back
		for step := range uint64(6) {
			if err := a.step(l, rng, life*6+step+1); err != nil {
				t.Fatal(err)
			}
		}
		fs = crashClone(fs, life)
		l.Close()
	}
}

// TestEIO: the disk fails at each operation in turn. The failing call and all
// later writes say so, OnFatal once, Close returns, and after a restart on a
// sound disk what was acknowledged is there.
func TestEIO(t *testing.T) {
	failures := 0
	for at := int64(1); at < 120; at += 3 {
		mem := vfs.NewCrashableMem()
		fs := &faultFS{FS: mem}
		fs.failAt.Store(at)
		fatal := make(chan error, 10)
		o := raftlog.Options{FS: fs, OnFatal: func(err error) { fatal <- err }, WriteDeadline: time.Minute}
		a := newAcked()
		l, err := raftlog.Open("dir/log", o)
		if err == nil {
			rng := rand.New(rand.NewPCG(uint64(at), 0))
			for step := uint64(1); step < 60 && err == nil; step++ {
				err = a.step(l, rng, step)
			}
			if err == nil {
				t.Fatalf("at %d: no error", at)
			}
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("at %d: %v is not EIO", at, err)
			}
			if again := l.SetUint64([]byte("k"), 1); again == nil || again.Error() != l.Err().Error() {
				t.Errorf("at %d: not sticky: %v", at, again)
			}
			if closeErr := l.Close(); !errors.Is(closeErr, syscall.EIO) {
				t.Errorf("at %d: Close = %v", at, closeErr)
			}
			if len(fatal) != 1 {
				t.Errorf("at %d: OnFatal called %d times", at, len(fatal))
			}
			l.ReleaseParked()
			failures++
		}
		after := open(t, "dir/log", raftlog.Options{FS: crashClone(mem, uint64(at))})
		a.holds(t, after, true)
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if failures < 20 {
		t.Fatalf("only %d failures after Open: the test does not test", failures)
	}
}

// TestStall: a write that hangs is given up, reported, and holds up nobody.
func TestStall(t *testing.T) {
	fs := &faultFS{FS: vfs.NewMem()}
	fatal := make(chan error, 10)
	l := open(t, "dir", raftlog.Options{FS: fs, OnFatal: func(err error) { fatal <- err }, WriteDeadline: 50 * time.Millisecond})
	if err := l.StoreLogs(logtest.Entries(1, 3, 1)); err != nil {
		t.Fatal(err)
	}
	hang := make(chan struct{})
	fs.hang.Store(&hang)
	if err := l.StoreLogs(logtest.Entries(4, 5, 1)); !errors.Is(err, raftlog.ErrStalled) {
		t.Fatalf("StoreLogs = %v", err)
	}
	if err := <-fatal; !errors.Is(err, raftlog.ErrStalled) {
		t.Fatalf("OnFatal(%v)", err)
	}
	if err := l.Set([]byte("k"), nil); !errors.Is(err, raftlog.ErrStalled) {
		t.Fatalf("Set = %v", err)
	}
	var got raft.Log
	if err := l.GetLog(3, &got); err != nil {
		t.Fatal(err) // reads go on
	}
	if err := l.Close(); !errors.Is(err, raftlog.ErrStalled) {
		t.Fatalf("Close = %v", err)
	}
	close(hang)
}

// TestGuardedEIO: Pebble parks the goroutine that met EIO, the guard ends the
// one that raft called from, and both report it once.
func TestGuardedEIO(t *testing.T) {
	fs := &faultFS{FS: vfs.NewMem()}
	l := open(t, "dir", raftlog.Options{FS: fs})
	fatal := make(chan error, 10)
	g := raftlog.NewGuard(l, raftlog.GuardOptions{OnFatal: func(err error) { fatal <- err }})
	g.Arm()
	fs.failAt.Store(1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.StoreLogs(logtest.Entries(1, 3, 1))
		t.Error("StoreLogs returned")
	}()
	<-ended
	if err := g.Close(); !errors.Is(err, syscall.EIO) || len(fatal) != 1 {
		t.Errorf("Close = %v, OnFatal called %d times", err, len(fatal))
	}
	l.ReleaseParked()
}
