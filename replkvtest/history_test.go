package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
)

// TestHistoryAge: what is older than HistoryAge is compacted on all members, what
// is younger is not, across leaders; and an idle store writes nothing for it.
func TestHistoryAge(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes of virtual time")
	}
	synctest.Test(t, func(t *testing.T) {
		const age = 30 * time.Second
		c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) { cfg.HistoryAge = age }))
		ctx := context.Background()
		at := map[replkv.Revision]time.Time{}
		newest := replkv.Revision(0)
		check := func() {
			t.Helper()
			for rev, when := range at {
				for i := range 3 {
					_, err := c.DB(i).Get(ctx, "k", replkv.AtRevision(rev))
					switch old := time.Since(when); {
					case err == nil && old > age+age/10+time.Second && rev != newest:
						t.Errorf("member %d: revision %d is there after %v", i, rev, old)
					case errors.Is(err, replkv.ErrCompacted) && old > age:
						if e, ok := errors.AsType[*replkv.CompactedError](err); !ok || e.Revision != rev || e.Compacted <= rev {
							t.Errorf("member %d: %v", i, err)
						}
					case err != nil:
						t.Errorf("member %d: revision %d after %v: %v", i, rev, old, err)
					}
				}
			}
		}
		for n := range 24 {
			rev, err := c.DB(n%3).Set(ctx, "k", fmt.Append(nil, n))
			if err != nil {
				t.Fatal(err)
			}
			for old := range at {
				if old == newest {
					at[old] = time.Now() // until now it was the state
				}
			}
			at[rev], newest = time.Now(), rev
			time.Sleep(4 * time.Second)
			if n%8 == 7 {
				check()
				lead := c.Leader()
				c.Crash(lead)
				c.WaitReady()
				c.Restart(lead)
				c.WaitReady()
			}
		}
		time.Sleep(2 * age)
		check()
		lead := c.Leader()
		before := c.DB(lead).Status()
		if before.CompactedRevision != newest {
			t.Errorf("compacted to %d, the newest revision is %d", before.CompactedRevision, newest)
		}
		time.Sleep(3 * age)
		if after := c.DB(lead).Status().AppliedIndex; after != before.AppliedIndex {
			t.Errorf("an idle store has written %d entries", after-before.AppliedIndex)
		}
	})
}

// TestHistoryAgeByWrongClocks: a wall clock that was wrong for a moment, or is wrong, has
// history neither kept nor given up.
func TestHistoryAgeByWrongClocks(t *testing.T) {
	const age = time.Minute
	for name, c := range map[string]struct{ moment, later time.Duration }{
		"ahead for a moment":  {365 * 24 * time.Hour, 0},
		"ahead from then on":  {time.Hour, time.Hour},
		"behind from then on": {-time.Hour, -time.Hour},
		"before 1970":         {-100 * 365 * 24 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var offset atomic.Int64
				v, err := hook.Open(replkv.Config{Dir: "data", HistoryAge: age}, hook.Edges{FS: disk.NewMem(),
					Now: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }})
				if err != nil {
					t.Fatal(err)
				}
				db := v.(*replkv.DB)
				defer db.Close()
				if err := db.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				var revs []replkv.Revision
				set := func() {
					t.Helper()
					rev, err := db.Set(t.Context(), "k", nil)
					if err != nil {
						t.Fatal(err)
					}
					revs = append(revs, rev)
					time.Sleep(10 * time.Second)
				}
				for i := range 60 {
					switch i {
					case 20:
						offset.Store(int64(c.moment))
					case 21:
						offset.Store(int64(c.later))
					}
					set()
					if i < 10 {
						continue
					}
					// What was written a minute ago was the state 50 s ago.
					compacted := db.Status().CompactedRevision
					if compacted > revs[len(revs)-6] || compacted < revs[len(revs)-9] {
						t.Fatalf("after write %d: compacted %d of %v", i, compacted, revs[len(revs)-10:])
					}
				}
			})
		})
	}
}

// TestHistoryRevisions: as many revisions as asked, and a tenth, can be read.
func TestHistoryRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) { cfg.HistoryAge, cfg.HistoryRevisions = -1, 50 }))
		ctx := context.Background()
		var rev replkv.Revision
		for n := range 300 {
			var err error
			if rev, err = c.DB(n%3).Set(ctx, fmt.Sprint("k", n%7), nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(11 * time.Second)
		for i := range 3 {
			if got := c.DB(i).Status().CompactedRevision; got < rev-55 || got > rev-50 {
				t.Errorf("member %d: compacted to %d of %d", i, got, rev)
			}
		}
	})
}

// TestNoHistoryPolicy: without one nothing is compacted.
func TestNoHistoryPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 1, WithConfig(func(_ int, cfg *replkv.Config) { cfg.HistoryAge = -1 }))
		ctx := context.Background()
		for range 3 {
			if _, err := c.DB(0).Set(ctx, "k", nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Minute)
		}
		if _, err := c.DB(0).Get(ctx, "k", replkv.AtRevision(2)); err != nil {
			t.Error(err)
		}
	})
}

// TestCompactWhileWriting: compactions and their sweeps, on members that crash and
// come back, change nothing that can be read; the cluster's cleanup compares.
func TestCompactWhileWriting(t *testing.T) {
	c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) { cfg.HistoryAge = -1 }))
	ctx := t.Context()
	for round := range 6 {
		var rev replkv.Revision
		for n := range 200 {
			var err error
			if rev, err = c.DB(n%3).Set(ctx, fmt.Sprint("k", n%20), make([]byte, 2000)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.DB(round%3).Delete(ctx, "k3"); err != nil {
			t.Fatal(err)
		}
		if err := c.DB(round%3).Compact(ctx, rev-10); err != nil {
			t.Fatal(err)
		}
		if _, err := c.DB((round+1)%3).Get(ctx, "k1", replkv.AtRevision(rev-11)); !errors.Is(err, replkv.ErrCompacted) {
			t.Errorf("below the compacted revision: %v", err)
		}
		it, err := c.DB((round+1)%3).Get(ctx, "k1", replkv.AtRevision(rev-10))
		if err != nil || it.Version != int64(10*(round+1)-1) && it.Version != int64(10*(round+1)) || it.CreateRevision != 3 {
			t.Errorf("round %d: %d, %d, %v", round, it.Version, it.CreateRevision, err)
		}
		c.Crash(round % 3)
		c.Restart(round % 3)
		c.WaitReady()
	}
}
