package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

// crashPoints runs a scenario once to count the operations on its disk, then
// once for every stride-th of them, from a random one on, with a crash right
// after it; with REPLKV_CRASH=all for each.
// scenario runs in virtual time; k < 0 means no crash; it returns the operations
// that its critical part has made, and whether the machine died.
func crashPoints(t *testing.T, stride int, scenario func(t *testing.T, k int) (n int, died bool)) {
	t.Helper()
	n := 0
	synctest.Test(t, func(t *testing.T) { n, _ = scenario(t, -1) })
	if n == 0 {
		t.Fatal("N = 0: the scenario does not touch the disk")
	}
	runs, deaths := 0, 0
	// N varies from run to run: the first crash comes early enough for each.
	for k := 1 + rand.IntN(min(stride, (n+1)/2)); k <= n && !t.Failed(); k += stride {
		synctest.Test(t, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("crashed after operation %d of %d", k, n)
				}
			})
			made, died := scenario(t, k)
			if died {
				deaths++
			} else if made > k { // N varies: a run may end before its k-th operation
				t.Errorf("it made %d operations and did not die", made)
			}
		})
		runs++
	}
	t.Logf("N = %d operations, crashed after %d of them in %d runs", n, deaths, runs)
	if deaths == 0 {
		t.Errorf("no run crashed")
	}
}

func stride(normal, short int) int {
	switch {
	case os.Getenv("REPLKV_CRASH") == "all":
		return 1
	case testing.Short():
		return short
	}
	return normal
}

// doomed is a member whose machine dies at a chosen operation on its disk.
type doomed struct {
	c    *Cluster
	i    int
	fs   *faultfs.FS
	left atomic.Pointer[disk.Mem] // what the crash left
	base int                      // operations before the critical part
}

// doom makes member i die after operation k from now on; k < 0: it lives.
func (c *Cluster) doom(i, k int) *doomed {
	d := &doomed{c: c, i: i, fs: faultfs.New(c.in.Members[i].FS)}
	mem, host := c.in.Members[i].FS, c.in.Members[i].Host()
	c.wrap = func(j int, fs disk.FS) disk.FS {
		if j == i && fs == disk.FS(mem) {
			return d.fs
		}
		return fs
	}
	if k >= 0 {
		d.arm(k, mem, host)
	}
	return d
}

func (d *doomed) arm(k int, mem *disk.Mem, host string) {
	d.base = d.fs.Count(faultfs.Any)
	d.fs.CrashAfter(d.base+k, func() {
		d.c.in.Net.Kill(host)
		d.left.Store(disk.Crash(mem, uint64(k)))
	})
}

// after brings the member back, if it has died: another process on what its disk
// kept. It returns the operations made, and whether it died.
func (d *doomed) after() (ops int, died bool) {
	c, m := d.c, d.c.in.Members[d.i]
	d.fs.CrashAfter(0, nil) // from here on it has died as a whole, or not at all
	ops = d.fs.Count(faultfs.Any) - d.base
	if left := d.left.Load(); left != nil {
		if m.DB() != nil {
			m.DB().Close()
		}
		m.FS, m.Down, died = left, true, true
	}
	c.wrap = nil
	if m.Down {
		c.Restart(d.i)
	}
	return ops, died
}

// alive waits until cond holds, or the member has died.
func (d *doomed) alive(what string, cond func() bool) {
	d.c.t.Helper()
	d.c.wait(what, func() bool { return d.left.Load() != nil || cond() })
}

// sets writes some keys through member by, which must succeed.
func (c *Cluster) sets(by int, name string, n, bytes int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for i := range n {
		if _, err := c.DB(by).Set(ctx, fmt.Sprintf("%s/%d", name, i), make([]byte, bytes)); err != nil {
			c.t.Fatalf("Set %s/%d: %v", name, i, err)
		}
	}
}

func (c *Cluster) has(name string, n int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for i, m := range c.in.Members {
		if m.Out {
			continue
		}
		for k := range n {
			if _, err := m.DB().Get(ctx, fmt.Sprintf("%s/%d", name, k)); err != nil {
				c.t.Fatalf("member %d: Get %s/%d: %v", i, name, k, err)
			}
		}
	}
}

