package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
)

func TestOpen(t *testing.T) {
	db := Open(t)
	if _, err := db.Set(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
}

func TestClusterReadyQuickly(t *testing.T) {
	began := time.Now()
	c := NewCluster(t, 3)
	t.Logf("ready after %v", time.Since(began))
	for i := range c.Len() {
		if _, err := c.DB(i).Set(t.Context(), fmt.Sprint(i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range c.Len() {
		for j := range c.Len() {
			if _, err := c.DB(i).Get(t.Context(), fmt.Sprint(j)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPlantedDifferenceIsFound(t *testing.T) {
	c := NewCluster(t, 3)
	c.planted = true
	if _, err := c.DB(0).Set(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := c.CheckEqual(); err != nil {
		t.Fatal(err)
	}
	if err := hook.Inspect(c.DB(2)).Plant("k", "other"); err != nil {
		t.Fatal(err)
	}
	if err := c.CheckEqual(); err == nil || !strings.Contains(err.Error(), "different data") {
		t.Fatalf("the planted difference was not found: %v", err)
	}
}

func TestCrashLeader(t *testing.T) {
	c := NewCluster(t, 3)
	ctx := t.Context()
	for round := range 3 {
		lead := c.Leader()
		if _, err := c.DB(lead).Set(ctx, fmt.Sprintf("k%d", round), []byte("v")); err != nil {
			t.Fatal(err)
		}
		c.Crash(lead)
		other := (lead + 1) % 3
		if _, err := c.DB(other).Get(ctx, fmt.Sprintf("k%d", round)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.DB(other).Set(ctx, "x", []byte("v")); err != nil {
			t.Fatal(err)
		}
		c.Restart(lead)
		c.WaitReady()
	}
}

func TestPartitionedLeaderServesNothing(t *testing.T) {
	c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) { cfg.RequestTimeout = 2 * time.Second }))
	ctx := t.Context()
	lead := c.Leader()
	if _, err := c.DB(lead).Set(ctx, "k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	c.Partition([]int{lead}, []int{(lead + 1) % 3, (lead + 2) % 3})
	if _, err := c.DB((lead+1)%3).Set(ctx, "k", []byte("2")); err != nil {
		t.Fatal(err)
	}
	item, err := c.DB(lead).Get(ctx, "k")
	if err == nil {
		t.Fatalf("a cut-off member answered a linearizable read with %+v", item)
	}
	if !errors.Is(err, replkv.ErrNoLeader) {
		t.Errorf("Get without a quorum: %v", err)
	}
	if item, err := c.DB(lead).Get(ctx, "k", replkv.Local()); err != nil || string(item.Value) != "1" {
		t.Errorf("Local Get on the cut-off member: %+v, %v", item, err)
	}
	c.Heal()
	if item, err := c.DB(lead).Get(ctx, "k"); err != nil || string(item.Value) != "2" {
		t.Errorf("after Heal: %+v, %v", item, err)
	}
}

func TestInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		if _, err := c.DB(lead).Set(context.Background(), "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
		c.Crash(lead)
		if _, err := c.DB((lead+1)%3).Get(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
	})
}

// snapshotsInstalled returns how many snapshots member i has installed since it
// was opened.
func (c *Cluster) snapshotsInstalled(i int) int {
	return hook.Inspect(c.DB(i)).Installed()
}

// TestReadNeedsConfirmation: a leader that has just lost its followers, and
// does not know it yet, answers no linearizable read.
func TestReadNeedsConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		if _, err := c.DB(lead).Set(context.Background(), "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
		c.Partition([]int{lead})
		ctx, cancel := context.WithTimeout(context.Background(), electionTimeout/4)
		defer cancel()
		if item, err := c.DB(lead).Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get on a leader without followers: %+v, %v", item, err)
		}
		if role := c.DB(lead).Status().Role; role != "leader" {
			t.Errorf("role %s: the test shows nothing", role)
		}
	})
}
