package raftlog_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
	"github.com/replkv/replkv/store/raftlog"
)

// life is a member's log and floor in use: three openings, each with appends,
// truncations at both ends, terms and a clean end.
type life struct {
	fs *faultfs.FS
	// before is what was acknowledged when the machine crashed, now what will
	// be once the operation under way is done. Each operation is atomic.
	before, now *acked
}

func (a *acked) clone() *acked {
	b := *a
	b.terms = maps.Clone(a.terms)
	return &b
}

const lifeSteps = 12 // of each opening

// run lives until the end, the crash or the first error.
func (l *life) run() error {
	l.before, l.now = newAcked(), newAcked()
	rng := rand.New(rand.NewPCG(3, 0))
	if err := disk.MkdirAll(l.fs, "dir"); err != nil {
		return err
	}
	for opening := range uint64(3) {
		err := l.open(func(g *raftlog.Guard, log *raftlog.Log) (err error) {
			for step := range uint64(lifeSteps) {
				err = l.now.step(g, rng, 1+opening*lifeSteps+step)
				if l.fs.Crashed() || err != nil {
					return err
				}
				l.before = l.now.clone()
			}
			return nil
		})
		if l.fs.Crashed() || err != nil {
			return err
		}
	}
	return nil
}

// open opens log and floor, looks for false alarms, calls fn, closes both.
func (l *life) open(fn func(*raftlog.Guard, *raftlog.Log) error) error {
	var fatal atomic.Int32
	log, err := raftlog.Open("dir/log", raftlog.Options{FS: l.fs, WriteDeadline: time.Minute, OnFatal: func(error) { fatal.Add(1) }})
	if err != nil {
		return err
	}
	defer log.ReleaseParked()
	floor, _, err := raftlog.OpenFloor(l.fs, "dir/floor")
	if err != nil {
		return errors.Join(err, log.Close())
	}
	g := raftlog.NewGuard(log, raftlog.GuardOptions{Floor: floor, TrailingBytes: -1})
	problem, err := g.CheckFloor()
	if problem != "" {
		err = fmt.Errorf("below the floor: %s", problem)
	}
	if err == nil {
		err = fn(g, log)
	}
	err = errors.Join(err, g.Close())
	if n := fatal.Load(); n > 1 {
		err = fmt.Errorf("OnFatal was called %d times: %v", n, err)
	}
	return err
}

// survives reopens what a crash left and says what is wrong with it: lost,
// more than was ever written, or a false alarm of the floor. failed: an
// operation was answered with an error, and may have happened or not.
func (l *life) survives(left disk.FS, failed bool) error {
	after := life{fs: faultfs.New(left)}
	return after.open(func(g *raftlog.Guard, log *raftlog.Log) error {
		floor, _, err := raftlog.OpenFloor(left, "dir/floor")
		if err != nil {
			return err
		}
		if floor.State().Term < l.before.stable {
			return fmt.Errorf("the floor's term is %d, acknowledged %d", floor.State().Term, l.before.stable)
		}
		if err := l.before.lost(log, failed); err != nil {
			if l.now.lost(log, false) != nil {
				return err
			}
		}
		// It goes on from here.
		return g.SetUint64([]byte("CurrentTerm"), 1000)
	})
}

// stride is how many operations lie between two crashes.
func stride(n, most int) int { return max(1, (n+most-1)/most) }

// lives runs the scenario once to count its operations, then crashes it after
// each stride-th of them, with several outcomes for what was not synced.
func lives(t *testing.T, fault faultfs.Fault, most int) (wrong int) {
	t.Helper()
	count := life{fs: faultfs.New(disk.NewMem())}
	if err := count.run(); err != nil {
		t.Fatal(err)
	}
	n := count.fs.Ops()
	if n == 0 {
		t.Fatal("no operation")
	}
	by, crashes := stride(n, most), 0
	for k := 0; k <= n; k += by {
		mem := disk.NewMem()
		l := life{fs: faultfs.New(mem)}
		l.fs.SetFault(fault)
		var left []disk.FS
		crash := func() {
			for seed := range uint64(3) {
				left = append(left, disk.Crash(mem, seed*1000+uint64(k)))
			}
		}
		l.fs.CrashAfter(k, crash)
		if err := l.run(); err != nil && !l.fs.Crashed() {
			t.Fatalf("crash after %d: the life before it: %v", k, err)
		}
		if !l.fs.Crashed() { // fewer operations than the first time
			crash()
		}
		for seed, fs := range left {
			crashes++
			if err := l.survives(fs, false); err != nil {
				wrong++
				if fault == nil {
					t.Errorf("crash %d after operation %d: %v", seed, k, err)
				}
			}
		}
	}
	t.Logf("N = %d operations; crashed after every %d., %d crashes, %d with losses", n, by, crashes, wrong)
	return wrong
}

func crashPoints() int {
	if testing.Short() {
		return 12
	}
	return 400
}

// TestCrashPoints: after each operation on the disk, a crash loses nothing
// that was acknowledged, and makes no floor cry wolf.
func TestCrashPoints(t *testing.T) {
	lives(t, nil, crashPoints())
}

// TestCrashPointsLie: the test above would notice a Sync that is not there.
func TestCrashPointsLie(t *testing.T) {
	for name, lie := range map[string]func(faultfs.Op) bool{
		"log":             faultfs.Of(faultfs.Sync, ".log"),
		"log's directory": faultfs.Of(faultfs.SyncDir, "dir/log"),
		"floor":           faultfs.Of(faultfs.Sync, "floor"),
	} {
		t.Run(name, func(t *testing.T) {
			if lives(t, faultfs.Fail(faultfs.ErrSkip, lie), 60) == 0 {
				t.Error("a planted lie is not noticed")
			}
		})
	}
}

// TestDiskErrorPoints: the disk fails, once or for good, at each operation:
// the log says so once, nothing hangs, and on a sound disk all is there.
func TestDiskErrorPoints(t *testing.T) {
	count := life{fs: faultfs.New(disk.NewMem())}
	if err := count.run(); err != nil {
		t.Fatal(err)
	}
	n := count.fs.Ops()
	by := stride(n, crashPoints())
	failed := 0
	for _, cause := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for k := 1; k <= n; k += by {
			for name, when := range map[string]func(faultfs.Op) bool{"once": faultfs.Window(k, 1), "for good": faultfs.From(k)} {
				mem := disk.NewMem()
				l := life{fs: faultfs.New(mem)}
				l.fs.SetFault(faultfs.Fail(cause, when))
				err := l.run()
				if err != nil {
					failed++
					if !errors.Is(err, cause) {
						t.Errorf("%v %s at %d: %v", cause, name, k, err)
					}
				}
				if err := l.survives(disk.Crash(mem, uint64(k)), err != nil); err != nil {
					t.Errorf("%v %s at %d, then a crash: %v", cause, name, k, err)
				}
			}
		}
	}
	t.Logf("N = %d operations, every %d. failed; the log failed %d times", n, by, failed)
	if failed == 0 {
		t.Error("no error was ever met")
	}
}