// TestCrashBootstrap: one of three first members dies while the cluster is born.
func TestCrashBootstrap(t *testing.T) {
	t.Parallel()
	crashPoints(t, stride(4, 41), func(t *testing.T, k int) (int, bool) {
		c := assemble(t, 3)
		d := c.doom(0, k)
		if err := c.in.Open(0); err != nil && d.left.Load() == nil {
			t.Fatal(err)
		}
		c.open(1)
		c.open(2)
		c.sets(1, "k", 3, 10)
		d.alive("it to be ready", func() bool { return c.DB(0) != nil && c.DB(0).Status().Revision >= 4 })
		n, died := d.after()
		c.WaitReady()
		c.has("k", 3)
		return n, died
	})
}

// TestCrashRestore: a follower that was away too long dies while it receives
// and installs the state.
func TestCrashRestore(t *testing.T) {
	t.Parallel()
	const keys = 200 // more entries than the log keeps in any case
	const away, by = 2, 1
	var disks []*disk.Mem // of a cluster in which one was away
	var rev replkv.Revision
	func() {
		c := NewCluster(t, 3, WithConfig(smallLogs))
		c.Stop(away)
		c.sets(by, "k", keys, 4<<10)
		rev = c.DB(by).Status().Revision
		for i, m := range c.in.Members {
			if i != away {
				c.Stop(i)
			}
			disks = append(disks, disk.CrashHard(m.FS))
		}
	}()
	crashPoints(t, stride(4, 47), func(t *testing.T, k int) (int, bool) {
		c := assemble(t, 3, WithConfig(smallLogs))
		for i, m := range c.in.Members {
			m.FS = disk.CrashHard(disks[i])
		}
		d := c.doom(away, k)
		c.open(0)
		c.open(by)
		if err := c.in.Open(away); err != nil && d.left.Load() == nil {
			t.Fatal(err)
		}
		d.alive("it to catch up", func() bool { return c.DB(away).Status().Revision >= rev })
		d.alive("its snapshot to be counted", func() bool { return c.snapshotsInstalled(away) > 0 })
		n, died := d.after()
		c.WaitReady()
		c.has("k", keys)
		return n, died
	})
}

// TestCrashSnapshot: a leader dies while it takes a snapshot and truncates its
// log under writes.
func TestCrashSnapshot(t *testing.T) {
	t.Parallel()
	crashPoints(t, stride(4, 47), func(t *testing.T, k int) (int, bool) {
		c := assemble(t, 3, WithConfig(smallLogs))
		d := c.doom(0, -1)
		mem, host := c.in.Members[0].FS, c.in.Members[0].Host()
		for i := range 3 {
			c.open(i)
		}
		c.WaitReady()
		d.base = d.fs.Count(faultfs.Any)
		if k >= 0 {
			d.arm(k, mem, host)
		}
		c.sets(1, "k", 40, 10<<10)
		d.alive("a snapshot", func() bool { return c.DB(0).Metrics().SnapshotsTaken > 0 })
		n, died := d.after()
		c.WaitReady()
		c.has("k", 40)
		return n, died
	})
}

// TestCrashJoin: a joiner dies at any moment until it is a voter; so does the
// leader that lets it in.
func TestCrashJoin(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"joiner", "leader"} {
		t.Run(who, func(t *testing.T) {
			crashPoints(t, stride(4, 47), func(t *testing.T, k int) (int, bool) { return crashJoin(t, who == "leader", k) })
		})
	}
}

func crashJoin(t *testing.T, leaderDies bool, k int) (int, bool) {
	c := assemble(t, 3)
	d := c.doom(0, -1)
	mem, host := c.in.Members[0].FS, c.in.Members[0].Host()
	for i := range 3 {
		c.open(i)
	}
	c.WaitReady()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.DB(1).TransferLeadership(ctx, "m0"); err != nil {
		t.Fatal(err)
	}
	c.sets(1, "k", 3, 10)
	j := c.add()
	d.base = d.fs.Count(faultfs.Any)
	switch {
	case !leaderDies:
		d = c.doom(j, k)
	case k >= 0:
		d.arm(k, mem, host)
	}
	if err := c.in.Open(j); err != nil && d.left.Load() == nil {
		t.Fatal(err)
	}
	voter := func() bool {
		m, err := c.DB(1).Members(ctx)
		x, in := m.Find(c.in.Members[j].ID)
		return err == nil && in && !x.Nonvoter
	}
	d.alive("it to be a voter", voter)
	n, died := d.after()
	c.wait("it to be a voter", voter)
	c.WaitReady()
	c.has("k", 3)
	return n, died
}

