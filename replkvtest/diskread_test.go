package replkvtest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

// TestReadFails: a member whose disk fails a read of the state stops, and what it answers
// sends a remote client on to another.
func TestReadFails(t *testing.T) {
	t.Parallel()
	opt, disks := withFaults()
	c := NewCluster(t, 3, opt, WithConfig(func(_ int, cfg *replkv.Config) { cfg.CacheBytes, cfg.SnapshotLogBytes = 1<<20, 1<<20 }))
	victim := c.Leader()
	db := c.DB(victim)
	const keys = 800
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < keys; i += 16 {
				if _, err := db.Set(t.Context(), fmt.Sprintf("k%05d", i), make([]byte, 8<<10)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c.wait("a snapshot", func() bool { return db.Metrics().SnapshotsTaken > 1 })
	fs := disks(victim)
	fs.SetFault(faultfs.Fail(syscall.EIO, faultfs.Of(faultfs.Read, "/state/")))
	var err error
	for i := 0; i < keys && err == nil; i++ {
		_, err = db.Get(t.Context(), fmt.Sprintf("k%05d", i))
	}
	fs.SetFault(nil)
	if remote := wireerr.FromStatus(wireerr.ToStatus(err)); !errors.Is(err, syscall.EIO) || !errors.Is(remote, replkv.ErrClosed) {
		t.Errorf("Get: %v; to a remote client: %v", err, remote)
	}
	if !errors.Is(db.Err(), syscall.EIO) {
		t.Errorf("Err: %v", db.Err())
	}
	c.Crash(victim) // another process comes back: what has failed stays in this one
	c.WaitReady()
	c.writes((victim+1)%3, "x")
}

// TestCompactionReadFails: a compaction that cannot read ends the store, and is not tried
// again for ever.
func TestCompactionReadFails(t *testing.T) {
	t.Parallel()
	fs := faultfs.New(disk.NewMem())
	v, err := hook.Open(replkv.Config{Dir: "data", SnapshotLogBytes: 64 << 10, CacheBytes: 1 << 20}, hook.Edges{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	db := v.(*replkv.DB)
	defer db.Close()
	var failed atomic.Int64
	fs.SetFault(func(o faultfs.Op) error {
		if o.Is(faultfs.Read, "/state/") && strings.HasSuffix(o.Path, ".sst") {
			failed.Add(1)
			return syscall.EIO
		}
		return nil
	})
	for i := 0; db.Err() == nil; i++ {
		if i == 20_000 {
			t.Fatalf("%d reads of compactions have failed, and the store goes on", failed.Load())
		}
		if _, err := db.Set(t.Context(), fmt.Sprintf("k%05d", i%300), make([]byte, 8<<10)); err != nil && !errors.Is(err, replkv.ErrClosed) {
			t.Fatal(err)
		}
	}
	if !errors.Is(db.Err(), syscall.EIO) || failed.Load() > 100 {
		t.Errorf("after %d failed reads: %v", failed.Load(), db.Err())
	}
}

// TestStatusWithoutDisk: Status answers while the disk does not.
func TestStatusWithoutDisk(t *testing.T) {
	fs := faultfs.New(disk.NewMem())
	v, err := hook.Open(replkv.Config{Dir: "data", SnapshotLogBytes: 1 << 10}, hook.Edges{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	db := v.(*replkv.DB)
	defer db.Close()
	hang := faultfs.NewHang(func(o faultfs.Op) bool {
		return o.Is(faultfs.Mutating, "/state/") && strings.Contains(o.Path, "MANIFEST")
	})
	fs.SetFault(hang.Fault)
	defer hang.Release()
	for i := range 100 {
		if _, err := db.Set(t.Context(), fmt.Sprint(i), make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	<-hang.Reached()
	for range 3 {
		done := make(chan replkv.Status, 1)
		go func() { done <- db.Status() }()
		select {
		case s := <-done:
			if s.Revision < 100 {
				t.Errorf("%+v", s)
			}
		case <-time.After(timeout):
			t.Fatal("Status waits for the disk")
		}
	}
}

// TestLockFails: a directory that cannot be locked is not for that in use by another.
func TestLockFails(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EROFS, syscall.ENOSPC, syscall.EMFILE} {
		fs := faultfs.New(disk.NewMem())
		fs.SetFault(faultfs.Fail(errno, faultfs.Of(faultfs.Lock, "")))
		if _, err := hook.Open(replkv.Config{Dir: "data"}, hook.Edges{FS: fs}); !errors.Is(err, errno) || errors.Is(err, replkv.ErrDirLocked) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

// TestOtherLogStore: members that are opened with another LogStore by mistake do not open,
// and are what they were when they have the right one again.
func TestOtherLogStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := false
		c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) {
			if wrong {
				cfg.LogStore = func(string) (replkv.LogStore, error) { return raft.NewInmemStore(), nil }
			}
		}))
		c.writes(c.Leader(), "precious")
		for i := range 3 {
			c.Stop(i)
		}
		wrong = true
		for i := range 3 {
			if err := c.in.Open(i); !errors.Is(err, replkv.ErrInvalidConfig) || !strings.Contains(err.Error(), "LogStore") {
				t.Errorf("member %d: %v", i, err)
			}
		}
		wrong = false
		for i := range 3 {
			c.Restart(i)
		}
		c.WaitReady()
		if _, err := c.DB(0).Get(t.Context(), "precious"); err != nil {
			t.Error(err)
		}
	})
}
