package replkvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

// backup takes one of member i.
func (c *Cluster) backup(i int, opts ...replkv.ReadOption) ([]byte, replkv.BackupInfo) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var b bytes.Buffer
	info, err := c.DB(i).Backup(ctx, &b, opts...)
	if err != nil {
		c.t.Fatalf("Backup: %v", err)
	}
	if info.Bytes != int64(b.Len()) {
		c.t.Errorf("the backup has %d bytes, it says %d", b.Len(), info.Bytes)
	}
	if same, err := replkv.VerifyBackup(bytes.NewReader(b.Bytes())); err != nil || !slices.Equal(same.Members, info.Members) ||
		same.Revision != info.Revision || same.Index != info.Index || same.Cluster != info.Cluster || same.Bytes != info.Bytes {
		c.t.Errorf("VerifyBackup: %+v, %v; Backup said %+v", same, err, info)
	}
	return b.Bytes(), info
}

// restored is a cluster of n whose disks hold a backup.
func restored(t *testing.T, n int, backup []byte, opts ...Option) *Cluster {
	t.Helper()
	c := assemble(t, n, opts...)
	for i := range n {
		if err := c.in.Restore(i, bytes.NewReader(backup)); err != nil {
			t.Fatalf("Restore of member %d: %v", i, err)
		}
	}
	return c
}

func restoreTo(ctx context.Context, cfg replkv.Config, fs disk.FS, backup []byte) error {
	_, err := replkv.Restore(ctx, hook.WithEdges(cfg, hook.Edges{FS: fs}).(replkv.Config), bytes.NewReader(backup))
	return err
}

// filled is a backup of a cluster with some data, and what is in it.
func filled(t *testing.T) (backup []byte, items []replkv.Item, info replkv.BackupInfo) {
	t.Helper()
	c := NewCluster(t, 3)
	c.sets(1, "k", 20, 100)
	backup, info = c.backup(1)
	return backup, allItems(t, c.DB(1)), info
}

func allItems(t *testing.T, db *replkv.DB) (items []replkv.Item) {
	t.Helper()
	for item, err := range db.Scan(t.Context(), replkv.All()) {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item)
	}
	return items
}

func (c *Cluster) holds(items []replkv.Item) {
	c.t.Helper()
	for i, m := range c.in.Members {
		for _, want := range items {
			got, err := m.DB().Get(context.Background(), want.Key)
			if err != nil || !bytes.Equal(got.Value, want.Value) || got.ModRevision != want.ModRevision ||
				got.CreateRevision != want.CreateRevision || got.Version != want.Version || got.Lease != want.Lease {
				c.t.Fatalf("member %d: %+v, %v, want %+v", i, got, err, want)
			}
		}
	}
}

