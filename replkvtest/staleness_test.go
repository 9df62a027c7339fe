package replkvtest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
)

// TestMaxStaleness: a follower that was cut off answers for as long as its state
// is known to be fresh enough, and then not.
func TestMaxStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		away := (lead + 1) % 3
		if _, err := c.DB(lead).Set(context.Background(), "k", []byte("old")); err != nil {
			t.Fatal(err)
		}
		get := func(d time.Duration) (string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), electionTimeout/2)
			defer cancel()
			item, err := c.DB(away).Get(ctx, "k", replkv.MaxStaleness(d))
			return string(item.Value), err
		}
		if _, err := c.DB(away).Get(context.Background(), "k"); err != nil { // asks the leader
			t.Fatal(err)
		}
		asked := time.Now()
		c.Partition([]int{lead, (lead + 2) % 3})
		if _, err := c.DB(lead).Set(context.Background(), "k", []byte("new")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if v, err := get(time.Minute); err != nil || v != "old" {
			t.Errorf("within the bound: %q, %v", v, err)
		}
		if v, err := get(time.Since(asked) - time.Second); err == nil {
			t.Errorf("%q was read, older than the bound", v)
		}
		c.Heal()
		c.WaitReady()
		if v, err := get(time.Nanosecond); err != nil || v != "new" {
			t.Errorf("after the cut: %q, %v", v, err)
		}
	})
}
