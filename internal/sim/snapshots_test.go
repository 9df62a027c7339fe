package sim

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/internal/sim/cluster"
)

// TestFirstEntryAfterASnapshot: a follower that was sent the state has no log but what
// comes behind it. Entries that the leader sends while it still writes them make it ask
// about the end of the snapshot again, when the follower has more; the follower must know it.
func TestFirstEntryAfterASnapshot(t *testing.T) {
	cfg := Config{Seed: 3}
	p, err := newPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.members, p.snapshot, p.trailing, p.sync, p.delay = 3, 8<<10, 1<<10, 60*time.Millisecond, 4*time.Millisecond
	r := newRun(cfg, p)
	synctest.Test(t, func(t *testing.T) {
		r.log = &timeline{began: time.Now()}
		defer func() {
			if err := r.close(); err != nil {
				t.Error(err)
			}
		}()
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
		lead, _ := r.c.LeaderNow()
		away := (lead + 1) % 3
		set := func(i int) {
			t.Helper()
			if _, err := r.c.DB(lead).Set(context.Background(), fmt.Sprint("k", i), make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
		r.c.Partition([]int{lead, (lead + 2) % 3})
		for i := range 400 {
			set(i)
		}
		r.c.Net.Heal()
		if err := cluster.Poll(func() bool {
			return r.c.DB(away).Status().AppliedIndex == r.c.DB(lead).Status().AppliedIndex
		}); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			pause(context.Background(), 500*time.Millisecond) // raft tells the follower what is committed
			set(i)
		}
		pause(context.Background(), time.Second)
		if has, want := r.c.DB(away).Status().AppliedIndex, r.c.DB(lead).Status().AppliedIndex; has != want {
			t.Errorf("the follower has applied %d of %d entries", has, want)
		}
	})
	if n := r.cover.by[countSent]; n != 1 {
		t.Errorf("%d snapshots were sent, want one", n)
	}
}