// TestBackupRestore: what was acknowledged before a backup began is in it, taken on any
// member under writes, and in the cluster that is restored from it, which goes on from
// there; what a client remembers of the old one is not taken for something of the new.
func TestBackupRestore(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			ctx := t.Context()
			c := NewCluster(t, 3)
			by := (c.Leader() + 1) % 3 // not the leader
			c.sets(by, "k", 100, 1000)
			kept, err := c.DB(by).Grant(ctx, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 10 { // history, tombstones, a lease's keys
				c.sets(by, "k", 10, 500)
				if _, err := c.DB(by).Delete(ctx, fmt.Sprint("k/", i)); err != nil {
					t.Fatal(err)
				}
				if _, err := c.DB(by).Set(ctx, fmt.Sprint("l/", i), nil, replkv.WithLease(kept)); err != nil {
					t.Fatal(err)
				}
			}
			before := c.DB(by).Status().Revision
			stop, done := make(chan struct{}), make(chan struct{})
			go func() { // writes all the time
				defer close(done)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := c.DB(0).Set(ctx, fmt.Sprint("w/", i%50), []byte(fmt.Sprint(i))); err != nil {
						t.Error(err)
						return
					}
				}
			}()
			backup, info := c.backup(by)
			close(stop)
			<-done
			if info.Revision < before || len(info.Members) != 3 {
				t.Errorf("the backup is of revision %d, with members %v; acknowledged were %d", info.Revision, info.Members, before)
			}
			var items []replkv.Item
			for item, err := range c.DB(by).Scan(ctx, replkv.All(), replkv.AtRevision(info.Revision)) {
				if err != nil {
					t.Fatal(err)
				}
				items = append(items, item)
			}
			c.sets(by, "later", 5, 10) // the old cluster goes on
			old := c.DB(by).Status().Revision

			r := restored(t, n, backup)
			for i := range n {
				r.open(i)
			}
			r.WaitReady()
			if got := allItems(t, r.DB(n-1)); len(got) != len(items) {
				t.Errorf("%d items, want %d", len(got), len(items))
			}
			r.holds(items)
			if l, err := r.DB(0).TimeToLive(ctx, kept, replkv.WithKeys()); err != nil || len(l.Keys) != 10 {
				t.Errorf("the lease: %+v, %v", l, err)
			}
			_, err = r.DB(0).Get(ctx, "l/0", replkv.AtRevision(old))
			if !errors.Is(err, replkv.ErrCompacted) {
				t.Errorf("Get at a revision of the old cluster: %v", err)
			}
			for _, err := range r.DB(n-1).Watch(ctx, replkv.All(), replkv.AfterRevision(old)) {
				var compacted *replkv.CompactedError
				if !errors.As(err, &compacted) {
					t.Errorf("Watch from a revision of the old cluster: %v", err)
				}
				break
			}
			rev, err := r.DB(n-1).Set(ctx, "k/50", []byte("new"))
			if err != nil || rev <= old {
				t.Errorf("Set: revision %d, %v; the old cluster is at %d", rev, err, old)
			}
			if item, err := r.DB(0).Get(ctx, "k/50"); err != nil || item.Version != 2 || item.ModRevision != rev {
				t.Errorf("%+v, %v", item, err)
			}
			if n == 1 {
				r.Join() // the others do not restore it
				r.WaitReady()
			}
			again, _ := r.backup(0)
			if twice := restored(t, 1, again); true {
				twice.open(0)
				twice.WaitReady()
				if got := allItems(t, twice.DB(0)); len(got) != len(items) {
					t.Errorf("restored twice: %d items, want %d", len(got), len(items))
				}
			}
		})
	}
}

// TestLocalBackup: the one that is left of a cluster can still be saved.
func TestLocalBackup(t *testing.T) {
	c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) { cfg.RequestTimeout = time.Second }))
	c.sets(0, "k", 20, 10)
	if err := c.DB(0).Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	items := allItems(t, c.DB(0))
	c.Crash(1)
	c.Crash(2)
	var b bytes.Buffer
	if _, err := c.DB(0).Backup(t.Context(), &b); !errors.Is(err, replkv.ErrNoLeader) || b.Len() > 0 {
		t.Errorf("without a quorum: %v, %d bytes", err, b.Len())
	}
	backup, _ := c.backup(0, replkv.Local())
	r := restored(t, 3, backup)
	for i := range 3 {
		r.open(i)
	}
	r.WaitReady()
	r.holds(items)
}

// TestRestoreOfAnother: members that were restored from different backups are no cluster,
// even where the data is the same.
func TestRestoreOfAnother(t *testing.T) {
	c := NewCluster(t, 3)
	c.sets(0, "k", 3, 10)
	first, _ := c.backup(0)
	c.sets(0, "more", 1, 10)
	second, _ := c.backup(0)
	r := restored(t, 2, first)
	r.in.Founded = 3
	i := r.add()
	for j, b := range [][]byte{first, first, second} {
		r.in.Members[j].FS = disk.NewMem()
		if err := r.in.Restore(j, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	r.open(0)
	r.open(1)
	r.WaitReady()
	r.refuses(i, replkv.ErrWrongCluster, "not those of InitialCluster")
	r.writes(0, "x")
	r.in.Members[i].Out = true
}

// TestRestoredAgain: a directory that is restored anew once the cluster was at work is no
// member: it has forgotten what its predecessor acknowledged since.
func TestRestoredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backup, items, _ := filled(t)
		r := restored(t, 3, backup)
		for i := range 3 {
			r.open(i)
		}
		r.WaitReady()
		r.allKnow()
		r.sets(0, "new", 3, 10)
		r.Crash(2)
		r.in.Members[2].FS = disk.NewMem()
		if err := r.in.Restore(2, bytes.NewReader(backup)); err != nil {
			t.Fatal(err)
		}
		// Only one of the others is there: with its vote they could lose writes.
		r.Crash(1)
		r.open(2)
		select {
		case <-r.DB(2).Done():
		case <-time.After(20 * electionTimeout):
			if s := r.DB(2).Status(); s.LeaderID != "" {
				t.Errorf("it has elected: %+v", s)
			}
		}
		r.DB(2).Close()
		r.in.Members[2].Down = true
		r.Restart(1)
		r.refuses(2, replkv.ErrStaleIdentity, "")
		r.in.Members[2].Out = true
		if _, err := r.DB(0).Remove(t.Context(), "m2"); err != nil {
			t.Error(err)
		}
		r.in.Members = r.in.Members[:2]
		r.has("new", 3)
		r.holds(items)
	})
}

