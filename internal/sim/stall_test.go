package sim

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestStallEndsWhileTheNemesisIsHeldUp: a stop of another member waits for its writes at
// the leader that stands still; that must not make a stall one of those that end a member.
func TestStallEndsWhileTheNemesisIsHeldUp(t *testing.T) {
	cfg := Config{Seed: 3}
	p, err := newPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(cfg, p)
	synctest.Test(t, func(t *testing.T) {
		r.log = &timeline{began: time.Now()}
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
		if what := r.nemesis.stall(); what == "" {
			t.Fatal("there is no leader")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for _, i := range r.c.Up() {
			go r.c.DB(i).Set(ctx, "key", nil) // the leader's must wait for its disk
		}
		pause(context.Background(), 20*time.Second) // the nemesis does nothing meanwhile
		for _, i := range r.c.Up() {
			if err := r.c.DB(i).Err(); err != nil {
				t.Errorf("member %d stopped: %v", i, err)
			}
		}
		if err := r.nemesis.heal(); err != nil {
			t.Error(err)
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	if n := r.cover.by[countStalls]; n == 0 {
		t.Error("no disk was seen to be stalled")
	}
}