// TestCrashSingle: a store of one member loses nothing that it acknowledged,
// whenever the machine dies; on a disk that lies, it does, and the test sees it.
func TestCrashSingle(t *testing.T) {
	t.Parallel()
	crashPoints(t, stride(4, 29), func(t *testing.T, k int) (int, bool) {
		n, err := crashSingle(k, nil)
		if err != nil {
			t.Error(err)
		}
		return n, k > 0
	})
	t.Run("lying disk", func(t *testing.T) {
		n, caught := 0, 0
		lie := func(o faultfs.Op) error {
			if faultfs.Of(faultfs.Syncs, "/log/")(o) {
				return faultfs.ErrSkip
			}
			return nil
		}
		synctest.Test(t, func(t *testing.T) { n, _ = crashSingle(-1, lie) })
		for k := 1; k <= n; k += stride(6, 29) {
			synctest.Test(t, func(*testing.T) {
				if _, err := crashSingle(k, lie); err != nil {
					caught++
				}
			})
		}
		t.Logf("N = %d, caught %d times", n, caught)
		if caught == 0 {
			t.Error("skipped syncs go unnoticed: this test shows nothing")
		}
	})
}

// crashSingle lives a short life on a disk that dies after operation k, and
// checks what is left. It reports the first thing that is wrong.
func crashSingle(k int, lie faultfs.Fault) (ops int, err error) {
	mem := disk.NewMem()
	fs := faultfs.New(mem)
	fs.SetFault(lie)
	var left atomic.Pointer[disk.Mem]
	if k >= 0 {
		fs.CrashAfter(k, func() { left.Store(disk.CrashHard(mem)) })
	}
	acked := map[string]bool{} // false: deleted
	if err := singleLife(fs, func(key string, there bool) {
		if left.Load() == nil {
			acked[key] = there
		}
	}); err != nil {
		return 0, fmt.Errorf("before the crash: %w", err)
	}
	if k < 0 {
		return fs.Ops(), nil
	}
	left.CompareAndSwap(nil, disk.CrashHard(mem)) // this run made fewer operations
	for range 2 {                                 // the second time after an orderly end
		if err := checkSingle(left.Load(), acked); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func singleConfig() replkv.Config {
	return replkv.Config{Dir: "data", SnapshotLogBytes: 16 << 10, TrailingLogBytes: 1 << 10}
}

func singleLife(fs disk.FS, ack func(key string, there bool)) (err error) {
	for round := range 2 {
		v, err := hook.Open(singleConfig(), hook.Edges{FS: fs})
		if err != nil {
			return err
		}
		db := v.(*replkv.DB)
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		for i := range 12 {
			key := fmt.Sprintf("k%d/%d", round, i)
			if _, err = db.Set(ctx, key, make([]byte, 4<<10)); err != nil {
				break
			}
			ack(key, true)
			if i%4 == 3 {
				if _, err = db.Delete(ctx, key); err != nil {
					break
				}
				ack(key, false)
			}
		}
		cancel()
		if err = errors.Join(err, db.Close()); err != nil {
			return err
		}
	}
	return nil
}

// checkSingle opens what a crash left and compares it with what was
// acknowledged. A delete that was under way may have happened.
func checkSingle(fs *disk.Mem, acked map[string]bool) error {
	v, err := hook.Open(singleConfig(), hook.Edges{FS: fs})
	if err != nil {
		return fmt.Errorf("after the crash: %w", err)
	}
	db := v.(*replkv.DB)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for key, there := range acked {
		_, err := db.Get(ctx, key)
		last := strings.HasSuffix(key, "/3") || strings.HasSuffix(key, "/7") || strings.HasSuffix(key, "/11")
		if there && !last && err != nil || !there && !errors.Is(err, replkv.ErrNotFound) {
			return errors.Join(fmt.Errorf("%s (there: %v): %v", key, there, err), db.Close())
		}
	}
	if _, err := db.Set(ctx, "new", nil); err != nil {
		return errors.Join(err, db.Close())
	}
	return db.Close()
}
