package replkv

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/raftlog"
)

// TestApplyHangs: a state that does not come back from an apply stops the store.
func TestApplyHangs(t *testing.T) {
	hang, release := make(chan struct{}), make(chan struct{})
	v, err := hook.Open(Config{Dir: "data", WriteDeadline: 200 * time.Millisecond}, hook.Edges{FS: disk.NewMem(), Failpoint: func(name string) error {
		select {
		case <-hang:
			if name == "apply" {
				<-release
			}
		default:
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	db := v.(*DB)
	if _, err := db.Set(t.Context(), "k", nil); err != nil { // its session is open now
		t.Fatal(err)
	}
	close(hang)
	_, err = db.Set(t.Context(), "k", nil)
	if !errors.Is(err, raftlog.ErrStalled) || OutcomeOf(err) != OutcomeUnknown {
		t.Errorf("Set: %v, outcome %v", err, OutcomeOf(err))
	}
	<-db.Done()
	if !errors.Is(db.Err(), raftlog.ErrStalled) {
		t.Error(db.Err())
	}
	close(release)
	db.Close()
}

// TestStuckHandOver: a leader that refuses all entries for ever, because of a
// hand-over that does not end, stops; not one whose wall clock is set meanwhile.
func TestStuckHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		v, err := hook.Open(Config{Dir: "data"}, hook.Edges{FS: disk.NewMem(), Now: func() time.Time {
			return time.Now().Add(time.Duration(ahead.Load()))
		}})
		if err != nil {
			t.Fatal(err)
		}
		db := v.(*DB)
		defer db.Close()
		if _, err := db.Set(t.Context(), "k", nil); err != nil { // it leads, and proposes nothing more
			t.Fatal(err)
		}
		refused := func() { db.entries.watchTransfer(raft.ErrLeadershipTransferInProgress) }
		refused()
		time.Sleep(5 * db.cfg.ElectionTimeout)
		db.entries.watchTransfer(nil)
		refused()
		time.Sleep(9 * db.cfg.ElectionTimeout)
		ahead.Store(int64(time.Hour))
		refused()
		if err := db.Err(); err != nil {
			t.Fatalf("too early: %v", err)
		}
		time.Sleep(2 * db.cfg.ElectionTimeout)
		refused()
		if !errors.Is(db.Err(), errStuck) {
			t.Fatal(db.Err())
		}
	})
}
