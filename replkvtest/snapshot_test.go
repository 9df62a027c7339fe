package replkvtest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
)

// smallLogs makes snapshots and truncations frequent.
func smallLogs(_ int, cfg *replkv.Config) {
	cfg.SnapshotLogBytes = 256 << 10
	cfg.TrailingLogBytes = 64 << 10
}

// TestCatchUpBySnapshot: a member that was away past the tail of the log comes
// back by snapshot, while writes go on.
func TestCatchUpBySnapshot(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%v", crash), func(t *testing.T) {
			c := NewCluster(t, 3, WithConfig(smallLogs))
			lead := c.Leader()
			away := (lead + 1) % 3
			missed := c.DB(lead).Status().LastLogIndex + 1
			if crash {
				c.Crash(away)
			} else {
				c.Partition([]int{lead, (lead + 2) % 3})
			}
			value := []byte(strings.Repeat("v", 2000))
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					for i := range 150 {
						if _, err := c.DB(lead).Set(t.Context(), fmt.Sprintf("w%d-%d", w, i%50), value); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			// A log is cut when a snapshot ends, which the writes did not wait for; and
			// on a slow machine the other one may lead by now.
			c.wait("the logs to be cut", func() bool {
				first := func(i int) uint64 { return hook.Inspect(c.DB(i)).FirstIndex() }
				return min(first(lead), first((lead+2)%3)) > missed
			})
			if crash {
				c.Restart(away)
			} else {
				c.Heal()
			}
			for i := range 100 { // while it is being fed
				if _, err := c.DB(lead).Set(t.Context(), fmt.Sprintf("x%d", i), value); err != nil {
					t.Fatal(err)
				}
			}
			c.wait("the member to catch up", func() bool {
				return c.DB(away).Status().AppliedIndex >= c.DB(lead).Status().AppliedIndex
			})
			if item, err := c.DB(away).Get(t.Context(), "w0-0", replkv.Local()); err != nil || item.Version != 3 {
				t.Fatalf("after the snapshot: version %d, %v", item.Version, err)
			}
			// It is counted a moment after the state is there.
			c.wait("the snapshot to be counted: else the test shows nothing", func() bool { return c.snapshotsInstalled(away) > 0 })
		})
	}
}

// TestRestartAll: all members crash at once, again and again, and nothing that
// was acknowledged is lost.
func TestRestartAll(t *testing.T) {
	c := NewCluster(t, 3, WithConfig(smallLogs))
	acked := map[string]bool{}
	for round := range 4 {
		for i := range 60 {
			key := fmt.Sprintf("r%d-%d", round, i)
			if _, err := c.DB(i%3).Set(t.Context(), key, []byte(strings.Repeat(key, 300))); err != nil {
				t.Fatal(err)
			}
			acked[key] = true
		}
		for i := range 3 {
			c.Crash(i)
		}
		for i := range 3 {
			c.Restart(i)
		}
		c.WaitReady()
		n := 0
		for item, err := range c.DB(round%3).Scan(t.Context(), replkv.All()) {
			if err != nil {
				t.Fatal(err)
			}
			if !acked[item.Key] {
				t.Fatalf("%q was never written", item.Key)
			}
			n++
		}
		if n != len(acked) {
			t.Fatalf("%d keys after the restart, %d were acknowledged", n, len(acked))
		}
	}
}

// TestShutdownHandsOver: after a Shutdown of the leader the others do not wait
// for an election timeout.
func TestShutdownHandsOver(t *testing.T) {
	c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) { cfg.ElectionTimeout = 3 * time.Second }))
	lead := c.Leader()
	c.Stop(lead)
	began := time.Now()
	if _, err := c.DB((lead+1)%3).Set(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("the first write after a hand-over took %v", d)
	}
}