// TestCrashRestoreBackup: the machine dies while a backup is restored. Then Open does not
// take what is there, and Restore begins anew; or it was done.
func TestCrashRestoreBackup(t *testing.T) {
	t.Parallel()
	var backup []byte
	var items []replkv.Item
	synctest.Test(t, func(t *testing.T) { backup, items, _ = filled(t) })
	finished := 0
	crashPoints(t, stride(3, 13), func(t *testing.T, k int) (int, bool) {
		c := assemble(t, 1)
		d := c.doom(0, k)
		err := c.in.Restore(0, bytes.NewReader(backup))
		if err != nil && d.left.Load() == nil {
			t.Fatal(err)
		}
		m := c.in.Members[0]
		d.fs.CrashAfter(0, nil)
		n := d.fs.Count(faultfs.Any) - d.base
		died := d.left.Load() != nil
		c.wrap = nil
		if died {
			m.FS = d.left.Load()
			names, err := m.FS.List("data")
			if err != nil {
				names = nil
			}
			if !slices.Contains(names, "identity") {
				if len(names) > 1 {
					if err := c.in.Open(0); !errors.Is(err, replkv.ErrInvalidConfig) || !strings.Contains(err.Error(), "was not finished") && !strings.Contains(err.Error(), "not replkv's") {
						t.Errorf("Open of what is half restored, %v: %v", names, err)
					}
				}
				if err := c.in.Restore(0, bytes.NewReader(backup)); err != nil {
					t.Fatalf("Restore, again, into %v: %v", names, err)
				}
			} else if finished++; true {
				if err := c.in.Restore(0, bytes.NewReader(backup)); !errors.Is(err, replkv.ErrInvalidConfig) {
					t.Errorf("Restore into a directory that is in use: %v", err)
				}
			}
		}
		c.open(0)
		c.WaitReady()
		c.holds(items)
		return n, died
	})
	t.Logf("in %d of them it was done", finished)
}

// TestRestoreDiskFails: a disk that fails or is full at any operation fails Restore, which
// leaves nothing that Open takes.
func TestRestoreDiskFails(t *testing.T) {
	backup, items, _ := filled(t)
	restore := func(fs disk.FS) error {
		return restoreTo(t.Context(), replkv.Config{Dir: "data"}, fs, backup)
	}
	count := faultfs.New(disk.NewMem())
	if err := restore(count); err != nil {
		t.Fatal(err)
	}
	n, failed, done := count.Ops(), 0, 0
	for k := 1; k <= n; k += stride(2, 11) {
		for _, when := range []func(faultfs.Op) bool{faultfs.Window(k, 1), faultfs.From(k)} {
			mem := disk.NewMem()
			fs := faultfs.New(mem)
			fs.SetFault(faultfs.Fail(syscall.ENOSPC, when))
			err := restore(fs)
			mem = disk.Crash(mem, uint64(k)) // another process goes on: a failed engine keeps its lock
			names, lerr := mem.List("data")
			if slices.Contains(names, "identity") {
				done++ // all was done but what does not matter
				v, err := hook.Open(replkv.Config{Dir: "data"}, hook.Edges{FS: mem})
				if err != nil {
					t.Fatalf("Open, after a failure at operation %d that harmed nothing: %v", k, err)
				}
				db := v.(*replkv.DB)
				if got := allItems(t, db); len(got) != len(items) {
					t.Errorf("a failure at operation %d: %d items, want %d", k, len(got), len(items))
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
				continue
			}
			failed++
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("operation %d: %v", k, err)
			}
			if lerr == nil && len(names) > 1 { // the lock's file
				if _, err := hook.Open(replkv.Config{Dir: "data"}, hook.Edges{FS: mem}); !errors.Is(err, replkv.ErrInvalidConfig) {
					t.Errorf("Open of %v, after Restore failed at operation %d: %v", names, k, err)
				}
			}
			if err := restore(mem); err != nil {
				t.Errorf("Restore after one that failed at operation %d: %v", k, err)
			}
		}
	}
	t.Logf("%d operations, failed in %d runs, done in %d", n, failed, done)
	if failed == 0 {
		t.Error("nothing failed")
	}
}

