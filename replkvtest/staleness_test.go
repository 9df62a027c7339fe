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

// TestMaxStalenessIsOfTheQuestion: a read index that comes late says nothing of what was
// acknowledged while it was on its way.
func TestMaxStalenessIsOfTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		away := (lead + 1) % 3
		if _, err := c.DB(lead).Set(t.Context(), "k", []byte("old")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.DB(away).Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		const late = electionTimeout / 4
		c.in.Delay(lead, away, late)
		answered := make(chan error, 1)
		go func() {
			_, err := c.DB(away).Get(t.Context(), "k")
			answered <- err
		}()
		time.Sleep(late / 4) // the leader has answered
		if _, err := c.DB(lead).Set(t.Context(), "k", []byte("new")); err != nil {
			t.Fatal(err)
		}
		acknowledged := time.Now()
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		if item, err := c.DB(away).Get(t.Context(), "k", replkv.Local()); err != nil || string(item.Value) != "old" {
			t.Errorf("%q, %v: the test shows nothing", item.Value, err)
		}
		if item, err := c.DB(away).Get(t.Context(), "k", replkv.MaxStaleness(time.Since(acknowledged))); err != nil || string(item.Value) != "new" {
			t.Errorf("%q, %v, acknowledged %v ago", item.Value, err, time.Since(acknowledged))
		}
	})
}
