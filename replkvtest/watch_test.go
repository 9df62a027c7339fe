package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
)

// TestWatchAcrossASnapshot: a member that was cut off catches up by a snapshot,
// which replaces the state under its watchers. They miss nothing, unless what
// they lack was compacted, and then they hear of it.
func TestWatchAcrossASnapshot(t *testing.T) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compact=%v", compact), func(t *testing.T) {
			c := NewCluster(t, 3, WithConfig(smallLogs))
			lead := c.Leader()
			away := (lead + 1) % 3
			first, err := c.DB(lead).Set(t.Context(), "k", []byte("v"))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*timeout)
			defer cancel()
			next, stop := iter.Pull2(c.DB(away).Watch(ctx, replkv.All(), replkv.AfterRevision(first-1)))
			defer stop()
			if got, err, _ := next(); err != nil || got.Revision != first {
				t.Fatalf("got %+v, %v", got, err)
			}
			missed := c.DB(lead).Status().LastLogIndex + 1
			c.Partition([]int{lead, (lead + 2) % 3})
			last := writeMany(t, c.DB(lead), 8, 150)
			if compact {
				if err := c.DB(lead).Compact(t.Context(), last-10); err != nil {
					t.Fatal(err)
				}
			}
			c.wait("the logs to be cut", func() bool {
				index := func(i int) uint64 { return hook.Inspect(c.DB(i)).FirstIndex() }
				return min(index(lead), index((lead+2)%3)) > missed
			})
			c.Heal()
			c.wait("the snapshot", func() bool { return c.snapshotsInstalled(away) > 0 })
			if compact {
				// What was on its way when the network was cut may come first.
				seen := first
				got, err, _ := next()
				for err == nil && got.Revision == seen+1 && seen < last-10 {
					seen++
					got, err, _ = next()
				}
				if gone, ok := errors.AsType[*replkv.CompactedError](err); !ok || gone.Compacted != last-10 || gone.Revision <= seen {
					t.Fatalf("got %+v, %v; seen %d", got, err, seen)
				}
				return
			}
			for want := first + 1; want <= last; want++ {
				if got, err, _ := next(); err != nil || got.Revision != want {
					t.Fatalf("got %+v, %v; want %d", got, err, want)
				}
			}
		})
	}
}

// writeMany sets keys from several goroutines and returns the newest revision.
func writeMany(t *testing.T, db *replkv.DB, writers, each int) replkv.Revision {
	t.Helper()
	value := []byte(strings.Repeat("v", 2000))
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := db.Set(t.Context(), fmt.Sprintf("w%d-%d", w, i%50), value); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	rev, err := db.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// TestWatchEndsWithItsMember: Shutdown and Close end watches with ErrClosed,
// those that wait and those whose bodies run; a watch on a closed store is
// refused.
func TestWatchEndsWithItsMember(t *testing.T) {
	for name, end := range map[string]func(*replkv.DB) error{
		"Close":    (*replkv.DB).Close,
		"Shutdown": func(db *replkv.DB) error { return db.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			db := Open(t)
			if _, err := db.Set(t.Context(), "k", nil); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 2)
			began := make(chan struct{}, 2)
			hold := make(chan struct{})
			for _, wait := range []bool{false, true} {
				go func() {
					var last error
					for _, err := range db.Watch(context.Background(), replkv.All(), replkv.FromRevision(2)) {
						if last = err; err == nil {
							began <- struct{}{}
							if wait {
								<-hold
							}
						}
					}
					ended <- last
				}()
			}
			<-began
			<-began
			if n := db.Status().Watchers; n != 2 {
				t.Errorf("Status counts %d watchers", n)
			}
			if err := end(db); err != nil {
				t.Error(err)
			}
			close(hold)
			for range 2 {
				if err := <-ended; !errors.Is(err, replkv.ErrClosed) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
					t.Errorf("got %v", err)
				}
			}
			for _, err := range db.Watch(t.Context(), replkv.All()) {
				if !errors.Is(err, replkv.ErrClosed) {
					t.Errorf("after the end: %v", err)
				}
			}
		})
	}
}

// TestWatchWithoutQuorum: from a revision that the member has, a watch needs
// nobody; a new one, which must be linearizable, says that nobody leads, after
// RequestTimeout; what comes after the partition arrives on both sides.
func TestWatchWithoutQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) { cfg.RequestTimeout = 2 * time.Second }))
		lead := c.Leader()
		alone := (lead + 1) % 3
		rev, err := c.DB(alone).Set(t.Context(), "k", []byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		c.wait("the write to arrive", func() bool { return c.DB(alone).Status().Revision >= rev })
		c.Partition([]int{lead, (lead + 2) % 3})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		next, stop := iter.Pull2(c.DB(alone).Watch(ctx, replkv.Key("k"), replkv.FromRevision(rev)))
		defer stop()
		if got, err, _ := next(); err != nil || got.Revision != rev {
			t.Fatalf("got %+v, %v", got, err)
		}
		for _, opts := range [][]replkv.WatchOption{nil, {replkv.AfterRevision(rev + 1)}} {
			for _, err := range c.DB(alone).Watch(t.Context(), replkv.All(), opts...) {
				if !errors.Is(err, replkv.ErrNoLeader) {
					t.Errorf("a new watch in a minority: %v", err)
				}
			}
		}
		if rev, err = c.DB(lead).Set(ctx, "k", []byte("meanwhile")); err != nil {
			t.Fatal(err)
		}
		c.Heal()
		if got, err, _ := next(); err != nil || got.Revision != rev || string(got.Events[0].Item.Value) != "meanwhile" {
			t.Fatalf("got %+v, %v", got, err)
		}
	})
}

// TestWatchBinds: a watch without a start has every write that is acknowledged
// after its loop began, on any member, and none from before.
func TestWatchBinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		for i := range 20 {
			on, by := c.DB(i%3), c.DB((i+1)%3)
			before, err := by.Set(t.Context(), "k", fmt.Append(nil, i))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			var after replkv.Revision
			for c, err := range on.Watch(ctx, replkv.Key("k"), replkv.WithProgress(replkv.MinProgress)) {
				if err != nil || c.Revision < before || !c.Progress && c.Revision != after {
					t.Fatalf("got %+v, %v; written at %d before and %d after", c, err, before, after)
				}
				if !c.Progress {
					break
				}
				if after == 0 { // it has begun
					if after, err = by.Set(t.Context(), "k", nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			cancel()
		}
	})
}