// TestDamagedBackup: whatever happens to a backup is noticed, by VerifyBackup and by
// Restore, which leaves nothing.
func TestDamagedBackup(t *testing.T) {
	backup, _, _ := filled(t)
	restore := func(b []byte) (*disk.Mem, error) {
		fs := disk.NewMem()
		return fs, restoreTo(t.Context(), replkv.Config{Dir: "data"}, fs, b)
	}
	if _, err := restore(backup); err != nil {
		t.Fatal(err)
	}
	check := func(what string, b []byte, full bool) {
		t.Helper()
		if _, err := replkv.VerifyBackup(bytes.NewReader(b)); err == nil {
			t.Errorf("VerifyBackup of %s: no error", what)
		}
		if !full {
			return
		}
		fs, err := restore(b)
		if err == nil {
			t.Errorf("Restore of %s: no error", what)
		}
		if names, err := fs.List("data"); err != nil || len(names) > 1 { // the lock's file
			t.Errorf("Restore of %s left %v, %v", what, names, err)
		}
	}
	for at := 0; at < len(backup); at += 1 + at/8 {
		flipped := slices.Clone(backup)
		flipped[at] ^= 1 << (at % 8)
		check(fmt.Sprintf("one with a bit flipped in byte %d of %d", at, len(backup)), flipped, at%3 == 0)
		check(fmt.Sprintf("the first %d of %d bytes", at, len(backup)), backup[:at], at%3 == 0)
	}
	check("one with a byte more", append(slices.Clone(backup), 0), true)
}

// TestRestoreRefuses: what Restore is given is checked, and what is in the way stays.
func TestRestoreRefuses(t *testing.T) {
	backup, _, _ := filled(t)
	mem := disk.NewMem()
	if err := mem.MkdirAll("data", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFile(mem, "data/mine", []byte("precious")); err != nil {
		t.Fatal(err)
	}
	networked := replkv.Config{Dir: "data", ID: "a", Addr: "a:1", InsecurePeers: true}
	joins := networked
	joins.Join = []string{"b:1"}
	for name, c := range map[string]struct {
		cfg  replkv.Config
		fs   *disk.Mem
		want string
	}{
		"no members":       {networked, disk.NewMem(), "InitialCluster"},
		"a joiner":         {joins, disk.NewMem(), "InitialCluster"},
		"no directory":     {replkv.Config{}, disk.NewMem(), "Dir"},
		"a directory used": {replkv.Config{Dir: "data"}, mem, `"mine"`},
	} {
		err := restoreTo(t.Context(), c.cfg, c.fs, backup)
		if !errors.Is(err, replkv.ErrInvalidConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, err := disk.ReadFile(mem, "data/mine", 100); string(b) != "precious" {
		t.Errorf("what was there is %q, %v", b, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fs := disk.NewMem()
	if err := restoreTo(ctx, replkv.Config{Dir: "data"}, fs, backup); !errors.Is(err, context.Canceled) {
		t.Errorf("with a ctx that is done: %v", err)
	}
	db := Open(t)
	if err := restoreTo(t.Context(), replkv.Config{Dir: "data"}, fs, backup); err != nil {
		t.Errorf("after one that was cancelled: %v", err)
	}
	var failing failingWriter
	if _, err := db.Backup(t.Context(), &failing); !errors.Is(err, errFull) {
		t.Errorf("Backup to a writer that fails: %v", err)
	}
	if _, err := db.Backup(t.Context(), &failing, replkv.AtRevision(1)); !errors.Is(err, replkv.ErrInvalidArgument) {
		t.Errorf("Backup of an earlier revision: %v", err)
	}
	if _, err := db.Backup(ctx, &failing); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup with a ctx that is done: %v", err)
	}
}

var errFull = errors.New("the writer is full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }
