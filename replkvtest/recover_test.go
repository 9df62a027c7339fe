package replkvtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
)

// inspect looks at the directory on a disk.
func inspect(t *testing.T, fs disk.FS, dir string) replkv.DirInfo {
	t.Helper()
	info, err := replkv.Inspect(hook.WithEdges(replkv.Config{Dir: dir}, hook.Edges{FS: fs}).(replkv.Config))
	if err != nil {
		t.Fatalf("Inspect: %v", err)
	}
	return info
}

// recovered is a cluster of one new member with what is in directory "data" of a disk.
func recovered(t *testing.T, fs *disk.Mem) *Cluster {
	t.Helper()
	c := assemble(t, 1, WithConfig(func(i int, cfg *replkv.Config) {
		if i == 0 {
			cfg.Dir = "new"
		}
	}))
	c.in.Members[0].FS = fs
	cfg := replkv.Config{Dir: "new", ID: "m0", Addr: "m0:1", InsecurePeers: true, InitialCluster: []replkv.Member{{ID: "m0", Addr: "m0:1"}}}
	if _, err := replkv.Recover(t.Context(), hook.WithEdges(cfg, hook.Edges{FS: fs}).(replkv.Config), "data"); err != nil {
		t.Fatalf("Recover: %v", err)
	}
	return c
}

// TestRecover: all members lose their power, and only one disk comes back: the one that
// Inspect says to take has all that was acknowledged, most of it in its log.
func TestRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		c.sets(0, "k", 20, 100)
		backup, _ := c.backup(0)
		away := (c.Leader() + 1) % 3
		c.Crash(away)
		c.sets((away+1)%3, "more", 20, 100)
		rev := c.DB((away + 1) % 3).Status().Revision
		var disks []*disk.Mem
		for i, m := range c.in.Members {
			if i != away {
				c.Crash(i)
			}
			disks = append(disks, disk.CrashHard(m.FS))
		}
		best, newest := 0, replkv.DirInfo{}
		for i, fs := range disks {
			info := inspect(t, fs, "data")
			if info.ID != fmt.Sprint("m", i) || info.Lost != "" || len(info.Members) != 3 && info.Applied > 0 {
				t.Errorf("member %d: %+v", i, info)
			}
			if info.LastTerm > newest.LastTerm || info.LastTerm == newest.LastTerm && info.LastIndex > newest.LastIndex {
				best, newest = i, info
			}
		}
		if best == away {
			t.Fatal("Inspect says to take the one that was away")
		}
		r := recovered(t, disks[best])
		r.open(0)
		i := r.Join()
		r.WaitReady()
		r.has("k", 20)
		r.has("more", 20)
		if now := r.DB(i).Status().Revision; now <= rev {
			t.Errorf("revision %d, the old cluster was at %d", now, rev)
		}
		r.sets(i, "new", 3, 10)
		if again := inspect(t, disks[best], "data"); again.LastIndex != newest.LastIndex || again.Cluster != newest.Cluster || again.Applied != newest.Applied {
			t.Errorf("what was recovered from is now %+v, it was %+v", again, newest)
		}
		if other := restored(t, 1, backup); true { // another way to a new cluster
			other.open(0)
			other.WaitReady()
			other.has("k", 20)
		}
	})
}

// TestRecoverRefuses: what cannot be recovered from.
func TestRecoverRefuses(t *testing.T) {
	mem := disk.NewMem()
	v, err := hook.Open(replkv.Config{Dir: "data"}, hook.Edges{FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	db := v.(*replkv.DB)
	if _, err := db.Set(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	cfg := func(dir string) replkv.Config {
		return hook.WithEdges(replkv.Config{Dir: dir}, hook.Edges{FS: mem}).(replkv.Config)
	}
	if _, err := replkv.Inspect(cfg("data")); !errors.Is(err, replkv.ErrDirLocked) {
		t.Errorf("Inspect of a directory in use: %v", err)
	}
	if _, err := replkv.Recover(t.Context(), cfg("new"), "data"); !errors.Is(err, replkv.ErrDirLocked) {
		t.Errorf("Recover from a directory in use: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := replkv.Recover(t.Context(), cfg("data"), "data"); !errors.Is(err, replkv.ErrInvalidConfig) || !strings.Contains(err.Error(), "empty") {
		t.Errorf("Recover into the directory itself: %v", err)
	}
	if _, err := replkv.Recover(t.Context(), cfg("new"), "nowhere"); err == nil {
		t.Error("Recover from nothing: no error")
	}
	if _, err := mem.Stat("nowhere"); err == nil {
		t.Error("there is a directory now")
	}
	if info, err := replkv.Recover(t.Context(), cfg("new"), "data"); err != nil || info.Revision != 2 {
		t.Errorf("Recover: %+v, %v", info, err)
	}
	if info := inspect(t, mem, "new"); info.Revision <= 2 || info.Cluster == inspect(t, mem, "data").Cluster {
		t.Errorf("the new one: %+v", info)
	}
	// The end of the log is gone: its floor knows.
	if err := mem.RemoveAll("data/log"); err != nil {
		t.Fatal(err)
	}
	if err := disk.MkdirAll(mem, "data/log"); err != nil {
		t.Fatal(err)
	}
	if info := inspect(t, mem, "data"); info.Lost != "" {
		t.Errorf("closed in good order, the state has all: %+v", info)
	}
}
